"""What a function takes from outside: AWS, time, threads, randomness, and where it reports to."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refunds.domain.clock import Clock, SystemClock
from refunds.lambda_runtime import Clients, lambda_clients, new_token, thread_pool
from refunds.telemetry import Log, Metrics
from refunds.wiring.gateways import GatewayAccess, gateway_access

if TYPE_CHECKING:
    # Importing it would load Powertools' batch processor, which not every function uses.
    from refunds.batches import Pool


@dataclass(frozen=True)
class Surroundings:
    """What a function takes from outside. The simulator and the tests pass their own."""

    clients: Clients
    clock: Clock
    pool: Pool
    new_token: Callable[[], str]
    """Text that never repeats."""
    random: Callable[[], float]
    """0 <= x < 1."""
    gateways: GatewayAccess
    metrics: Metrics
    log: Log


def lambda_surroundings(metrics: Metrics, log: Log) -> Surroundings:
    """Those of a function in Lambda."""
    return Surroundings(
        clients=lambda_clients("dynamodb"),
        clock=SystemClock(),
        pool=thread_pool(),
        new_token=new_token,
        random=random.SystemRandom().random,
        gateways=gateway_access(),
        metrics=metrics,
        log=log,
    )
