"""`refunds list`: all refunds of a payment, from its audit trail: one query, no scan."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refunds.domain.refund import Item
from refunds_ops.amounts import amount_text
from refunds_ops.looks import status_text, why
from refunds_ops.stack.records import MAX_ENTRIES, audit_entries
from refunds_ops.stack.stack import find_stack


@click.command("list")
@click.option("--transaction", "transaction_id", required=True, metavar="ID", help="The payment.")
@click.option("--json", "as_json", is_flag=True, help="The latest entry of each refund as JSON.")
@click.pass_obj
def list_refunds(stack_name: str | None, transaction_id: str, as_json: bool) -> None:
    """List the refunds of a payment, oldest first."""
    entries, complete = audit_entries(find_stack(stack_name), transaction_id)
    latest = latest_entries(entries)
    if as_json:
        click.echo(json.dumps(latest, indent=2))
    elif not latest:
        click.echo(f"No refunds of {transaction_id}.")
    else:
        Console().print(_table(transaction_id, latest))
    if not complete:
        click.echo(f"Only the first {MAX_ENTRIES} audit entries were read.", err=True)


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
