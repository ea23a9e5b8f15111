"""The request message: strict reading of an SQS body, and why a body was refused.

Nothing of a refused body is repeated in the reason: it may hold a card number.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Literal

import rfc8785
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from refunds.domain.card_numbers import has_card_number
from refunds.domain.clock import from_rfc3339
from refunds.domain.money import EXPONENTS, MAX_AMOUNT_MINOR

MAX_BODY_BYTES = 256 * 1024
MAX_ERROR_MESSAGE_BYTES = 1000

# Raise it when the fingerprint's input changes, so that old and new ones are never compared.
FINGERPRINT_FORMAT = 1

Reason = Literal[
    "requested_by_customer", "order_cancelled", "payment_error", "duplicate", "fraudulent", "other"
]


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
    """A message that can never become a refund as it stands; trying again can't help."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message.encode()[:MAX_ERROR_MESSAGE_BYTES].decode(errors="ignore")


def _printable(text: str) -> str:
    # Control characters and lone surrogates can't be stored, signed or shown alike everywhere.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise PydanticCustomError("text", "has control characters or broken Unicode")
    return text


def _currency(code: str) -> str:
    if code not in EXPONENTS:
        raise PydanticCustomError(
            "unknown_currency", "must be an ISO 4217 code in upper case, such as USD"
        )
    return code


_RFC3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)


def _instant(text: str) -> str:
    try:
        if not _RFC3339.fullmatch(text):
            raise ValueError(text)
        from_rfc3339(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except (ValueError, OverflowError):
        raise PydanticCustomError(
            "instant", "must be RFC 3339 with an offset, such as 2026-01-31T12:00:00Z"
        ) from None
    return text


Text = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]


class RefundRequest(BaseModel):
    """A valid request. Unset optional fields are ``None``; amounts are minor units."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    refund_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    transaction_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
    user_id: Text
    amount_minor: Annotated[int | None, Field(ge=1, le=MAX_AMOUNT_MINOR)] = None
    currency: Annotated[str, AfterValidator(_currency)]
    reason: Reason
    requested_by: Text
    requested_at: Annotated[str, AfterValidator(_instant)] | None = None
    metadata: (
        Annotated[
            dict[
                Annotated[str, Field(min_length=1, max_length=40), AfterValidator(_printable)],
                Annotated[str, Field(max_length=500), AfterValidator(_printable)],
            ],
            Field(max_length=20),
        ]
        | None
    ) = None

    def fingerprint(self) -> str:
        """The same for two messages exactly when every field as sent is the same.

        A field that was left out differs from any value it could have had. Key order and white
        space don't count.
        """
        fields = self.model_dump(exclude_unset=True)
        return f"{FINGERPRINT_FORMAT}:{hashlib.sha256(rfc8785.dumps(fields)).hexdigest()}"


def parse_message(body: str | bytes) -> RefundRequest:
    """Read a message body (JSON, UTF-8, at most 256 KiB). Raises ``RefusedError``."""
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
    # An explicit null is neither a value nor "left out": guessing which was meant moves money.
    if nulls := sorted(name for name, value in fields.items() if value is None):
        raise RefusedError(
            ErrorCode.INVALID_FIELD,
            f"{', '.join(nulls)}: must not be null; leave an optional field out instead",
        )
    try:
        request = RefundRequest.model_validate(fields)
    except ValidationError as exc:
        raise _refused(exc.errors(include_url=False, include_input=False)) from None
    for name, text in _free_text(request):
        if has_card_number(text):
            raise RefusedError(
                ErrorCode.CARD_NUMBER,
                f"{name}: looks like a card number; send a token or the last four digits instead",
            )
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


def _refused(errors: list[ErrorDetails]) -> RefusedError:
    told = "; ".join(dict.fromkeys(f"{_place(error)}: {_why(error)}" for error in errors[:5]))
    only_currency = all(error["type"] == "unknown_currency" for error in errors)
    return RefusedError(
        ErrorCode.UNKNOWN_CURRENCY if only_currency else ErrorCode.INVALID_FIELD, told
    )


def _why(error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return "is required"
    if error["loc"][0] == "amount_minor":
        return f"must be an integer of minor units from 1 to {MAX_AMOUNT_MINOR} (2500 is $25.00)"
    if error["type"] == "string_pattern_mismatch":
        longest = 64 if error["loc"][0] == "refund_id" else 128
        return f"must be 1 to {longest} of A-Z, a-z, 0-9, _ and -"
    return error["msg"][:1].lower() + error["msg"][1:]


def _place(error: ErrorDetails) -> str:
    # The keys of metadata are the sender's own words: never repeated.
    return str(error["loc"][0])


def _shown(name: str) -> str:
    """A field's name, if it is harmless to repeat; digits could be an account's or a secret's."""
    return name if re.fullmatch(r"[A-Za-z_]{1,40}", name) else "(a name that is not shown)"


def _free_text(request: RefundRequest) -> Iterator[tuple[str, str]]:
    # refund_id and transaction_id are exempt: one random 16-digit id in ten passes Luhn.
    yield "user_id", request.user_id
    yield "requested_by", request.requested_by
    for key, value in (request.metadata or {}).items():
        yield "metadata", key
        yield "metadata", value
