"""Many refund requests from one file: read, checked as a whole, sent, and followed to their end.

A row without a ``refund_id`` gets one that is made from its contents. So the same file, sent twice,
contains the same requests, and nothing is paid twice.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refunds.domain.request import RefundRequest, RefusedError, parse_message
from refunds_ops.amounts import amount_text, minor_units
from refunds_ops.errors import CommandError
from refunds_ops.errors import RefusedError as CommandRefusedError

if TYPE_CHECKING:
    from refunds_ops.stack.stack import Stack

MAX_ROWS = 100_000
SENDERS = 8
WRITE_EVERY_SECONDS = 1.0
SENT_TOGETHER = 10
"""Messages that one SendMessageBatch can take."""

_INTEGERS = ("amount_minor", "expected_refundable_minor")
METADATA = "metadata."
"""A column ``metadata.order`` is the key ``order`` of a request's metadata."""


@dataclass
class Row:
    """One row of the file. ``wrong``: why it can't be sent, if so."""

    number: int
    body: str = ""
    request: RefundRequest | None = None
    wrong: str | None = None


@dataclass
class Result:
    """What became of a row. ``status``: the refund's, or sent, refused or failed to be sent."""

    row: int
    refund_id: str
    status: str = "not sent"
    why: str = ""


@dataclass
class Checked:
    """A file's rows, and what a person should see before they are sent."""

    rows: list[Row]
    suspicious: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[Row]:
        return [row for row in self.rows if row.wrong is not None]

    @property
    def requests(self) -> list[RefundRequest]:
        return [row.request for row in self.rows if row.request is not None]

    def totals(self) -> dict[str, tuple[int, int, int]]:
        """By currency: the number of rows, their sum, and how many of them name no amount."""
        found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for request in self.requests:
            total = found[request.currency]
            total[0] += 1
            total[1] += request.amount_minor or 0
            total[2] += request.amount_minor is None
        return {currency: (each[0], each[1], each[2]) for currency, each in sorted(found.items())}


# --- Reading --------------------------------------------------------------------------------------


