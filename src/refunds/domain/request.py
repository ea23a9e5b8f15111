"""The request message: strict reading of an SQS body, and why a body was refused.

The reason never repeats a part of a refused body, which may contain a card number.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError
from pydantic_core import ErrorDetails

from refunds.domain.canonical_json import canonical_json
from refunds.domain.card_numbers import has_card_number, has_printed_card_number, masked
from refunds.domain.identifiers import REFUND_ID, TRANSACTION_ID
from refunds.domain.money import MAX_AMOUNT_MINOR
from refunds.domain.refund import short_text
from refunds.domain.request_fields import (
    Amount,
    AmountOrZero,
    Code,
    Currency,
    Instant,
    LineItem,
    LineItems,
    Metadata,
    Name,
    Note,
    Reason,
    RefundId,
    TransactionId,
)

MAX_BODY_BYTES = 256 * 1024
MAX_ERROR_MESSAGE_BYTES = 1000

IDENTIFIERS = ("refund_id", "transaction_id", "user_id")
"""Fields that are refused for a card number only when it is written as on a card, in groups."""

FINGERPRINT_FORMAT = 2
"""The format of new fingerprints. A stored one of an older format is compared in its own format.

1: every field as sent. 2: without ``requested_at``, so that a producer that sends the same request
again with the time of the second attempt still sends the same request.
"""

_NOT_IN_FINGERPRINT: dict[str, set[str]] = {"1": set(), "2": {"requested_at"}}


class ErrorCode(StrEnum):
    """Why a message was refused: the DLQ message's attribute ``error_code``."""

    INVALID_JSON = "invalid_json"
    DUPLICATE_KEY = "duplicate_key"
    UNKNOWN_FIELD = "unknown_field"
    INVALID_FIELD = "invalid_field"
    UNKNOWN_CURRENCY = "unknown_currency"
    CARD_NUMBER = "card_number"
    TOO_LARGE = "too_large"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"


class RefusedError(Exception):
    """A message that can never become a refund. Trying again does not help."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message.encode()[:MAX_ERROR_MESSAGE_BYTES].decode(errors="ignore")


def idempotency_conflict() -> RefusedError:
    """Why a message is refused whose refund id another request has used."""
    return RefusedError(
        ErrorCode.IDEMPOTENCY_CONFLICT,
        "refund_id: already used by a request with other contents; a new refund needs a new one",
    )


class RefundRequest(BaseModel):
    """A valid request. Unset optional fields are ``None``; amounts are minor units."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    refund_id: RefundId = Field(
        description="The sender chooses it. It is the idempotency key, end to end: however often a "
        "request is sent with the same refund_id, it is paid once."
    )
    transaction_id: TransactionId = Field(description="The payment to refund.")
    user_id: Name = Field(description="Whose money it is.")
    amount_minor: Amount | None = Field(
        None,
        description="In the currency's minor units: 2500 with USD is $25.00, with JPY \u00a52500. "
        "Leave it out for everything that is still refundable.",
    )
    currency: Currency = Field(description="The payment's currency, an ISO 4217 code.")
    reason: Reason = Field(description="Why.")
    requested_by: Name = Field(
        description="Who asks, such as agent:anna, customer:42 or system:orders."
    )
    requested_at: Instant | None = Field(
        None,
        description="When it was asked for: an RFC 3339 instant with an offset. It doesn't make a "
        "request another one.",
    )
    metadata: Metadata | None = Field(
        None, description="The sender's own keys and values, kept and shown."
    )
    reason_code: Code | None = Field(None, description="The sender's own code for the reason.")
    note: Note | None = Field(None, description="A note for people.")
    line_items: LineItems | None = Field(
        None,
        description="What is refunded, kept and shown. The amounts add up to amount_minor at most.",
    )
    expected_refundable_minor: AmountOrZero | None = Field(
        None,
        description="What the sender believes is still refundable. If the gateway says otherwise, "
        "the refund is REJECTED with refundable_mismatch.",
    )

    # Not a field: the sender can't choose it.
    _sent_by: str | None = PrivateAttr(default=None)
    """SQS's ``SenderId`` of the message; None when it didn't come from the queue."""

    def fingerprint(self) -> str:
        """Equal for two messages exactly when they request the same refund with the same fields.

        A field that was left out differs from any value it could have had. Key order, white space
        and ``requested_at`` don't count.
        """
        return self._fingerprint(str(FINGERPRINT_FORMAT))

    def has_fingerprint(self, stored: str) -> bool:
        """Whether a stored fingerprint, of this format or an older one, is this request's.

        Raises ``ValueError`` for a format that is not known, such as that of a newer release.
        """
        version = stored.partition(":")[0]
        if version not in _NOT_IN_FINGERPRINT:
            raise ValueError("the stored fingerprint has an unknown format; deploy a newer release")
        return self._fingerprint(version) == stored

    def _fingerprint(self, version: str) -> str:
        fields = self.model_dump(exclude_unset=True, exclude=_NOT_IN_FINGERPRINT[version])
        return f"{version}:{hashlib.sha256(canonical_json(fields)).hexdigest()}"

    def recorded_fields(self) -> dict[str, Any]:
        """What the refund's record keeps of the request, but for the amount, which is decided when
        it is reserved."""
        fields = self.model_dump(exclude_none=True, exclude={"amount_minor"})
        if "line_items" in fields:
            fields["line_items"] = tuple(fields["line_items"])
        if self._sent_by is not None:
            fields["sent_by"] = short_text(self._sent_by)
        return fields


