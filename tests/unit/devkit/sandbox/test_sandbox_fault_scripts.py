"""Which calls a scripted fault strikes, and which scripts are refused."""

from __future__ import annotations

from typing import Any

import pytest
import urllib3
from tests.support.flair_client import Flair
from tests.support.raw_requests import DEADLINE_SECONDS, raw_post, read_all

from refunds_devkit.sandbox.client import SandboxError
from refunds_devkit.sandbox.faults import KINDS


def test_faults_of_different_stages_combine(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_faults(
        [
            {"kind": "pending", "transaction_id": payment},
            {"kind": "commit_then_drop", "transaction_id": payment},
            {"kind": "key_forgotten", "transaction_id": payment},
        ]
    )
    with raw_post(flair, payment, "all", timeout=DEADLINE_SECONDS) as line:
        assert read_all(line) == b""
    assert flair.refunds(reference="all")["data"][0]["status"] == "pending"
    assert flair.refund(payment, 100, reference="all", key="all").status == 201
    assert len(flair.refunds(reference="all")["data"]) == 2


def test_faults_of_one_stage_come_in_the_order_they_were_scripted(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("error_503", transaction_id=payment, calls=2)
    flair.gateway.client.add_fault("rate_limited", transaction_id=payment)
    statuses = [flair.refund(payment).status for _ in range(4)]
    assert statuses == [503, 503, 429, 201]


def test_a_fault_for_always_stays_until_it_is_removed(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    fault = flair.gateway.client.add_fault("error_503", transaction_id=payment, always=True)
    assert [flair.refund(payment).status for _ in range(5)] == [503] * 5
    assert flair.gateway.client.remove_faults(fault["id"]) == 1
    assert flair.refund(payment).status == 201


def test_a_fault_of_a_reference_strikes_no_other(flair: Flair) -> None:
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("declined", reference="this-one", always=True)
    assert flair.refund(payment, reference="this-one").status == 402
    assert flair.refund(payment, reference="that-one").status == 201


@pytest.mark.parametrize("operation", ["get_payment", "list_refunds", "get_refund"])
@pytest.mark.parametrize(("kind", "status"), [("error_503", 503), ("rate_limited", 429)])
def test_reading_can_fail_too(flair: Flair, operation: str, kind: str, status: int) -> None:
    payment, reference = flair.new_payment(1000), flair.new("read")
    refund = flair.refund(payment, reference=reference).body
    path = {
        "get_payment": f"/v1/payments/{payment}",
        "list_refunds": f"/v1/refunds?reference={reference}",
        "get_refund": f"/v1/refunds/{refund['id']}",
    }[operation]
    flair.gateway.client.add_fault(kind, transaction_id=payment, operation=operation)
    # get_refund's 429 is in no response list of the contract, but is an error of its shape.
    assert [flair.call("GET", path).status for _ in range(2)] == [status, 200]
    flair.gateway.client.add_fault("commit_then_drop", transaction_id=payment, operation=operation)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        flair.call("GET", path)
    flair.gateway.client.add_fault(
        "commit_then_timeout", transaction_id=payment, operation=operation
    )
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        flair.call("GET", path, timeout=0.2)


def test_a_fault_of_any_operation_and_payment(own_flair: Flair) -> None:
    flair = own_flair
    flair.gateway.client.add_fault("error_503", operation="any", always=True)
    assert flair.call("GET", "/v1/payments/pay_full").status == 503
    assert flair.call("GET", "/v1/refunds").status == 503
    assert flair.refund("pay_full").status == 503
    assert flair.gateway.client.remove_faults() == 1
    assert flair.refund("pay_full").status == 201


def test_removing_faults_spares_the_seeded_ones(own_flair: Flair) -> None:
    flair = own_flair
    flair.gateway.client.remove_faults()
    assert flair.refund("pay_declined").status == 402


def test_a_probability_is_drawn_from_the_seed(own_flair: Flair) -> None:
    flair = own_flair

    def statuses(seed: int) -> list[int]:
        flair.gateway.client.remove_faults()
        flair.gateway.client.add_fault("error_503", always=True, probability=0.5, seed=seed)
        payment = flair.new_payment(1000)
        return [
            flair.refund(payment, 1, reference=f"r{i}", key=f"{payment}-{i}").status
            for i in range(40)
        ]

    first = statuses(1)
    assert statuses(1) == first
    assert statuses(2) != first
    assert 5 < first.count(503) < 35


def test_a_probability_is_drawn_anew_for_each_try(own_flair: Flair) -> None:
    flair = own_flair
    flair.gateway.client.add_fault("error_503", always=True, probability=0.5, seed=1)
    payment = flair.new_payment(1000)
    tries = [flair.refund(payment, 1, reference="same", key="same").status for _ in range(40)]
    assert {503, 201} == set(tries)


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"kind": "unheard_of"},
        {"kind": ["declined"]},
        {"kind": "declined", "calls": 0},
        {"kind": "declined", "calls": 1.5},
        {"kind": "declined", "calls": 2, "always": True},
        {"kind": "declined", "always": "yes"},
        {"kind": "declined", "operation": "get_payment"},
        {"kind": "declined", "operation": "delete"},
        {"kind": "declined", "probability": 2},
        {"kind": "declined", "seconds": 1},
        {"kind": "declined", "code": ""},
        {"kind": "declined", "transaction_id": ""},
        {"kind": "delay", "seconds": -1},
        {"kind": "delay", "seconds": True},
        {"kind": "slow_drip", "part": "tail"},
        {"kind": "rate_limited", "retry_after_seconds": 0.5},
    ],
    ids=str,
)
def test_mistakes_in_a_fault_are_refused(flair: Flair, fault: dict[str, Any]) -> None:
    before = flair.gateway.client.faults()
    with pytest.raises(SandboxError, match="422"):
        flair.gateway.client.add_faults([fault])
    assert flair.gateway.client.faults() == before


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_can_be_scripted_with_its_defaults(flair: Flair, kind: str) -> None:
    fault = flair.gateway.client.add_fault(kind, reference="never-used")
    assert fault.items() >= {"kind": kind, "remaining": 1, **KINDS[kind].parameters}.items()
