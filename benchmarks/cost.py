"""Dollars per million refunds, from the counts that are committed for `refunds cost`."""

from __future__ import annotations

from benchmarks.results import Result
from refunds_ops.cost.command import all_bills
from refunds_ops.cost.model import Setup, read_prices

MOST_DOLLARS = 3.6
FOR_VOLUME = Setup(batch=50, memory_mb=256)
"""How docs/scale.md says to set a stack that a million refunds go through."""


def cost_results() -> list[Result]:
    """Target 7."""
    prices = read_prices()
    results = []
    for setup, name, target in (
        (FOR_VOLUME, "batches of 50, 256 MB", MOST_DOLLARS),
        (Setup(), "as deployed by default", None),
    ):
        ours, sequential, states = all_bills(prices, setup)
        more = ", ".join(f"{line} ${amount:.2f}" for line, amount in ours.more.items())
        results.append(
            Result(
                f"a million refunds, {name}",
                ours.total,
                "$",
                baseline=sequential.total,
                target=target,
                note=f"and {more}; Step Functions Standard ${states.total:.0f}",
            )
        )
    return results
