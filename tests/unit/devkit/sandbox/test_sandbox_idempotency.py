"""The idempotency rules, word for word: a key lives 24 hours from its first use."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from refunds_devkit.sandbox.ledger import Ledger

if TYPE_CHECKING:
    from tests.support.flair_client import Answer, Flair

DAY_SECONDS = 24 * 3600
REPLAYED = "Idempotent-Replayed"


def test_same_key_and_body_is_replayed(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    first = flair.refund(payment, 100, reference="replay", key="replay")
    again = flair.refund(payment, 100, reference="replay", key="replay")
    assert REPLAYED not in first.headers
    assert again.headers[REPLAYED] == "true"
    assert (again.status, again.body) == (201, first.body)
    assert flair.money(payment) == [("out", 100)]


def test_key_order_and_white_space_make_no_other_body(flair: Flair) -> None:
    body = {
        "transaction_id": flair.new_payment(1000),
        "amount": 5,
        "currency": "USD",
        "reference": "order",
    }
    headers = {"Idempotency-Key": "order"}
    first = flair.call("POST", "/v1/refunds", body, headers=headers)
    turned = json.dumps(dict(reversed(body.items())), indent=2).encode()
    again = flair.call("POST", "/v1/refunds", raw=turned, headers=headers)
    assert again.body == first.body
    assert again.headers[REPLAYED] == "true"


@pytest.mark.parametrize("change", [{"amount": 101}, {"reference": "b"}, {"reason": "other"}])
def test_same_key_with_another_body_is_reused(flair: Flair, change: dict[str, Any]) -> None:
    payment, key = flair.new_payment(1000), flair.new("reused")
    wanted: dict[str, Any] = {"amount": 100, "reference": "a"}
    assert flair.refund(payment, **wanted, key=key).status == 201
    answer = flair.refund(payment, **{**wanted, **change}, key=key)
    assert (answer.status, answer.code) == (409, "idempotency_key_reused")
    assert REPLAYED not in answer.headers
    assert flair.refund(payment, **wanted, key=key).headers[REPLAYED] == "true"
    assert flair.money(payment) == [("out", 100)]


def test_another_key_moves_money_again_for_the_same_reference(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    for key in ("first-key", "second-key"):
        assert flair.refund(payment, 100, reference="twice", key=key).status == 201
    assert len(flair.refunds(reference="twice")["data"]) == 2
    assert flair.money(payment) == [("out", 100)] * 2


def test_stored_refusals_are_replayed_though_they_no_longer_hold(flair: Flair) -> None:
    payment = flair.new_payment(10)
    first = flair.refund(payment, 100, reference="late", key="late")
    flair.gateway.client.add_payment(payment, 1000)
    again = flair.refund(payment, 100, reference="late", key="late")
    assert (again.status, again.body) == (422, first.body)
    assert again.headers[REPLAYED] == "true"


@pytest.mark.parametrize(
    ("kind", "moved"),
    [("error_500_remembered", []), ("commit_then_error_500_remembered", [("out", 100)])],
)
def test_a_stored_500_is_replayed(flair: Flair, kind: str, moved: list[tuple[str, int]]) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault(kind, transaction_id=payment)
    first = flair.refund(payment, 100, reference=kind, key=kind)
    again = flair.refund(payment, 100, reference=kind, key=kind)
    assert (first.status, again.status) == (500, 500)
    assert again.body == first.body
    assert again.headers[REPLAYED] == "true"
    assert flair.money(payment) == moved


def test_a_key_is_in_use_while_the_first_call_runs(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("delay", transaction_id=payment, seconds=1)
    with ThreadPoolExecutor(8) as threads:
        answers: list[Answer] = list(
            threads.map(lambda _: flair.refund(payment, 100, reference="b", key="busy"), range(8))
        )
    codes = sorted(answer.code if answer.status == 409 else "made" for answer in answers)
    assert codes == ["idempotency_key_in_use"] * 7 + ["made"]
    assert flair.refund(payment, 100, reference="b", key="busy").headers[REPLAYED] == "true"
    assert flair.money(payment) == [("out", 100)]


def test_parallel_calls_with_one_key_move_money_once(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    with ThreadPoolExecutor(25) as threads:
        answers = list(
            threads.map(lambda _: flair.refund(payment, 10, reference="p", key="par"), range(50))
        )
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body["id"] for answer in answers}) == 1
    assert flair.money(payment) == [("out", 10)]


def test_a_key_is_forgotten_after_24_hours_of_its_first_use(own_flair: Flair) -> None:
    flair = own_flair
    payment = flair.new_payment(1000)
    first = flair.refund(payment, 100, reference="old", key="old")
    flair.gateway.client.advance(DAY_SECONDS - 30)
    again = flair.refund(payment, 100, reference="old", key="old")
    assert again.body == first.body  # and this use does not prolong it
    flair.gateway.client.advance(30)
    second = flair.refund(payment, 100, reference="old", key="old")
    assert second.status == 201
    assert REPLAYED not in second.headers
    assert second.body["id"] != first.body["id"]
    assert flair.money(payment) == [("out", 100)] * 2


def test_the_24_hours_end_to_the_microsecond() -> None:
    now = 1_000_000
    ledger = Ledger(real_micros=lambda: now)
    ledger.keys.start("edge", b"fingerprint")
    now += DAY_SECONDS * 1_000_000 - 1
    assert ledger.keys.find("edge") is not None
    now += 1
    assert ledger.keys.find("edge") is None
    ledger.close()


def test_a_forgotten_key_takes_another_body(own_flair: Flair) -> None:
    flair = own_flair
    payment = flair.new_payment(1000)
    assert flair.refund(payment, 100, key="other").status == 201
    assert flair.refund(payment, 200, key="other").code == "idempotency_key_reused"
    flair.gateway.client.advance(DAY_SECONDS)
    assert flair.refund(payment, 200, key="other").status == 201


def test_what_never_reached_the_work_does_not_use_the_key(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    for kind in ("rate_limited", "error_503", "error_500", "in_use"):
        flair.gateway.client.add_fault(kind, transaction_id=payment)
    statuses = [flair.refund(payment, reference="door", key="door").status for _ in range(5)]
    assert statuses == [429, 503, 500, 409, 201]
