"""What a function takes from outside: AWS, time, threads, randomness, and where it reports to."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from refunds.domain.clock import Clock, SystemClock
from refunds.gateways.contract import Gateway
from refunds.lambda_runtime import Clients, lambda_clients, new_token, thread_pool
from refunds.settings import GatewaySettings
from refunds.telemetry import Log, Metrics
from refunds.wiring.gateways import gateway_access, open_gateways

if TYPE_CHECKING:
    # Importing it would load Powertools' batch processor, which not every function uses.
    from refunds.batches import Pool


class Surroundings(NamedTuple):
    """What a function takes from outside. The simulator and the tests pass their own."""

    clients: Clients
    clock: Clock
    pool: Pool
    new_token: Callable[[], str]
    """Returns text that never repeats."""
    random: Callable[[], float]
    """Returns a number from 0 to below 1."""
    open_gateways: Callable[[GatewaySettings], Sequence[Gateway]]
    """The gateways of a function's settings. The first one takes every transaction that no route
    sends elsewhere."""
    metrics: Metrics
    log: Log


def lambda_surroundings(metrics: Metrics, log: Log) -> Surroundings:
    """The surroundings of a function that runs in Lambda."""
    clock = SystemClock()
    return Surroundings(
        clients=lambda_clients("dynamodb"),
        clock=clock,
        pool=thread_pool(),
        new_token=new_token,
        random=random.SystemRandom().random,
        open_gateways=lambda settings: open_gateways(settings, gateway_access(), clock),
        metrics=metrics,
        log=log,
    )
