"""How a refund looks on a terminal: colours of statuses, reasons in words, and the timeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from refunds.refund import OUTCOMES, Item, Status
from refunds.times import from_rfc3339

COLOURS = {
    Status.PROCESSING: "cyan",
    Status.PENDING: "yellow",
    Status.IN_REVIEW: "bold magenta",
    Status.SUCCEEDED: "green",
    Status.FAILED: "red",
    Status.REJECTED: "red",
    Status.REVERSED: "magenta",
}


def status_text(status: str) -> Text:
    return Text(status, style=COLOURS[Status(status)])


def outcome_of(status: str) -> str:
    return OUTCOMES[Status(status)]


def why(refund: Item) -> str:
    """Why a refund stands as it does, in a few words."""
    if code := refund.get("failure_code"):
        message = refund.get("failure_message")
        return f"{code}: {message}" if message else str(code)
    return ""


def timeline(entries: Sequence[Item]) -> Table:
    """The audit entries of one refund, and the time between them."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for style in ("dim", "dim", None, None):
        table.add_column(style=style, no_wrap=True)
    table.add_column(overflow="fold")
    before = None
    for entry in entries:
        at = from_rfc3339(entry["occurred_at"])
        passed = "" if before is None else f"+{(at - before).total_seconds():.3f} s"
        before = at
        last = entry is entries[-1]
        table.add_row(
            f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}",
            passed,
            Text("●" if last else "○", style=COLOURS[Status(entry["status"])]),
            Text(entry["event"], style=COLOURS[Status(entry["status"])]),
            _told(entry),
        )
    return table


def _told(entry: Item) -> Text:
    details: dict[str, Any] = entry["details"]
    told = Text(f"v{entry['version']}  by {entry['processed_by']}", style="dim")
    if found := details.get("gateway_refund_id"):
        told.append(f"  gateway {found}")
    if reason := why(details):
        told.append(f"\n{reason}", style="not dim")
    return told
