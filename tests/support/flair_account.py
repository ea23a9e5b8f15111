"""An account at Flair over scripted answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests.support.builders import NOW, SECRET, FakeClock

from refunds.domain.clock import Deadline
from refunds.gateways.contract import Answer, RefundOrder, Stage
from refunds.gateways.flair import FlairGateway
from refunds.gateways.http import HttpResponse

ORDER = RefundOrder("refund-1", "payment-1", 2500, "USD", "requested_by_customer", "refund-1")

REFUND = {
    "id": "gw-1",
    "transaction_id": "payment-1",
    "reference": "refund-1",
    "amount": 2500,
    "currency": "USD",
    "status": "succeeded",
    "created_at": "2026-11-23T07:10:00Z",
}

TOMORROW = NOW + timedelta(days=1)


def error(code: str = "some_code", message: str = "some words") -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


class Key:
    def __init__(self) -> None:
        self.value = SECRET
        self.forgotten = 0
        self.error: Exception | None = None

    def get(self) -> str:
        if self.error:
            raise self.error
        return self.value

    def forget(self) -> None:
        self.forgotten += 1


class Wire:
    """A transport that answers as told and keeps what it was given."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Mapping[str, str], bytes | None]] = []
        self.answer: HttpResponse | Exception = HttpResponse(500, {}, b"")
        self.next_answer: HttpResponse | None = None

    def says(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.answer = HttpResponse(status, headers or {}, body)

    def then(self, status: int, content: Any) -> None:
        """What the second and later requests are answered."""
        self.next_answer = HttpResponse(status, {}, json.dumps(content).encode())

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: Deadline,
    ) -> HttpResponse:
        self.sent.append((method, url, headers, body))
        if len(self.sent) > 1 and self.next_answer:
            return self.next_answer
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Account:
    def __init__(self, stage: str = "") -> None:
        self.key, self.wire, self.clock = Key(), Wire(), FakeClock()
        self.gateway = FlairGateway(
            base_url="https://api.flair.example/",
            api_key=self.key,
            transport=self.wire,
            clock=self.clock,
            timeout_seconds=15,
            stage=Stage(stage),
        )

    def deadline(self) -> Deadline:
        return Deadline.after(self.clock, 15)

    def create(self) -> Answer:
        order = replace(ORDER, reference=self.gateway.reference_for(ORDER.refund_id))
        return self.gateway.create_refund(order, self.deadline(), not_after=TOMORROW)
