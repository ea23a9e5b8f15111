"""`refunds review`: refunds that no automatic step can settle safely, and a person's decision on
them."""

from __future__ import annotations

import click

from refunds.domain.clock import Deadline, SystemClock
from refunds.domain.identity import Identity
from refunds.domain.limits import NO_LIMITS
from refunds.domain.refund import Item, Refund, Status
from refunds.processing.review import AgainstGatewayError, Reasons, ReviewError
from refunds_ops.amounts import amount_text
from refunds_ops.dates import age, utc_now
from refunds_ops.deciding import GATEWAY_SECONDS, deciding, limits_of, sentence
from refunds_ops.errors import REFUSED, RefusedError
from refunds_ops.identity import ON_BEHALF_OF, identify
from refunds_ops.json_output import REFUND_FIELDS, json_option
from refunds_ops.layout import Column, print_table
from refunds_ops.lazy import CommandGroup
from refunds_ops.open_refunds import in_review, note_unreadable, open_since
from refunds_ops.stack.stack import Stack, find_stack
from refunds_ops.statuses import acting, outcome_of
from refunds_ops.story import because
from refunds_ops.terminal import print_json, print_json_lines, print_line, print_note


@click.group(cls=CommandGroup)
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
    unreadable: list[str] = []
    waiting = in_review(stack, unreadable)
    if as_json:
        print_json_lines(waiting)
    elif waiting:
        _print_waiting(waiting)
        print_note("Look each up at the gateway: refunds show REFUND_ID --gateway. Then:")
        print_note("refunds review decide REFUND_ID --paid|--not-paid --why … --evidence …")
    else:
        print_line("No refund waits for a person.")
    note_unreadable(unreadable)
    if waiting or unreadable:
        raise click.exceptions.Exit(REFUSED)


@review.command("decide")
@click.argument("refund_id")
@click.option(
    "--paid/--not-paid", required=True, default=None, help="Did the customer get the money?"
)
@click.option("--why", required=True, help="How you know.")
@click.option("--evidence", required=True, help="Where this can be seen: a ticket, an id, a mail.")
@click.option(
    "--against-gateway",
    is_flag=True,
    help="Decide even if the gateway contradicts it or can't be asked. The audit trail records it.",
)
@ON_BEHALF_OF
@json_option(REFUND_FIELDS)
@click.pass_obj
def decide_(  # noqa: PLR0913 - click passes the options
    stack_name: str | None,
    *,
    refund_id: str,
    paid: bool,
    why: str,
    evidence: str,
    against_gateway: bool,
    on_behalf_of: str | None,
    as_json: bool,
) -> None:
    """Record whether a refund was paid.

    The gateway is asked first. --not-paid frees the money that the refund reserved. The audit trail
    keeps who decided, why, the evidence, and what the gateway and the ledger showed.

    Above ApproveAboveMinor this only proposes the decision, which takes effect when another person
    decides the same. A different decision replaces the proposal.
    """
    stack = find_stack(stack_name)
    who = identify(stack, on_behalf_of)
    decided = decide(
        stack,
        who,
        refund_id,
        paid=paid,
        why=why,
        evidence=evidence,
        against_gateway=against_gateway,
    )
    if as_json:
        print_json(decided.item())
        return
    if decided.status is Status.IN_REVIEW:
        print_line(
            f"{refund_id}: proposed as {'paid' if paid else 'not paid'}. Its amount needs a second "
            "person, who decides the same: refunds review decide"
        )
        return
    freed = ""
    if not paid and decided.amount_minor is not None:
        freed_minor = max(0, decided.amount_minor - (decided.kept_minor or 0))
        freed = f", {amount_text(freed_minor, decided.currency)} freed"
    print_line(f"{refund_id}: {decided.status}, {outcome_of(decided.status)}{freed}.")


def decide(  # noqa: PLR0913 - click passes the options
    stack: Stack,
    who: Identity,
    refund_id: str,
    *,
    paid: bool,
    why: str,
    evidence: str,
    against_gateway: bool,
) -> Refund:
    """The refund as it was decided, or still ``IN_REVIEW`` when a second person is needed.

    Raises ``RefusedError``.
    """
    try:
        return (
            deciding(stack, who)
            .reviewer(limits_of(stack))
            .decide(
                refund_id,
                Status.SUCCEEDED if paid else Status.FAILED,
                Reasons(who, why, evidence),
                Deadline.after(SystemClock(), GATEWAY_SECONDS),
                against_gateway=against_gateway,
            )
        )
    except AgainstGatewayError as exc:
        raise RefusedError(
            sentence(exc), "If you are sure in spite of this: repeat it with --against-gateway"
        ) from exc
    except ReviewError as exc:
        raise RefusedError(
            sentence(exc), "refunds review list shows what waits for a person."
        ) from exc


@click.command("correct")
@click.argument("refund_id")
@click.option("--why", required=True, help="How it was found.")
@click.option("--evidence", required=True, help="Where this can be seen: a ticket, an id, a mail.")
@ON_BEHALF_OF
@json_option(REFUND_FIELDS)
@click.pass_obj
def correct(  # noqa: PLR0913 - click passes the options
    stack_name: str | None,
    *,
    refund_id: str,
    why: str,
    evidence: str,
    on_behalf_of: str | None,
    as_json: bool,
) -> None:
    """Record a refund as paid because the gateway shows it as paid.

    Use it for a refund that failed here. The gateway is asked first. The refund's money counts
    against the payment again. Safe to repeat.
    """
    stack = find_stack(stack_name)
    who = identify(stack, on_behalf_of)
    try:
        corrected = (
            deciding(stack, who)
            .reviewer(NO_LIMITS)
            .correct(
                refund_id,
                Reasons(who, why, evidence),
                Deadline.after(SystemClock(), GATEWAY_SECONDS),
            )
        )
    except ReviewError as exc:
        raise RefusedError(sentence(exc), f"refunds show {refund_id}") from exc
    if as_json:
        print_json(corrected.item())
        return
    print_line(f"{refund_id}: {corrected.status}, {outcome_of(corrected.status)}.")


def _why(refund: Item) -> str:
    if proposal := refund.get("proposal"):
        who = acting(proposal.get("by"))
        return f"{because(refund)}; {who} proposes {proposal.get('decision')}: another confirms"
    return because(refund)


def _print_waiting(waiting: list[Item]) -> None:
    now = utc_now()
    print_table(
        [
            Column("refund"),
            Column("payment"),
            Column("amount", right=True),
            Column("for", right=True),
            Column("why", fold=True),
        ],
        [
            (
                refund["refund_id"],
                refund["transaction_id"],
                amount_text(refund.get("amount_minor"), refund["currency"]),
                age(open_since(refund), now),
                _why(refund),
            )
            for refund in waiting
        ],
    )
