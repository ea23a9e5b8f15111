"""The gateway is asked about a review less often as it ages. The review is counted all the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from tests.support.builders import NOW, refund, shown
from tests.support.reconciler_runs import opened, run
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status
from refunds.processing.open_refunds import _is_time_to_ask

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def review(
    world: World, *, age: timedelta, asked: timedelta | None, why: str = "gateway_forgot"
) -> Refund:
    """A review that is due; ``asked``: how long ago the gateway was asked about it."""
    return opened(
        world,
        status=Status.IN_REVIEW,
        failure_code=why,
        updated_at=rfc3339(NOW - age),
        open_since=rfc3339(NOW - age),
        asked_at=None if asked is None else rfc3339(NOW - asked),
    )


def looks(world: World) -> int:
    return world.gateway.calls.count("find_refunds")


@pytest.mark.parametrize(
    ("age", "asked", "asks"),
    [
        (10 * DAY, None, True),
        (20 * HOUR, HOUR, True),
        (2 * DAY, HOUR, False),
        (2 * DAY, 2 * HOUR, True),
        (10 * DAY, 9 * HOUR, False),
        (10 * DAY, 10 * HOUR, True),
        (100 * DAY, 23 * HOUR, False),
        (100 * DAY, DAY, True),
        (10 * DAY, -timedelta(days=3), True),
    ],
    ids=[
        "never asked",
        "first day: hourly",
        "two days: not hourly",
        "two days: every two hours",
        "ten days: not yet",
        "ten days: every ten hours",
        "old: not yet",
        "old: once a day",
        "a clock days ahead wrote it",
    ],
)
def test_the_gateway_is_asked_after_a_twenty_fourth_of_the_age_and_once_a_day(
    world: World, age: timedelta, asked: timedelta | None, asks: bool
) -> None:
    before = review(world, age=age, asked=asked)
    summary = run(world)

    assert looks(world) == asks
    there = world.stored()
    assert there.asked_at == (rfc3339(NOW) if asks else before.asked_at)
    # The alarms' numbers do not depend on it.
    assert (summary.open.in_review, there.status) == (1, Status.IN_REVIEW)
    assert summary.open.oldest_review_seconds == age.total_seconds()
    assert there.check_at is not None
    assert there.check_at <= rfc3339(NOW + HOUR)


def test_what_was_settled_elsewhere_is_seen_at_the_next_hourly_look(world: World) -> None:
    before = review(world, age=100 * DAY, asked=HOUR)
    world.refunds.save(before, replace(before, status=Status.FAILED))
    run(world)

    assert world.held() == 0
    assert world.stored().open_shard is None


def test_an_attempt_to_ask_that_failed_is_repeated_at_the_next_look(world: World) -> None:
    before = review(world, age=100 * DAY, asked=DAY)
    world.gateway.down = True
    run(world)
    assert world.stored().asked_at == before.asked_at

    world.gateway.down = False
    world.gateway.refunds.append(shown(amount_minor=100))
    world.clock.advance(hours=1)
    run(world)
    assert world.stored().status is Status.SUCCEEDED
    assert world.stored().asked_at is None


def test_a_gateway_that_is_known_to_be_down_counts_as_not_asked(world: World) -> None:
    before = review(world, age=100 * DAY, asked=DAY)
    world.reconciler.run(world.deadline(240), down=["flair"])

    assert world.stored().asked_at == before.asked_at


def test_a_webhook_has_the_gateway_asked_at_once(world: World) -> None:
    review(world, age=100 * DAY, asked=HOUR)
    world.gateway.refunds.append(shown(amount_minor=100))

    there = world.reconciler.look_at("refund-1", world.deadline())
    assert there is not None
    assert (there.status, world.stored().status) == (Status.SUCCEEDED, Status.SUCCEEDED)


def test_a_webhook_of_a_review_that_only_a_person_ends_asks_nobody(world: World) -> None:
    before = review(world, age=DAY, asked=None, why="gateway_mismatch")
    world.gateway.refunds.append(shown(amount_minor=100))

    assert world.reconciler.look_at("refund-1", world.deadline()) == before
    assert looks(world) == 0


def test_a_proposed_decision_makes_it_young_again(world: World) -> None:
    before = review(world, age=100 * DAY, asked=HOUR)
    proposed = world.settler.recorder.propose(before, {"decision": "paid", "by": "jo"})
    assert proposed is not None
    world.clock.advance(hours=1)
    run(world)

    assert looks(world) == 1


def _ages_when_asked(days: int) -> list[timedelta]:
    """At which ages the gateway is asked, with a look an hour."""
    there = refund(status=Status.IN_REVIEW, updated_at=rfc3339(NOW))
    ages: list[timedelta] = []
    for hour in range(24 * days):
        now = NOW + hour * HOUR
        if _is_time_to_ask(there, now):
            there = replace(there, asked_at=rfc3339(now))
            ages.append(now - NOW)
    return ages


def test_the_gateway_is_asked_as_often_as_docs_scale_says() -> None:
    ages = _ages_when_asked(60)

    def in_days(first: int, last: int) -> int:
        return sum(first * DAY <= age < last * DAY for age in ages)

    assert (in_days(0, 1), in_days(1, 2), in_days(9, 10), in_days(30, 60)) == (24, 12, 2, 30)
    assert in_days(0, 30) == 97
    assert "97 times in its first 30 days" in Path("docs/scale.md").read_text()
    assert all(after - before <= HOUR + before / 23 for before, after in pairwise(ages))
