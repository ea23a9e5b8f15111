"""The sweep of a list that is too long for one run: only what is due is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from tests.simulator.scripting import HOUR, request, status, world
from tests.simulator.sqs import DAY
from tests.simulator.world import World

from refunds.domain.refund import Item
from refunds.gateways.http import HttpResponse
from refunds.processing import reversal_sweep
from refunds.processing.reversal_sweep import MAX_CURSOR_FAILURES
from refunds.processing.settler import Settler
from refunds.tables.wire import item_from_wire


@contextmanager
def only_what_is_due() -> Iterator[None]:
    with patch.object(reversal_sweep, "IDLE_PAGES", 0):
        yield


def refunds_of_three_days(a_day: int = 2) -> World:
    """All of them paid, the reconciler running, and everything looked at a day ago."""
    made = world(10_000, page_size=1)
    made.kernel.trace = None
    for day in range(3):
        for number in range(a_day * day, a_day * (day + 1)):
            made.send(request(f"r{number}", amount_minor=100))
        made.run_for(600)
        made.reconcile()
        made.run_for(DAY)
    return made


def the_bank_sends_all_back(made: World) -> None:
    for moved in made.flair.refunds:
        made.flair.fail(moved, "account_closed")


def statuses(made: World) -> set[str]:
    return {status(made, moved.reference) for moved in made.flair.refunds}


def reconcile_for_a_day(made: World) -> None:
    for _ in range(12):
        made.reconcile()
        made.run_for(2 * HOUR)


def test_a_sweep_that_crashes_at_any_step_looks_at_every_refund_within_a_day() -> None:
    with only_what_is_due():
        for nth in range(0, 30, 3):
            made = refunds_of_three_days()
            the_bank_sends_all_back(made)
            made.kernel.script["crash"] = [False] * nth + [True]
            reconcile_for_a_day(made)
            assert statuses(made) == {"REVERSED"}


def test_what_could_not_be_handled_is_looked_at_again_in_the_next_run() -> None:
    with only_what_is_due():
        made = refunds_of_three_days()
        the_bank_sends_all_back(made)
        with failing_reversals(2):
            made.reconcile()
            made.run_for(HOUR)
        assert "SUCCEEDED" in statuses(made)
        made.reconcile()
        made.run_for(HOUR)
        assert statuses(made) == {"REVERSED"}


@contextmanager
def failing_reversals(times: int) -> Iterator[None]:
    reverse, left = Settler.reverse, [times]

    def fails(self: Any, *given: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise ConnectionError("DynamoDB does not answer")
        return reverse(self, *given)

    with patch.object(Settler, "reverse", fails):
        yield


def test_a_walk_whose_cursor_expires_in_the_middle_of_a_day_skips_nothing() -> None:
    with only_what_is_due():
        made = refunds_of_three_days()
        listed = made.flair._list

        def expires(host: str, query: dict[str, str]) -> HttpResponse:
            if "cursor" in query and "reference" not in query:
                return HttpResponse(400, {}, b"this cursor has expired")
            return listed(host, query)

        looked_at = days_looked_at(made)
        with patch.object(made.flair, "_list", expires):
            for _ in range(4):
                made.reconcile()
                made.run_for(300)
        # Of the newest day only one refund was shown, and none of the others.
        assert days_looked_at(made) == looked_at
        assert all(walk["failures"] < MAX_CURSOR_FAILURES for walk in position(made)["walks"])
        the_bank_sends_all_back(made)
        reconcile_for_a_day(made)
        assert statuses(made) == {"REVERSED"}


def position(made: World) -> Item:
    return item_from_wire(made.ledger.items[("#sweep#flair",)])


def days_looked_at(made: World) -> dict[str, Any]:
    """When the sweep looked at the days that have refunds, as it believes."""
    seen = position(made)["seen"]
    created = [datetime.fromtimestamp(moved.created_at, UTC) for moved in made.flair.refunds]
    return {f"{at:%Y-%m-%d}": seen.get(f"{at:%Y-%m-%d}") for at in created}


def test_a_sweep_that_runs_out_of_time_goes_on_in_the_next_run() -> None:
    with only_what_is_due():
        made = refunds_of_three_days(10)
        the_bank_sends_all_back(made)
        call = made.network.request

        def slow(method: str, url: str, **more: Any) -> Any:
            made.kernel.pause(14 if "limit=" in url else 0)
            return call(method, url, **more)

        with patch.object(made.network, "request", slow):
            made.reconcile()
            made.run_for(300)
            assert statuses(made) == {"REVERSED", "SUCCEEDED"}
            made.reconcile()
            made.run_for(300)
            assert statuses(made) == {"REVERSED"}
