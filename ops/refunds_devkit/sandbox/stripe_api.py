"""The part of Stripe's API that refunds need, on the sandbox's ledger and faults.

The ledger has Stripe's units and ids. A payment `pi_x` has the charge `ch_x`; a payment that was
created as `ch_x` is a charge without a PaymentIntent. A refund's reference is its metadata
`refund_reference`; a refund by another system has none.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from refunds_devkit.sandbox.app import Creation, Gateway
from refunds_devkit.sandbox.contract import (
    MAX_PAGE,
    MAX_REQUEST_BYTES,
    Page,
    RefundCreate,
    RefusedError,
    parse_id,
    parse_key,
)
from refunds_devkit.sandbox.faults import GET_PAYMENT
from refunds_devkit.sandbox.request_body import read_body
from refunds_devkit.sandbox.wire import Answer

REFERENCE = "refund_reference"
OTHERS = ("foreign-", "other-system-")
"""The prefix of the admin API's references for refunds by other systems."""

THREE_DECIMALS = {"BHD", "JOD", "KWD", "OMR", "TND"}
WHOLE_UNITS_IN_HUNDREDTHS = {"ISK", "UGX"}
REASONS = ("duplicate", "fraudulent", "requested_by_customer")
CONNECT = ("refund_application_fee", "reverse_transfer")
"""Accepted, and without effect: the ledger has one account, and no transfers."""
MICROS = 1_000_000

# Stripe's equivalents of the contract's codes: status, type, code and parameter.
_ERRORS: dict[str, tuple[int, str, str | None, str | None]] = {
    "unauthorized": (401, "invalid_request_error", None, None),
    "payment_not_found": (404, "invalid_request_error", "resource_missing", "id"),
    "refund_not_found": (404, "invalid_request_error", "resource_missing", "id"),
    "payment_disputed": (400, "invalid_request_error", "charge_disputed", None),
    "payment_not_captured": (400, "invalid_request_error", "charge_not_captured", None),
    "amount_exceeds_balance": (400, "invalid_request_error", None, "amount"),
    "invalid_request": (400, "invalid_request_error", "parameter_invalid", None),
    "idempotency_key_reused": (400, "idempotency_error", None, None),
    "idempotency_key_in_use": (409, "idempotency_error", "idempotency_key_in_use", None),
    "rate_limited": (429, "invalid_request_error", "rate_limit", None),
    "internal_error": (500, "api_error", None, None),
    "service_unavailable": (503, "api_error", None, None),
    "not_found": (404, "invalid_request_error", None, None),
    "method_not_allowed": (404, "invalid_request_error", None, None),
}