def parse_message(body: str | bytes, *, sent_by: str | None = None) -> RefundRequest:
    """Read a message body (JSON, UTF-8, at most 256 KiB). Raises ``RefusedError``.

    ``sent_by`` is who sent it, as the queue reports it.
    """
    if len(body if isinstance(body, bytes) else body.encode(errors="surrogatepass")) > (
        MAX_BODY_BYTES
    ):
        raise RefusedError(
            ErrorCode.TOO_LARGE, f"the body is larger than {MAX_BODY_BYTES // 1024} KiB"
        )
    fields = _json_object(body)
    if unknown := fields.keys() - RefundRequest.model_fields.keys():
        names = ", ".join(sorted({_shown(name) for name in unknown})[:5])
        known = ", ".join(RefundRequest.model_fields)
        raise RefusedError(ErrorCode.UNKNOWN_FIELD, f"unknown: {names}; the fields are {known}")
    # An explicit null is neither a value nor a missing field. Guessing which was meant could move
    # money.
    if nulls := sorted(name for name, value in fields.items() if value is None):
        raise RefusedError(
            ErrorCode.INVALID_FIELD,
            f"{', '.join(nulls)}: must not be null; leave an optional field out instead",
        )
    try:
        request = RefundRequest.model_validate(fields)
    except ValidationError as exc:
        raise _refused(exc.errors(include_url=False, include_input=False)) from None
    if name := _field_with_card_number(request):
        raise RefusedError(
            ErrorCode.CARD_NUMBER,
            f"{name}: looks like a card number; send a token or the last four digits instead",
        )
    items_minor = sum(item.amount_minor for item in request.line_items or ())
    if request.amount_minor is not None and items_minor > request.amount_minor:
        raise RefusedError(
            ErrorCode.INVALID_FIELD, "line_items: their amounts add up to more than amount_minor"
        )
    request._sent_by = sent_by
    return request


