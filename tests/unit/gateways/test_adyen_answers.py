"""What each of Adyen's answers proves, and that an unsent call is known to be unsent."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import NOW, FakeClock

from refunds.domain.clock import Deadline
from refunds.gateways.adyen import MAX_KEY_CHARACTERS, AdyenGateway
from refunds.gateways.contract import (
    Answer,
    Declined,
    KeyTooOld,
    Misconfiguration,
    Misconfigured,
    RefundOrder,
    Retryable,
    Unknown,
)
from refunds.gateways.http import HttpResponse, NoAnswerError, NotSentError

ORDER = RefundOrder(
    "refund-1", "payment-1", 2500, "USD", "order_cancelled", reference="refund-1", format=1
)


class Key:
    def __init__(self, value: str | Exception = "ShopECOM\nkey") -> None:
        self.value = value
        self.forgotten = 0

    def get(self) -> str:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    def forget(self) -> None:
        self.forgotten += 1


class Says:
    """A transport with one answer."""

    def __init__(self, answer: HttpResponse | Exception) -> None:
        self.answer = answer
        self.sent = 0

    def request(self, *args: Any, **options: Any) -> HttpResponse:
        self.sent += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def problem(status: int, code: str = "137") -> HttpResponse:
    body = {"status": status, "errorCode": code, "message": "Invalid amount"}
    return HttpResponse(status, {}, json.dumps(body).encode())


def call(
    says: HttpResponse | Exception,
    key: Key | None = None,
    order: RefundOrder = ORDER,
    minutes: float = 1,
) -> tuple[Answer, int]:
    """The answer, and how many requests were sent."""
    clock, transport = FakeClock(), Says(says)
    gateway = AdyenGateway(
        base_url="https://adyen.example/v71",
        api_key=key or Key(),
        transport=transport,
        clock=clock,
        timeout_seconds=15,
    )
    until = NOW + timedelta(minutes=minutes)
    return gateway.create_refund(order, Deadline.after(clock, 30), not_after=until), transport.sent


@pytest.mark.parametrize(
    ("says", "answer"),
    [
        (problem(400), Declined("137", "Invalid amount")),
        (problem(422), Declined("137", "Invalid amount")),
        (problem(422, "704"), Unknown("HTTP 422: the earlier call is still running")),
        (problem(404), Unknown("HTTP 404 (a code that is not shown)")),
        (problem(399), Unknown("HTTP 399 (a code that is not shown)")),
        (problem(429), Retryable("HTTP 429", None)),
        (problem(500), Unknown("HTTP 500")),
        (HttpResponse(400, {}, b"<html>"), Unknown("HTTP 400")),
        (HttpResponse(201, {}, b"{}"), Unknown("accepted, but the answer can't be read")),
        (HttpResponse(200, {}, b"{}"), Unknown("accepted, but the answer can't be read")),
        (HttpResponse(199, {}, b"{}"), Unknown("HTTP 199")),
        (NoAnswerError("reset"), Unknown("no answer: reset")),
        (NotSentError("refused"), Retryable("not sent: refused")),
    ],
)
def test_only_a_refusal_of_the_request_itself_is_a_decline(
    says: HttpResponse | Exception, answer: Answer
) -> None:
    assert call(says) == (answer, 1)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, Misconfiguration.KEY_REFUSED), (403, Misconfiguration.PERMISSION_MISSING)],
)
def test_a_refused_key_is_read_again_before_the_next_call(
    status: int, reason: Misconfiguration
) -> None:
    key = Key()
    assert call(problem(status), key)[0] == Misconfigured(reason)
    assert key.forgotten == 1


def test_what_is_not_sent_can_be_tried_again() -> None:
    assert call(problem(400), Key(TimeoutError())) == (Retryable("no gateway key: TimeoutError"), 0)
    unknown = replace(ORDER, format=2)
    assert call(problem(400), order=unknown) == (Misconfigured(Misconfiguration.FORMAT_UNKNOWN), 0)
    assert call(problem(400), minutes=0) == (KeyTooOld(), 0)


def test_a_reference_that_fits_a_key_is_sent_as_it_is_and_a_longer_one_as_its_digest() -> None:
    gateway = AdyenGateway(
        base_url="https://adyen.example/v71",
        api_key=Key(),
        transport=Says(problem(400)),
        clock=FakeClock(),
        timeout_seconds=15,
    )
    fits, too_long = "r" * MAX_KEY_CHARACTERS, "r" * (MAX_KEY_CHARACTERS + 1)

    assert gateway.reference_for(fits) == fits
    assert gateway.reference_for(too_long) == hashlib.sha256(too_long.encode()).hexdigest()
