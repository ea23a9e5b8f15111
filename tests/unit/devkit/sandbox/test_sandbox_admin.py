"""The admin API that tests and people count money and stage scenes with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from refunds_devkit.sandbox.client import SandboxError

if TYPE_CHECKING:
    from tests.support.flair_client import Flair


def test_thousands_of_payments_at_once(flair: Flair) -> None:
    wanted = [{"id": f"bulk-{i}", "amount_captured": i, "currency": "EUR"} for i in range(5000)]
    made = flair.gateway.client.add_payments(wanted)
    assert len(made) == 5000
    assert flair.payment("bulk-4999")["amount_captured"] == 4999


def test_a_payment_can_change_under_a_running_system(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    before = flair.payment(payment)
    assert flair.refund(payment, 400).status == 201
    flair.gateway.client.add_payment(payment, 500, status="disputed")
    after = flair.payment(payment)
    assert after == {
        **before,
        "status": "disputed",
        "amount_captured": 500,
        "amount_refunded": 400,
    }
    assert flair.refund(payment, 1).code == "payment_disputed"


def test_a_foreign_refund_counts_against_the_balance(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    foreign = flair.gateway.client.add_foreign_refund(payment, 900)
    assert flair.get_refund(foreign["id"]) == foreign
    assert flair.payment(payment)["amount_refunded"] == 900
    assert flair.refund(payment, 101).code == "amount_exceeds_balance"
    with pytest.raises(SandboxError, match="amount_exceeds_balance"):
        flair.gateway.client.add_foreign_refund(payment, 101)
    books = flair.gateway.client.ledger(transaction_id=payment)
    assert [refund["origin"] for refund in books["refunds"]] == ["foreign"]


def test_a_foreign_refund_can_be_older_pending_and_share_a_reference(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.refund(payment, 1, reference="shared")
    older = flair.gateway.client.add_foreign_refund(
        payment, 1, reference="shared", status="pending", created_at="2020-01-01T00:00:00+01:00"
    )
    assert older["created_at"] == "2019-12-31T23:00:00.000000Z"
    assert flair.refunds(reference="shared")["data"][-1] == older
    assert older["status"] == "pending"


@pytest.mark.parametrize(
    ("steps", "moved"),
    [
        (["succeeded"], ["out"]),
        (["failed"], []),
        (["succeeded", "failed"], ["out", "back"]),
    ],
)
def test_settling_by_hand(flair: Flair, steps: list[str], moved: list[str]) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("pending", transaction_id=payment)
    refund = flair.refund(payment).body
    for step in steps:
        settled = flair.gateway.client.settle(refund["id"], step)
        assert flair.get_refund(refund["id"]) == settled
        assert settled["status"] == step
    assert [direction for direction, _ in flair.money(payment)] == moved
    with pytest.raises(SandboxError, match="409"):
        flair.gateway.client.settle(refund["id"], steps[-1])


def test_settling_by_hand_takes_the_place_of_the_scheduled_settlement(own_flair: Flair) -> None:
    flair = own_flair
    refund = flair.refund("pay_pending", 100).body
    flair.gateway.client.settle(refund["id"], "failed", failure_code="account_closed")
    flair.gateway.client.advance(3600)
    assert flair.get_refund(refund["id"])["failure_code"] == "account_closed"
    assert flair.money("pay_pending") == []


def test_a_failed_refund_never_settles_again(flair: Flair) -> None:
    refund = flair.refund("pay_fails", 100).body
    with pytest.raises(SandboxError, match="illegal_transition"):
        flair.gateway.client.settle(refund["id"], "succeeded")
    with pytest.raises(SandboxError, match="404"):
        flair.gateway.client.settle("re_nothing", "failed")


def test_the_ledger_is_filtered_by_payment_and_reference(flair: Flair) -> None:
    one, two = flair.new_payment(1000), flair.new_payment(1000)
    flair.refund(one, 1, reference="ledger-1", key="ledger-key")
    flair.refund(one, 2, reference="ledger-2")
    flair.refund(two, 3, reference="ledger-1")
    client = flair.gateway.client
    books = client.ledger(transaction_id=one, reference="ledger-1")
    assert [payment["id"] for payment in books["payments"]] == [one]
    (refund,), (movement,) = books["refunds"], books["movements"]
    assert refund["idempotency_key"] == "ledger-key"
    assert (movement["direction"], movement["amount"], movement["currency"]) == ("out", 1, "USD")
    assert movement["refund_id"] == refund["id"]
    assert {move["amount"] for move in client.movements(reference="ledger-1")} == {1, 3}
    assert [move["amount"] for move in client.movements(transaction_id=one)] == [1, 2]
    assert len(client.ledger()["movements"]) >= 3


def test_calls_are_logged_with_what_struck_them(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("commit_then_drop", transaction_id=payment)
    for _ in range(2):
        try:
            flair.refund(payment, 10, reference="logged", key="logged")
        except urllib3.exceptions.ProtocolError:
            continue
    flair.refunds(reference="logged")
    calls = flair.gateway.client.calls(reference="logged")
    assert [(call["operation"], call["status"]) for call in calls] == [
        ("create_refund", None),
        ("create_refund", 201),
        ("list_refunds", 200),
    ]
    assert [call["replayed"] for call in calls] == [False, True, False]
    assert calls[0]["faults"] == ["commit_then_drop"]
    posts = flair.gateway.client.calls(transaction_id=payment, operation="create_refund")
    assert posts == calls[:2]


def test_the_clock_moves_forward_only(own_flair: Flair) -> None:
    client = own_flair.gateway.client
    before = client.health()["now"]
    assert client.advance(86_400)["offset_seconds"] == 86_400
    assert client.health()["now"][:10] > before[:10]
    with pytest.raises(SandboxError, match="422"):
        client.advance(-1)
    with pytest.raises(SandboxError, match="422"):
        client.advance(10**12)


def test_the_order_of_refunds_follows_the_clock(own_flair: Flair) -> None:
    flair = own_flair
    old = flair.refund("pay_full", 1).body
    flair.gateway.client.advance(3600)
    new = flair.refund("pay_full", 1).body
    found = flair.refunds(transaction_id="pay_full", created_from=new["created_at"])["data"]
    assert found == [new]
    assert flair.refunds(transaction_id="pay_full")["data"] == [new, old]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/payments", {"id": "x", "amount_captured": -1}),
        ("/payments", {"id": "x", "amount_captured": 1.5}),
        ("/payments", {"id": "", "amount_captured": 1}),
        ("/payments", {"id": "x", "amount_captured": 1, "status": "paid"}),
        ("/payments", {"id": "x", "amount_captured": 1, "other": 1}),
        ("/payments", ["x"]),
        ("/clock", {}),
        ("/clock", {"advance_seconds": True}),
        ("/clock", {"advance_seconds": float("inf")}),
        ("/refunds", {"transaction_id": "pay_full"}),
        ("/refunds", {"transaction_id": "pay_full", "amount": 1, "status": "failed"}),
        ("/refunds", {"transaction_id": "pay_full", "amount": 0}),
        ("/refunds/re_x/settle", {"status": "pending"}),
    ],
    ids=str,
)
def test_mistakes_are_refused(flair: Flair, path: str, body: Any) -> None:
    answer = flair.pool.request(
        "POST", f"{flair.gateway.url}/_sandbox{path}", body=json.dumps(body)
    )
    assert answer.status == 422
    assert json.loads(answer.data)["error"]["code"] == "invalid_request"
