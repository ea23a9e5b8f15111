"""The examples in docs/producers.md, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "producers.md"

REQUEST = {
    "refund_id": "return-77",
    "transaction_id": "pay_7a6b5c4d",
    "user_id": "user_ada",
    "amount_minor": 2500,
    "currency": "USD",
    "reason": "requested_by_customer",
    "requested_by": "system:returns",
}
"""What each example sends."""


def examples(language: str) -> list[str]:
    """The code blocks of a language, in the guide's order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
