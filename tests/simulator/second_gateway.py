"""A second gateway beside Flair, with Flair's API and books of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.simulator.functions import GATEWAYS

from refunds.gateways import registry
from refunds.gateways.flair import FlairGateway
from refunds.gateways.routing import Route
from refunds.settings import GatewayAccount

SECOND = "second"
"""Its name. Payments whose id begins with it are its."""

TWO_GATEWAYS = GATEWAYS._replace(
    accounts=(*GATEWAYS.accounts, GatewayAccount(SECOND, f"https://{SECOND}", "the gateway's key")),
    routes=(Route(SECOND, SECOND),),
)


class SecondGateway(FlairGateway):
    name = SECOND


def host_of(transaction_id: str) -> str:
    return SECOND if transaction_id.startswith(SECOND) else "flair"


@contextmanager
def second_gateway_registered() -> Iterator[None]:
    adapters: Any = registry.ADAPTERS
    adapters[SECOND] = registry.Adapter(f"{__name__}:SecondGateway")
    try:
        yield
    finally:
        del adapters[SECOND]
