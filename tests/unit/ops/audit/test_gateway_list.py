"""The gateway's list against ours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.audit_rows import Trail, named, verify_while
from tests.support.builders import payment, shown
from tests.support.fake_gateway import FakeGateway

from refunds.domain.refund import Status
from refunds.gateways.contract import NOT_OURS, GatewayRefund, GatewayStatus, RefundOrder
from refunds_ops.audit import sources

OURS = {"r1": ("p1", 2500), "r2": ("p1", 1000), "r3": ("p2", 99_999_999), "r4": ("p3", 500)}


def listed(**changes: dict[str, Any]) -> list[GatewayRefund]:
    """What the gateway would show of the trail's refunds, with some changed or (None) left out."""
    found = []
    for refund_id, (transaction_id, amount) in OURS.items():
        change = changes.get(refund_id, {})
        if change is None:
            continue
        fields = {
            "refund_id": refund_id,
            "gateway_refund_id": f"gw-{refund_id}",
            "transaction_id": transaction_id,
            "amount_minor": amount,
            "status": GatewayStatus.FAILED if refund_id == "r4" else GatewayStatus.SUCCEEDED,
        }
        found.append(shown(**fields | change))
    return found


def test_others_refunds_are_no_finding(trail: Trail) -> None:
    others = [
        shown(refund_id=NOT_OURS, transaction_id="p1", amount_minor=9),
        shown(refund_id="by-hand", transaction_id="p8", amount_minor=9),
    ]
    trail.clock.advance(hours=1)
    report = trail.verify(gateway=[listed(), others])
    assert report.findings == []
    assert report.checked["gateway_refunds"] == 6


def test_a_payment_that_we_know_by_its_other_id_is_no_difference(trail: Trail) -> None:
    trail.clock.advance(hours=1)
    changes: dict[str, Any] = {"r1": {"transaction_id": "pi_1", "other_payment_id": "p1"}}
    assert trail.verify(gateway=[listed(**changes)]).findings == []


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"r1": None}, "gateway_missing"),
        ({"r1": {"amount_minor": 2501}}, "gateway_differs"),
        ({"r1": {"currency": "EUR"}}, "gateway_differs"),
        ({"r1": {"transaction_id": "p3"}}, "gateway_differs"),
        ({"r1": {"gateway_refund_id": "gw-other"}}, "gateway_differs"),
        ({"r1": {"status": GatewayStatus.FAILED}}, "gateway_failed"),
        ({"r4": {"status": GatewayStatus.SUCCEEDED}}, "gateway_paid"),
    ],
)
def test_a_difference_is_named(trail: Trail, changes: Any, kind: str) -> None:
    trail.clock.advance(hours=1)
    (refund_id,) = changes
    version = 3 if refund_id == "r4" else 2
    assert named(trail.verify(gateway=[listed(**changes)]).findings) == {(kind, refund_id, version)}


def test_two_refunds_for_one_id(trail: Trail) -> None:
    trail.clock.advance(hours=1)
    twice = [*listed(), shown(refund_id="r2", gateway_refund_id="gw-x", amount_minor=1000)]
    found = trail.verify(gateway=[twice]).findings
    assert ("gateway_double", "r2", 2) in named(found)


def test_a_list_whose_sum_is_past_every_integer_is_a_finding(trail: Trail) -> None:
    trail.clock.advance(hours=1)
    huge = [
        shown(
            refund_id=NOT_OURS,
            gateway_refund_id=f"gw-{number}",
            transaction_id="p1",
            amount_minor=2**53 - 1,
        )
        for number in range(1_025)
    ]
    assert {each.kind for each in trail.verify(gateway=[listed(), huge]).findings} == {
        "gateway_overpaid"
    }


def test_one_refund_on_two_pages_counts_once(trail: Trail) -> None:
    trail.clock.advance(hours=1)
    assert trail.verify(gateway=[listed(), listed()[2:3]]).findings == []


def asker(trail: Trail, **now: GatewayRefund) -> Any:
    """A gateway that is asked about single refunds, and shows what it shows ``now``."""

    def ask(name: str, refund_id: str, transaction_id: str) -> list[GatewayRefund]:
        assert (name, transaction_id) == ("flair", trail.refunds.get(refund_id).transaction_id)  # type: ignore[union-attr]
        return [now[refund_id]] if refund_id in now else []

    return ask


