"""What each fault does to a call, its answer and the money."""

from __future__ import annotations

import http.client
import json
import time

import pytest
import urllib3
from tests.support.flair_client import Flair
from tests.support.raw_requests import DEADLINE_SECONDS, raw_post, read_all

MONEY_MOVED = [("out", 100)]


def until_moved(flair: Flair, payment: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not flair.money(payment):
        assert time.monotonic() < deadline, "no money moved"


def test_commit_then_timeout_moves_money_and_holds_the_connection(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("commit_then_timeout", transaction_id=payment)
    with raw_post(flair, payment, "held", timeout=0.3) as line, pytest.raises(TimeoutError):
        line.recv(1)
    assert flair.money(payment) == MONEY_MOVED
    again = flair.refund(payment, 100, reference="held", key="held")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert flair.money(payment) == MONEY_MOVED


def test_a_held_connection_is_closed_without_a_byte_in_the_end(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("commit_then_timeout", transaction_id=payment, seconds=0.2)
    with raw_post(flair, payment, "closed", timeout=DEADLINE_SECONDS) as line:
        assert line.recv(1) == b""


@pytest.mark.parametrize(
    ("kind", "moved"), [("commit_then_drop", MONEY_MOVED), ("drop_before_commit", [])]
)
def test_dropped_connections(flair: Flair, kind: str, moved: list[tuple[str, int]]) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault(kind, transaction_id=payment)
    with raw_post(flair, payment, kind, timeout=DEADLINE_SECONDS) as line:
        assert read_all(line) == b""
    assert flair.money(payment) == moved
    assert flair.refund(payment, 100, reference=kind, key=kind).status == 201
    assert flair.money(payment) == MONEY_MOVED


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("error_500", 500, "internal_error"),
        ("error_503", 503, "service_unavailable"),
        ("rate_limited", 429, "rate_limited"),
        ("in_use", 409, "idempotency_key_in_use"),
        ("declined", 402, "card_declined"),
    ],
)
def test_refusals_move_no_money(flair: Flair, kind: str, status: int, code: str) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault(kind, transaction_id=payment)
    answer = flair.refund(payment)
    assert (answer.status, answer.code) == (status, code)
    assert flair.money(payment) == []


def test_rate_limited_says_when_to_come_back(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("rate_limited", transaction_id=payment, retry_after_seconds=7)
    assert flair.refund(payment).headers["Retry-After"] == "7"


def test_declined_with_a_code(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault(
        "declined", transaction_id=payment, code="account_closed", message="Gone."
    )
    answer = flair.refund(payment)
    assert (answer.code, answer.body["error"]["message"]) == ("account_closed", "Gone.")


@pytest.mark.parametrize(
    ("kind", "moved"), [("html_502", []), ("commit_then_html_502", MONEY_MOVED)]
)
def test_html_instead_of_json(flair: Flair, kind: str, moved: list[tuple[str, int]]) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault(kind, transaction_id=payment)
    answer = flair.refund(payment, checked=False)
    assert answer.status == 502
    assert answer.headers["content-type"].startswith("text/html")
    assert b"<html>" in answer.raw
    assert flair.money(payment) == moved


def test_commit_then_503(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("commit_then_error_503", transaction_id=payment)
    assert flair.refund(payment).status == 503
    assert flair.money(payment) == MONEY_MOVED


@pytest.mark.parametrize("part", ["headers", "body"])
def test_slow_drip_sends_a_byte_at_a_time(flair: Flair, part: str) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault(
        "slow_drip", transaction_id=payment, seconds_per_byte=0.02, part=part
    )
    with raw_post(flair, payment, flair.new("drip"), timeout=DEADLINE_SECONDS) as line:
        received, pieces = b"", 0
        while (b"\r\n\r\n" not in received) if part == "headers" else (pieces < 20):
            received += line.recv(65536)
            pieces += 1
        if part == "headers":
            assert pieces > 20
        else:
            head, _, body = received.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 201 Created")
            assert len(body) < 100
    assert flair.money(payment) == MONEY_MOVED


def test_a_drip_ends_in_a_whole_answer(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("slow_drip", transaction_id=payment, seconds_per_byte=0)
    with raw_post(flair, payment, flair.new("whole"), timeout=DEADLINE_SECONDS) as line:
        answer = http.client.HTTPResponse(line)
        answer.begin()
        flair.check_contract("POST", "/v1/refunds", answer.status, json.loads(answer.read()))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("wrong_amount_echoed", "amount"),
        ("wrong_currency_echoed", "currency"),
        ("wrong_reference_echoed", "reference"),
        ("wrong_transaction_id_echoed", "transaction_id"),
    ],
)
def test_wrong_echoes_change_the_answer_and_not_the_books(
    flair: Flair, kind: str, name: str
) -> None:
    payment, reference = flair.new_payment(1000), flair.new("echo")
    flair.gateway.client.add_fault(kind, transaction_id=payment)
    told = flair.refund(payment, 100, reference=reference)
    assert told.status == 201
    true = flair.get_refund(told.body["id"])
    assert {key for key in true if true[key] != told.body[key]} == {name}
    assert (true["amount"], true["currency"]) == (100, "USD")
    assert (true["reference"], true["transaction_id"]) == (reference, payment)

    flair.gateway.client.add_fault(kind, transaction_id=payment, operation="list_refunds")
    assert flair.refunds(transaction_id=payment)["data"][0][name] == told.body[name]


@pytest.mark.parametrize("currency", ["USD", "EUR"])
def test_the_wrong_currency_is_another(flair: Flair, currency: str) -> None:
    payment = flair.new_payment(1000, currency=currency)
    flair.gateway.client.add_fault("wrong_currency_echoed", transaction_id=payment)
    assert flair.refund(payment, currency=currency).body["currency"] != currency


def test_huge_body_is_right_but_huge(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("huge_body", transaction_id=payment, bytes=3_000_000)
    answer = flair.refund(payment)
    assert len(answer.raw) > 3_000_000
    assert answer.body["amount"] == 100


def test_a_client_may_leave_a_huge_body(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("huge_body", transaction_id=payment, bytes=1 << 30)
    with raw_post(flair, payment, "left", timeout=DEADLINE_SECONDS) as line:
        assert line.recv(15) == b"HTTP/1.1 201 Cr"
    assert flair.payment(payment)["amount_refunded"] == 100


def test_truncated_json_is_a_whole_answer_of_half_a_text(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("truncated_json", transaction_id=payment)
    answer = flair.refund(payment, checked=False)
    assert answer.status == 201
    assert int(answer.headers["content-length"]) == len(answer.raw)
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.raw)
    assert flair.money(payment) == MONEY_MOVED


def test_short_body_ends_before_its_length(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("short_body", transaction_id=payment)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        flair.refund(payment, checked=False)
    assert flair.money(payment) == MONEY_MOVED


def test_delay_moves_the_money_later_though_the_client_has_gone(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("delay", transaction_id=payment, seconds=0.5)
    with raw_post(flair, payment, "slow", timeout=0.1) as line, pytest.raises(TimeoutError):
        line.recv(1)
    assert flair.refunds(reference="slow")["data"] == []
    until_moved(flair, payment)
    assert flair.money(payment) == MONEY_MOVED


def test_commit_then_delay_moves_the_money_first(flair: Flair) -> None:
    payment, started = flair.new_payment(1000), time.monotonic()
    flair.gateway.client.add_fault("commit_then_delay", transaction_id=payment, seconds=0.3)
    with raw_post(flair, payment, "after", timeout=DEADLINE_SECONDS) as line:
        until_moved(flair, payment)
        answer = http.client.HTTPResponse(line)
        answer.begin()
        assert answer.status == 201
        assert json.loads(answer.read())["reference"] == "after"
    assert time.monotonic() - started >= 0.3


def test_key_forgotten_lets_the_same_post_move_money_again(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("key_forgotten", transaction_id=payment)
    for _ in range(3):
        assert flair.refund(payment, 100, reference="forgot", key="forgot").status == 201
    assert flair.money(payment) == MONEY_MOVED * 2


def test_failed_at_once(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("failed", transaction_id=payment)
    answer = flair.refund(payment)
    assert (answer.status, answer.body["status"]) == (201, "failed")
    assert answer.body["failure_code"] == "bank_rejected"
    assert flair.payment(payment)["amount_refunded"] == 0
    assert flair.money(payment) == []


@pytest.mark.parametrize(
    ("kind", "statuses", "held", "moved"),
    [
        ("pending_then_succeeded", ("pending", "succeeded"), (100, 100), ([], MONEY_MOVED)),
        ("pending_then_failed", ("pending", "failed"), (100, 0), ([], [])),
        (
            "succeeded_then_failed",
            ("succeeded", "failed"),
            (100, 0),
            (MONEY_MOVED, [("out", 100), ("back", 100)]),
        ),
        ("pending", ("pending", "pending"), (100, 100), ([], [])),
    ],
)
def test_later_settlement_follows_the_clock(
    own_flair: Flair,
    kind: str,
    statuses: tuple[str, str],
    held: tuple[int, int],
    moved: tuple[list[tuple[str, int]], list[tuple[str, int]]],
) -> None:
    flair = own_flair
    payment = flair.new_payment(1000)
    seconds = {} if kind == "pending" else {"seconds": 3600}
    flair.gateway.client.add_fault(kind, transaction_id=payment, **seconds)
    made = flair.refund(payment, 100).body
    for step in (0, 1):
        refund = flair.get_refund(made["id"])
        assert refund["status"] == statuses[step]
        assert (refund["failure_code"] is not None) == (statuses[step] == "failed")
        assert flair.payment(payment)["amount_refunded"] == held[step]
        assert flair.money(payment) == moved[step]
        assert flair.refunds(transaction_id=payment)["data"] == [refund]
        flair.gateway.client.advance(3600)


def test_a_settlement_carries_the_time_it_was_due(own_flair: Flair) -> None:
    flair = own_flair
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("pending_then_succeeded", transaction_id=payment, seconds=60)
    made = flair.refund(payment, 100).body
    flair.gateway.client.advance(100_000)
    settled = flair.get_refund(made["id"])
    seconds = [
        int(text[14:16]) * 60 + int(text[17:19])
        for text in (made["created_at"], settled["updated_at"])
    ]
    assert (seconds[1] - seconds[0]) % 3600 == 60
    assert settled["updated_at"][19:] == made["created_at"][19:]


def test_money_of_a_failed_refund_can_be_refunded_again(own_flair: Flair) -> None:
    flair = own_flair
    payment = flair.new_payment(100)
    flair.gateway.client.add_fault("pending_then_failed", transaction_id=payment, seconds=60)
    assert flair.refund(payment, 100).status == 201
    assert flair.refund(payment, 100).code == "amount_exceeds_balance"
    flair.gateway.client.advance(60)
    assert flair.refund(payment, 100).status == 201
