"""Payments and refunds as Flair shows them, and what is no evidence."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.support.builders import NOW, payment, shown
from tests.support.flair_account import REFUND, Account, error

from refunds.gateways.contract import (
    NOT_OURS,
    GatewayStatus,
    GatewayUnavailableError,
    PaymentStatus,
)
from refunds.gateways.flair import MAX_LOOK_UP_PAGES
from refunds.gateways.http import NoAnswerError, NotSentError

PAYMENT = {
    "id": "payment-1",
    "status": "captured",
    "currency": "USD",
    "amount_captured": 10_000,
    "amount_refunded": 0,
    "created_at": "2026-11-23T07:10:00Z",
}


# Payments


def test_a_payment_is_read_in_minor_units(account: Account) -> None:
    account.wire.says(200, PAYMENT | {"amount_refunded": 5})

    assert account.gateway.get_payment("payment-1", account.deadline()) == payment(refunded_minor=5)
    assert account.wire.sent[0][:2] == (
        "GET",
        "https://api.flair.example/v1/payments/payment-1",
    )


@pytest.mark.parametrize("status", PaymentStatus)
def test_every_status_of_a_payment_is_known(account: Account, status: PaymentStatus) -> None:
    account.wire.says(200, PAYMENT | {"status": status.value})
    found = account.gateway.get_payment("payment-1", account.deadline())

    assert found is not None
    assert found.status is status


def test_a_payment_that_the_gateway_says_it_lacks_is_none(account: Account) -> None:
    account.wire.says(404, error("not_found"))

    assert account.gateway.get_payment("payment-1", account.deadline()) is None


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (404, b"<html>no route</html>"),
        (200, PAYMENT | {"id": "payment-2"}),
        (200, PAYMENT | {"status": "lost"}),
        (200, PAYMENT | {"amount_captured": 10.5}),
        (200, PAYMENT | {"amount_captured": -1}),
        (200, PAYMENT | {"amount_refunded": "0"}),
        (200, b""),
        (200, b"[]"),
        (201, PAYMENT),
        (500, error()),
        (429, error()),
    ],
)
def test_anything_else_says_nothing_of_the_payment(
    account: Account, status: int, content: Any
) -> None:
    account.wire.says(status, content)

    with pytest.raises(GatewayUnavailableError):
        account.gateway.get_payment("payment-1", account.deadline())


@pytest.mark.parametrize("lost", [NotSentError("x"), NoAnswerError("x")])
def test_a_question_without_an_answer_is_to_be_asked_again(
    account: Account, lost: Exception
) -> None:
    account.wire.answer = lost

    with pytest.raises(GatewayUnavailableError):
        account.gateway.find_refunds("refund-1", "payment-1", account.deadline())


def test_the_wish_to_wait_of_a_question_is_kept(account: Account) -> None:
    account.wire.says(429, error(), {"retry-after": "33"})

    with pytest.raises(GatewayUnavailableError) as caught:
        account.gateway.get_payment("payment-1", account.deadline())
    assert caught.value.retry_after_seconds == 33


@pytest.mark.parametrize(("status", "forgotten"), [(401, 1), (403, 1), (404, 0), (500, 0)])
def test_a_key_that_is_not_taken_for_a_question_is_forgotten(
    account: Account, status: int, forgotten: int
) -> None:
    account.wire.says(status, b"")

    with pytest.raises(GatewayUnavailableError):
        account.gateway.get_payment("payment-1", account.deadline())
    assert account.key.forgotten == forgotten


def test_an_id_cant_leave_its_place_in_the_path(account: Account) -> None:
    account.wire.says(404, error())
    account.gateway.get_payment("../refunds?x=/é", account.deadline())

    assert account.wire.sent[0][1].endswith("/v1/payments/..%2Frefunds%3Fx%3D%2F%C3%A9")


# Refunds at the gateway


def test_all_refunds_of_a_reference_are_found(account: Account) -> None:
    account.wire.says(200, {"data": [REFUND, REFUND | {"id": "gw-2"}], "next_cursor": None})

    found = account.gateway.find_refunds("refund-1", "payment-1", account.deadline())
    assert found == (shown(), shown(gateway_refund_id="gw-2"))
    assert parse_qs(urlsplit(account.wire.sent[0][1]).query) == {"reference": ["refund-1"]}


def test_a_list_that_ignores_the_reference_is_no_evidence(account: Account) -> None:
    account.wire.says(200, {"data": [REFUND | {"reference": "refund-2"}]})

    with pytest.raises(GatewayUnavailableError):
        account.gateway.find_refunds("refund-1", "payment-1", account.deadline())


def test_an_empty_list_is_evidence_that_there_is_none(account: Account) -> None:
    account.wire.says(200, {"data": []})

    assert account.gateway.find_refunds("refund-1", "payment-1", account.deadline()) == ()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        {"data": None},
        {"data": [REFUND | {"amount": 1.5}]},
        {"data": [7]},
        {"items": []},
    ],
)
def test_a_list_that_cant_be_read_is_no_evidence(account: Account, content: Any) -> None:
    account.wire.says(200, content)

    with pytest.raises(GatewayUnavailableError):
        account.gateway.find_refunds("refund-1", "payment-1", account.deadline())


def test_a_look_up_follows_cursors_to_the_end(account: Account) -> None:
    account.wire.says(200, {"data": [], "next_cursor": "more"})
    account.wire.then(200, {"data": [REFUND], "next_cursor": None})

    found = account.gateway.find_refunds("refund-1", "payment-1", account.deadline())
    assert found == (shown(),)
    assert parse_qs(urlsplit(account.wire.sent[1][1]).query)["cursor"] == ["more"]


def test_a_look_up_without_an_end_is_no_evidence(account: Account) -> None:
    account.wire.says(200, {"data": [], "next_cursor": "more"})

    with pytest.raises(GatewayUnavailableError):
        account.gateway.find_refunds("refund-1", "payment-1", account.deadline())
    assert len(account.wire.sent) == MAX_LOOK_UP_PAGES


def test_one_bad_row_does_not_hide_the_others(account: Account) -> None:
    rows = [
        REFUND | {"amount": 0},
        REFUND | {"amount": "2500"},
        None,
        {},
        REFUND,
        REFUND | {"id": "gw-2", "reference": None},
    ]
    account.wire.says(200, {"data": rows})
    page = account.gateway.list_refunds(account.deadline())

    assert page.refunds == (
        shown(),
        shown(gateway_refund_id="gw-2", refund_id=NOT_OURS, gateway_reference=None),
    )
    assert page.unreadable == 4


def test_money_under_an_unknown_status_counts_as_moving_and_is_reported(account: Account) -> None:
    account.wire.says(200, {"data": [REFUND | {"status": "on_hold"}]})
    page = account.gateway.list_refunds(account.deadline())

    assert page.refunds == (shown(status=GatewayStatus.PENDING),)
    assert page.unreadable == 1


@pytest.mark.parametrize("shown_at", [None, 7, "soon", "2026-11-23"])
def test_a_date_that_cant_be_read_hides_nothing_else(account: Account, shown_at: Any) -> None:
    dated = REFUND | {"created_at": "2026-11-23T07:10:00Z"}
    account.wire.says(200, {"data": [dated, REFUND | {"created_at": shown_at}]})
    page = account.gateway.list_refunds(account.deadline())

    assert [each.created_at for each in page.refunds] == [NOW, None]
    assert page.unreadable == 0


def test_a_list_is_asked_for_by_payment_or_time_and_page(account: Account) -> None:
    account.wire.says(200, {"data": [REFUND], "next_cursor": "more"})
    page = account.gateway.list_refunds(
        account.deadline(), transaction_id="payment-1", created_from=NOW, cursor="c/1"
    )

    assert (page.refunds, page.next_cursor) == ((shown(),), "more")
    assert parse_qs(urlsplit(account.wire.sent[0][1]).query) == {
        "transaction_id": ["payment-1"],
        "created_from": ["2026-11-23T07:10:00.000000Z"],
        "cursor": ["c/1"],
        "limit": ["100"],
    }
