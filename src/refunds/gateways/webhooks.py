"""Reads one thing from a gateway's webhook: which refund to look at.

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
"""How much a signature's time may differ from ours. An event that is replayed within this time only
makes us ask the gateway once more."""

MAX_SECRETS = 4
"""Two secrets for each of two gateways: the new one, and the old one until it is no longer used."""

MIN_SECRET_CHARACTERS = 16
"""A shorter one is a placeholder that anybody could guess."""

SIGNATURE_HEADERS = ("flair-signature", "stripe-signature")

REFUND_EVENT_TYPES = re.compile(r"refund\.[a-z_]{1,40}|charge\.refund\.updated", re.ASCII)
"""Types of events whose object is a refund."""

_SIGNED_AT = re.compile(r"t=(\d{1,12})", re.ASCII)
_SIGNATURE = re.compile(r"v1=([0-9a-f]{64})", re.ASCII)


class RefusedWebhookError(Exception):
    """``status`` is the HTTP status of the response. The text is for the log and quotes no part of
    the request."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def refund_to_look_at(event: Mapping[str, Any], secrets: str, now: datetime) -> str | None:
    """The refund id in a function URL's event; None for an event that is not about a refund.

    ``secrets`` are the signing secrets, one a line. Raises ``RefusedWebhookError`` for a request
    that is not proven to be the gateway's, or can't be read.
    """
    body = _body(event)
    _check_signature(_signature(event), body, usable(secrets), now)
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise RefusedWebhookError(400, "not JSON") from exc
    return _refund_id(payload)


def usable(secrets: str) -> Sequence[bytes]:
    """The secrets in a text that has one a line."""
    found = [line for line in secrets.split() if len(line) >= MIN_SECRET_CHARACTERS]
    return [line.encode() for line in found[:MAX_SECRETS]]


def _body(event: Mapping[str, Any]) -> bytes:
    text = event.get("body") or ""
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
        raise RefusedWebhookError(401, "the signature can't be read")
    signed = times[0].encode() + b"." + body
    # Compares all of them, each in constant time, so that the duration reveals nothing.
    matches = [
        hmac.compare_digest(right, signature)
        for right in [hmac.new(secret, signed, hashlib.sha256).hexdigest() for secret in secrets]
        for signature in signatures
    ]
    if not any(matches):
        raise RefusedWebhookError(401, "not signed with any of our secrets")
    if abs(now.timestamp() - int(times[0])) > REPLAY_WINDOW_SECONDS:
        raise RefusedWebhookError(401, "the signature's time is too far from ours")


def _refund_id(payload: Any) -> str | None:
    """The refund id in Flair's ``reference`` or in Stripe's metadata."""
    match payload:
        case {"type": str(kind), "data": {"object": dict(refund)}}:
            pass
        case _:
            return None
    if not REFUND_EVENT_TYPES.fullmatch(kind):
        return None
    metadata = refund.get("metadata")
    reference = refund.get("reference")
    if isinstance(metadata, dict) and REFERENCE_KEY in metadata:
        reference = metadata[REFERENCE_KEY]
    if not isinstance(reference, str):
        return None
    # It is "dev.<refund id>" where stages share an account. Looking up another stage's refund finds
    # nothing.
    refund_id = reference.rpartition(".")[2]
    return refund_id if REFUND_ID.fullmatch(refund_id) else None
