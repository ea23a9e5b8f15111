"""`refunds request`: a request message, checked like the functions will, then sent to the queue."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import IO, Any

import click
from rich.markup import escape

from refunds.domain.request import RefundRequest, parse_message
from refunds.domain.request import RefusedError as MessageRefusedError
from refunds.domain.request_fields import REASONS
from refunds_ops.amounts import amount_text, minor_units
from refunds_ops.errors import RefusedError
from refunds_ops.stack.stack import find_stack
from refunds_ops.terminal import console, print_line
from refunds_ops.who import login


@click.command()
@click.option(
    "--refund-id",
    metavar="ID",
    help="Yours to choose; made up when left out. Sending "
    "the same request with the same id again never refunds twice.",
)
@click.option("--transaction", "transaction_id", metavar="ID", help="The payment to refund.")
@click.option("--user", "user_id", metavar="ID", help="Whose money it is.")
@click.option(
    "--amount",
    metavar="DECIMAL",
    help='Such as "25.00". Without an amount: all that is still refundable.',
)
@click.option("--amount-minor", type=int, metavar="INTEGER", help="In minor units: 2500 is $25.00.")
@click.option("--currency", metavar="CODE", help="ISO 4217, such as USD.")
@click.option("--reason", type=click.Choice(REASONS), help="Why.")
@click.option("--requested-by", metavar="WHO", help="Who asks.  [default: operator:<you>]")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="May be given many times.")
@click.option(
    "--message",
    "message_file",
    type=click.File("rb"),
    metavar="FILE",
    help="Send this JSON message as it is; - is standard input.",
)
@click.option("--dry-run", is_flag=True, help="Check and show the message; send nothing.")
@click.pass_obj
def request(
    stack_name: str | None,
    refund_id: str | None,
    transaction_id: str | None,
    user_id: str | None,
    amount: str | None,
    amount_minor: int | None,
    currency: str | None,
    reason: str | None,
    requested_by: str | None,
    metadata: tuple[str, ...],
    message_file: IO[bytes] | None,
    dry_run: bool,
) -> None:
    """Request a refund.

    Checks the request as the functions will, then sends it to the queue.

    \b
    refunds request --transaction pay_42 --user ada --amount 25.00 --currency USD \\
                    --reason order_cancelled
    """
    flags = {
        "refund_id": refund_id,
        "transaction_id": transaction_id,
        "user_id": user_id,
        "currency": currency,
        "reason": reason,
        "requested_by": requested_by,
    }
    if message_file is not None:
        if any(value is not None for value in (*flags.values(), amount, amount_minor)) or metadata:
            raise click.UsageError("--message is the whole message: leave the other fields out")
        body = _text(message_file.read())
    else:
        body = json.dumps(_message(flags, amount, amount_minor, metadata))
    checked = check(body)
    if dry_run:
        print_line(body)
        return
    stack = find_stack(stack_name)
    stack.sqs.send_message(QueueUrl=stack["RefundQueueUrl"], MessageBody=body)
    _tell_sent(checked)


def check(body: str) -> RefundRequest:
    """The request in a valid body. Raises ``RefusedError`` that explains what isn't."""
    try:
        return parse_message(body)
    except MessageRefusedError as exc:
        raise RefusedError(
            f"The request is not valid ({exc.code}), so nothing was sent.",
            *exc.message.split("; "),
            "Each field is explained by: refunds request --help",
        ) from None


def _message(
    flags: dict[str, str | None],
    amount: str | None,
    amount_minor: int | None,
    metadata: tuple[str, ...],
) -> dict[str, Any]:
    if amount is not None and amount_minor is not None:
        raise click.UsageError("give --amount or --amount-minor, not both")
    names = {"transaction_id": "--transaction", "user_id": "--user", "currency": "--currency"}
    names["reason"] = "--reason"
    if missing := [option for name, option in names.items() if flags[name] is None]:
        raise click.UsageError(f"missing: {', '.join(missing)}")
    message: dict[str, Any] = {
        **flags,
        "refund_id": flags["refund_id"] or f"rf_{secrets.token_hex(10)}",
        "requested_by": flags["requested_by"] or f"operator:{login()}",
        "requested_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if amount is not None:
        amount_minor = minor_units(amount, str(flags["currency"]))
    if amount_minor is not None:
        message["amount_minor"] = amount_minor
    if metadata:
        message["metadata"] = _metadata(metadata)
    return message


def _metadata(pairs: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or key in found:
            why = "is given twice" if separator else "is not KEY=VALUE"
            raise click.UsageError(f"--metadata {key if separator else pair} {why}")
        found[key] = value
    return found


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise RefusedError("The message is not UTF-8 text, so nothing was sent.") from None


def _tell_sent(sent: RefundRequest) -> None:
    amount = amount_text(sent.amount_minor, sent.currency)
    what = f"{amount} of" if sent.amount_minor else "all that is left of"
    out = console()
    out.print(f"[green]✓[/] Requested: {what} {escape(sent.transaction_id)}", highlight=False)
    out.print(f"  Refund id  [bold]{escape(sent.refund_id)}[/]", highlight=False)
    out.print(f"  See it     refunds show {escape(sent.refund_id)}", highlight=False)
