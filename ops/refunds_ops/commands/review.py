"""`refunds review`: what no automatic step can settle safely, and a person's decision on it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
from rich.table import Table
from rich.text import Text

from refunds.domain.clock import SystemClock, from_rfc3339, rfc3339
from refunds.domain.refund import Refund, Status
from refunds.processing.recorder import Recorder
from refunds.processing.review import ReviewError, decide, in_review
from refunds.tables.ledger import LedgerTable
from refunds.tables.refunds import RefundsTable
from refunds_ops.amounts import amount_text
from refunds_ops.errors import REFUSED, RefusedError
from refunds_ops.json_output import REFUND_FIELDS, json_option
from refunds_ops.looks import outcome_of, status_text
from refunds_ops.stack.stack import find_stack
from refunds_ops.terminal import console, print_json_lines, print_line
from refunds_ops.who import BY, operator

_ALL = rfc3339(datetime(9999, 1, 1, tzinfo=UTC))


@click.group()
def review() -> None:
    """Decide refunds that no automatic step can settle."""


@review.command("list")
@json_option(REFUND_FIELDS, lines=True)
@click.pass_obj
def list_(stack_name: str | None, as_json: bool) -> None:
    """List the refunds that wait for a person.

    Exit status 1 when there are any.
    """
    stack = find_stack(stack_name)
    waiting = in_review(RefundsTable(stack.dynamodb, stack["RefundsTableName"]), _ALL)
    if as_json:
        print_json_lines(refund.item() for refund in waiting)
    elif waiting:
        console().print(_table(waiting))
        print_line(
            "Look each up in the gateway's dashboard by its refund id (the reference), then:"
        )
        print_line("refunds review decide REFUND_ID --paid|--not-paid --why … --evidence …")
    else:
        print_line("No refund waits for a person.")
    if waiting:
        raise click.exceptions.Exit(REFUSED)


@review.command("decide")
@click.argument("refund_id")
@click.option(
    "--paid/--not-paid", required=True, default=None, help="Did the customer get the money?"
)
@click.option("--why", required=True, help="How you know.")
@click.option("--evidence", required=True, help="Where that can be seen: a ticket, an id, a mail.")
@BY
@click.pass_obj
def decide_(
    stack_name: str | None, refund_id: str, paid: bool, why: str, evidence: str, by: str | None
) -> None:
    """Record whether a refund was paid.

    --not-paid frees the money that the refund reserved. The audit trail keeps who, why and the
    evidence.
    """
    stack = find_stack(stack_name)
    refunds = RefundsTable(stack.dynamodb, stack["RefundsTableName"])
    who = operator(by)
    recorder = Recorder(
        refunds=refunds,
        ledger=LedgerTable(stack.dynamodb, stack["LedgerTableName"]),
        clock=SystemClock(),
        processed_by=who,
        recheck_after=timedelta(minutes=5),
    )
    try:
        decided = decide(
            refunds,
            recorder,
            refund_id,
            Status.SUCCEEDED if paid else Status.FAILED,
            by=who,
            why=why,
            evidence=evidence,
        )
    except ReviewError as exc:
        raise RefusedError(f"{exc}.", "refunds review list shows what waits for a person.") from exc
    freed = "" if paid else f", {amount_text(decided.amount_minor, decided.currency)} freed"
    print_line(f"{refund_id}: {decided.status}, {outcome_of(decided.status)}{freed}.")


def _table(waiting: list[Refund]) -> Table:
    table = Table(title=Text("Refunds in review"), title_justify="left")
    for column in ("refund", "payment", "status"):
        table.add_column(column, overflow="fold")
    table.add_column("amount", justify="right", no_wrap=True)
    table.add_column("for", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    now = datetime.now(UTC)
    for refund in waiting:
        age = now - from_rfc3339(refund.open_since or refund.updated_at)
        table.add_row(
            Text(refund.refund_id),
            Text(refund.transaction_id),
            status_text(refund.status),
            amount_text(refund.amount_minor, refund.currency),
            f"{int(age.total_seconds() // 3600)} h",
            Text(f"{refund.failure_code}: {refund.failure_message}"),
        )
    return table