class StripeApi(Gateway):
    """`/v1/payment_intents`, `/v1/charges`, `/v1/disputes` and `/v1/refunds`."""

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/payment_intents/{id}", self._guarded(self.get_intent)),
            Route("/v1/charges/{id}", self._guarded(self.get_charge)),
            Route("/v1/disputes", self._guarded(self.list_disputes)),
            Route("/v1/refunds", self._guarded(self.create_refund), methods=["POST"]),
            Route("/v1/refunds", self._guarded(self.list_refunds), methods=["GET"]),
            Route("/v1/refunds/{id}", self._guarded(self.get_refund)),
        ]

    async def get_intent(self, request: Request) -> Response:
        expanded = any(name.startswith("expand[") for name in request.query_params)
        shown_as = "payment_intent_with_charge" if expanded else "payment_intent"
        return await self._shown_payment(request.path_params["id"], shown_as)

    async def get_charge(self, request: Request) -> Response:
        return await self._shown_payment(self._payment_of(request.path_params["id"]), "charge")

    async def _shown_payment(self, transaction_id: str, shown_as: str) -> Response:
        def look_up() -> Answer:
            payment = self.ledger.payment(transaction_id)
            if payment is None:
                raise RefusedError(404, "payment_not_found", "No such payment.")
            return Answer(200, {**payment, "object": shown_as})

        return await self._read(GET_PAYMENT, look_up, transaction_id, None)

    async def list_disputes(self, request: Request) -> Response:
        payment = self.ledger.payment(self._payment_of(request.query_params.get("charge", "")))
        found = []
        if payment is not None and payment["status"] == "disputed":
            found.append(_dispute(payment))
        page = {"object": "list", "url": "/v1/disputes", "has_more": False, "data": found}
        return Answer(200, page).response()

    async def list_refunds(self, request: Request) -> Response:
        query = request.query_params
        limit = query.get("limit", "10")
        if not re.fullmatch("[0-9]{1,3}", limit) or not 1 <= int(limit) <= MAX_PAGE:
            raise RefusedError.invalid(f"limit: from 1 to {MAX_PAGE}")
        after = None
        if (cursor := query.get("starting_after")) is not None:
            after = self.ledger.place(cursor)
            if after is None:
                raise RefusedError(404, "refund_not_found", "No such refund.")
        created_from, created_before = query.get("created[gte]"), query.get("created[lt]")
        for created in (created_from, created_before):
            if created is not None and not re.fullmatch("[0-9]{1,12}", created):
                raise RefusedError.invalid("created: seconds since 1970")
        page = Page(
            reference=None,
            transaction_id=self._requested_payment(query),
            created_from=None if created_from is None else int(created_from) * MICROS,
            created_before=None if created_before is None else int(created_before) * MICROS,
            after=after,
            limit=int(limit),
        )
        return await self._read(
            "list_refunds", lambda: Answer(200, self.ledger.page(page)), page.transaction_id, None
        )

    async def create_refund(self, request: Request) -> Response:
        raw = await read_body(request, MAX_REQUEST_BYTES)
        key = parse_key(request.headers.get("idempotency-key"))
        form = dict(parse_qsl(raw.decode("ascii", "replace"), keep_blank_values=True))
        # A refusal here is not stored for the key: Stripe stores only calls that it has started.
        requested = self._requested(form)
        fingerprint = hashlib.sha256(json.dumps(form, sort_keys=True).encode()).digest()
        return await Creation(self, key, fingerprint, requested).run()

    def _requested(self, form: Mapping[str, str]) -> RefundCreate:
        reference_field = f"metadata[{REFERENCE}]"
        known = {"charge", "payment_intent", "amount", "reason", reference_field, *CONNECT}
        if unknown := sorted(form.keys() - known):
            raise RefusedError.invalid(f"unknown parameter: {', '.join(unknown)[:200]}")
        transaction_id = self._requested_payment(form)
        payment = self.ledger.payment(transaction_id or "")
        if transaction_id is None or payment is None:
            raise RefusedError(404, "payment_not_found", "No such payment.")
        for option in CONNECT:
            if form.get(option) not in (None, "true", "false"):
                raise RefusedError.invalid(f"{option}: true or false")
        if form.get("reason") not in (None, *REASONS):
            raise RefusedError.invalid(f"reason: one of {', '.join(REASONS)}")
        amount, currency = form.get("amount", ""), payment["currency"]
        if not re.fullmatch("[1-9][0-9]{0,14}", amount):
            raise RefusedError.invalid("amount: a positive integer")
        step = 10 if currency in THREE_DECIMALS else 1
        step = 100 if currency in WHOLE_UNITS_IN_HUNDREDTHS else step
        if int(amount) % step:
            raise RefusedError.invalid(f"amount: a multiple of {step}")
        reference = parse_id(form.get(reference_field), reference_field)
        return RefundCreate(transaction_id, int(amount), currency, reference, form.get("reason"))

    def _requested_payment(self, query: Mapping[str, str]) -> str | None:
        if "payment_intent" in query:
            return query["payment_intent"]
        return self._payment_of(query["charge"]) if "charge" in query else None

    def _payment_of(self, charge_id: str) -> str:
        """The payment in the ledger that a charge belongs to."""
        intent = re.sub("^(ch|py)_", "pi_", charge_id)
        return charge_id if self.ledger.has_payment(charge_id) else intent

    def shape(self, answer: Answer) -> Answer:
        body = answer.body
        headers = {**answer.headers, "Request-Id": f"req_{secrets.token_hex(8)}"}
        if "error" in body:
            return _error(answer, headers)
        if "data" in body:
            page: dict[str, Any] = {
                "object": "list",
                "url": "/v1/refunds",
                "has_more": body["next_cursor"] is not None,
                "data": [_refund(each) for each in body["data"]],
            }
            return Answer(200, page, headers)
        shown = _refund(body) if "reference" in body else _payment(body)
        return Answer(200, shown, headers)


