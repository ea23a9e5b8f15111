"""Request messages for tests: every valid body, and what a bad one is refused with."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import strategies as st
from tests.support.builders import body

from refunds.domain.card_numbers import has_card_number, has_printed_card_number
from refunds.domain.money import EXPONENTS
from refunds.domain.request import (
    RefundRequest,
    RefusedError,
    parse_message,
)
from refunds.domain.request_fields import REASONS

FIELDS = sorted(RefundRequest.model_fields)
OPTIONAL: dict[str, Any] = {
    "amount_minor": 2500,
    "requested_at": "2026-11-23T07:10:00Z",
    "metadata": {"order": "A-1"},
    "reason_code": "RMA-7",
    "note": "broken on arrival",
    "line_items": [{"sku": "mug", "quantity": 2, "amount_minor": 1800}],
    "expected_refundable_minor": 7500,
}

FIRST_INSTANT = datetime(1, 1, 2)  # noqa: DTZ001 - in whatever zone hypothesis chooses


def refused(content: str | bytes) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        parse_message(content)
    return caught.value


def refused_fields(**changes: Any) -> RefusedError:
    return refused(json.dumps(body(**changes)))


identifiers = st.text("ABCxyz019_-", min_size=1, max_size=64).filter(
    lambda text: not has_printed_card_number(text)
)
characters = st.characters(exclude_categories=("Cc", "Cs", "Cf", "Zl", "Zp"))
values = st.text(
    characters | st.sampled_from("\u200c\u200d\u2028"), min_size=1, max_size=128
).filter(lambda text: not has_card_number(text))
BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
names = st.text(
    characters.filter(lambda character: character not in BLANK), min_size=1, max_size=128
).filter(lambda text: text.strip() and not has_card_number(text))
metadata = st.dictionaries(
    names.filter(lambda text: len(text) <= 40), values | st.just(""), max_size=20
)
valid_bodies = st.fixed_dictionaries(
    {
        "refund_id": identifiers,
        "transaction_id": identifiers,
        "user_id": names,
        "currency": st.sampled_from(sorted(EXPONENTS)),
        "reason": st.sampled_from(REASONS),
        "requested_by": names,
    },
    optional={
        "amount_minor": st.integers(1, 10**12),
        "requested_at": st.datetimes(FIRST_INSTANT, timezones=st.timezones()).map(
            lambda at: at.isoformat(timespec="microseconds")[:26] + "+02:00"
        ),
        "metadata": metadata,
        "reason_code": names.filter(lambda text: len(text) <= 64),
        "note": values,
        "expected_refundable_minor": st.integers(0, 10**12),
    },
)
