"""The gateways there are adapters for: a line each. docs/adding-a-gateway.md adds one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from refunds.domain.clock import Clock
from refunds.gateways.contract import ApiKey, Gateway, Stage
from refunds.gateways.http import HttpTransport


@dataclass(frozen=True)
class Adapter:
    """``place`` is ``module:Class``, imported only when the gateway is configured; ``url`` the
    gateway's public address, if it is the same for everyone."""

    place: str
    url: str | None = None


ADAPTERS: Mapping[str, Adapter] = {
    "flair": Adapter("refunds.gateways.flair:FlairGateway"),
    "stripe": Adapter("refunds.gateways.stripe:StripeGateway", "https://api.stripe.com"),
}


def open_gateway(
    adapter: Adapter,
    *,
    base_url: str,
    api_key: ApiKey,
    transport: HttpTransport,
    clock: Clock,
    timeout_seconds: float,
    stage: Stage,
) -> Gateway:
    """One account, at ``base_url``. Every adapter is built from the same."""
    module, _, name = adapter.place.partition(":")
    gateway: Gateway = getattr(import_module(module), name)(
        base_url=base_url,
        api_key=api_key,
        transport=transport,
        clock=clock,
        timeout_seconds=timeout_seconds,
        stage=stage,
    )
    return gateway
