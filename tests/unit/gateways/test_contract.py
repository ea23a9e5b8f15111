"""What a gateway's refund says by itself."""

from __future__ import annotations

import pytest
from tests.support.builders import shown

from refunds.gateways.contract import INSUFFICIENT_FUNDS, GatewayStatus


@pytest.mark.parametrize(
    ("status", "reason", "waits"),
    [
        (GatewayStatus.PENDING, INSUFFICIENT_FUNDS, True),
        (GatewayStatus.PENDING, "processing", False),
        (GatewayStatus.PENDING, None, False),
        (GatewayStatus.FAILED, INSUFFICIENT_FUNDS, False),
    ],
)
def test_only_a_pending_refund_waits_for_our_balance(
    status: GatewayStatus, reason: str | None, waits: bool
) -> None:
    assert shown(status=status, pending_reason=reason).waits_for_balance is waits
