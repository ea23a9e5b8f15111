"""`refunds audit show`: the trail of a refund, or of all refunds of a payment."""

from __future__ import annotations

from collections.abc import Iterable

import click

from refunds.domain.identifiers import TRANSACTION_ID
from refunds.domain.refund import Item
from refunds.tables.wire import item_from_wire
from refunds_ops.audit import sources
from refunds_ops.audit.chain import UNREADABLE, broken_links
from refunds_ops.audit.rows import EntryRow, entry_row
from refunds_ops.audit.tables import Tables
from refunds_ops.audit.timeline import payment_story, refund_story
from refunds_ops.errors import REFUSED, RefusedError
from refunds_ops.json_output import json_option
from refunds_ops.stack.stack import find_stack
from refunds_ops.terminal import console, print_error, print_json_lines, print_line

ENTRY_FIELDS = {
    "transaction_id": "the payment",
    "entry_id": "REFUND#<refund_id>#<version>",
    "record_type": "REFUND",
    "refund_id": "",
    "version": "1 for the first entry of a refund, then one more for each change",
    "user_id": "whose money it is",
    "event": "such as refund.succeeded",
    "previous_status": "null in version 1",
    "status": "",
    "outcome": "the words for the customer",
    "processed_by": "function and version, or operator",
    "requested_by": "who asked for the refund",
    "occurred_at": "RFC 3339, UTC",
    "recorded_at": "RFC 3339, UTC",
    "details": "the rest of the refund after this change, and changed_fields",
    "entry_hash": "SHA-256, hex",
    "previous_hash": "entry_hash of the version before; null in version 1",
    "rebuilt": "only in a recreated entry: when, by whom, from what",
}


@click.command()
@click.argument("refund_id", required=False)
@click.option("--transaction", "transaction_id", metavar="ID", help="All refunds of a payment.")
@json_option(ENTRY_FIELDS, lines=True)
@click.pass_obj
def show(
    stack_name: str | None, refund_id: str | None, transaction_id: str | None, as_json: bool
) -> None:
    """Show the audit trail of a refund or a payment.

    Recomputes the hash of every entry. Exit status 1 when an entry does not follow from the one
    before it, or when there is no such refund.
    """
    if (refund_id is None) == (transaction_id is None):
        raise click.UsageError("Give a refund id or --transaction ID.")
    stack = find_stack(stack_name)
    tables = sources.tables(stack)
    entries = entries_of(tables, refund_id, transaction_id)
    if not entries and refund_id is not None:
        raise nothing_of(refund_id)
    if as_json:
        print_json_lines(entries)
    elif not entries:
        print_line(f"No refunds of {transaction_id}.")
    try:
        if entries and not as_json:
            _print_story(tables, entries, transaction_id)
        damaged = any(broken_links(story) for story in _by_refund(entries))
    except UNREADABLE as exc:
        raise RefusedError("An entry can't be read.", "Which one: refunds verify") from exc
    if damaged:
        print_error("The audit trail is damaged.", "What is wrong: refunds verify")
        raise click.exceptions.Exit(REFUSED)


def _print_story(tables: Tables, entries: list[Item], transaction_id: str | None) -> None:
    if transaction_id is None:
        console().print(refund_story(entries))
        return
    ledger, held = tables.ledger_of(transaction_id) or (None, {})
    console().print(payment_story(transaction_id, entries, ledger, held))


def entries_of(tables: Tables, refund_id: str | None, transaction_id: str | None) -> list[Item]:
    """The entries of a refund, or of all refunds of a payment. Raises ``RefusedError``."""
    if not all(
        TRANSACTION_ID.fullmatch(each) for each in (refund_id, transaction_id) if each is not None
    ):
        raise RefusedError("An id is 1 to 128 of A-Z, a-z, 0-9, _ and -.")
    if transaction_id is None:
        assert refund_id is not None
        transaction_id = _payment_of(tables, refund_id)
    try:
        return [
            item_from_wire(wire)
            for wire in tables.entries_of(transaction_id, refund_id)
            if isinstance(entry_row(wire), EntryRow)
        ]
    except UNREADABLE as exc:
        raise RefusedError("An entry can't be read.", "Which one: refunds verify") from exc


def nothing_of(refund_id: str) -> RefusedError:
    return RefusedError(
        f"The audit trail has nothing about {refund_id}.",
        "Just requested? The trail is a second or two behind.",
        "Is something missing? refunds verify",
    )


def _payment_of(tables: Tables, refund_id: str) -> str:
    refund = tables.refund(refund_id)
    transaction_id = (refund or {}).get("transaction_id", {}).get("S")
    if transaction_id is None:
        raise RefusedError(
            f"There is no refund {refund_id}.",
            "Was it removed? Its trail is still there: --transaction PAYMENT",
        )
    return str(transaction_id)


def _by_refund(entries: Iterable[Item]) -> Iterable[list[Item]]:
    stories: dict[str, list[Item]] = {}
    for entry in entries:
        stories.setdefault(entry["refund_id"], []).append(entry)
    return stories.values()
