"""Stripe's adapter over scripted answers, and the objects that Stripe answers with.

The objects are stripe-mock's fixtures with changes. Each answer is checked against Stripe's OpenAPI
before the adapter gets it; ``unlike_stripe`` is for answers that Stripe would not give.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from tests.support.builders import NOW, FakeClock
from tests.support.stripe_openapi import NotStripesShapeError, check_answer, fixture

from refunds.domain.clock import Deadline
from refunds.gateways.contract import REFERENCE_KEY, Answer, RefundOrder, Stage
from refunds.gateways.http import HttpResponse
from refunds.gateways.stripe import StripeGateway


class Key:
    forgotten = 0

    def get(self) -> str:
        return "sk_test_1"

    def forget(self) -> None:
        self.forgotten += 1


class Script:
    """An ``HttpTransport`` that gives its answers in turn, and keeps what it was asked.

    An answer is a status with what Stripe's OpenAPI allows, or text that is not Stripe's at all.
    """

    def __init__(self, *answers: tuple[int, Any] | HttpResponse) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, str, Mapping[str, str], dict[str, str]]] = []
        self.bodies: list[bytes | None] = []

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: Deadline,
    ) -> HttpResponse:
        self.bodies.append(body)
        self.asked.append((method, url, headers, dict(parse_qsl((body or b"").decode()))))
        answer = self._answers.pop(0)
        if isinstance(answer, HttpResponse):
            return answer
        status, content = answer
        if not isinstance(content, str):
            try:
                check_answer(method, urlsplit(url).path, status, content)
            except NotStripesShapeError as exc:
                # Not as an exception: the adapter takes every exception for an answer.
                pytest.fail(f"a scripted answer is not Stripe's: {exc}")
        return _response(status, content)


def unlike_stripe(status: int, content: Any) -> HttpResponse:
    """An answer that breaks Stripe's own specification, or comes from somebody else."""
    return _response(status, content)


def _response(status: int, content: Any) -> HttpResponse:
    text = content if isinstance(content, str) else json.dumps(content)
    return HttpResponse(status, {"request-id": "req_1"}, text.encode())


def gateway(script: Script, *, key: Key | None = None, stage: str = "") -> StripeGateway:
    return StripeGateway(
        base_url="https://stripe.test/",
        api_key=key or Key(),
        transport=script,
        clock=FakeClock(),
        timeout_seconds=5,
        stage=Stage(stage),
    )


def soon() -> Deadline:
    return Deadline.after(FakeClock(), 5)


def create(script: Script, *, key: Key | None = None, stage: str = "", **changes: Any) -> Answer:
    wanted: dict[str, Any] = {
        "refund_id": "refund-1",
        "transaction_id": "pi_1",
        "amount_minor": 2500,
        "currency": "USD",
        "reason": "other",
    }
    asked = gateway(script, key=key, stage=stage)
    wanted |= {"reference": asked.reference_for("refund-1")} | changes
    return asked.create_refund(
        RefundOrder(**wanted), soon(), not_after=FakeClock(NOW).now().replace(year=2100)
    )


def a_refund(**changes: Any) -> dict[str, Any]:
    ours = {
        "id": "re_1",
        "amount": 2500,
        "charge": "ch_1",
        "payment_intent": "pi_1",
        "metadata": {REFERENCE_KEY: "refund-1"},
    }
    return fixture("refund") | {"status": "succeeded"} | ours | changes


def a_charge(**changes: Any) -> dict[str, Any]:
    captured = {
        "id": "ch_1",
        "amount": 10_000,
        "amount_captured": 10_000,
        "amount_refunded": 2_500,
        "captured": True,
    }
    return fixture("charge") | captured | changes


def an_intent(**changes: Any) -> dict[str, Any]:
    paid = {
        "id": "pi_1",
        "amount": 10_000,
        "amount_received": 10_000,
        "currency": "usd",
        "status": "succeeded",
        "latest_charge": a_charge(),
    }
    return fixture("payment_intent") | paid | changes


def a_dispute(**changes: Any) -> dict[str, Any]:
    return fixture("dispute") | {"id": "du_1", "charge": "ch_1"} | changes


def a_list(*data: Any, has_more: bool = False, url: str = "/v1/refunds") -> dict[str, Any]:
    return {"object": "list", "url": url, "has_more": has_more, "data": list(data)}


def refusal(**error: Any) -> dict[str, Any]:
    usual = {"type": "invalid_request_error", "message": "Dear Jenny"}
    return {"error": usual | error}


OTHER_MODE = (
    "No such payment_intent: 'pi_1'; a similar object exists in live mode, but a test mode key was "
    "used to make this request."
)
