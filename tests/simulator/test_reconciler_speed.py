"""How fast the reconciler settles open refunds, with the threads that it has in Lambda."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from tests.simulator.alarm_play import request
from tests.simulator.world import World

REFUNDS = 200
GATEWAY_SECONDS = 0.3
WANTED_PER_SECOND = 100


def test_a_hundred_open_refunds_a_second_are_settled_at_a_gateway_of_300_ms() -> None:
    world = World(1, concurrency=10)
    world.pay("tx1", 1_000_000)
    for number in range(REFUNDS):
        world.flair.stubborn[f"r{number}"] = "pending"
        world.send(request(f"r{number}"))
    world.run_for(900)  # until they are due
    for moved in world.flair.refunds:
        moved.status, moved.ever_succeeded = "succeeded", True
    call, settled_at = world.network.request, []

    def slow(method: str, url: str, **more: Any) -> Any:
        world.kernel.pause(GATEWAY_SECONDS)
        return call(method, url, **more)

    world.refunds.on_write.append(
        lambda key, old, new: (
            settled_at.append(world.kernel.now)
            if new is not None and new["status"]["S"] == "SUCCEEDED"
            else None
        )
    )
    with patch.object(world.network, "request", slow):
        world.reconcile()
        world.run_for(60)

    assert len(settled_at) == REFUNDS
    # The first ones have waited for the gateway, too.
    seconds = settled_at[-1] - settled_at[0] + GATEWAY_SECONDS
    assert len(settled_at) / seconds >= WANTED_PER_SECOND
