"""What every function runs on."""

from __future__ import annotations

import os
from threading import Barrier

import pytest

from refunds.lambda_runtime import POOL_WIDTH, thread_pool

BARRIER_SECONDS = 30


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no such thing")
def test_a_pools_threads_share_one_processor_and_no_other_thread_is_moved() -> None:
    before = os.sched_getaffinity(0)
    all_there = Barrier(POOL_WIDTH)

    def where(_: int) -> frozenset[int]:
        all_there.wait(BARRIER_SECONDS)  # so that each call has a thread of its own
        return frozenset(os.sched_getaffinity(0))

    with thread_pool() as pool:
        (one,) = set(pool.map(where, range(POOL_WIDTH)))

    assert len(one) == 1
    assert os.sched_getaffinity(0) == before


def test_a_pool_works_where_no_processor_may_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refused, raising=False)
    with thread_pool() as pool:
        assert list(pool.map(str, range(3))) == ["0", "1", "2"]
