"""A refund's story as a timeline on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from refunds.domain.clock import from_rfc3339
from refunds.domain.refund import Item
from refunds_ops.statuses import colour_of, short_name, why
from refunds_ops.terminal import safe_text


def status_text(status: str) -> Text:
    return Text(safe_text(status), style=colour_of(status))


@dataclass(frozen=True)
class Moment:
    """One line of a timeline: when, what, and in which colour. ``note`` is shown below it."""

    at: str
    what: str
    style: str
    more: str = ""
    note: str = ""
    mark: str = "●"


def moments(entries: Sequence[Item]) -> list[Moment]:
    """The audit entries of a refund as lines of a timeline."""
    found = []
    for entry in entries:
        details: dict[str, Any] = entry["details"]
        more = f"v{entry['version']} by {short_name(entry['processed_by'])}"
        if gateway_refund_id := details.get("gateway_refund_id"):
            more += f", gateway's {gateway_refund_id}"
        found.append(
            Moment(
                entry["occurred_at"],
                entry["event"],
                colour_of(entry["status"]),
                more,
                why(details),
            )
        )
    return found


def timeline(lines: Sequence[Moment]) -> Table:
    """Lines in the order of their time, and the time between them."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(style="dim", no_wrap=True, justify="right")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    before = None
    for line in sorted(lines, key=lambda each: each.at):
        at = from_rfc3339(line.at)
        passed = "" if before is None else f"+{(at - before).total_seconds():.3f} s"
        before = at
        text = Text(line.what, style=line.style)
        if line.more:
            text.append(f"  {line.more}", style="dim")
        if line.note:
            text.append(f"\n{line.note}", style="default")
        clock = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
        table.add_row(clock, passed, Text(line.mark, style=line.style), text)
    return table
