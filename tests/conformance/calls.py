"""The calls that the conformance suite makes, and the faults that it scripts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from tests.conformance.harness import PERSONAL, RIGHT_KEY, Case

from refunds.domain.clock import Deadline, SystemClock
from refunds.gateways.contract import (
    Accepted,
    Answer,
    Gateway,
    GatewayRefund,
    RefundOrder,
)

CLOCK = SystemClock()
FAR = datetime(2100, 1, 1, tzinfo=UTC)
SHORT_SECONDS = 0.3
MAX_PAGES = 50


def seconds(number: float) -> Deadline:
    return Deadline.after(CLOCK, number)


def id_for(transaction_id: str) -> str:
    """A refund id of the test's own: the gateway remembers its keys for the whole run."""
    return f"r-{transaction_id}"


def order(
    gateway: Gateway,
    transaction_id: str,
    amount_minor: int = 2_500,
    currency: str = "USD",
    refund_id: str | None = None,
) -> RefundOrder:
    refund_id = refund_id or id_for(transaction_id)
    return RefundOrder(
        refund_id,
        transaction_id,
        amount_minor,
        currency,
        "requested_by_customer",
        reference=gateway.reference_for(refund_id),
        format=gateway.body_format,
    )


def refund(  # noqa: PLR0913 - a refund's fields, each by keyword
    gateway: Gateway,
    transaction_id: str,
    amount_minor: int = 2_500,
    currency: str = "USD",
    refund_id: str | None = None,
    *,
    within: float = 5.0,
) -> Answer:
    wanted = order(gateway, transaction_id, amount_minor, currency, refund_id)
    return gateway.create_refund(wanted, seconds(within), not_after=FAR)


def accepted(answer: Answer) -> GatewayRefund:
    assert isinstance(answer, Accepted), answer
    return answer.refund


def look_up(
    gateway: Gateway, transaction_id: str, refund_id: str | None = None
) -> list[GatewayRefund]:
    reference = gateway.reference_for(refund_id or id_for(transaction_id))
    return list(gateway.find_refunds(reference, transaction_id, seconds(5)))


def whole_list(gateway: Gateway, **filters: Any) -> list[GatewayRefund]:
    found: list[GatewayRefund] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = gateway.list_refunds(seconds(5), cursor=cursor, **filters)
        found += page.refunds
        if (cursor := page.next_cursor) is None:
            return found
    raise AssertionError("the list has no end")


NOTHING_DONE = (
    Case.KEY_IN_USE,
    Case.DROPPED_BEFORE,
    Case.ERROR_BEFORE,
    Case.DOWN,
    Case.PROXY_PAGE,
)


DONE_AND_LOST = (
    Case.SILENT,
    Case.DROPPED_AFTER,
    Case.ERROR_AFTER,
    Case.DOWN_AFTER,
    Case.PROXY_PAGE_AFTER,
    Case.LATE,
    Case.HEADERS_DRIP,
    Case.BODY_DRIPS,
    Case.HUGE,
    Case.CUT_OFF,
    Case.CLOSED_EARLY,
)


SLOW = {Case.SILENT, Case.LATE, Case.HEADERS_DRIP, Case.BODY_DRIPS}


READING_FAULTS = (
    Case.RATE_LIMITED,
    Case.DROPPED_BEFORE,
    Case.ERROR_BEFORE,
    Case.DOWN,
    Case.PROXY_PAGE,
    Case.SILENT,
    Case.HEADERS_DRIP,
    Case.BODY_DRIPS,
    Case.HUGE,
    Case.CUT_OFF,
    Case.CLOSED_EARLY,
)


Reading = Callable[[Gateway, str, Deadline], object]


READINGS: dict[str, Reading] = {
    "payment": lambda gateway, paid, until: gateway.get_payment(paid, until),
    "look-up": lambda gateway, paid, until: gateway.find_refunds(
        gateway.reference_for(id_for(paid)), paid, until
    ),
    "list": lambda gateway, paid, until: gateway.list_refunds(until, transaction_id=paid),
}


@contextmanager
def everything_logged() -> Iterator[list[str]]:
    # Not caplog: in a fixture's teardown it only has the records of the teardown.
    texts: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(self.format(record))

    root, handler = logging.getLogger(), Kept()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield texts
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


def assert_no_secret(*texts: str) -> None:
    for secret in (RIGHT_KEY, "sk_of_yesterday", *PERSONAL.split()):
        assert not [text for text in texts if secret in text]
