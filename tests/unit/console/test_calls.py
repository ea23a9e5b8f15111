"""A page asks AWS as often with many refunds as with few."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from tests.support.console import Client, console_over
from tests.support.operators_stack import operators_stack
from tests.support.shop import Lived
from tests.support.world import World

MOST = {
    "/": 60,
    "/refunds": 30,
    "/refunds?status=FAILED": 80,
    "/refunds/rf_000": 4,
    "/fragments/search?q=u-1": 30,
    "/work": 30,
    "/money": 0,
}
"""AWS calls of a page, whatever the number of refunds."""


class Counting:
    """A client that counts its calls."""

    def __init__(self, client: Any, counts: Counter[str]) -> None:
        self._client = client
        self._counts = counts

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found) or name in ("get_paginator", "exceptions"):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._counts[name] += 1
            return found(*args, **kwargs)

        return call


def counted(world: World) -> tuple[Client, Counter[str]]:
    counts = Counter[str]()
    stack = operators_stack(world.stack)
    for name in ("dynamodb", "sqs", "s3", "functions"):
        stack.__dict__[name] = Counting(stack.__dict__[name], counts)
    return console_over(stack).enter().read_all(), counts


def fill(lived: Lived, first: int, last: int) -> None:
    for number in range(first, last):
        lived.add(f"rf_{number:03}", timedelta(minutes=10, seconds=number), user_id="u-1")


@pytest.mark.long
def test_the_number_of_calls_is_bounded(world: World) -> None:
    lived = Lived(world)
    found: dict[str, list[int]] = {path: [] for path in MOST}
    # Each is more than a page of a list.
    for first, last in ((0, 60), (60, 100)):
        fill(lived, first, last)
        for path, totals in found.items():
            client, counts = counted(world)
            counts.clear()
            assert client.get(path).status == 200
            totals.append(counts.total())
    assert {path: each for path, each in found.items() if max(each) > MOST[path]} == {}
    growing = {path: (few, many) for path, (few, many) in found.items() if many > few + 12}
    assert growing == {}, "it grows with the number of refunds"
