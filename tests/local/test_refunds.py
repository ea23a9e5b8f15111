"""A request passes the queue, ProcessRefund, the gateway and the table."""

from __future__ import annotations

from tests.local.flow import Flow

from refunds.tables.wire import item_from_wire


def ledger(flow: Flow, transaction_id: str) -> dict[str, object]:
    answer = flow.stack.dynamodb.get_item(
        TableName=flow.stack["LedgerTableName"],
        Key={"transaction_id": {"S": transaction_id}},
        ConsistentRead=True,
    )
    return item_from_wire(answer["Item"])


def test_a_full_refund_succeeds_and_moves_the_money_once(flow: Flow) -> None:
    payment = flow.payment(10_000)
    body = flow.request(payment, 10_000, metadata={"order": "A-1"})
    flow.send(body)
    refund = flow.refund(body, "SUCCEEDED")
    assert refund["amount_minor"] == 10_000
    assert refund["metadata"] == {"order": "A-1"}
    assert refund["gateway_refund_id"]
    assert "open_shard" not in refund
    assert flow.moved(payment) == [10_000]
    assert ledger(flow, payment)["remaining"] == 0


def test_without_an_amount_all_that_is_left_is_refunded(flow: Flow) -> None:
    payment = flow.payment(8_000)
    first = flow.request(payment, 3_000)
    flow.send(first)
    flow.refund(first, "SUCCEEDED")
    rest = flow.request(payment)
    flow.send(rest)
    assert flow.refund(rest, "SUCCEEDED")["amount_minor"] == 5_000
    assert sorted(flow.moved(payment)) == [3_000, 5_000]


def test_partial_refunds_at_once_never_take_more_than_was_captured(flow: Flow) -> None:
    payment = flow.payment(10_000)
    bodies = [flow.request(payment, 1_500) for _ in range(9)]
    flow.send(*bodies)
    refunds = [flow.refund(body, "SUCCEEDED", "REJECTED") for body in bodies]
    succeeded = [refund for refund in refunds if refund["status"] == "SUCCEEDED"]
    assert len(succeeded) == 6
    assert {refund["failure_code"] for refund in refunds if refund["status"] == "REJECTED"} == {
        "amount_exceeds_balance"
    }
    assert flow.moved(payment) == [1_500] * 6
    assert ledger(flow, payment)["remaining"] == 1_000


def test_the_same_message_many_times_pays_once(flow: Flow) -> None:
    payment = flow.payment()
    body = flow.request(payment, 2_500)
    flow.send(body)
    refund = flow.refund(body, "SUCCEEDED")
    flow.send(*[body] * 8)
    flow.queue_is_empty()
    assert flow.moved(payment) == [2_500]
    assert flow.refund(body, "SUCCEEDED") == refund


def test_the_same_message_many_times_at_once_pays_once(flow: Flow) -> None:
    payment = flow.payment()
    body = flow.request(payment, 2_500)
    flow.send(*[body] * 8)
    flow.refund(body, "SUCCEEDED")
    assert flow.moved(payment) == [2_500]


def test_more_than_the_balance_is_rejected_without_a_call(flow: Flow) -> None:
    payment = flow.payment(2_500)
    body = flow.request(payment, 2_501)
    flow.send(body)
    refund = flow.refund(body, "REJECTED")
    assert refund["failure_code"] == "amount_exceeds_balance"
    assert flow.moved(payment) == []
    assert not flow.sandbox.calls(transaction_id=payment, operation="create_refund")


def test_an_unknown_payment_is_rejected(flow: Flow) -> None:
    body = flow.request("pay_nobody_knows", 100)
    flow.send(body)
    assert flow.refund(body, "REJECTED")["failure_code"] == "payment_not_found"


def test_a_declined_refund_fails_and_gives_the_reservation_back(flow: Flow) -> None:
    payment = flow.payment(6_000)
    flow.sandbox.add_fault("declined", transaction_id=payment)
    body = flow.request(payment, 6_000)
    flow.send(body)
    assert flow.refund(body, "FAILED")["failure_code"] == "card_declined"
    again = flow.request(payment, 6_000)
    flow.send(again)
    flow.refund(again, "SUCCEEDED")
    assert flow.moved(payment) == [6_000]


def test_yen_have_no_decimals_and_another_currency_is_rejected(flow: Flow) -> None:
    payment = flow.payment(5_000, "JPY")
    yen, dollars = flow.request(payment, 1_200, currency="JPY"), flow.request(payment, 1_200)
    flow.send(yen)
    flow.refund(yen, "SUCCEEDED")
    flow.send(dollars)
    assert flow.refund(dollars, "REJECTED")["failure_code"] == "currency_mismatch"
    assert flow.moved(payment) == [1_200]
