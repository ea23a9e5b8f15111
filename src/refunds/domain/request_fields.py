"""The types of the request's fields: their bounds, and the texts that are refused."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from refunds.domain.clock import from_rfc3339
from refunds.domain.identifiers import REFUND_ID_PATTERN, TRANSACTION_ID_PATTERN
from refunds.domain.money import EXPONENTS, MAX_AMOUNT_MINOR

MAX_QUANTITY = 10**6
MAX_LINE_ITEMS = 50
MAX_INSTANT_CHARACTERS = 128

Reason = Literal[
    "requested_by_customer", "order_cancelled", "payment_error", "duplicate", "fraudulent", "other"
]
REASONS: tuple[str, ...] = get_args(Reason)

# They join letters and emoji into one sign.
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
# Blank, though Unicode counts them as letters or marks.
_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"


def _printable(text: str) -> str:
    """For notes and other values. Direction marks could make a screen show another text than the
    stored one."""
    for character in text:
        category = unicodedata.category(character)
        # Such characters can't be stored, signed and shown in the same way everywhere.
        if category in ("Cc", "Cs"):
            raise PydanticCustomError("text", "has control characters or broken Unicode")
        if category == "Cf" and character not in _JOINERS:
            raise PydanticCustomError(
                "text", "has invisible or text direction characters; remove them"
            )
    return text


def _visible(text: str) -> str:
    """For names and codes: two that look the same must be the same text."""
    if any(
        character in _JOINERS + _BLANK or unicodedata.category(character) in ("Zl", "Zp")
        for character in _printable(text)
    ):
        raise PydanticCustomError("text", "has invisible characters; remove them")
    if not text.strip():
        raise PydanticCustomError("text", "must not be blank")
    return text


def _currency(code: str) -> str:
    if code not in EXPONENTS:
        raise PydanticCustomError(
            "unknown_currency", "must be an ISO 4217 code in upper case, such as USD"
        )
    return code


def _instant(text: str) -> str:
    try:
        from_rfc3339(text)
    except ValueError:
        raise PydanticCustomError(
            "instant", "must be RFC 3339 with an offset, such as 2026-01-31T12:00:00Z"
        ) from None
    return text


RefundId = Annotated[str, Field(pattern=f"^{REFUND_ID_PATTERN}$")]
TransactionId = Annotated[str, Field(pattern=f"^{TRANSACTION_ID_PATTERN}$")]
Name = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_visible)]
Code = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_visible)]
Note = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_printable)]
Amount = Annotated[int, Field(ge=1, le=MAX_AMOUNT_MINOR)]
AmountOrZero = Annotated[int, Field(ge=0, le=MAX_AMOUNT_MINOR)]
Currency = Annotated[str, AfterValidator(_currency)]
Instant = Annotated[str, Field(max_length=MAX_INSTANT_CHARACTERS), AfterValidator(_instant)]
MetadataKey = Annotated[str, Field(min_length=1, max_length=40), AfterValidator(_visible)]
MetadataValue = Annotated[str, Field(max_length=500), AfterValidator(_printable)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=20)]


class LineItem(BaseModel):
    """A part of what is refunded, for people and reports."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    sku: Code
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY)]
    amount_minor: AmountOrZero = Field(description="The line's total, not the price of one.")


LineItems = Annotated[list[LineItem], Field(max_length=MAX_LINE_ITEMS)]
