"""Requests, errors and times as the contract (docs/flair-gateway.openapi.yaml) defines them."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

MAX_ID_LENGTH = 128
MAX_KEY_LENGTH = 255
MAX_REQUEST_BYTES = 64 * 1024
MAX_PAGE = 100
KEY_LIFETIME_MICROS = 24 * 3600 * 1_000_000
# SQLite's integers end at 2^63. No payment comes near.
MAX_AMOUNT = 10**15

PAYMENT_STATUSES = ("authorized", "captured", "voided", "disputed")
REASONS = (
    "requested_by_customer",
    "order_cancelled",
    "payment_error",
    "duplicate",
    "fraudulent",
    "other",
)

_CURRENCY = re.compile(r"[A-Z]{3}")
_LIMIT = re.compile(r"[0-9]{1,3}")
# RFC 3339: the offset is required; digits below microseconds are ignored.
_DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class RefusedError(Exception):
    """The request gets an error of the contract. No money moved."""

    status: int
    code: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def invalid(cls, message: str) -> RefusedError:
        return cls(422, "invalid_request", message)

    def body(self) -> dict[str, Any]:
        return error_body(self.code, self.message)


def error_body(code: str, message: str) -> dict[str, Any]:
    request_id = f"req_{secrets.token_hex(8)}"
    return {"error": {"code": code, "message": message, "request_id": request_id}}


@dataclass(frozen=True)
class RefundCreate:
    """The body of POST /v1/refunds. `amount` is in the currency's minor unit, at least 1."""

    transaction_id: str
    amount: int
    currency: str
    reference: str
    reason: str | None = None


@dataclass(frozen=True)
class Page:
    """The query of GET /v1/refunds. Times are microseconds since 1970."""

    reference: str | None
    transaction_id: str | None
    created_from: int | None
    after: tuple[int, int] | None
    limit: int
    created_before: int | None = None


def load_json(raw: bytes) -> Any:
    """The JSON in `raw`. Raises RefusedError (422), also for duplicate keys, NaN and Infinity."""
    try:
        return json.loads(raw, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise RefusedError.invalid("the body is not valid JSON") from exc


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def parse_refund_create(body: object) -> RefundCreate:
    """Raises RefusedError (422 invalid_request) naming the first field that breaks the contract."""
    if not isinstance(body, dict):
        raise RefusedError.invalid("the body must be a JSON object")
    known = ("transaction_id", "amount", "currency", "reference", "reason")
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise RefusedError.invalid(f"unknown field: {', '.join(unknown)[:200]}")
    missing = [name for name in known[:4] if name not in body]
    if missing:
        raise RefusedError.invalid(f"missing field: {', '.join(missing)}")
    if "reason" in body and body["reason"] not in REASONS:
        raise RefusedError.invalid(f"reason: one of {', '.join(REASONS)}")
    return RefundCreate(
        transaction_id=parse_id(body["transaction_id"], "transaction_id"),
        # No upper bound: the contract has none, so too much is `amount_exceeds_balance`.
        amount=parse_amount(body["amount"], "amount", low=1, high=None),
        currency=parse_currency(body["currency"]),
        reference=parse_id(body["reference"], "reference"),
        reason=body.get("reason"),
    )


def parse_id(value: object, name: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID_LENGTH:
        raise RefusedError.invalid(f"{name}: a string of 1 to {MAX_ID_LENGTH} characters")
    try:
        value.encode()
    except UnicodeEncodeError as exc:  # half a surrogate pair
        raise RefusedError.invalid(f"{name}: not valid Unicode") from exc
    return value


def parse_amount(value: object, name: str, *, low: int, high: int | None = MAX_AMOUNT) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RefusedError.invalid(f"{name}: an integer of minor units")
    if value < low:
        raise RefusedError.invalid(f"{name}: at least {low}")
    if high is not None and value > high:
        raise RefusedError.invalid(f"{name}: at most {high}")
    return value


def parse_currency(value: object) -> str:
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
        raise RefusedError.invalid("currency: three capital letters")
    return value


def parse_page(query: Mapping[str, str]) -> Page:
    """Raises RefusedError (422) for values out of bounds. Ignores unknown parameters."""
    limit = query.get("limit", str(MAX_PAGE))
    if not _LIMIT.fullmatch(limit) or not 1 <= int(limit) <= MAX_PAGE:
        raise RefusedError.invalid(f"limit: from 1 to {MAX_PAGE}")
    ids = {
        name: parse_id(query[name], name) if name in query else None
        for name in ("reference", "transaction_id")
    }
    created_from = query.get("created_from")
    cursor = query.get("cursor")
    return Page(
        reference=ids["reference"],
        transaction_id=ids["transaction_id"],
        created_from=None if created_from is None else parse_time(created_from, "created_from"),
        after=None if cursor is None else parse_cursor(cursor),
        limit=int(limit),
    )


def parse_time(value: object, name: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time with its offset. Cuts off finer digits."""
    if not isinstance(value, str) or not _DATE_TIME.fullmatch(value):
        raise RefusedError.invalid(f"{name}: an RFC 3339 time with offset (encode + as %2B)")
    try:
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", value.upper()))
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError) as exc:
        raise RefusedError.invalid(f"{name}: no such time") from exc


def time_text(micros: int) -> str:
    return (_EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def cursor_text(created_at: int, seq: int) -> str:
    return base64.urlsafe_b64encode(f"{created_at}.{seq}".encode()).decode()


def parse_cursor(cursor: str) -> tuple[int, int]:
    try:
        created_at, seq = base64.urlsafe_b64decode(cursor.encode()).decode().split(".")
        place = int(created_at), int(seq)
    except (ValueError, binascii.Error) as exc:
        raise RefusedError.invalid("cursor: not one that this server returned") from exc
    if not all(0 <= part < 2**62 for part in place):
        raise RefusedError.invalid("cursor: not one that this server returned")
    return place


def parse_key(value: str | None) -> str:
    if value is None or not 1 <= len(value) <= MAX_KEY_LENGTH:
        raise RefusedError.invalid(f"Idempotency-Key: required, 1 to {MAX_KEY_LENGTH} characters")
    return value