@pytest.mark.parametrize("asked", [True, False])
def test_what_changed_since_the_list_was_begun_is_asked_again(trail: Trail, asked: bool) -> None:
    trail.finish(trail.begin("r5", "p4", 700), Status.PENDING, gateway_refund_id="gw-r5")
    trail.deliver()
    trail.clock.advance(hours=1)
    pending = shown(
        refund_id="r5",
        gateway_refund_id="gw-r5",
        transaction_id="p4",
        amount_minor=700,
        status=GatewayStatus.PENDING,
    )

    def between(name: str) -> None:
        if name == "refunds":
            trail.finish(trail.refunds.get("r5"), Status.SUCCEEDED)  # type: ignore[arg-type]
            trail.finish(trail.refunds.get("r1"), Status.REVERSED, failure_code="x")  # type: ignore[arg-type]
            trail.paid("r6", "p5", 10**8)
            trail.deliver()
        if name == "chains":
            trail.clock.advance(minutes=20)

    now = {
        "r1": replace(listed()[0], status=GatewayStatus.FAILED),
        "r5": replace(pending, status=GatewayStatus.SUCCEEDED),
        "r6": replace(
            pending,
            refund_id="r6",
            gateway_refund_id="gw-r6",
            transaction_id="p5",
            amount_minor=10**8,
            status=GatewayStatus.SUCCEEDED,
        ),
    }
    ask = asker(trail, **now) if asked else None
    report = verify_while(trail, between, gateway=[[*listed(), pending]], ask=ask)
    assert report.findings == []


def test_what_the_gateway_answers_about_a_recent_refund_counts(trail: Trail) -> None:
    trail.finish(trail.refunds.get("r1"), Status.REVERSED, failure_code="x")  # type: ignore[arg-type]
    trail.deliver()
    ask = asker(trail, r1=listed()[0])
    assert named(trail.verify(gateway=[listed()], ask=ask).findings) == {("gateway_paid", "r1", 3)}


def test_what_was_refunded_since_the_list_was_begun_does_not_overpay(trail: Trail) -> None:
    trail.clock.advance(hours=1)
    much = shown(refund_id="r5", transaction_id="p1", amount_minor=10**8 - 3500)
    more = shown(refund_id=NOT_OURS, gateway_refund_id="x", transaction_id="p1", amount_minor=1)

    def between(name: str) -> None:
        if name == "refunds":  # it was listed while it was under way, and failed
            begun = trail.begin("r5", "p1", 10**8 - 3500)
            trail.finish(begun, Status.FAILED, failure_code="declined")
            trail.deliver()

    ask = asker(trail, r5=replace(much, status=GatewayStatus.FAILED))
    report = verify_while(trail, between, gateway=[[*listed(), much, more]], ask=ask)
    assert report.findings == []


@pytest.mark.parametrize(
    ("status", "kinds"),
    [
        (GatewayStatus.SUCCEEDED, set()),
        (GatewayStatus.FAILED, {("gateway_failed", "r1", 2)}),
        (None, {("gateway_missing", "r1", 2)}),
    ],
)
def test_a_refund_that_is_in_no_list_is_asked_for_by_its_payment(
    trail: Trail, status: GatewayStatus | None, kinds: set[Any]
) -> None:
    # Stripe lists no refunds of connected accounts.
    trail.clock.advance(hours=1)
    there = listed()[0]
    missing: dict[str, Any] = {"r1": None}
    ask = asker(trail, **({"r1": replace(there, status=status)} if status else {}))
    assert named(trail.verify(gateway=[listed(**missing)], ask=ask).findings) == kinds


def test_a_refund_is_asked_for_by_the_reference_that_it_began_with(trail: Trail) -> None:
    # The stage was named otherwise then, so its row in the list counts as another system's.
    begun = trail.begin("r5", "p4", 700, gateway_reference="before.r5")
    trail.finish(begun, Status.SUCCEEDED, gateway_refund_id="gw-r5")
    trail.deliver()
    trail.clock.advance(hours=1)
    there = shown(
        refund_id=NOT_OURS, gateway_refund_id="gw-r5", transaction_id="p4", amount_minor=700
    )

    def ask(name: str, reference: str, transaction_id: str) -> list[GatewayRefund]:
        return [there] if reference == "before.r5" else []

    assert trail.verify(gateway=[[*listed(), there]], ask=ask).findings == []


def test_single_questions_go_to_the_gateway_that_knows() -> None:
    gateway = FakeGateway()
    there = gateway.move(RefundOrder("refund-1", "payment-1", 2500, "USD", "other", "refund-1"))
    assert sources.ask_again([gateway])("flair", "refund-1", "payment-1") == (there,)
    assert sources.ask_again([gateway])("stripe", "refund-1", "payment-1") is None
    assert sources.captured_by([gateway])("payment-1") == payment().captured_minor
    assert sources.captured_by([gateway])("payment-2") is None


def test_more_than_was_captured(trail: Trail) -> None:
    trail.clock.advance(hours=1)
    much = shown(refund_id=NOT_OURS, transaction_id="p1", amount_minor=10**8)
    assert named(trail.verify(gateway=[[*listed(), much]]).findings) == {
        ("gateway_overpaid", None, None)
    }
