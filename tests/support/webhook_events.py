"""A webhook event of Flair's, and the secrets that sign it."""

from __future__ import annotations

from typing import Any

from tests.support.builders import NOW

SECRET = "a-secret-of-a-test-1234"  # noqa: S105 - no secret
OTHER = "another-of-a-test-56789"


def told(**changes: Any) -> dict[str, Any]:
    """Flair's event about refund-1."""
    return {
        "id": "evt_1",
        "type": "refund.updated",
        "created": int(NOW.timestamp()),
        "data": {"object": {"id": "re_1", "reference": "refund-1", "status": "succeeded"}},
    } | changes
