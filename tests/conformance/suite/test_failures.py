"""Every adapter: what it returns when the gateway or the network fails."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.conformance.calls import (
    DONE_AND_LOST,
    FAR,
    NOTHING_DONE,
    READING_FAULTS,
    READINGS,
    SHORT_SECONDS,
    SLOW,
    accepted,
    id_for,
    look_up,
    order,
    refund,
    seconds,
)
from tests.conformance.harness import Case, Harness

from refunds.domain.clock import Deadline
from refunds.gateways.contract import (
    Accepted,
    GatewayUnavailableError,
    Retryable,
    Unknown,
)

LONGER_SECONDS = 1.0
"""Enough for the scripted server to do what is asked of it before it falls silent."""
SLACK_SECONDS = 1.0
"""What a busy machine may add to a call that ends at its deadline; the slow cases take longer."""


@contextmanager
def in_time(limit_seconds: float) -> Iterator[Deadline]:
    """A deadline, by which what is done with it must be over, whatever the gateway does."""
    started = time.monotonic()
    yield seconds(limit_seconds)
    assert time.monotonic() - started < limit_seconds + SLACK_SECONDS


@pytest.mark.parametrize("case", NOTHING_DONE)
def test_what_the_gateway_may_have_done_is_unknown(harness: Harness, case: Case) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(case, paid)

    assert isinstance(refund(gateway, paid), Unknown)
    assert look_up(gateway, paid) == []
    # The next call, with the same key, is the first that does something.
    accepted(refund(gateway, paid))
    assert harness.paid_out_minor(paid) == 2_500


@pytest.mark.parametrize("case", DONE_AND_LOST)
def test_a_lost_answer_is_unknown_found_by_a_look_up_and_paid_once(
    harness: Harness, case: Case
) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(case, paid)

    with in_time(LONGER_SECONDS if case in SLOW else 5.0) as until:
        answer = gateway.create_refund(order(gateway, paid), until, not_after=FAR)
    assert isinstance(answer, Unknown)
    (found,) = look_up(gateway, paid)
    assert (found.refund_id, found.amount_minor, found.currency) == (id_for(paid), 2_500, "USD")
    # Calling again with the same key pays nothing more.
    refund(gateway, paid)
    assert harness.paid_out_minor(paid) == 2_500


@pytest.mark.parametrize(
    "case", [Case.OTHER_AMOUNT, Case.OTHER_CURRENCY, Case.OTHER_REFERENCE, Case.OTHER_PAYMENT]
)
def test_a_wrong_answer_is_not_taken_for_ours(harness: Harness, case: Case) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(case, paid)
    answer = refund(gateway, paid)

    if isinstance(answer, Accepted):
        shown = answer.refund
        told = (shown.transaction_id, shown.refund_id, shown.amount_minor, shown.currency)
        assert told != (paid, id_for(paid), 2_500, "USD")
    else:
        assert isinstance(answer, Unknown)


def test_a_full_gateway_is_asked_again_when_it_wishes(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(Case.RATE_LIMITED, paid)
    answer = refund(gateway, paid)

    assert isinstance(answer, Retryable)
    assert answer.retry_after_seconds == 7
    assert harness.paid_out_minor(paid) == 0


def test_a_gateway_that_cant_be_reached_has_done_nothing(harness: Harness) -> None:
    with socket.socket() as nobody:  # bound, and nobody listens
        nobody.bind(("127.0.0.1", 0))
        gateway = harness.gateway(url=f"http://127.0.0.1:{nobody.getsockname()[1]}")
        paid = harness.new_payment()

        assert isinstance(refund(gateway, paid), Retryable)
        with pytest.raises(GatewayUnavailableError):
            gateway.get_payment(paid, seconds(5))


def test_two_refunds_of_one_reference_are_both_shown(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(Case.KEY_FORGOTTEN, paid)
    refund(gateway, paid)
    refund(gateway, paid)

    assert len(look_up(gateway, paid)) == 2


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("case", READING_FAULTS)
def test_no_answer_is_never_taken_for_nothing_there(
    harness: Harness, case: Case, reading: str
) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    accepted(refund(gateway, paid))
    harness.script(case, paid, reading=True)

    limit_seconds = SHORT_SECONDS if case in SLOW else 5.0
    with in_time(limit_seconds) as until, pytest.raises(GatewayUnavailableError) as raised:
        READINGS[reading](gateway, paid, until)
    assert raised.value.retry_after_seconds == (7 if case is Case.RATE_LIMITED else None)


def test_nothing_is_sent_when_the_time_is_up(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()

    assert isinstance(refund(gateway, paid, within=0), Retryable)
    assert harness.refund_calls(paid) == 0
