"""The part of Adyen's Checkout API that refunds need, on the sandbox's ledger and faults.

There is one call, and it only says that the request was received, also for a refund that fails
later. Its outcome comes by webhook. `tests/conformance/test_adyen.py` shows why that is not enough.
(The sandbox refuses at once what Adyen refuses by webhook: more than the balance, for example.)
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from refunds_devkit.sandbox.app import Creation, Gateway, StoppingError
from refunds_devkit.sandbox.contract import (
    MAX_REQUEST_BYTES,
    RefundCreate,
    RefusedError,
    load_json,
    parse_amount,
    parse_currency,
    parse_id,
    parse_key,
)
from refunds_devkit.sandbox.request_body import read_body
from refunds_devkit.sandbox.wire import Answer, Silence

MERCHANT_ACCOUNT = "SandboxECOM"

# Adyen's equivalents of the contract's codes: status and error code.
_ERRORS = {
    "unauthorized": (401, "000"),
    "forbidden": (403, "010"),
    "payment_not_found": (422, "167"),
    "payment_not_captured": (422, "167"),
    "idempotency_key_in_use": (422, "704"),
    "idempotency_key_reused": (422, "702"),
    "rate_limited": (429, "000"),
    "internal_error": (500, "905"),
    "service_unavailable": (503, "905"),
}


class AdyenApi(Gateway):
    """`/v71/payments/{paymentPspReference}/refunds`."""

    def routes(self) -> list[BaseRoute]:
        place = "/v71/payments/{id}/refunds"
        return [Route(place, self._guarded(self.create_refund), methods=["POST"])]

    def _guarded(
        self, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            given = b"Bearer " + request.headers.get("x-api-key", "").encode()
            if not hmac.compare_digest(given, self._authorization):
                raise RefusedError(401, "unauthorized", "HTTP Status Response - Unauthorized")
            try:
                return await endpoint(request)
            except StoppingError:
                return Silence(self.stopping)

        return guarded

    async def create_refund(self, request: Request) -> Response:
        raw = await read_body(request, MAX_REQUEST_BYTES)
        key = parse_key(request.headers.get("idempotency-key"))
        body = load_json(raw)
        if body.get("merchantAccount") != MERCHANT_ACCOUNT:
            raise RefusedError(403, "forbidden", "Not allowed")
        amount = body.get("amount") or {}
        wanted = RefundCreate(
            parse_id(request.path_params["id"], "paymentPspReference"),
            parse_amount(amount.get("value"), "amount.value", low=1),
            parse_currency(amount.get("currency")),
            parse_id(body.get("reference"), "reference"),
            None,
        )
        return await Creation(self, key, hashlib.sha256(raw).digest(), wanted).run()

    def shape(self, answer: Answer) -> Answer:
        body = answer.body
        if "error" not in body:
            return Answer(201, _received(body), answer.headers)
        code, message = body["error"]["code"], body["error"]["message"]
        status, error_code = _ERRORS.get(code, (422, code))
        error = {
            "status": status,
            "errorCode": error_code,
            "message": message,
            "errorType": "validation" if status == 422 else "security",  # noqa: PLR2004
            "pspReference": secrets.token_hex(8).upper(),
        }
        return Answer(status, error, answer.headers)


def _received(refund: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "merchantAccount": MERCHANT_ACCOUNT,
        "paymentPspReference": refund["transaction_id"],
        "pspReference": refund["id"],
        "reference": refund["reference"],
        "status": "received",
        "amount": {"currency": refund["currency"], "value": refund["amount"]},
    }
