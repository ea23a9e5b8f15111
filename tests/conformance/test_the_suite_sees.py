"""The conformance suite fails for adapters with one realistic fault each."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from tests.conformance.calls import FAR, assert_no_secret, everything_logged, seconds
from tests.conformance.flair import FlairHarness
from tests.conformance.harness import Case, Harness

# This file tests the tests of the suite, so it alone imports test modules.
from tests.conformance.suite import test_failures, test_lists_and_amounts, test_refunds, test_stages

from refunds.domain.clock import Deadline
from refunds.gateways.contract import (
    Accepted,
    Answer,
    Declined,
    GatewayRefund,
    GatewayUnavailableError,
    KeyReused,
    Payment,
    RefundOrder,
    Retryable,
    Stage,
    Unknown,
)
from refunds.gateways.flair import FlairGateway


class NewKeyEachTime(FlairGateway):
    def create_refund(
        self, order: RefundOrder, deadline: Deadline, *, not_after: datetime
    ) -> Answer:
        order = replace(order, reference=secrets.token_hex(8))
        return super().create_refund(order, deadline, not_after=not_after)


class OldKeysToo(FlairGateway):
    def create_refund(
        self, order: RefundOrder, deadline: Deadline, *, not_after: datetime
    ) -> Answer:
        return super().create_refund(order, deadline, not_after=FAR)


class UnknownIsDeclined(FlairGateway):
    def create_refund(
        self, order: RefundOrder, deadline: Deadline, *, not_after: datetime
    ) -> Answer:
        answer = super().create_refund(order, deadline, not_after=not_after)
        return Declined("failed", "failed") if isinstance(answer, Unknown) else answer


class UnknownIsRetryable(FlairGateway):
    def create_refund(
        self, order: RefundOrder, deadline: Deadline, *, not_after: datetime
    ) -> Answer:
        answer = super().create_refund(order, deadline, not_after=not_after)
        return Retryable("again") if isinstance(answer, Unknown) else answer


class KeyReuseIsDeclined(FlairGateway):
    def create_refund(
        self, order: RefundOrder, deadline: Deadline, *, not_after: datetime
    ) -> Answer:
        answer = super().create_refund(order, deadline, not_after=not_after)
        return Declined("reused", "reused") if isinstance(answer, KeyReused) else answer


class EchoesWhatWasAsked(FlairGateway):
    def create_refund(
        self, order: RefundOrder, deadline: Deadline, *, not_after: datetime
    ) -> Answer:
        answer = super().create_refund(order, deadline, not_after=not_after)
        if isinstance(answer, Accepted):
            return Accepted(replace(answer.refund, amount_minor=order.amount_minor))
        return answer


class OverBalanceUntold(FlairGateway):
    def create_refund(
        self, order: RefundOrder, deadline: Deadline, *, not_after: datetime
    ) -> Answer:
        answer = super().create_refund(order, deadline, not_after=not_after)
        return replace(answer, over_balance=False) if isinstance(answer, Declined) else answer


class NoAnswerIsNothing(FlairGateway):
    def find_refunds(
        self, reference: str, transaction_id: str, deadline: Deadline
    ) -> tuple[GatewayRefund, ...]:
        try:
            return super().find_refunds(reference, transaction_id, deadline)
        except GatewayUnavailableError:
            return ()


class FirstPageOnly(FlairGateway):
    def find_refunds(
        self, reference: str, transaction_id: str, deadline: Deadline
    ) -> tuple[GatewayRefund, ...]:
        page = self.list_refunds(deadline, transaction_id=transaction_id)
        return tuple(each for each in page.refunds if each.gateway_reference == reference)


class OwnTimeout(FlairGateway):
    def get_payment(self, transaction_id: str, deadline: Deadline) -> Payment | None:
        return super().get_payment(transaction_id, deadline=seconds(3))


class StageForgotten(FlairGateway):
    def __init__(self, *, stage: Stage, **parts: Any) -> None:
        super().__init__(stage=Stage(), **parts)


class TellsTheKey(FlairGateway):
    def get_payment(self, transaction_id: str, deadline: Deadline) -> Payment | None:
        logging.getLogger("acme").debug("asking with %s", self._api_key.get())
        return super().get_payment(transaction_id, deadline)


class Cents(FlairGateway):
    def create_refund(
        self, order: RefundOrder, deadline: Deadline, *, not_after: datetime
    ) -> Answer:
        if order.currency == "JPY":
            order = replace(order, amount_minor=order.amount_minor * 100)
        return super().create_refund(order, deadline, not_after=not_after)


Test = Callable[[Harness], None]


def _reading(case: Case, reading: str) -> Test:
    return lambda harness: test_failures.test_no_answer_is_never_taken_for_nothing_there(
        harness, case, reading
    )


def _lost(case: Case) -> Test:
    return lambda harness: (
        test_failures.test_a_lost_answer_is_unknown_found_by_a_look_up_and_paid_once(harness, case)
    )


FAULTS: list[tuple[type[FlairGateway], Test]] = [
    (NewKeyEachTime, test_refunds.test_a_refund_moves_its_money_once),
    (OldKeysToo, test_refunds.test_a_key_that_may_be_forgotten_is_not_sent),
    (UnknownIsDeclined, _lost(Case.DROPPED_AFTER)),
    (UnknownIsRetryable, _lost(Case.PROXY_PAGE_AFTER)),
    (KeyReuseIsDeclined, test_refunds.test_a_key_with_another_body_is_told_from_a_replay),
    (
        EchoesWhatWasAsked,
        lambda harness: test_failures.test_a_wrong_answer_is_not_taken_for_ours(
            harness, Case.OTHER_AMOUNT
        ),
    ),
    (OverBalanceUntold, test_refunds.test_more_than_what_others_left_is_declined_as_that),
    (NoAnswerIsNothing, _reading(Case.DOWN, "look-up")),
    (FirstPageOnly, test_lists_and_amounts.test_a_look_up_finds_ours_behind_a_page_of_others),
    (OwnTimeout, _reading(Case.SILENT, "payment")),
    (StageForgotten, test_stages.test_two_stages_may_have_a_refund_of_the_same_id),
    (Cents, test_lists_and_amounts.test_amounts_are_the_same_on_both_sides),
]


@pytest.fixture(params=FAULTS, ids=lambda fault: fault[0].__name__)
def fault(request: pytest.FixtureRequest) -> Iterator[tuple[FlairHarness, Test]]:
    adapter, test = request.param
    harness = FlairHarness()
    harness.adapter = adapter
    with harness:
        yield harness, test


def test_a_faulty_adapter_does_not_pass(fault: tuple[FlairHarness, Test]) -> None:
    harness, test = fault
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test(harness)


def test_an_adapter_that_tells_its_key_does_not_pass() -> None:
    harness = FlairHarness()
    harness.adapter = TellsTheKey
    with harness, everything_logged() as texts:
        harness.gateway().get_payment(harness.new_payment(), seconds(5))

    with pytest.raises(AssertionError):
        assert_no_secret(*texts)
