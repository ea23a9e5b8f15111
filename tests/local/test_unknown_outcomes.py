"""No response, garbage, or "later" from the gateway: money moves at most once."""

from __future__ import annotations

import pytest
from tests.local.flow import Flow, eventually


@pytest.mark.parametrize(
    "fault",
    [
        "commit_then_timeout",
        "commit_then_drop",
        "commit_then_html_502",
        "commit_then_error_500_remembered",
        "truncated_json",
    ],
)
def test_money_that_moved_without_an_answer_is_found_and_not_paid_again(
    flow: Flow, fault: str
) -> None:
    payment = flow.payment()
    flow.sandbox.add_fault(fault, transaction_id=payment)
    body = flow.request(payment, 2_500)
    flow.send(body)
    refund = flow.refund(body, "SUCCEEDED")
    assert flow.moved(payment) == [2_500]
    operations = [call["operation"] for call in flow.sandbox.calls(reference=refund["refund_id"])]
    assert operations.count("create_refund") == 1
    assert operations.count("list_refunds") >= 1


@pytest.mark.parametrize("fault", ["drop_before_commit", "error_503", "rate_limited"])
def test_a_call_that_did_nothing_is_made_again_with_the_same_key(flow: Flow, fault: str) -> None:
    payment = flow.payment()
    flow.sandbox.add_fault(fault, transaction_id=payment)
    body = flow.request(payment, 2_500)
    flow.send(body)
    refund = flow.refund(body, "SUCCEEDED")
    assert flow.moved(payment) == [2_500]
    keys = {
        call["idempotency_key"]
        for call in flow.sandbox.calls(reference=refund["refund_id"], operation="create_refund")
    }
    assert keys == {refund["refund_id"]}


@pytest.mark.parametrize(("settled", "becomes"), [("succeeded", "SUCCEEDED"), ("failed", "FAILED")])
def test_a_pending_refund_is_settled_by_the_reconciler(
    flow: Flow, settled: str, becomes: str
) -> None:
    payment = flow.payment()
    flow.sandbox.add_fault("pending", transaction_id=payment)
    body = flow.request(payment, 2_500)
    flow.send(body)
    refund = flow.refund(body, "PENDING")
    flow.sandbox.settle(refund["gateway_refund_id"], settled)

    def reconciled() -> bool:
        flow.invoke("ReconcileRefunds")
        return bool(flow.refund(body, "PENDING", becomes)["status"] == becomes)

    eventually(reconciled, f"the reconciler finds {becomes}")
    refund = flow.refund(body, becomes)
    assert refund["processed_by"].startswith(flow.stack["ReconcileRefundsFunctionName"])
    assert sum(flow.moved(payment)) in ((2_500,) if becomes == "SUCCEEDED" else (0, 2_500))


def test_a_refund_that_the_bank_sends_back_is_reversed(flow: Flow) -> None:
    payment = flow.payment()
    body = flow.request(payment, 2_500)
    flow.send(body)
    refund = flow.refund(body, "SUCCEEDED")
    flow.sandbox.settle(refund["gateway_refund_id"], "failed", failure_code="returned_by_bank")

    def reversed_() -> bool:
        flow.invoke("ReconcileRefunds")
        return bool(flow.refund(body, "SUCCEEDED", "REVERSED")["status"] == "REVERSED")

    eventually(reversed_, "the sweep finds the reversal")
    assert flow.refund(body, "REVERSED")["failure_code"] == "returned_by_bank"
