"""Flair's API in the protocol's terms: every answer means exactly one thing for the money."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.builders import EMAIL, NOW, SECRET, VISA, FakeClock, payment, shown

from refunds.domain.clock import Deadline
from refunds.domain.redaction import describe
from refunds.gateways.contract import (
    NOT_OURS,
    Accepted,
    Answer,
    Declined,
    GatewayMisconfiguredError,
    GatewayStatus,
    GatewayUnavailableError,
    KeyReused,
    KeyTooOld,
    Misconfiguration,
    Misconfigured,
    PaymentStatus,
    RefundOrder,
    Retryable,
    Stage,
    Unknown,
)
from refunds.gateways.flair import MAX_LOOK_UP_PAGES, FlairGateway
from refunds.gateways.http import HttpResponse, NoAnswerError, NotSentError, public_address

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
PAYMENT = {
    "id": "payment-1",
    "status": "captured",
    "currency": "USD",
    "amount_captured": 10_000,
    "amount_refunded": 0,
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


@pytest.fixture
def account() -> Account:
    return Account()


# What is sent


def test_a_refund_is_asked_for_as_the_contract_has_it(account: Account) -> None:
    account.wire.says(201, REFUND)
    account.create()

    ((method, url, headers, body),) = account.wire.sent
    assert (method, url) == ("POST", "https://api.flair.example/v1/refunds")
    assert headers["Idempotency-Key"] == "refund-1"
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert headers["Content-Type"] == "application/json"
    assert body is not None
    assert json.loads(body) == {
        "transaction_id": "payment-1",
        "amount": 2500,
        "currency": "USD",
        "reference": "refund-1",
        "reason": "requested_by_customer",
    }
    assert isinstance(json.loads(body)["amount"], int)


def test_the_same_order_is_always_the_same_bytes(account: Account) -> None:
    # Another body under the same key is a 409 for good.
    account.wire.says(500, error())
    account.create()
    account.clock.advance(hours=5)
    account.create()

    assert account.wire.sent[0][3] == account.wire.sent[1][3]


def test_the_bytes_of_format_1_never_change(account: Account) -> None:
    # Refunds that were begun by an older release are repeated with these very bytes.
    account.create()

    assert account.wire.sent[0][3] == (
        b'{"transaction_id": "payment-1", "amount": 2500, "currency": "USD", '
        b'"reference": "refund-1", "reason": "requested_by_customer"}'
    )


def test_a_format_of_a_newer_release_is_not_sent(account: Account) -> None:
    order = replace(ORDER, format=2)
    answer = account.gateway.create_refund(order, account.deadline(), not_after=TOMORROW)

    assert answer == Misconfigured(Misconfiguration.FORMAT_UNKNOWN)
    assert account.wire.sent == []


def test_a_refund_keeps_the_key_that_it_began_with_when_the_stage_changes() -> None:
    account = Account("prod")
    order = replace(ORDER, reference="dev.refund-1")
    account.wire.says(201, REFUND | {"reference": "dev.refund-1"})
    account.gateway.create_refund(order, account.deadline(), not_after=TOMORROW)

    _, _, headers, body = account.wire.sent[0]
    assert headers["Idempotency-Key"] == "dev.refund-1"
    assert json.loads(body or b"")["reference"] == "dev.refund-1"


@pytest.mark.parametrize(
    ("url", "account"),
    [
        ("https://api.flair.example/", "https://api.flair.example"),
        ("https://API.flair.example/eu/", "https://api.flair.example/eu"),
        ("https://user:secret@api.flair.example:8443", "https://api.flair.example:8443"),
    ],
)
def test_the_account_is_the_address_without_anything_secret(url: str, account: str) -> None:
    assert public_address(url) == account


def test_a_key_that_may_be_forgotten_is_never_sent(account: Account) -> None:
    account.clock.set(TOMORROW)

    assert account.create() == KeyTooOld()
    assert account.wire.sent == []
    account.clock.set(TOMORROW - timedelta(microseconds=1))
    account.wire.says(201, REFUND)
    assert isinstance(account.create(), Accepted)


def test_a_key_that_ages_while_the_secret_is_fetched_is_not_sent(account: Account) -> None:
    get = account.key.get

    def slowly() -> str:
        account.clock.set(TOMORROW)
        return get()

    account.key.get = slowly  # type: ignore[method-assign]
    assert account.create() == KeyTooOld()
    assert account.wire.sent == []


def test_without_the_secret_nothing_is_sent_and_nothing_of_it_told(account: Account) -> None:
    account.key.error = RuntimeError(SECRET)
    answer = account.create()

    assert answer == Retryable("no gateway key: RuntimeError")
    with pytest.raises(GatewayUnavailableError) as caught:
        account.gateway.get_payment("payment-1", account.deadline())
    assert SECRET not in str(caught.value)
    assert account.wire.sent == []


# What the answer to a refund means


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
        shown(gateway_refund_id="gw-2", reference=NOT_OURS, gateway_reference=None),
    )
    assert page.unreadable == 4


def test_money_under_an_unknown_status_counts_as_moving_and_is_reported(account: Account) -> None:
    account.wire.says(200, {"data": [REFUND | {"status": "on_hold"}]})
    page = account.gateway.list_refunds(account.deadline())

    assert page.refunds == (shown(status=GatewayStatus.PENDING),)
    assert page.unreadable == 1


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


# Stages that share an account


def test_a_stage_marks_its_keys_and_references_and_reads_them_back() -> None:
    account = Account("dev")
    account.wire.says(201, REFUND | {"reference": "dev.refund-1"})
    answer = account.create()

    assert answer == Accepted(shown(gateway_reference="dev.refund-1"))
    _, _, headers, body = account.wire.sent[0]
    assert headers["Idempotency-Key"] == "dev.refund-1"
    assert body is not None
    assert json.loads(body)["reference"] == "dev.refund-1"


@pytest.mark.parametrize("reference", ["refund-1", "prod.refund-1", "dev.", "dev", ".refund-1"])
def test_another_stages_refund_is_never_taken_for_ours(reference: str) -> None:
    account = Account("dev")
    account.wire.says(200, {"data": [REFUND | {"reference": reference}]})
    page = account.gateway.list_refunds(account.deadline())

    assert page.refunds[0].reference == NOT_OURS


# What must not get out


def test_the_key_is_in_no_repr_answer_error_or_log(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told = [repr(account.gateway), str(vars(account.gateway).keys())]
    for status in (200, 201, 401, 403, 404, 409, 422, 429, 500):
        account.wire.says(status, error(SECRET, SECRET) if status > 499 else b"<html>")
        told.append(repr(account.create()))
        with pytest.raises(GatewayUnavailableError) as caught:
            account.gateway.get_payment("payment-1", account.deadline())
        told += [repr(caught.value), str(describe(caught.value))]

    assert SECRET not in "".join(told) + caplog.text


@pytest.mark.parametrize("planted", [EMAIL, VISA, "4111 1111 1111 1111", f"{SECRET} for you"])
@pytest.mark.parametrize("status", [400, 409, 500, 503])
def test_the_gateways_own_words_are_in_no_reason(
    account: Account, planted: str, status: int
) -> None:
    account.wire.says(status, error(planted, planted))
    answer = account.create()

    assert isinstance(answer, Unknown)
    assert planted not in answer.reason


def test_a_code_that_looks_like_one_is_told(account: Account) -> None:
    account.wire.says(409, error("idempotency_key_in_use"))

    assert account.create() == Unknown("HTTP 409 idempotency_key_in_use")
