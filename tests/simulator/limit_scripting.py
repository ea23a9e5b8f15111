"""What scripted histories of limits and approval are written with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.simulator.functions import Environment
from tests.simulator.scripting import HOUR, MINUTE, request
from tests.simulator.world import World

from refunds.domain.limits import Limits
from refunds.tables.limit_counters import Counter, user_counter
from refunds.tables.wire import item_from_wire

U1 = user_counter("u1")


def limited(limits: Limits, **options: Any) -> World:
    made = World(1, trace=True, limits=limits, **options)
    made.pay("tx1", 10_000)
    made.run_for(HOUR)  # clocks differ: at midnight they would be of two days
    return made


def send(made: World, *refund_ids: str, **changes: Any) -> None:
    for refund_id in refund_ids:
        made.send(request(refund_id, **changes))
        made.run_for(MINUTE)


def statuses(made: World) -> dict[str, str]:
    return {key[0]: item["status"]["S"] for key, item in sorted(made.refunds.items.items())}


def counter(made: World, key: str = U1) -> Counter:
    return Counter.from_item(key, item_from_wire(made.ledger.items.get((key,), {})))


def as_operator(made: World, body: Callable[[Environment], Any]) -> Any:
    """What ``body`` returns, called in an environment of an operator's."""
    results: list[Any] = []
    made.functions.invoke("operator", lambda env, _: body(env), results.append, lambda: None)
    made.run_for(MINUTE)
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]
