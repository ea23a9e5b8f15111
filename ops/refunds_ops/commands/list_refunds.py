"""`refunds list`: all refunds of a payment, from its audit trail: one query, no scan."""

from __future__ import annotations

import click
from rich.table import Table
from rich.text import Text

from refunds.domain.refund import Item
from refunds_ops.amounts import amount_text
from refunds_ops.commands.audit_show import ENTRY_FIELDS
from refunds_ops.json_output import json_option
from refunds_ops.looks import status_text, why
from refunds_ops.stack.records import MAX_ENTRIES, audit_entries
from refunds_ops.stack.stack import find_stack
from refunds_ops.terminal import console, print_json_lines, print_line, print_note


@click.command("list")
@click.option("--transaction", "transaction_id", required=True, metavar="ID", help="The payment.")
@json_option(ENTRY_FIELDS, lines=True)
@click.pass_obj
def list_refunds(stack_name: str | None, transaction_id: str, as_json: bool) -> None:
    """List the refunds of a payment.

    Oldest first.
    """
    entries, complete = audit_entries(find_stack(stack_name), transaction_id)
    latest = latest_entries(entries)
    if as_json:
        print_json_lines(latest)
    elif not latest:
        print_line(f"No refunds of {transaction_id}.")
    else:
        console().print(_table(transaction_id, latest))
    if not complete:
        print_note(f"Only the first {MAX_ENTRIES} audit entries were read.")


def latest_entries(entries: list[Item]) -> list[Item]:
    """The entry of each refund's highest version, in the order in which they happened."""
    latest: dict[str, Item] = {}
    for entry in entries:
        known = latest.get(entry["refund_id"])
        if known is None or entry["version"] > known["version"]:
            latest[entry["refund_id"]] = entry
    return sorted(latest.values(), key=lambda entry: str(entry["occurred_at"]))


def _table(transaction_id: str, latest: list[Item]) -> Table:
    table = Table(title=Text(f"Refunds of {transaction_id}"), title_justify="left")
    table.add_column("refund", overflow="fold")
    table.add_column("status", no_wrap=True)
    table.add_column("amount", justify="right", no_wrap=True)
    table.add_column("last change", no_wrap=True)
    table.add_column("why", overflow="fold")
    for entry in latest:
        details = entry["details"]
        table.add_row(
            Text(entry["refund_id"]),
            status_text(entry["status"]),
            amount_text(details.get("amount_minor"), details["currency"]),
            f"{entry['occurred_at'][:19]}Z",
            Text(why(details)),
        )
    return table
