"""The first page: the pipeline with its numbers, what needs a person, and today's money."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from refunds.breaker.queue_mapping import RUNNING
from refunds_console.pages.money import read_money
from refunds_console.pages.proof import NewestBackup, newest_backup
from refunds_console.rendering import Pages
from refunds_console.routes import Routes, get
from refunds_console.state import Console, Part
from refunds_ops.audit.lag import AuditLag, audit_lag
from refunds_ops.dates import utc_now
from refunds_ops.flow_status import Found, look
from refunds_ops.stack.alarms import Alarm, raised_alarms
from refunds_ops.stack.stack import Stack

MAX_OPEN = 1000
"""Open refunds that are counted exactly; above, "1,000 and more" says enough."""
METRIC_MINUTES = 15


@dataclass(frozen=True)
class Attention:
    """Something for a person: what, and the page where it is handled, if there is one."""

    what: str
    where: str


@dataclass(frozen=True)
class Overview:
    status: Part[Found]
    alarms: Part[list[Alarm]]
    oldest_message: Part[float | None]
    """Age in seconds of the oldest waiting request; None if CloudWatch does not have it."""
    lag: Part[AuditLag]
    backup: Part[NewestBackup | None]

    @property
    def pending(self) -> bool:
        """Whether a part has not been read yet."""
        parts = (self.status, self.alarms, self.oldest_message, self.lag, self.backup)
        return any(part.pending for part in parts)

    @property
    def attention(self) -> list[Attention]:
        return list(_attention(self))

    @property
    def unread(self) -> bool:
        """Whether something that could need a person can't be read."""
        parts = (self.status, self.alarms, self.lag, self.backup)
        return any(part.problem for part in parts)

    @property
    def many_open(self) -> bool:
        return self.status.value is not None and self.status.value.open_refunds >= MAX_OPEN


def read_overview(console: Console) -> Overview:
    stack, now = console.stack, utc_now()
    # A client is made before the readers start: botocore's session can't make two at once.
    cloudwatch = console.client("cloudwatch")
    parts = console.read_live(
        {
            "status": partial(look, stack, MAX_OPEN),
            "alarms": partial(raised_alarms, stack, cloudwatch),
            "oldest_message": partial(_oldest_message, stack, cloudwatch, now),
            "lag": partial(audit_lag, stack, now, console.inner_pool),
            "backup": partial(newest_backup, console),
        }
    )
    return Overview(**parts)


def _oldest_message(stack: Stack, cloudwatch: Any, now: datetime) -> float | None:
    """SQS reports this only to CloudWatch, once a minute."""
    answer = cloudwatch.get_metric_statistics(
        Namespace="AWS/SQS",
        MetricName="ApproximateAgeOfOldestMessage",
        Dimensions=[{"Name": "QueueName", "Value": stack["RefundQueueUrl"].rsplit("/", 1)[-1]}],
        StartTime=now - timedelta(minutes=METRIC_MINUTES),
        EndTime=now,
        Period=60,
        Statistics=["Maximum"],
    )
    points = sorted(answer["Datapoints"], key=lambda point: point["Timestamp"])
    return float(points[-1]["Maximum"]) if points else None


_PAGES = {
    "refunds dead-letters list": "/work/dead-letters",
    "refunds review list": "/work",
    "refunds list --status AWAITING_APPROVAL": "/work",
    "refunds backup verify": "/proof",
}
"""The page for what a command handles."""


def _attention(found: Overview) -> Iterator[Attention]:
    for alarm in found.alarms.value or ():
        yield Attention(f"Alarm {alarm.name}", "#alarms")
    status, lag, backup = found.status.value, found.lag.value, found.backup.value
    for concern in status.concerns if status else ():
        what = f"{concern.what[:1].upper()}{concern.what[1:]}"
        what += f": {concern.count:,}" if concern.count else ""
        yield Attention(what, _PAGES.get(concern.command, ""))
    if lag is not None and lag.late:
        what = f"{len(lag.behind):,} of the newest refunds lack their last audit entry"
        yield Attention(what, f"/refunds/{lag.behind[0]}")
    if backup is not None and backup.signed is False:
        yield Attention("The newest backup is not signed by the stack's key", "/proof")


