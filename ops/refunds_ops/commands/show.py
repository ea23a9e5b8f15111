"""`refunds show`: one refund, what became of it and why, and its audit trail."""

from __future__ import annotations

import click
from rich.console import Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from refunds.domain.refund import Item, Status
from refunds_ops.amounts import amount_text
from refunds_ops.errors import RefusedError
from refunds_ops.json_output import json_option
from refunds_ops.looks import COLOURS, moments, outcome_of, status_text, timeline, why
from refunds_ops.stack.records import audit_entries, refund_item
from refunds_ops.stack.stack import find_stack
from refunds_ops.terminal import console, print_json

_ROWS = (
    ("transaction", "transaction_id"),
    ("user", "user_id"),
    ("reason", "reason"),
    ("requested by", "requested_by"),
    ("requested at", "requested_at"),
    ("processed by", "processed_by"),
    ("gateway", "gateway"),
    ("gateway's id", "gateway_refund_id"),
    ("open since", "open_since"),
)


@click.command()
@click.argument("refund_id")
@json_option({"refund": "as stored", "audit_entries": "oldest first"})
@click.pass_obj
def show(stack_name: str | None, refund_id: str, as_json: bool) -> None:
    """Show a refund, what became of it and why."""
    stack = find_stack(stack_name)
    refund = refund_item(stack, refund_id)
    if refund is None:
        raise RefusedError(
            f"There is no refund {refund_id}.",
            "Just requested? It may still be in the queue: try again in a few seconds.",
            "Refused messages are in the dead-letter queue, with the reason in error_code.",
        )
    entries, _ = audit_entries(stack, refund["transaction_id"], refund_id)
    if as_json:
        print_json({"refund": refund, "audit_entries": entries})
        return
    console().print(refund_panel(refund, entries))


def refund_panel(refund: Item, entries: list[Item]) -> Panel:
    """All of a refund in a frame."""
    facts = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("status", status_text(refund["status"]))
    facts.add_row("outcome", outcome_of(refund["status"]))
    if reason := why(refund):
        facts.add_row("why", Text(reason))
    facts.add_row("amount", amount_text(refund.get("amount_minor"), refund["currency"]))
    for label, name in _ROWS:
        if name in refund:
            facts.add_row(label, Text(str(refund[name])))
    for key, value in refund.get("metadata", {}).items():
        facts.add_row(Text(f"· {key}"), Text(value))
    if review := refund.get("review"):
        facts.add_row("reviewed", Text(f"by {review.get('by')}: {review.get('why')}"))
    missing = refund["version"] - len(entries)
    below: list[Text | Table] = [Text("\nAudit trail", style="bold"), timeline(moments(entries))]
    if missing > 0:
        below.append(
            Text(f"{missing} of {refund['version']} entries not there yet", style="yellow")
        )
    return Panel(
        Group(facts, *below),
        title=f"[bold]{escape(refund['refund_id'])}[/]",
        title_align="left",
        border_style=COLOURS[Status(refund["status"])],
        padding=(1, 2),
    )
