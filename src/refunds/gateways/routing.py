"""Which gateway a refund goes to: the current route for a new refund, and its own gateway for a
refund that has begun."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from refunds.gateways.contract import (
    Gateway,
    GatewayMisconfiguredError,
    GatewayUnavailableError,
    Misconfiguration,
)


class Route(NamedTuple):
    """Transactions whose id begins with ``prefix`` are refunded through ``gateway``."""

    prefix: str
    gateway: str


class Gateways:
    """The configured gateways; the first takes every transaction that no route sends elsewhere.

    Raises ``ValueError`` for two of one name, or a route to none of them.
    """

    def __init__(self, gateways: Iterable[Gateway], routes: Iterable[Route] = ()) -> None:
        found = list(gateways)
        self._first = found[0]
        self._by_name = {gateway.name: gateway for gateway in found}
        if len(self._by_name) != len(found):
            raise ValueError("two gateways have the same name")
        # The longest prefix wins, in whatever order the rules were written.
        self._routes = sorted(routes, key=lambda route: len(route.prefix), reverse=True)
        if missing := {route.gateway for route in self._routes} - self._by_name.keys():
            raise ValueError(f"routes to gateways that are not configured: {sorted(missing)}")

    def __iter__(self) -> Iterator[Gateway]:
        return iter(self._by_name.values())

    def for_new(self, transaction_id: str) -> Gateway:
        """The gateway of the current route, for a refund that has not begun."""
        for route in self._routes:
            if transaction_id.startswith(route.prefix):
                return self._by_name[route.gateway]
        return self._first

    def named(self, name: str, account: str | None = None) -> Gateway:
        """The gateway and the account that a refund began with, whatever the current route is.

        Raises ``GatewayUnavailableError`` when it is not configured any more, and
        ``GatewayMisconfiguredError`` when another account is. The refund stays open until that
        gateway is configured again, since only it knows what became of the refund.
        """
        if (gateway := self._by_name.get(name)) is None:
            raise GatewayUnavailableError(f"the gateway {name} is not configured")
        if account not in (None, gateway.account):
            raise GatewayMisconfiguredError(Misconfiguration.ACCOUNT_CHANGED)
        return gateway