# --- The picture ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Station:
    """One box of the picture. ``facts``: a label and a value each; ``tone``: good, warn or bad."""

    name: str
    facts: Sequence[tuple[str, str]]
    tone: str
    href: str


def stations(found: Overview) -> Mapping[str, Station]:
    """What each box of the picture shows."""
    status, lag, backup = found.status.value, found.lag.value, found.backup.value
    oldest = found.oldest_message.value
    flows = status is not None and status.flows and status.mapping_state in RUNNING
    flowing, flow = ("good", "flow") if flows else ("warn", "held")
    down = status is None or status.breaker != "closed" or bool(status.gateways_down)
    gateway = "bad" if down else "good"
    if found.status.pending:
        flowing, flow, gateway = "unread", "–", "unread"

    def count(name: str) -> str:
        return "–" if status is None else f"{getattr(status, name):,}"

    rows: Sequence[tuple[str, str, Sequence[tuple[str, str]], str, str]] = (
        (
            "queue",
            "Queue",
            [("waiting", count("waiting")), ("oldest", "–" if oldest is None else _span(oldest))],
            flowing,
            "/refunds?status=PROCESSING",
        ),
        (
            "processing",
            "Processing",
            [("in flight", count("in_flight")), ("requests", flow)],
            flowing,
            "/refunds?status=PROCESSING",
        ),
        (
            "gateway",
            "Gateway",
            [("breaker", status.breaker if status else "–")],
            gateway,
            "/refunds?status=PENDING",
        ),
        (
            "refunds",
            "Refunds",
            [
                ("open", _open(found)),
                ("in review", count("in_review")),
                ("to approve", count("awaiting_approval")),
            ],
            "warn" if status and (status.in_review or status.awaiting_approval) else "good",
            "/refunds?status=PROCESSING+PENDING+IN_REVIEW+AWAITING_APPROVAL",
        ),
        (
            "audit",
            "Audit trail",
            [("lag", _lag(lag))],
            "bad" if lag is not None and lag.late else "good",
            "/proof",
        ),
        (
            "backup",
            "Backup",
            [("newest", _ago(found.backup)), ("signature", _signed(backup))],
            _backup_tone(found),
            "/proof",
        ),
        (
            "dead",
            "Dead letters",
            [("waiting", count("dead_letters"))],
            "bad" if status is not None and status.dead_letters else "good",
            "/work/dead-letters",
        ),
    )
    return {key: Station(name, facts, tone, href) for key, name, facts, tone, href in rows}


def _open(found: Overview) -> str:
    if found.status.value is None:
        return "–"
    return f"{MAX_OPEN:,}+" if found.many_open else f"{found.status.value.open_refunds:,}"


def _span(seconds: float) -> str:
    whole = int(seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def _lag(lag: AuditLag | None) -> str:
    if lag is None:
        return "–"
    if not lag.checked:
        return "idle"
    return _span(lag.seconds) if lag.behind else "none"


def _ago(part: Part[NewestBackup | None]) -> str:
    if part.pending or part.problem:
        return "–"
    return "none yet" if part.value is None else f"{part.value.age} ago"


def _signed(backup: NewestBackup | None) -> str:
    if backup is None:
        return "–"
    return {True: "valid", False: "not valid", None: "unchecked"}[backup.signed]


def _backup_tone(found: Overview) -> str:
    backup = found.backup.value
    if found.backup.problem or (backup is not None and backup.signed is False):
        return "bad"
    if found.backup.pending:
        return "unread"
    return "warn" if backup is None or backup.old else "good"


# --- Pages ----------------------------------------------------------------------------------------


def routes(console: Console, pages: Pages) -> Routes:
    def shown() -> dict[str, Any]:
        found = read_overview(console)
        return {"found": found, "stations": stations(found)}

    def overview(request: Request) -> Response:
        return pages.render("overview.html", **shown(), money=read_money(console, None))

    def live(request: Request) -> Response:
        return pages.render("fragments/live.html", **shown())

    return [get("/", pages.view(overview)), get("/fragments/live", pages.view(live))]
