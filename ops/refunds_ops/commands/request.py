"""`refunds request`: a request message, checked like the functions will, then sent to the queue."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from refunds.domain.request import RefundRequest, parse_message
from refunds.domain.request import RefusedError as MessageRefusedError
from refunds.domain.request_fields import REASONS
from refunds_ops.amounts import amount_text, minor_units
from refunds_ops.errors import RefusedError
from refunds_ops.identity import login
from refunds_ops.json_output import json_option
from refunds_ops.stack.stack import find_stack
from refunds_ops.terminal import console, print_json, print_line


@click.command()
@click.option(
    "--refund-id",
    metavar="ID",
    help="You choose it; without it, one is generated. Sending "
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
@click.option(
    "--reason-code", metavar="TEXT", help="Your own code for the reason, at most 64 characters."
)
@click.option("--note", metavar="TEXT", help="A note for people, at most 500 characters.")
@click.option(
    "--line-item",
    "line_items",
    multiple=True,
    metavar="SKU,QUANTITY,AMOUNT",
    help="What is refunded, with the line's total: mug-red,2,19.80. May be given many times.",
)
@click.option(
    "--expected-refundable",
    metavar="DECIMAL",
    help="The amount that should still be refundable. If it differs, the refund is rejected.",
)
@click.option(
    "--expected-refundable-minor", type=int, metavar="INTEGER", help="The same in minor units."
)
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="May be given many times.")
@click.option(
    "--message",
    "message_file",
    type=click.File("rb", lazy=True),
    metavar="FILE",
    help="Send this JSON message unchanged; - is standard input.",
)
@click.option(
    "--file",
    "file",
    type=click.File("rb", lazy=True),
    metavar="FILE",
    help="Send a request for each row of this CSV or JSON lines file; - is standard input.",
)
@click.option("--yes", is_flag=True, help="With --file: send without asking.")
@click.option("--check-payments", is_flag=True, help="With --file: look the payments up.")
@click.option("--warn-above", metavar="DECIMAL", help="With --file: point out higher amounts.")
@click.option(
    "--per-second",
    type=click.IntRange(0, 10_000),
    default=0,
    help="With --file: send at most this many a second.",
)
@click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --file: where the results go.  [default: FILE.results.jsonl]",
)
@click.option(
    "--wait",
    type=click.FloatRange(0, 604_800),
    metavar="SECONDS",
    help="With --file: follow the refunds to their end, for at most this long.",
)
@click.option("--dry-run", is_flag=True, help="Check and show; send nothing.")
@json_option(
    {
        "refund_id": "of the request that was sent (without --file)",
        "message": "the message as it was sent (without --file)",
        "results": "the result file (with --file)",
        "counts": "how many by status (with --file)",
    }
)
@click.pass_obj
def request(stack_name: str | None, /, **options: Any) -> None:
    """Request a refund.

    Checks the request as the functions will, then sends it to the queue. With --file, requests many
    refunds. All rows are checked first, their number and totals are shown, and nothing is sent
    before you agree. If you send a file twice, nothing is paid twice: a row without refund_id gets
    one that is made from its contents.

    \b
    refunds request --transaction pay_42 --user ada --amount 25.00 --currency USD \\
                    --reason order_cancelled
    refunds request --file refunds.csv --reason order_cancelled --wait 600
    """
    if options["file"] is not None:
        _only_defaults(options)
        from refunds_ops.commands.bulk_request import request_file

        request_file(stack_name, options["file"], options)
        return
    body = _body(options)
    sent = check(body)
    if options["dry_run"]:
        print_line(body)
        return
    stack = find_stack(stack_name)
    stack.sqs.send_message(QueueUrl=stack["RefundQueueUrl"], MessageBody=body)
    if options["as_json"]:
        print_json({"refund_id": sent.refund_id, "message": json.loads(body)})
    else:
        _print_sent(sent)


_FIELDS = ("refund_id", "transaction_id", "user_id", "currency", "reason", "requested_by")
"""Options whose values are fields of the message without conversion."""

_CONVERTED = (
    *("amount", "amount_minor", "reason_code", "note", "line_items"),
    *("expected_refundable", "expected_refundable_minor", "metadata"),
)
"""Other options that say something about the refund."""


def _only_defaults(options: dict[str, Any]) -> None:
    if _given(options, ("refund_id", "transaction_id", "message_file", *_CONVERTED)):
        raise click.UsageError(
            "--file contains the requests: only --user, --currency, --reason and --requested-by go "
            "with it, for rows that leave them out"
        )


def _body(options: dict[str, Any]) -> str:
    if options["message_file"] is None:
        return json.dumps(_message(options))
    if _given(options, (*_FIELDS, *_CONVERTED)):
        raise click.UsageError("--message is the whole message: leave the other fields out")
    return _text(options["message_file"].read())


def _given(options: dict[str, Any], names: Iterable[str]) -> bool:
    return any(options[name] not in (None, ()) for name in names)


def check(body: str) -> RefundRequest:
    """The request in a valid body. Raises ``RefusedError`` that explains what is not valid."""
    try:
        return parse_message(body)
    except MessageRefusedError as exc:
        raise RefusedError(
            f"The request is not valid ({exc.code}), so nothing was sent.",
            *exc.message.split("; "),
            "Each field is explained by: refunds request --help",
        ) from None


def _message(options: dict[str, Any]) -> dict[str, Any]:
    names = {"transaction_id": "--transaction", "user_id": "--user", "currency": "--currency"}
    names["reason"] = "--reason"
    if missing := [option for name, option in names.items() if options[name] is None]:
        raise click.UsageError(f"missing: {', '.join(missing)}")
    currency = str(options["currency"])
    message: dict[str, Any] = {
        **{name: options[name] for name in _FIELDS},
        "refund_id": options["refund_id"] or f"rf_{secrets.token_hex(10)}",
        "requested_by": options["requested_by"] or f"operator:{login()}",
        "requested_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "amount_minor": _minor(options, "amount", currency, least=1),
        "reason_code": options["reason_code"],
        "note": options["note"],
        "expected_refundable_minor": _minor(options, "expected_refundable", currency, least=0),
        "line_items": [_line_item(text, currency) for text in options["line_items"]] or None,
        "metadata": _metadata(options["metadata"]) or None,
    }
    return {name: value for name, value in message.items() if value is not None}


def _minor(options: dict[str, Any], name: str, currency: str, *, least: int) -> int | None:
    decimal, minor = options[name], options[f"{name}_minor"]
    if decimal is not None and minor is not None:
        option = f"--{name.replace('_', '-')}"
        raise click.UsageError(f"give {option} or {option}-minor, not both")
    found: int | None = minor if decimal is None else minor_units(decimal, currency, least=least)
    return found


def _line_item(text: str, currency: str) -> dict[str, Any]:
    # Split from the right, because a SKU may contain a comma.
    match text.rsplit(",", 2):
        case [sku, quantity, amount] if re.fullmatch(r"\d{1,19}", quantity, re.ASCII):
            total = minor_units(amount, currency, least=0)
            return {"sku": sku, "quantity": int(quantity), "amount_minor": total}
    raise click.UsageError(f"--line-item {text} is not SKU,QUANTITY,AMOUNT")


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


def _print_sent(sent: RefundRequest) -> None:
    amount = amount_text(sent.amount_minor, sent.currency)
    what = f"{amount} of" if sent.amount_minor else "all that is left of"
    out = console()
    out.print(f"[green]✓[/] Requested: {what} {escape(sent.transaction_id)}", highlight=False)
    out.print(f"  Refund id  [bold]{escape(sent.refund_id)}[/]", highlight=False)
    out.print(f"  See it     refunds show {escape(sent.refund_id)}", highlight=False)
