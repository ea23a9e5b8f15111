"""Dollars per million refunds, from the committed counts of `refunds-dev cost`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.results import Result
from refunds_devkit.cost.command import all_bills
from refunds_devkit.cost.model import Setup, ours, read_counts, read_prices

MOST_DOLLARS = 3.6
FOR_VOLUME = Setup(batch=50, memory_mb=256)
"""The settings for volume of docs/cost.md."""


def cost_results(cpu: Sequence[Result]) -> list[Result]:
    """The bill with the committed CPU times and, after a run of ``cpu``, with that run's."""
    prices, counts = read_prices(), read_counts()
    results = []
    for setup, name, target in (
        (FOR_VOLUME, "batches of 50, 256 MB", MOST_DOLLARS),
        (Setup(), "as deployed by default", None),
    ):
        bill, other, states = all_bills(prices, setup)
        more = ", ".join(f"{line} ${amount:.2f}" for line, amount in bill.more.items())
        note = f"and {more}; Step Functions Standard ${states.total:.0f}"
        results.append(
            Result(
                f"a million refunds, {name}",
                bill.total,
                "$",
                baseline=other.total,
                target=target,
                note=note,
            )
        )
    if measured := {each.name: each.value for each in cpu}:
        mine = replace(
            counts["ours"],
            cpu_ms_process=measured["CPU per refund: ProcessRefund"],
            cpu_ms_audit=measured["CPU per refund: WriteAudit"],
        )
        results.append(
            Result(
                "a million refunds, batches of 50, 256 MB, with this run's CPU",
                ours(prices, mine, FOR_VOLUME).total,
                "$",
                target=MOST_DOLLARS,
                note="a busy machine makes it higher",
            )
        )
    return results
