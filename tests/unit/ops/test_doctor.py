"""`refunds doctor`: each fault of a deployed stack is found, and comes with what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from refunds.gateways.contract import GatewayUnavailableError
from refunds_ops.stack import checkup
from refunds_ops.stack.checkup import Finding, Grade, check_stack
from refunds_ops.stack.outputs import OUTPUTS

Json = Any


class DeployedStack:
    """Answers as AWS does for a stack in which everything is right; a test changes an answer."""

    def __init__(self) -> None:
        self.name, self.where = "refunds", "the stack refunds"
        self.outputs = {name: f"{name}-of-it" for name in OUTPUTS} | {
            "GatewaySecretArn": "arn:secret",
            "AlarmTopicArn": "arn:topic",
            "MaximumConcurrency": "10",
            "StackName": self.name,
        }
        self.stage, self.secret, self.skew = "prod", "sk_live_key", timedelta(0)
        self.mapping, self.schedule, self.decision = "Enabled", "ENABLED", "allowed"
        self.subscriptions = ["arn:aws:sns:…:1"]
        self.alarms: list[str] = []
        self.limit, self.protected = 1000, True
        self.gateway: Callable[..., None] = lambda payment, deadline: None
        self.settings: dict[str, str] = {}

    def __getitem__(self, output: str) -> str:
        return self.outputs[output]

    @property
    def sqs(self) -> Json:
        date = format_datetime(datetime.now(UTC) + self.skew)
        answer = {"ResponseMetadata": {"HTTPHeaders": {"date": date}}}
        return SimpleNamespace(get_queue_attributes=lambda **_: answer)

    @property
    def secrets(self) -> Json:
        return SimpleNamespace(get_secret_value=lambda **_: {"SecretString": self.secret})

    @property
    def dynamodb(self) -> Json:
        return SimpleNamespace(describe_table=lambda **_: {"Table": {"TableArn": "arn:table"}})

    @property
    def functions(self) -> Json:
        configuration = {
            "Role": "arn:role",
            "State": "Active",
            "Environment": {"Variables": {"STAGE": self.stage}},
        }
        mapping = {"EventSourceMappings": [{"State": self.mapping}]}
        limit = {"AccountLimit": {"ConcurrentExecutions": self.limit}}
        return SimpleNamespace(
            get_function_configuration=lambda **_: configuration,
            list_event_source_mappings=lambda **_: mapping,
            get_account_settings=lambda: limit,
        )

    @property
    def cloudformation(self) -> Json:
        kind = "AWS::Scheduler::Schedule"
        schedules = [{"ResourceType": kind, "PhysicalResourceId": name} for name in ("a", "b")]
        pages = SimpleNamespace(paginate=lambda **_: [{"StackResourceSummaries": schedules}])
        stack = {"EnableTerminationProtection": self.protected}
        return SimpleNamespace(
            get_paginator=lambda _: pages, describe_stacks=lambda **_: {"Stacks": [stack]}
        )

    def new_client(self, service: str) -> Json:
        subscriptions = [{"SubscriptionArn": arn} for arn in self.subscriptions]
        results = [{"EvalDecision": self.decision}]
        alarms = [{"AlarmName": name} for name in self.alarms]
        return {
            "scheduler": SimpleNamespace(get_schedule=lambda **_: {"State": self.schedule}),
            "sns": SimpleNamespace(
                list_subscriptions_by_topic=lambda **_: {"Subscriptions": subscriptions}
            ),
            "cloudwatch": SimpleNamespace(describe_alarms=lambda **_: {"MetricAlarms": alarms}),
            "iam": SimpleNamespace(
                simulate_principal_policy=lambda **_: {"EvaluationResults": results}
            ),
        }[service]


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> DeployedStack:
    stack = DeployedStack()

    def gateways(_: Json) -> Iterator[Json]:
        yield SimpleNamespace(name="flair", get_payment=lambda *a: stack.gateway(*a))

    monkeypatch.setattr(checkup, "gateways", gateways)
    return stack


def findings(stack: Any, grade: Grade) -> list[Finding]:
    return [finding for finding in check_stack(stack) if finding.grade is grade]


def test_a_stack_in_which_everything_is_right(deployed: DeployedStack) -> None:
    for grade in (Grade.FAULT, Grade.WARNING, Grade.UNCHECKED):
        assert findings(deployed, grade) == []
    assert len(findings(deployed, Grade.GOOD)) >= len(checkup.CHECKS)


def unavailable(payment: str, deadline: Any) -> None:
    raise GatewayUnavailableError("401")


@pytest.mark.parametrize(
    ("attribute", "value", "what", "to_do"),
    [
        ("secret", "not-set", "no key yet", "refunds stack set-key"),
        ("secret", '{"key": "sk_live_key"}', "not a bare key", "no JSON"),
        ("gateway", unavailable, "does not answer us", "set-key"),
        ("skew", timedelta(minutes=3), "clock is", "NTP"),
        ("schedule", "DISABLED", "is DISABLED", "EventBridge Scheduler"),
        ("decision", "implicitDeny", "may not", "sam deploy"),
        ("subscriptions", [], "nobody gets the alarms", "AlarmEmail"),
        ("subscriptions", ["PendingConfirmation"], "confirmed", "mail"),
        ("mapping", "Disabled", "WriteAudit's mapping is Disabled", "sam deploy"),
    ],
)
def test_a_fault_is_found_with_what_to_do(
    deployed: DeployedStack, attribute: str, value: Any, what: str, to_do: str
) -> None:
    setattr(deployed, attribute, value)
    found = findings(deployed, Grade.FAULT)
    assert any(what in each.what and to_do in each.to_do for each in found), found
    assert "sk_live_key" not in str(list(check_stack(deployed)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attribute", "value", "what"),
    [
        ("limit", 10, "10 concurrent executions"),
        ("protected", False, "no termination protection"),
        ("alarms", ["refunds-DeadLetters"], "refunds-DeadLetters is on"),
        ("mapping", "Disabled", "ProcessRefund's queue is Disabled"),
    ],
)
def test_what_works_but_should_be_changed_is_a_warning(
    deployed: DeployedStack, attribute: str, value: Any, what: str
) -> None:
    setattr(deployed, attribute, value)
    assert any(what in each.what for each in findings(deployed, Grade.WARNING))


def test_missing_outputs_are_named(deployed: DeployedStack) -> None:
    deployed.outputs["LedgerTableName"] = ""
    assert any("LedgerTableName" in each.what for each in findings(deployed, Grade.FAULT))


def test_what_may_not_be_seen_is_not_called_good(
    deployed: DeployedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: Json) -> Iterator[Finding]:
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "SimulatePrincipalPolicy")
        yield

    monkeypatch.setitem(checkup.CHECKS, "permissions", denied)
    (unchecked,) = findings(deployed, Grade.UNCHECKED)
    assert "AccessDenied" in unchecked.what
    assert unchecked.to_do
