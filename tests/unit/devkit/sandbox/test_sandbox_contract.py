"""The endpoints as the contract describes them. Every answer is checked against its schemas."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

if TYPE_CHECKING:
    from tests.support.flair_client import Flair

from refunds_devkit.sandbox.seeds import SEEDS


def test_refund_moves_money_once_and_is_found(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    made = flair.refund(payment, 300, reference="found-me", reason="duplicate")
    assert made.status == 201
    assert made.body["status"] == "succeeded"
    assert made.body["failure_code"] is None
    assert flair.get_refund(made.body["id"]) == made.body
    assert flair.refunds(reference="found-me") == {"data": [made.body], "next_cursor": None}
    assert flair.payment(payment)["amount_refunded"] == 300
    assert flair.money(payment) == [("out", 300)]


def test_whole_payment_in_parts_and_then_nothing_more(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    assert [flair.refund(payment, 500).status for _ in range(2)] == [201, 201]
    assert flair.refund(payment, 1).code == "amount_exceeds_balance"
    assert flair.money(payment) == [("out", 500)] * 2


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic dGVzdF9rZXk=", "test_key"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/refunds"),
        ("GET", "/v1/refunds"),
        ("GET", "/v1/refunds/re_x"),
        ("GET", "/v1/payments/pay_full"),
    ],
)
def test_without_the_key_nothing_is_told(
    flair: Flair, method: str, path: str, header: str | None
) -> None:
    answer = flair.call(method, path, headers={"Authorization": header})
    assert (answer.status, answer.code) == (401, "unauthorized")


def test_admin_asks_for_no_key(flair: Flair) -> None:
    assert flair.gateway.client.health()["status"] == "ok"


def test_bearer_is_case_insensitive(flair: Flair) -> None:
    answer = flair.call(
        "GET", "/v1/payments/pay_full", headers={"Authorization": "bearer test_key"}
    )
    assert answer.status == 200


def test_unknown_things_are_404(flair: Flair) -> None:
    assert flair.call("GET", "/v1/payments/nothing").code == "payment_not_found"
    assert flair.call("GET", "/v1/refunds/re_nothing").code == "refund_not_found"
    assert flair.refund("nothing").code == "payment_not_found"
    assert flair.refund("nothing").status == 404
    assert flair.call("GET", "/v2/other").status == 404
    assert flair.call("DELETE", "/v1/refunds").status == 405


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("authorized", "payment_not_captured"),
        ("voided", "payment_not_captured"),
        ("disputed", "payment_disputed"),
    ],
)
def test_only_a_captured_payment_is_refunded(flair: Flair, status: str, code: str) -> None:
    payment = flair.new_payment(1000, status=status)
    answer = flair.refund(payment)
    assert (answer.status, answer.code) == (422, code)
    assert flair.money(payment) == []


def test_other_currency_is_refused(flair: Flair) -> None:
    answer = flair.refund(flair.new_payment(1000, currency="KWD"), currency="USD")
    assert (answer.status, answer.code) == (422, "currency_mismatch")


@pytest.mark.parametrize("amount", [1001, 10**15, 10**30])
def test_more_than_the_balance_is_refused(flair: Flair, amount: int) -> None:
    answer = flair.refund(flair.new_payment(1000), amount)
    assert (answer.status, answer.code) == (422, "amount_exceeds_balance")


VALID = {"transaction_id": "pay_full", "amount": 1, "currency": "USD", "reference": "r"}


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 0},
        {"amount": -1},
        {"amount": 1.0},
        {"amount": "1"},
        {"amount": True},
        {"amount": None},
        {"currency": "usd"},
        {"currency": "USDX"},
        {"currency": "USD\n"},
        {"reference": ""},
        {"reference": "x" * 129},
        {"reference": 7},
        {"reference": "\ud800"},
        {"transaction_id": "x" * 129},
        {"reason": "because"},
        {"reason": None},
        {"reason": []},
        {"extra": 1},
    ],
    ids=str,
)
def test_invalid_bodies_are_422(flair: Flair, change: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": flair.new("invalid")}
    answer = flair.call("POST", "/v1/refunds", VALID | change, headers=headers)
    assert (answer.status, answer.code) == (422, "invalid_request")


@pytest.mark.parametrize("name", sorted(VALID))
def test_required_fields(flair: Flair, name: str) -> None:
    body = {key: value for key, value in VALID.items() if key != name}
    headers = {"Idempotency-Key": flair.new("missing")}
    assert flair.call("POST", "/v1/refunds", body, headers=headers).code == "invalid_request"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"amount": NaN}',
        b'{"transaction_id":"pay_full","amount":1,"amount":2,"currency":"USD","reference":"r"}',
        b"{" + b" " * (64 * 1024) + b"}",
    ],
    ids=lambda raw: str(raw[:12]),
)
def test_what_is_not_such_json_is_422(flair: Flair, raw: bytes) -> None:
    headers = {"Idempotency-Key": flair.new("raw")}
    answer = flair.call("POST", "/v1/refunds", raw=raw, headers=headers)
    assert (answer.status, answer.code) == (422, "invalid_request")


def test_content_type_must_be_json(flair: Flair) -> None:
    headers = {"Idempotency-Key": flair.new("type"), "Content-Type": "text/plain"}
    assert flair.call("POST", "/v1/refunds", VALID, headers=headers).code == "invalid_request"


@pytest.mark.parametrize("key", [None, "", "k" * 256])
def test_the_idempotency_key_is_required(flair: Flair, key: str | None) -> None:
    answer = flair.call("POST", "/v1/refunds", VALID, headers={"Idempotency-Key": key})
    assert (answer.status, answer.code) == (422, "invalid_request")


def test_longest_ids_and_key(flair: Flair) -> None:
    payment = "p" * 128
    flair.gateway.client.add_payment(payment, 10)
    made = flair.refund(payment, 1, reference="r" * 128, key="k" * 255)
    assert made.status == 201
    assert flair.refunds(reference="r" * 128)["data"] == [made.body]


def test_an_id_may_hold_any_character(flair: Flair) -> None:
    flair.gateway.client.add_payment("a/b c", 10)
    assert flair.call("GET", "/v1/payments/a%2Fb%20c").body["id"] == "a/b c"


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=ten",
        "limit=",
        "limit=-1",
        "cursor=nonsense",
        "cursor=",
        "cursor=MS4t",
        "created_from=yesterday",
        "created_from=2026-11-23",
        "created_from=2026-11-23T07:10:00",
        "created_from=2026-11-23T07:10:00+01:00",
        "created_from=2026-13-23T07:10:00Z",
        "reference=",
        f"transaction_id={'x' * 129}",
    ],
)
def test_invalid_queries_are_422(flair: Flair, query: str) -> None:
    answer = flair.call("GET", f"/v1/refunds?{query}")
    assert (answer.status, answer.code) == (422, "invalid_request")


def test_pages_newest_first_stay_stable_while_refunds_are_made(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    made = [flair.refund(payment, 1).body["id"] for _ in range(7)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    pages = 0
    while pages < 10:
        pages += 1
        page = flair.refunds(transaction_id=payment, limit=3, **cursor)
        seen += [refund["id"] for refund in page["data"]]
        flair.refund(payment, 1)
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == made[::-1]
    assert pages == 3


def test_a_full_last_page_has_no_next(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    for _ in range(3):
        flair.refund(payment, 1)
    page = flair.refunds(transaction_id=payment, limit=3)
    assert len(page["data"]) == 3
    assert page["next_cursor"] is None


def test_a_page_holds_100_by_default(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    for _ in range(101):
        flair.gateway.client.add_foreign_refund(payment, 1)
    page = flair.refunds(transaction_id=payment)
    assert len(page["data"]) == 100
    rest = flair.refunds(transaction_id=payment, cursor=page["next_cursor"])
    assert len(rest["data"]) == 1


def test_created_from_includes_its_moment(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    older, newer = (flair.refund(payment, 1).body for _ in range(2))
    found = flair.refunds(transaction_id=payment, created_from=newer["created_at"])
    assert found["data"] == [newer]
    found = flair.refunds(transaction_id=payment, created_from=older["created_at"])
    assert found["data"] == [newer, older]


def test_parallel_partial_refunds_never_exceed_what_was_captured(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    with ThreadPoolExecutor(25) as threads:
        answers = list(threads.map(lambda _: flair.refund(payment, 70), range(50)))
    made = [answer for answer in answers if answer.status == 201]
    assert len(made) == 1000 // 70
    assert {answer.code for answer in answers if answer.status != 201} == {"amount_exceeds_balance"}
    assert sum(amount for _, amount in flair.money(payment)) == 70 * len(made)
    assert flair.payment(payment)["amount_refunded"] == 70 * len(made)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.id)
def test_seeded_payments_are_there(flair: Flair, seed: Any) -> None:
    payment = flair.payment(seed.id)
    assert payment["status"] == seed.status
    assert (payment["amount_captured"], payment["currency"]) == (
        seed.amount_captured,
        seed.currency,
    )
    assert payment["amount_refunded"] == seed.foreign


def test_the_checker_itself_sees_a_broken_answer(flair: Flair) -> None:
    check_contract = flair.check_contract
    refund = flair.refund(flair.new_payment(10), 1).body
    check_contract("POST", "/v1/refunds", 201, refund)
    for change in ({"amount": 1.5}, {"status": "done"}, {"created_at": "today"}):
        with pytest.raises(jsonschema.ValidationError):
            check_contract("POST", "/v1/refunds", 201, refund | change)
        with pytest.raises(jsonschema.ValidationError):
            check_contract("GET", "/v1/refunds", 200, {"data": [refund | change]})
    with pytest.raises(jsonschema.ValidationError):
        check_contract("GET", "/v1/refunds", 503, json.loads('{"error": "text"}'))
