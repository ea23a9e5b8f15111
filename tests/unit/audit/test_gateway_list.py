"""The gateway's list against ours."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.audit.factories import Trail, named
from tests.unit.factories import shown

from refunds.gateway import NOT_OURS, GatewayRefund, GatewayStatus

OURS = {"r1": ("p1", 2500), "r2": ("p1", 1000), "r3": ("p2", 99_999_999), "r4": ("p3", 500)}


def listed(**changes: dict[str, Any]) -> list[GatewayRefund]:
    """What the gateway would show of the trail's refunds, with some changed or (None) left out."""
    found = []
    for refund_id, (transaction_id, amount) in OURS.items():
        change = changes.get(refund_id, {})
        if change is None:
            continue
        fields = {
            "reference": refund_id,
            "gateway_refund_id": f"gw-{refund_id}",
            "transaction_id": transaction_id,
            "amount_minor": amount,
            "status": GatewayStatus.FAILED if refund_id == "r4" else GatewayStatus.SUCCEEDED,
        }
        found.append(shown(**fields | change))
    return found


def test_others_refunds_are_no_finding(trail: Trail) -> None:
    others = [
        shown(reference=NOT_OURS, transaction_id="p1", amount_minor=9),
        shown(reference="by-hand", transaction_id="p8", amount_minor=9),
    ]
    trail.clock.advance(hours=1)
    report = trail.verify(gateway=[listed(), others])
    assert report.findings == []
    assert report.checked["gateway_refunds"] == 6


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"r1": None}, "gateway_missing"),
        ({"r1": {"amount_minor": 2501}}, "gateway_differs"),
        ({"r1": {"currency": "EUR"}}, "gateway_differs"),
        ({"r1": {"transaction_id": "p3"}}, "gateway_differs"),
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
    twice = [*listed(), shown(reference="r2", gateway_refund_id="gw-x", amount_minor=1000)]
    found = trail.verify(gateway=[twice]).findings
    assert ("gateway_double", "r2", None) in named(found)


def test_more_than_was_captured(trail: Trail) -> None:
    trail.clock.advance(hours=1)
    much = shown(reference=NOT_OURS, transaction_id="p1", amount_minor=10**8)
    assert named(trail.verify(gateway=[[*listed(), much]]).findings) == {
        ("gateway_overpaid", None, None)
    }