def _json_object(body: str | bytes) -> dict[str, Any]:
    try:
        text = body if isinstance(body, str) else body.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            # Longer than any bound below; converting thousands of digits would only cost time.
            parse_int=lambda digits: int(digits[:40]),
        )
    except RefusedError:
        raise
    except (ValueError, RecursionError) as exc:
        where = f" at character {exc.pos}" if isinstance(exc, json.JSONDecodeError) else ""
        raise RefusedError(ErrorCode.INVALID_JSON, f"the body is not JSON{where}") from None
    if not isinstance(value, dict):
        raise RefusedError(ErrorCode.INVALID_JSON, "the body must be a JSON object")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = sorted({_shown(name) for name, count in times.items() if count > 1})[:5]
        raise RefusedError(ErrorCode.DUPLICATE_KEY, f"given more than once: {', '.join(twice)}")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_CODES = {
    "unknown_currency": ErrorCode.UNKNOWN_CURRENCY,
    "extra_forbidden": ErrorCode.UNKNOWN_FIELD,
}


def _refused(errors: list[ErrorDetails]) -> RefusedError:
    message = "; ".join(dict.fromkeys(f"{_place(error)}: {_why(error)}" for error in errors[:5]))
    kinds = {error["type"] for error in errors}
    only_kind = kinds.pop() if len(kinds) == 1 else ""
    return RefusedError(_CODES.get(only_kind, ErrorCode.INVALID_FIELD), message)


def _why(error: ErrorDetails) -> str:
    name = error["loc"][-1]
    if error["type"] == "missing":
        return "is required"
    if error["type"] == "extra_forbidden":
        return f"has an unknown field; the fields are {', '.join(LineItem.model_fields)}"
    if name in ("amount_minor", "expected_refundable_minor"):
        least = 1 if error["loc"] == ("amount_minor",) else 0
        return (
            f"must be an integer of minor units from {least} to {MAX_AMOUNT_MINOR} (2500 is $25.00)"
        )
    if error["type"] == "string_pattern_mismatch":
        longest = 64 if name == "refund_id" else 128
        return f"must be 1 to {longest} of A-Z, a-z, 0-9, _ and -"
    return error["msg"][:1].lower() + error["msg"][1:]


def _place(error: ErrorDetails) -> str:
    """Where the error is. Names below the top level may be the sender's own text, so only known
    names are repeated."""
    field, *below = error["loc"]
    place = str(field)
    if field == "line_items" and below:
        place += f"[{below[0]}]"
        if below[-1] in LineItem.model_fields:
            place += f".{below[-1]}"
    return place


def _shown(name: str) -> str:
    """A field's name, if it is safe to repeat. Digits could be an account number or a secret."""
    return name if re.fullmatch(r"[A-Za-z_]{1,40}", name) else "(a name that is not shown)"


def _field_with_card_number(request: RefundRequest) -> str | None:
    for name in IDENTIFIERS:
        if has_printed_card_number(getattr(request, name)):
            return name
    return next((name for name, text in _free_text(request) if has_card_number(text)), None)


def _free_text(request: RefundRequest) -> Iterator[tuple[str, str]]:
    yield "requested_by", request.requested_by
    yield "reason_code", request.reason_code or ""
    yield "note", request.note or ""
    for item in request.line_items or ():
        yield "line_items", item.sku
    for key, value in (request.metadata or {}).items():
        yield "metadata", key
        yield "metadata", value


def named_refund_id(body: str) -> str | None:
    """The refund id in a body, even in one that is refused. None when it names none."""
    return _named(body, "refund_id", REFUND_ID)


def named_transaction_id(body: str) -> str | None:
    """The payment in a body, in the same way."""
    return _named(body, "transaction_id", TRANSACTION_ID)


def _named(body: str, field: str, form: re.Pattern[str]) -> str | None:
    try:
        named = json.loads(body)[field]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return named if isinstance(named, str) and form.fullmatch(named) else None


def masked_body(body: str) -> str:
    """A body that was refused for a card number, with the digits of every such text masked."""
    return json.dumps(_masked(json.loads(body)), ensure_ascii=False)


def _masked(value: Any, name: str = "") -> Any:
    match value:
        case str():
            found = has_printed_card_number if name in IDENTIFIERS else has_card_number
            return masked(value) if found(value) else value
        case dict():
            return {_masked(key): _masked(each, key) for key, each in value.items()}
        case list():
            return [_masked(each) for each in value]
    return value
