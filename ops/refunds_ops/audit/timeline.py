"""The trail of a refund, or of all refunds of a payment, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from refunds.domain.audit_entry import DELETED_EVENT
from refunds.domain.clock import from_rfc3339
from refunds.domain.refund import Item, Status
from refunds_ops.amounts import amount_text
from refunds_ops.audit.chain import broken_links
from refunds_ops.statuses import colour_of, outcome_of, short_name, why
from refunds_ops.story import decision
from refunds_ops.terminal import safe_value

if TYPE_CHECKING:
    from refunds_ops.audit.rows import LedgerRow


def payment_story(
    transaction_id: str,
    entries: Sequence[Item],
    ledger: LedgerRow | None,
    held: Mapping[str, int],
) -> RenderableType:
    """All refunds of a payment, in the order in which they began, below what is left of it."""
    stories = [list(group) for _, group in groupby(entries, key=lambda entry: entry["refund_id"])]
    stories.sort(key=lambda story: str(story[0]["occurred_at"]))
    head = Text.assemble(("payment ", "dim"), (transaction_id, "bold"))
    if ledger is not None and ledger.captured is not None and ledger.currency:
        head.append("\n")
        for label, amount in (
            ("captured", ledger.captured),
            ("paid back or reserved", sum(held.values())),
            ("still refundable", ledger.remaining),
        ):
            head.append(f"{label} ", style="dim")
            head.append(f"{amount_text(amount, ledger.currency)}   ")
    return Group(head, *(refund_story(story) for story in stories))


def refund_story(entries: Sequence[Item]) -> RenderableType:
    """One refund's entries, and whether each follows from the one before."""
    broken = broken_links(entries)
    entries = safe_value(list(entries))
    last = entries[-1]
    details: Item = last["details"]
    status = Status(last["status"])
    facts = Text.assemble(
        (amount_text(details.get("amount_minor"), details["currency"]), "bold"),
        ("  to ", "dim"),
        last["user_id"],
        ("  for payment ", "dim"),
        last["transaction_id"],
        ("\nasked by ", "dim"),
        last["requested_by"],
        (f", {details['reason']}", "dim"),
    )
    if sender := details.get("sent_by"):
        facts.append("\nsent by ", style="dim").append(str(sender))
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style="dim", justify="right")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    times = [from_rfc3339(entry["occurred_at"]) for entry in entries]
    for number, entry in enumerate(entries):
        table.add_row(
            _when(times, number),
            Text(
                f"{'●' if entry is last else '○'} {_event(entry)}",
                style=_colour(entry),
            ),
            _link(entry, broken.get(entry["version"])),
            _details(entry),
        )
    title = Text.assemble(
        (f"\n{last['refund_id']}  ", "bold"), (outcome_of(status), colour_of(status))
    )
    return Group(title, facts, Text(), table)


def _when(times: Sequence[datetime], number: int) -> Text:
    at = times[number]
    if number == 0:
        return Text(f"{at:%Y-%m-%d %H:%M:%S} UTC")
    return Text(f"+ {span_text((at - times[number - 1]).total_seconds())}")


def span_text(seconds: float) -> str:
    """A time span for people: 0.412 s, 12.3 s, 5 min 12 s, 3 h 20 min, 2 d 4 h."""
    for below, decimals in ((10, 3), (60, 1)):
        if seconds < below:
            return f"{seconds:.{decimals}f} s"
    whole = int(seconds)
    for unit, size, lesser, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {lesser}"
    return f"{whole // 60} min {whole % 60} s"


def _event(entry: Item) -> str:
    return str(entry["event"]).removeprefix("refund.").replace("_", " ")


def _colour(entry: Item) -> str:
    return "bold red" if entry["event"] == DELETED_EVENT else colour_of(entry["status"])


def _details(entry: Item) -> Text:
    details: Item = entry["details"]
    text = Text.assemble(("by ", "dim"), short_name(str(entry["processed_by"])))
    changed = details.get("changed_fields") or ()
    if "gateway_refund_id" in changed:
        text.append(f"  {details['gateway']} ", style="dim")
        text.append(str(details.get("gateway_refund_id")))
    if reason := why(details):
        text.append(f"\n{reason}", style=colour_of(Status.FAILED))
    for name, verb in (("review", "decided"), ("proposal", "proposed")):
        if name in changed and (decided := details.get(name)):
            what = decided.get("decision", "")
            text.append(f"\n{verb} {what}".rstrip() + f" by {decision(decided)}", style="dim")
    if "approvals" in changed and (approvals := details.get("approvals")):
        last = approvals[-1]
        text.append(f"\n{last.get('decision')} by {decision(last)}", style="dim")
    if rebuilt := entry.get("rebuilt"):
        source = rebuilt.get("from") if isinstance(rebuilt, Mapping) else rebuilt
        text.append(f"\nrecreated from {source}", style="yellow")
    return text


def _link(entry: Item, broken: str | None) -> Text:
    short = str(entry.get("entry_hash"))[:8]
    if broken:
        return Text.assemble((f"{short} ", "dim"), (f"✗ {broken}", "bold red"))
    return Text.assemble((f"{short} ", "dim"), ("✓", "green"))
