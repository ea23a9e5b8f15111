"""Whether a gateway is back: ProcessRefund and ReconcileRefunds ask it in the same way."""

from __future__ import annotations

from collections.abc import Iterable

from refunds.domain.clock import Clock, Deadline
from refunds.gateways.contract import Gateway, GatewayUnavailableError

PROBE_TRIES = 2
MIN_PROBE_SECONDS = 2.0


def gateway_trouble(gateways: Iterable[Gateway], clock: Clock, deadline: Deadline) -> str | None:
    """Why none of the gateways is usable now; None as soon as one answers.

    Asks each at most twice, with a cheap question: the refunds made from now on (there are none).
    """
    trouble = "no time to ask"
    for gateway in gateways:
        for _ in range(PROBE_TRIES):
            within = deadline.within(gateway.timeout_seconds)
            if within.left_seconds() < min(MIN_PROBE_SECONDS, gateway.timeout_seconds / 2):
                return trouble
            try:
                gateway.list_refunds(within, created_from=clock.now())
            except GatewayUnavailableError as exc:
                trouble = f"{gateway.name}: {exc}"
            else:
                return None
    return trouble
