"""The admin API under /_sandbox: faults, payments, the clock, and movements of money.

It needs no API key: by default the server listens on the loopback interface.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from refunds_devkit.sandbox.app import Gateway
from refunds_devkit.sandbox.contract import (
    PAYMENT_STATUSES,
    RefundCreate,
    RefusedError,
    load_json,
    parse_amount,
    parse_currency,
    parse_id,
    parse_time,
    time_text,
)
from refunds_devkit.sandbox.faults import OPERATIONS, parse_fault
from refunds_devkit.sandbox.outcomes import Outcome
from refunds_devkit.sandbox.request_body import read_body
from refunds_devkit.sandbox.wire import Answer

MAX_ADMIN_BYTES = 16 << 20
MAX_BULK = 20_000
_FAULT_ID = re.compile(r"[0-9]{1,15}")


class Admin:
    """The endpoints that tests and developers use, on the gateway's ledger."""

    def __init__(self, gateway: Gateway) -> None:
        self.ledger = gateway.ledger

    def routes(self) -> list[BaseRoute]:
        return [
            Mount(
                "/_sandbox",
                routes=[
                    Route("/health", self.health),
                    Route("/faults", self.list_faults, methods=["GET"]),
                    Route("/faults", self.add_faults, methods=["POST"]),
                    Route("/faults", self.remove_faults, methods=["DELETE"]),
                    Route("/ledger", self.read_ledger),
                    Route("/calls", self.read_calls),
                    Route("/payments", self.put_payments, methods=["POST"]),
                    Route("/clock", self.move_clock, methods=["POST"]),
                    Route("/refunds", self.foreign_refund, methods=["POST"]),
                    Route("/refunds/{id}/settle", self.settle, methods=["POST"]),
                ],
            )
        ]

    async def health(self, request: Request) -> Response:
        body = {"status": "ok", **self._clock(), "counts": self.ledger.counts()}
        return Answer(200, body).response()

    def _clock(self) -> dict[str, Any]:
        offset_seconds = self.ledger.offset_micros / 1_000_000
        return {"now": time_text(self.ledger.now()), "offset_seconds": offset_seconds}

    async def list_faults(self, request: Request) -> Response:
        return Answer(200, {"faults": [f.as_json() for f in self.ledger.faults.all()]}).response()

    async def add_faults(self, request: Request) -> Response:
        faults = [parse_fault(body) for body in await _one_or_many(request)]
        with self.ledger.transaction():
            added = [self.ledger.faults.add(fault).as_json() for fault in faults]
        return Answer(201, {"faults": added}).response()

    async def remove_faults(self, request: Request) -> Response:
        fault_id = request.query_params.get("id")
        if fault_id is not None and not _FAULT_ID.fullmatch(fault_id):
            raise RefusedError.invalid("id: a number")
        with self.ledger.transaction():
            removed = self.ledger.faults.remove(
                fault_id=None if fault_id is None else int(fault_id)
            )
        return Answer(200, {"removed": removed}).response()

    async def read_ledger(self, request: Request) -> Response:
        with self.ledger.transaction():
            self.ledger.settlements.apply_due()
            books = self.ledger.books(_filters(request, "transaction_id", "reference"))
        return Answer(200, books).response()

    async def read_calls(self, request: Request) -> Response:
        filters = _filters(request, "transaction_id", "reference", "operation", "idempotency_key")
        if filters["operation"] not in (None, *OPERATIONS):
            raise RefusedError.invalid(f"operation: one of {', '.join(OPERATIONS)}")
        return Answer(200, {"calls": self.ledger.calls.read(filters)}).response()

    async def put_payments(self, request: Request) -> Response:
        payments = [_payment(body) for body in await _one_or_many(request)]
        with self.ledger.transaction():
            for payment in payments:
                self.ledger.put_payment(**payment)
            made = [self.ledger.payment(payment["id"]) for payment in payments]
        return Answer(201, {"payments": made}).response()

    async def move_clock(self, request: Request) -> Response:
        body = await _object(request, "advance_seconds")
        seconds = body.get("advance_seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise RefusedError.invalid("advance_seconds: a number")
        with self.ledger.transaction():
            self.ledger.advance(_micros(seconds))
        return Answer(200, self._clock()).response()

    async def foreign_refund(self, request: Request) -> Response:
        known = ("transaction_id", "amount", "currency", "reference", "status", "created_at")
        body = await _object(request, *known)
        status = body.get("status", "succeeded")
        if status not in ("pending", "succeeded"):
            raise RefusedError.invalid("status: pending or succeeded")
        created_at = body.get("created_at")
        made = None if created_at is None else parse_time(created_at, "created_at")
        transaction_id = parse_id(body.get("transaction_id"), "transaction_id")
        reference = parse_id(body.get("reference", f"foreign-{secrets.token_hex(8)}"), "reference")
        amount = parse_amount(body.get("amount"), "amount", low=1)
        with self.ledger.transaction():
            self.ledger.settlements.apply_due()
            payment = self.ledger.payment(transaction_id)
            currency = parse_currency(body.get("currency", payment["currency"] if payment else ""))
            requested = RefundCreate(transaction_id, amount, currency, reference)
            self.ledger.refundable(requested)
            refund = self.ledger.add_refund(
                requested, Outcome(status), origin="foreign", created_at=made
            )
        return Answer(201, refund).response()

    async def settle(self, request: Request) -> Response:
        body = await _object(request, "status", "failure_code", "failure_message")
        if body.get("status") not in ("succeeded", "failed"):
            raise RefusedError.invalid("status: succeeded or failed")
        code = parse_id(body.get("failure_code", "bank_rejected"), "failure_code")
        message = parse_id(body.get("failure_message", "Settled by hand."), "failure_message")
        with self.ledger.transaction():
            self.ledger.settlements.apply_due()
            refund = self.ledger.settle_now(
                request.path_params["id"], body["status"], code, message
            )
        return Answer(200, refund).response()


async def _one_or_many(request: Request) -> list[Any]:
    body = load_json(await read_body(request, MAX_ADMIN_BYTES))
    many = body if isinstance(body, list) else [body]
    if len(many) > MAX_BULK:
        raise RefusedError.invalid(f"at most {MAX_BULK} at once")
    return many


async def _object(request: Request, *known: str) -> dict[str, Any]:
    return _known(load_json(await read_body(request, MAX_ADMIN_BYTES)), *known)


def _known(body: object, *known: str) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise RefusedError.invalid("a JSON object")
    if unknown := sorted(set(body) - set(known)):
        raise RefusedError.invalid(f"unknown field: {', '.join(unknown)[:200]}")
    return body


def _payment(body: object) -> dict[str, Any]:
    given = _known(body, "id", "amount_captured", "currency", "status", "created_at")
    status = given.get("status", "captured")
    if status not in PAYMENT_STATUSES:
        raise RefusedError.invalid(f"status: one of {', '.join(PAYMENT_STATUSES)}")
    created_at = given.get("created_at")
    return {
        "id": parse_id(given.get("id"), "id"),
        "amount_captured": parse_amount(given.get("amount_captured"), "amount_captured", low=0),
        "currency": parse_currency(given.get("currency", "USD")),
        "status": status,
        "created_at": None if created_at is None else parse_time(created_at, "created_at"),
    }


def _filters(request: Request, *names: str) -> dict[str, str | None]:
    if unknown := sorted(set(request.query_params) - set(names)):
        raise RefusedError.invalid(f"unknown parameter: {', '.join(unknown)[:200]}")
    return {name: request.query_params.get(name) for name in names}


def _micros(seconds: float) -> int:
    try:
        return round(seconds * 1_000_000)
    except OverflowError as exc:  # 1e999 is infinity in Python's JSON
        raise RefusedError.invalid("advance_seconds: too large") from exc