def _error(answer: Answer, headers: Mapping[str, str]) -> Answer:
    contract_error = answer.body["error"]
    default = (402, "card_error", contract_error["code"], None)
    status, kind, code, parameter = _ERRORS.get(contract_error["code"], default)
    if contract_error["message"].startswith("Only 0 can"):
        code = "charge_already_refunded"
    error = {"type": kind, "message": contract_error["message"]}
    error |= {"code": code} if code else {}
    error |= {"param": parameter} if parameter else {}
    return Answer(status, {"error": error}, headers)


def _ids(transaction_id: str) -> tuple[str, str | None]:
    """A payment's charge, and its PaymentIntent if it has one."""
    if transaction_id.startswith("pi_"):
        return transaction_id.replace("pi_", "ch_", 1), transaction_id
    return transaction_id, None


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def _refund(body: Mapping[str, Any]) -> dict[str, Any]:
    charge, intent = _ids(body["transaction_id"])
    status, reason = body["status"], body["failure_code"]
    if (status, reason) == ("pending", "requires_action"):
        status, reason = "requires_action", None
    elif (status, reason) == ("failed", "canceled"):
        status, reason = "canceled", None
    metadata = {} if body["reference"].startswith(OTHERS) else {REFERENCE: body["reference"]}
    shown = {
        "id": body["id"],
        "object": "refund",
        "amount": body["amount"],
        "balance_transaction": None,
        "charge": charge,
        "created": _seconds(body["created_at"]),
        "currency": body["currency"].lower(),
        "destination_details": _destination(body),
        "metadata": metadata,
        "payment_intent": intent,
        "reason": None,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": status,
        "transfer_reversal": None,
    }
    return shown | ({"failure_reason": reason} if reason else {})


def _destination(body: Mapping[str, Any]) -> dict[str, Any]:
    """The bank's number (ARN), which is there once the refund has succeeded."""
    card = {"type": "refund", "reference_type": "acquirer_reference_number"}
    if body["status"] != "succeeded":
        return {"type": "card", "card": card | {"reference_status": "pending"}}
    number = int(hashlib.sha256(body["id"].encode()).hexdigest(), 16) % 10**22
    reference = {"reference": f"7{number:022d}", "reference_status": "available"}
    return {"type": "card", "card": card | reference}


def _dispute(payment: Mapping[str, Any]) -> dict[str, Any]:
    charge, intent = _ids(payment["id"])
    return {
        "id": "du_1",
        "object": "dispute",
        "amount": payment["amount_captured"],
        "balance_transactions": [],
        "charge": charge,
        "created": _seconds(payment["created_at"]),
        "currency": payment["currency"].lower(),
        "enhanced_eligibility_types": [],
        "evidence": {"enhanced_evidence": {}},
        "evidence_details": {
            "due_by": None,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": intent,
        "reason": "general",
        "status": "needs_response",
    }


def _payment(body: Mapping[str, Any]) -> dict[str, Any]:
    charge_id, intent_id = _ids(body["id"])
    status, amount = body["status"], body["amount_captured"]
    is_captured = status in ("captured", "disputed")
    captured = amount if is_captured else 0
    charge = {
        "id": charge_id,
        "object": "charge",
        "amount": amount,
        "amount_captured": captured,
        "amount_refunded": body["amount_refunded"],
        "billing_details": dict.fromkeys(("address", "email", "name", "phone", "tax_id")),
        "captured": is_captured,
        "created": _seconds(body["created_at"]),
        "currency": body["currency"].lower(),
        "disputed": status == "disputed",
        "livemode": False,
        "metadata": {},
        "paid": True,
        "payment_intent": intent_id,
        "refunded": body["amount_refunded"] == amount,
        "status": "succeeded",
    }
    if body["object"] == "charge":
        return charge
    expanded = body["object"] == "payment_intent_with_charge"
    intent = {"authorized": "requires_capture", "voided": "canceled"}.get(status, "succeeded")
    return {
        "id": intent_id or body["id"],
        "object": "payment_intent",
        "amount": amount,
        "amount_received": captured,
        "created": charge["created"],
        "currency": charge["currency"],
        "latest_charge": charge if expanded else charge_id,
        "livemode": False,
        "metadata": {},
        "status": intent,
    }
