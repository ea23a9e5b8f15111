"""The gateways that have an adapter, one line for each. docs/adding-a-gateway.md adds one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import NamedTuple

from refunds.domain.clock import Clock
from refunds.gateways.contract import ApiKey, Gateway, Stage
from refunds.gateways.http import HttpTransport
from refunds.gateways.requirements import unmet_demands


class Adapter(NamedTuple):
    """``place`` is ``module:Class``, imported only where the gateway is configured. ``url`` is the
    gateway's public address, if it is the same for everybody. ``options`` are those that a route
    may have.
    """

    place: str
    url: str | None = None
    options: frozenset[str] = frozenset()


ADAPTERS: Mapping[str, Adapter] = {
    "flair": Adapter("refunds.gateways.flair:FlairGateway"),
    "stripe": Adapter(
        "refunds.gateways.stripe:StripeGateway",
        "https://api.stripe.com",
        # Stripe Connect; docs/gateways.md
        frozenset({"reverse_transfer", "refund_application_fee"}),
    ),
}


def open_gateway(  # noqa: PLR0913 - one account's settings, each by keyword
    adapter: Adapter,
    *,
    base_url: str,
    api_key: ApiKey,
    transport: HttpTransport,
    clock: Clock,
    timeout_seconds: float,
    stage: Stage,
    options: Iterable[str] = (),
) -> Gateway:
    """One account, at ``base_url``.

    Raises ``ValueError`` for an option that the adapter lacks, and for an adapter that declares
    less than the protocol needs.
    """
    asked = frozenset(options)
    if unknown := asked - adapter.options:
        known = ", ".join(sorted(adapter.options)) or "none"
        raise ValueError(f"unknown option {', '.join(sorted(unknown))}; there are: {known}")
    module, _, name = adapter.place.partition(":")
    gateway: Gateway = getattr(import_module(module), name)(
        base_url=base_url,
        api_key=api_key,
        transport=transport,
        clock=clock,
        timeout_seconds=timeout_seconds,
        stage=stage,
        **({"options": asked} if adapter.options else {}),
    )
    if unmet := unmet_demands(gateway):
        raise ValueError("; ".join(unmet))
    return gateway
