"""The stack's alarms that are on, according to CloudWatch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refunds.domain.clock import rfc3339

if TYPE_CHECKING:
    from refunds_ops.stack.stack import Stack

MAX_ALARMS = 100


@dataclass(frozen=True)
class Alarm:
    name: str
    """The alarm's name without the stack's name."""
    what: str
    first: str
    """The first command to run; empty when its description names none."""
    since: str


def raised_alarms(stack: Stack, cloudwatch: Any) -> list[Alarm]:
    """The alarms in state ALARM, longest first."""
    answer = cloudwatch.describe_alarms(
        AlarmNamePrefix=f"{stack.name}-", StateValue="ALARM", MaxRecords=MAX_ALARMS
    )
    found = [
        _alarm(
            each["AlarmName"].removeprefix(f"{stack.name}-"),
            each.get("AlarmDescription", ""),
            rfc3339(each["StateUpdatedTimestamp"]),
        )
        for each in answer["MetricAlarms"]
    ]
    # A logical id has no hyphen. A name with one belongs to another stack, such as refunds-prod
    # beside refunds.
    mine = [alarm for alarm in found if "-" not in alarm.name]
    return sorted(mine, key=lambda alarm: alarm.since)


def _alarm(name: str, description: str, since: str) -> Alarm:
    # CloudFormation names an alarm <stack>-<logical id>-<random>.
    name = re.sub(r"-[A-Za-z0-9]{8,16}$", "", name)
    what, _, rest = description.partition(" First: ")
    first = re.split(r" \(SEV\d|; docs/", rest)[0]
    return Alarm(name, what, first.rstrip("."), since)