def read(lines: Iterable[str], defaults: Mapping[str, str]) -> Checked:
    """CSV with a heading, or JSON lines. ``defaults`` fill in what a row leaves out.

    Raises ``CommandRefusedError`` for a file that is neither.
    """
    found = iter(lines)
    first = next((line for line in found if line.strip()), "")
    everything = _chain(first, found)
    raw = _json_rows(everything) if first.lstrip().startswith("{") else _csv_rows(everything)
    rows: list[Row] = []
    for number, fields in raw:
        if len(rows) == MAX_ROWS:
            raise CommandRefusedError(f"The file has more than {MAX_ROWS:,} rows: split it.")
        rows.append(_row(number, fields, defaults))
    if not rows:
        raise CommandRefusedError(
            "The file has no rows.", "CSV with a heading, or a JSON object in each line."
        )
    checked = Checked(rows)
    checked.suspicious += _suspicious(rows)
    return checked


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _json_rows(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            yield number, fields if isinstance(fields, dict) else "is not a JSON object"
        except (ValueError, RecursionError):
            yield number, "is not JSON"


def _csv_rows(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    reader = csv.reader(lines, strict=True)
    try:
        names = [name.strip().lstrip("\ufeff") for name in next(reader, [])]
        known = {*RefundRequest.model_fields, "amount"}
        unknown = [name for name in names if name not in known and not name.startswith(METADATA)]
        if unknown or len(set(names)) != len(names):
            raise CommandRefusedError(
                f"Unknown or repeated columns: {', '.join(unknown or names)[:300]}.",
                f"The columns are: {', '.join(sorted(known))}, metadata.KEY",
            )
        for number, values in enumerate(reader, 2):
            if not any(values):
                continue
            if len(values) != len(names):
                yield number, f"has {len(values)} columns, the heading has {len(names)}"
            else:
                yield number, _csv_fields(dict(zip(names, values, strict=True)))
    except csv.Error as exc:
        raise CommandRefusedError(f"The file is not CSV: {exc}.") from None


def _csv_fields(row: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in row.items():
        if value == "":  # left out
            continue
        if name.startswith(METADATA):
            fields.setdefault("metadata", {})[name.removeprefix(METADATA)] = value
        elif name in _INTEGERS and re.fullmatch(r"\d{1,19}", value, re.ASCII):
            fields[name] = int(value)
        elif name == "line_items":
            try:
                fields[name] = json.loads(value)
            except (ValueError, RecursionError):
                fields[name] = value  # refused below, with the field's name
        else:
            fields[name] = value
    return fields


def _row(number: int, fields: dict[str, Any] | str, defaults: Mapping[str, str]) -> Row:
    if isinstance(fields, str):
        return Row(number, wrong=fields)
    fields = {**fields}
    try:
        if (amount := fields.pop("amount", None)) is not None:
            if "amount_minor" in fields:
                raise CommandRefusedError("has both amount and amount_minor")
            currency = str(fields.get("currency", defaults.get("currency", "")))
            fields["amount_minor"] = minor_units(str(amount), currency)
        identity = {
            name: value for name, value in fields.items() if name not in ("requested_at", "note")
        }
        fields = {**defaults, **fields}
        fields.setdefault("refund_id", _id_of({**identity, "currency": fields.get("currency")}))
        body = json.dumps(fields)
        return Row(number, body, parse_message(body))
    except RefusedError as exc:
        return Row(number, wrong=exc.message)
    except CommandError as exc:
        return Row(number, wrong=exc.what)


def _id_of(identity: Mapping[str, Any]) -> str:
    """An id made from a row's contents. Who sends the file, and when, is not part of it."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return f"rf_{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def _suspicious(rows: Sequence[Row]) -> list[str]:
    """What a person should check: the same id or payment twice."""
    by_id: dict[str, list[str]] = defaultdict(list)
    payments: Counter[str] = Counter()
    for row in rows:
        if row.request is not None:
            by_id[row.request.refund_id].append(str(row.number))
            payments[row.request.transaction_id] += 1
    found = []
    for numbers in by_id.values():
        if len(numbers) > 1:
            found.append(
                f"rows {', '.join(numbers[:10])} are the same request: it is paid once. Give each "
                "its refund_id if they are meant"
            )
    for payment, count in payments.items():
        if count > 1:
            found.append(f"payment {payment} is refunded {count} times")
    return found


# --- Sending --------------------------------------------------------------------------------------


class ResultFile:
    """The results so far, in a file beside the input. A repeated call continues where they end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[str, Result] = {}
        if path.exists():
            self.results = dict(self._read())

    def _read(self) -> Iterator[tuple[str, Result]]:
        for line in self.path.read_text().splitlines():
            try:
                result = Result(**json.loads(line))
            except (ValueError, TypeError) as exc:
                raise CommandRefusedError(
                    f"{self.path} is not a result file of this command.",
                    "Name another with --results, or remove it.",
                ) from exc
            yield result.refund_id, result

    def write(self) -> None:
        """Whole or not at all."""
        new = self.path.with_name(f"{self.path.name}.new")
        new.write_text("".join(f"{json.dumps(asdict(each))}\n" for each in self.results.values()))
        new.replace(self.path)


Progress = Callable[[int], None]


def send(
    stack: Stack,
    rows: Sequence[Row],
    results: ResultFile,
    *,
    per_second: int,
    on_progress: Progress,
) -> None:
    """Send the rows that were not sent before. A batch that fails is recorded, and the others are
    still sent."""
    waiting = [
        row
        for row in rows
        if row.request is not None
        and results.results.get(row.request.refund_id, Result(0, "")).status
        in ("not sent", "failed to be sent")
    ]
    # One of several rows with one id.
    waiting = list({row.request.refund_id: row for row in waiting if row.request}.values())
    at_once = SENT_TOGETHER * SENDERS
    began, sent, written_at = time.monotonic(), 0, 0.0
    with ThreadPoolExecutor(SENDERS) as pool:
        for start in range(0, len(waiting), at_once):
            group = waiting[start : start + at_once]
            batches = [
                group[first : first + SENT_TOGETHER]
                for first in range(0, len(group), SENT_TOGETHER)
            ]
            for done in pool.map(lambda batch: _send_batch(stack, batch), batches):
                results.results |= {result.refund_id: result for result in done}
                sent += len(done)
            on_progress(sent)
            if time.monotonic() - written_at > WRITE_EVERY_SECONDS:
                results.write()
                written_at = time.monotonic()
            if per_second:
                time.sleep(max(0.0, sent / per_second - (time.monotonic() - began)))
    results.write()


def _send_batch(stack: Stack, batch: Sequence[Row]) -> list[Result]:
    by_id = {str(number): row for number, row in enumerate(batch)}
    results = {
        key: Result(row.number, row.request.refund_id, "sent")
        for key, row in by_id.items()
        if row.request is not None
    }
    answer = stack.sqs.send_message_batch(
        QueueUrl=stack["RefundQueueUrl"],
        Entries=[{"Id": key, "MessageBody": row.body} for key, row in by_id.items()],
    )
    for failure in answer.get("Failed", []):
        failed = results[failure["Id"]]
        failed.status, failed.why = "failed to be sent", failure.get("Message", failure["Code"])
    return list(results.values())


FINAL = frozenset({"SUCCEEDED", "FAILED", "REJECTED", "REVERSED"})


def follow(
    stack: Stack, results: ResultFile, *, until: float, every_seconds: float, on_progress: Progress
) -> None:
    """Note the refunds' statuses until all are final or ``until`` (monotonic) has come."""
    from refunds_ops.open_refunds import indexes_of

    indexes = indexes_of(stack)
    while True:
        open_ones = [each for each in results.results.values() if each.status not in FINAL]
        for item in indexes.items([each.refund_id for each in open_ones]):
            result = results.results[item["refund_id"]]
            result.status, result.why = item["status"], str(item.get("failure_code") or "")
        results.write()
        left = sum(each.status not in FINAL for each in results.results.values())
        on_progress(len(results.results) - left)
        if not left or time.monotonic() >= until:
            return
        time.sleep(every_seconds)


def check_payments(stack: Stack, requests: Sequence[RefundRequest]) -> list[str]:
    """What the gateways would refuse: unknown payments, or amounts above what is left."""
    from refunds.gateways.contract import PaymentStatus
    from refunds_ops.audit import sources

    gateways = sources.gateways(stack)
    wanted: dict[str, list[RefundRequest]] = defaultdict(list)
    for request in requests:
        wanted[request.transaction_id].append(request)
    found = []
    for transaction_id, of_payment in wanted.items():
        gateway = gateways.for_new(transaction_id)
        payment = sources.payment_at(gateways, gateway.name, transaction_id)
        if payment is None:
            found.append(f"payment {transaction_id} is not known to {gateway.name}")
            continue
        # One id is one request, however often it is in the file.
        once = {each.refund_id: each for each in of_payment}.values()
        total = sum(each.amount_minor or 0 for each in once)
        if any(each.currency != payment.currency for each in of_payment):
            found.append(f"payment {transaction_id} is in {payment.currency}")
        elif payment.status is not PaymentStatus.CAPTURED:
            found.append(f"payment {transaction_id} is {payment.status.value}, not captured")
        elif payment.refundable_minor == 0:
            found.append(f"payment {transaction_id} has nothing left to refund")
        elif total > payment.refundable_minor:
            left = amount_text(payment.refundable_minor, payment.currency)
            asked = amount_text(total, payment.currency)
            found.append(f"payment {transaction_id} has {left} left, {asked} is asked for")
    return found
