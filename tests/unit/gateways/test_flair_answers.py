"""Flair's answer to a refund: each means exactly one thing for the money."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.builders import shown
from tests.support.flair_account import REFUND, Account, error

from refunds.gateways.contract import (
    Accepted,
    Declined,
    GatewayMisconfiguredError,
    GatewayStatus,
    KeyReused,
    Misconfiguration,
    Misconfigured,
    Retryable,
    Unknown,
)
from refunds.gateways.http import NoAnswerError, NotSentError


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize("state", GatewayStatus)
def test_an_accepted_refund_is_told_with_all_that_will_be_compared(
    account: Account, status: int, state: GatewayStatus
) -> None:
    account.wire.says(
        status, REFUND | {"status": state.value, "failure_code": "c", "failure_message": None}
    )

    assert account.create() == Accepted(shown(status=state, failure_code="c"))


READ = ("id", "transaction_id", "reference", "amount", "currency", "status")


BROKEN_REFUNDS: list[Any] = [
    b"",
    b"<html>",
    b"\xff\xfe",
    [],
    {},
    error(),
    *({name: REFUND[name] for name in READ if name != missing} for missing in READ),
    REFUND | {"amount": 2500.0},
    REFUND | {"amount": "2500"},
    REFUND | {"amount": True},
    REFUND | {"amount": 0},
    REFUND | {"id": 7},
]


@pytest.mark.parametrize("content", BROKEN_REFUNDS, ids=lambda content: repr(content)[-60:])
def test_an_acceptance_that_cant_be_read_may_have_moved_money(
    account: Account, content: Any
) -> None:
    account.wire.says(201, content)

    assert isinstance(account.create(), Unknown)


@pytest.mark.parametrize("status", [402, 404, 422])
def test_a_refusal_in_the_contracts_form_is_a_decline_with_the_gateways_own_code(
    account: Account, status: int
) -> None:
    account.wire.says(status, error("payment_disputed", "no"))

    assert account.create() == Declined("payment_disputed", "no")


def test_a_decline_for_the_balance_says_so(account: Account) -> None:
    account.wire.says(422, error("amount_exceeds_balance", "no"))

    assert account.create() == Declined("amount_exceeds_balance", "no", over_balance=True)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, Misconfiguration.KEY_REFUSED), (403, Misconfiguration.PERMISSION_MISSING)],
)
def test_a_key_that_is_refused_is_our_misconfiguration_and_is_forgotten(
    account: Account, status: int, reason: Misconfiguration
) -> None:
    account.wire.says(status, error())

    assert account.create() == Misconfigured(reason)
    assert account.key.forgotten == 1
    with pytest.raises(GatewayMisconfiguredError) as caught:
        account.gateway.get_payment("payment-1", account.deadline())
    assert caught.value.reason is reason
    assert account.key.forgotten == 2


@pytest.mark.parametrize(("header", "wait"), [({"retry-after": "7"}, 7.0), ({}, None)])
def test_too_many_requests_moved_nothing_and_the_wish_to_wait_is_kept(
    account: Account, header: dict[str, str], wait: float | None
) -> None:
    account.wire.says(429, error(), header)

    assert account.create() == Retryable("HTTP 429", wait)


def test_a_key_with_other_contents_is_told_apart_from_one_in_use(account: Account) -> None:
    account.wire.says(409, error("idempotency_key_reused"))
    assert account.create() == KeyReused()

    account.wire.says(409, error("idempotency_key_in_use"))
    assert isinstance(account.create(), Unknown)
    account.wire.says(409, error("something_else"))
    assert isinstance(account.create(), Unknown)


@pytest.mark.parametrize("status", [202, 204, 300, 302, 400, 405, 408, 410, 418, 425, 451, 999])
def test_a_status_that_the_contract_does_not_have_is_unknown(account: Account, status: int) -> None:
    account.wire.says(status, error())

    assert isinstance(account.create(), Unknown)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
def test_an_outage_is_unknown_even_in_the_contracts_form(account: Account, status: int) -> None:
    account.wire.says(status, error("amount_exceeds_balance"))

    assert isinstance(account.create(), Unknown)


NOT_THE_CONTRACTS: list[Any] = [
    b"",
    b"<html>blocked</html>",
    {"error": "no"},
    {"error": {"code": "x"}},
    {"error": {"code": 7, "message": "x"}},
    {"error": {"code": None, "message": "x"}},
    {"code": "x", "message": "y"},
    [error()],
    b'{"error": {"code": "amount_exceeds_ba',
]


@pytest.mark.parametrize("status", [401, 402, 403, 404, 409, 422, 429])
@pytest.mark.parametrize("content", NOT_THE_CONTRACTS, ids=repr)
def test_a_refusal_that_somebody_else_may_have_written_is_unknown(
    account: Account, status: int, content: Any
) -> None:
    account.wire.says(status, content)

    assert isinstance(account.create(), Unknown)
    assert account.key.forgotten == 0


@given(st.integers(100, 599), st.binary(max_size=40))
def test_no_answer_of_bytes_ever_raises_or_counts_as_money_or_as_a_decline(
    status: int, content: bytes
) -> None:
    account = Account()
    account.wire.says(status, content)

    assert isinstance(account.create(), Unknown)


def test_a_request_that_was_not_sent_moved_nothing(account: Account) -> None:
    account.wire.answer = NotSentError("NewConnectionError")

    assert account.create() == Retryable("not sent: NewConnectionError")


def test_a_request_without_an_answer_may_have_moved_money(account: Account) -> None:
    account.wire.answer = NoAnswerError("ReadTimeoutError")

    assert account.create() == Unknown("no answer: ReadTimeoutError")
