"""A webhook event of Flair's, and the secrets that sign it."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.support.builders import NOW

from refunds_devkit.sandbox.webhooks import sign

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


def now_signed(content: Any = None, secret: str = SECRET) -> dict[str, Any]:
    """The event as the webhook URL gives it to the function."""
    body = json.dumps(told() if content is None else content)
    signature = sign(secret, body.encode(), int(time.time()))
    return {"headers": {"flair-signature": signature}, "body": body, "isBase64Encoded": False}
