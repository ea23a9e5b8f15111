"""Everything that reads what others sent, with a valid input and the errors it documents."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click
from tests.support.audit_backups import Signer
from tests.support.backup_parts import refund
from tests.support.flair_account import REFUND, Account, error
from tests.support.receipts import signed_receipt
from tests.support.stripe_script import (
    Script,
    a_charge,
    a_refund,
    an_intent,
    create,
    soon,
    unlike_stripe,
)
from tests.support.stripe_script import gateway as stripe_gateway

from refunds.audit.writer import entry_of
from refunds.backup.digest import Digest, DigestError, Export
from refunds.backup.export_format import ExportFormatError, md5_base64, read_manifest
from refunds.domain.audit_entry import NOT_AN_IMAGE
from refunds.domain.request import RefusedError, parse_message
from refunds.gateways.contract import (
    Accepted,
    GatewayUnavailableError,
    KeyReused,
    Unknown,
)
from refunds.gateways.webhooks import SIGNATURE_HEADERS, RefusedWebhookError, refund_to_look_at
from refunds.tables.wire import item_to_wire
from refunds_ops import bulk
from refunds_ops.audit.receipt_check import check_receipt
from refunds_ops.cli import cli
from refunds_ops.errors import CommandError

NOW = datetime(2026, 11, 27, tzinfo=UTC)
SECRET = "whsec_" + "s" * 40
MESSAGE = {
    "refund_id": "rf_1",
    "transaction_id": "pay_1",
    "user_id": "user_ada",
    "amount_minor": 100,
    "currency": "USD",
    "reason": "order_cancelled",
    "requested_by": "agent:grace",
    "requested_at": "2026-11-27T00:00:00Z",
    "metadata": {"order": "A-1"},
    "expected_refundable_minor": 500,
    "reason_code": "R7",
    "note": "as agreed",
    "line_items": [{"sku": "A", "quantity": 1, "amount_minor": 100}],
}
PAYMENT = {
    "id": "payment-1",
    "status": "captured",
    "currency": "USD",
    "amount_captured": 10_000,
    "amount_refunded": 0,
}
ROOT = "refund-backups/x/refunds/AWSDynamoDB/1"
SUMMARY = {"itemCount": 2, "outputFormat": "DYNAMODB_JSON"}
LISTED = {"dataFileS3Key": f"{ROOT}/data/1.gz", "itemCount": 2, "md5Checksum": "x", "etag": "y"}


@dataclass(frozen=True)
class Reader:
    """``read`` takes bytes and may raise ``refusals``."""

    name: str
    valid: Any
    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...] = ()


class WrongAnswerError(Exception):
    """A reader took a damaged answer for something that it does not prove."""


def readers() -> tuple[Reader, ...]:
    return (*_messages(), *_gateways(), *_records(), *_people())


def _messages() -> tuple[Reader, ...]:
    image = item_to_wire(refund(1).item())
    return (
        Reader("request message", MESSAGE, parse_message, (RefusedError,)),
        Reader(
            "stream record",
            {"eventName": "INSERT", "dynamodb": {"NewImage": image, "OldImage": {}}},
            lambda content: entry_of(json.loads(content)),
            NOT_AN_IMAGE,
        ),
        Reader(
            "webhook",
            {"type": "refund.updated", "data": {"object": {"reference": "dev.rf_1"}}},
            _webhook,
            (RefusedWebhookError,),
        ),
    )


def _webhook(body: bytes) -> object:
    at = str(int(NOW.timestamp()))
    signature = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    event = {
        "headers": {SIGNATURE_HEADERS[0]: f"t={at},v1={signature}"},
        "body": body.decode(errors="surrogateescape"),
    }
    return refund_to_look_at(event, SECRET, NOW)


# --- Gateways -------------------------------------------------------------------------------------


def _gateways() -> tuple[Reader, ...]:
    unavailable = (GatewayUnavailableError,)
    page = {"data": [REFUND], "has_more": False, "next_cursor": None}
    return (
        Reader("Flair: refund", REFUND, _flair_refund),
        Reader("Flair: error", [422, error()], _flair_error),
        Reader("Flair: payment", PAYMENT, _flair(lambda a: a.gateway.get_payment), unavailable),
        Reader("Flair: list", page, _flair_list, unavailable),
        Reader("Stripe: refund", a_refund(), _stripe_refund),
        Reader("Stripe: payment", [an_intent(), a_charge()], _stripe_payment, unavailable),
        Reader(
            "Stripe: list",
            {"object": "list", "data": [a_refund()], "has_more": False, "url": "/v1/refunds"},
            _stripe_list,
            unavailable,
        ),
    )


def must_not_decline(answer: object) -> object:
    """A 2xx may have moved the money, whatever its body looks like."""
    if not isinstance(answer, Accepted | Unknown | KeyReused):
        raise WrongAnswerError(f"a damaged success is {type(answer).__name__}")
    return answer


def _flair_refund(content: bytes) -> object:
    account = Account()
    account.wire.says(201, content)
    return must_not_decline(account.create())


def _flair_error(content: bytes) -> object:
    try:
        status, body = json.loads(content)
        status = 400 + abs(int(status)) % 200
    except (ValueError, TypeError, OverflowError):
        status, body = 500, content
    account = Account()
    account.wire.says(status, body)
    answer = account.create()
    if isinstance(answer, Accepted):
        raise WrongAnswerError(f"an error of status {status} is a refund")
    return answer


def _flair(method: Callable[[Account], Callable[..., object]]) -> Callable[[bytes], object]:
    def read(content: bytes) -> object:
        account = Account()
        account.wire.says(200, content)
        return method(account)("payment-1", account.deadline())

    return read


def _flair_list(content: bytes) -> object:
    account = Account()
    account.wire.says(200, content)
    return account.gateway.list_refunds(account.deadline())


def _stripe(content: bytes) -> Any:
    return unlike_stripe(200, content.decode(errors="replace"))


def _stripe_refund(content: bytes) -> object:
    return must_not_decline(create(Script(_stripe(content))))


def _stripe_payment(content: bytes) -> object:
    try:
        first, second = json.loads(content)
    except (ValueError, TypeError):
        first = second = None
    answers = [_stripe(json.dumps(each).encode()) for each in (first, second, None, None)]
    return stripe_gateway(Script(*answers)).get_payment("pi_1", soon())


def _stripe_list(content: bytes) -> object:
    return stripe_gateway(Script(_stripe(content))).list_refunds(soon())


# --- Backups and receipts -------------------------------------------------------------------------


def _records() -> tuple[Reader, ...]:
    digest = Digest(
        sequence=1,
        bucket="backups",
        start_time="2026-11-27T00:00:00Z",
        end_time="2026-11-27T00:01:00Z",
        backup_prefix="refund-backups/2026/11/27/20261127T000000Z",
        fingerprint="0" * 64,
        previous=None,
        exports=(Export("refunds", "arn:aws:x", "root", "2026-11-27T00:00:00Z", 0, (), ()),),
    )
    return (
        Reader("backup digest", json.loads(digest.to_bytes()), Digest.from_bytes, (DigestError,)),
        Reader("backup manifest", [SUMMARY, LISTED], _manifest, (ExportFormatError,)),
        Reader("receipt", _VALID_RECEIPT, _receipt),
    )


def _manifest(content: bytes) -> object:
    """Checksums fit, so that the damage reaches what reads the manifests."""
    try:
        summary, listed = (json.dumps(each).encode() for each in json.loads(content))
    except (ValueError, TypeError):
        summary = listed = content
    stored = {
        f"{ROOT}/manifest-summary.json": summary,
        f"{ROOT}/manifest-summary.md5": md5_base64(summary).encode(),
        f"{ROOT}/manifest-files.json": listed,
        f"{ROOT}/manifest-files.md5": md5_base64(listed).encode(),
    }
    return read_manifest(ROOT, stored.get)


_VALID_RECEIPT = signed_receipt()
_KEY = Signer().public


def _receipt(content: bytes) -> object:
    checked = check_receipt(content, _KEY)
    if checked.proven and _told_by(json.loads(content)) != _told_by(_VALID_RECEIPT):
        raise WrongAnswerError("a changed receipt is proven")
    return checked


def _told_by(receipt: Any) -> Any:
    """What a receipt proves; docs/audit.md says which fields are not hashed."""
    not_hashed = ("recorded_at", "rebuilt")
    entries = [
        {name: value for name, value in entry.items() if name not in not_hashed}
        for entry in receipt["entries"]
    ]
    return receipt["refund_id"], receipt["transaction_id"], entries


# --- What people type -----------------------------------------------------------------------------


def _people() -> tuple[Reader, ...]:
    refused = (click.ClickException, CommandError)
    row = {
        "transaction_id": "pay_1",
        "user_id": "u-1",
        "amount": "1.00",
        "currency": "USD",
        "reason": "other",
    }
    return (
        Reader("refunds.csv", [list(row), list(row.values())], _csv, refused),
        Reader("refunds.jsonl", [row, row], _json_lines, refused),
        *(
            Reader(f"command line: {' '.join(line[:2])}", line, _command_line, refused)
            for line in (
                ["request", "--transaction", "p", "--user", "u", "--amount", "1.00"],
                ["list", "--since", "24h", "--amount", "1.00", "--currency", "USD", "--limit", "5"],
                ["review", "decide", "r1", "--paid", "--why", "x", "--evidence", "y"],
                ["backup", "restore", "--suffix", "-x", "--backup", "1"],
            )
        ),
    )


def _csv(content: bytes) -> object:
    try:
        rows = [",".join(map(str, each)) for each in json.loads(content)]
    except (ValueError, TypeError):
        rows = content.decode(errors="surrogateescape").split("\n")
    return bulk.read(rows, {"requested_by": "agent:jo"})


def _json_lines(content: bytes) -> object:
    try:
        rows = [json.dumps(each) for each in json.loads(content)]
    except (ValueError, TypeError):
        rows = content.decode(errors="surrogateescape").split("\n")
    return bulk.read(rows, {"requested_by": "agent:jo"})


def _command_line(content: bytes) -> object:
    """Parses a command line as far as its last option, and runs nothing."""
    try:
        words = [str(each) for each in json.loads(content)]
    except (ValueError, TypeError):
        words = content.decode(errors="surrogateescape").split()
    command: click.Command = cli
    context = None
    try:
        while isinstance(command, click.Group):
            context = command.make_context("refunds", words, parent=context)
            words = [*context.protected_args, *context.args]
            if not words:
                context.fail("Missing command.")  # as the group does before it looks for one
            _, found, words = command.resolve_command(context, words)
            assert found is not None
            command = found
        return command.make_context(command.name, words, parent=context).params
    except click.exceptions.Exit:
        return None  # --help, --version
