"""What a gateway's webhook may tell us: which refund to look at, and nothing else.

The signature scheme is Stripe's, for every gateway (docs/webhooks.md): the header
``<gateway>-signature: t=<unix seconds>,v1=<hex>`` holds HMAC-SHA256 over ``<t>.<body>``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from refunds.domain.identifiers import REFUND_ID
from refunds.gateways.contract import REFERENCE_KEY

MAX_BODY_BYTES = 256 * 1024
MAX_HEADER_CHARACTERS = 1000

REPLAY_WINDOW_SECONDS = 300
"""How far a signature's time may be from ours, either way. Within it an event may come again: it
only makes us ask the gateway once more."""

MAX_SECRETS = 4
"""Two for each of two gateways: the new one, and the old one until nobody signs with it."""

MIN_SECRET_CHARACTERS = 16
"""What is shorter is a placeholder that anybody could guess."""

SIGNATURE_HEADERS = ("flair-signature", "stripe-signature")

CHANGES = frozenset({"refund.updated", "refund.failed", "charge.refund.updated"})
"""Types of events that tell of a refund that has changed since it was made."""

_SIGNED_AT = re.compile(r"t=(\d{1,12})", re.ASCII)
_SIGNATURE = re.compile(r"v1=([0-9a-f]{64})", re.ASCII)


class RefusedWebhookError(Exception):
    """``status`` is the HTTP answer; the text is for the log and quotes nothing of the request."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def refund_to_look_at(event: Mapping[str, Any], secrets: str, now: datetime) -> str | None:
    """The refund id in a function URL's event; None when it is about nothing of interest.

    ``secrets``: those that may sign, one a line. Raises ``RefusedWebhookError`` for what is not
    surely the gateway's, or can't be read.
    """
    body = _body(event)
    _check_signature(_signature(event), body, usable(secrets), now)
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise RefusedWebhookError(400, "not JSON") from exc
    return _refund_id(told)


def usable(secrets: str) -> Sequence[bytes]:
    """The secrets in a text of one a line."""
    found = [line for line in secrets.split() if len(line) >= MIN_SECRET_CHARACTERS]
    return [line.encode() for line in found[:MAX_SECRETS]]


def _body(event: Mapping[str, Any]) -> bytes:
    text = event.get("body") or ""
    if len(text) > MAX_BODY_BYTES * 4 // 3 + 4:
        raise RefusedWebhookError(413, "too large")
    if event.get("isBase64Encoded"):
        try:
            body = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise RefusedWebhookError(400, "not base64") from exc
    else:
        body = text.encode(errors="surrogatepass")
    if len(body) > MAX_BODY_BYTES:
        raise RefusedWebhookError(413, "too large")
    return body


def _signature(event: Mapping[str, Any]) -> str:
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    for name in SIGNATURE_HEADERS:
        if name in headers:
            return str(headers[name])[:MAX_HEADER_CHARACTERS]
    raise RefusedWebhookError(401, "no signature")


def _check_signature(header: str, body: bytes, secrets: Sequence[bytes], now: datetime) -> None:
    parts = [part.strip() for part in header.split(",")]
    times = [match[1] for part in parts if (match := _SIGNED_AT.fullmatch(part))]
    signatures = [match[1] for part in parts if (match := _SIGNATURE.fullmatch(part))]
    if len(times) != 1 or not signatures:
        raise RefusedWebhookError(401, "no signature that can be read")
    signed = times[0].encode() + b"." + body
    # All of them are compared, each in constant time: how long it takes tells nothing.
    matches = [
        hmac.compare_digest(right, signature)
        for right in [hmac.new(secret, signed, hashlib.sha256).hexdigest() for secret in secrets]
        for signature in signatures
    ]
    if not any(matches):
        raise RefusedWebhookError(401, "signed by nobody we know")
    if abs(now.timestamp() - int(times[0])) > REPLAY_WINDOW_SECONDS:
        raise RefusedWebhookError(401, "signed too long ago, or in the future")


def _refund_id(told: Any) -> str | None:
    """Where the event says whose refund it is: Flair's ``reference``, Stripe's metadata."""
    match told:
        case {"type": str(kind), "data": {"object": dict(refund)}} if kind in CHANGES:
            pass
        case _:
            return None
    metadata = refund.get("metadata")
    reference = refund.get("reference")
    if isinstance(metadata, dict) and REFERENCE_KEY in metadata:
        reference = metadata[REFERENCE_KEY]
    if not isinstance(reference, str):
        return None
    # Stages that share an account mark their references: "dev.<refund id>". One of another stage
    # is looked up here in vain.
    refund_id = reference.rpartition(".")[2]
    return refund_id if REFUND_ID.fullmatch(refund_id) else None
