"""What every function runs on."""

from __future__ import annotations

from threading import Barrier

from refunds.lambda_runtime import POOL_WIDTH, thread_pool

BARRIER_SECONDS = 30


def test_a_pool_runs_the_widest_batch_at_once() -> None:
    all_there = Barrier(POOL_WIDTH)

    def run(number: int) -> int:
        all_there.wait(BARRIER_SECONDS)  # nobody passes before all have arrived
        return number

    with thread_pool() as pool:
        assert list(pool.map(run, range(POOL_WIDTH))) == list(range(POOL_WIDTH))
