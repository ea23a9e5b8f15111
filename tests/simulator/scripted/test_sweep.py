"""The sweep of a list that is too long for one run: only what is due is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from tests.simulator.gateway_records import Moved
from tests.simulator.scripting import HOUR, request, status, world
from tests.simulator.sqs import DAY
from tests.simulator.world import World

from refunds.domain.refund import Item
from refunds.gateways.http import HttpResponse
from refunds.processing import reversal_sweep
from refunds.processing.paid_refunds import PaidRefunds
from refunds.processing.reversal_sweep import MAX_PAGE_FAILURES, MAX_PAGE_TRIES
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


def test_what_could_not_be_handled_at_first_is_handled_in_the_same_run() -> None:
    with only_what_is_due():
        made = refunds_of_three_days()
        the_bank_sends_all_back(made)
        with failing_reversals(MAX_PAGE_TRIES - 1):
            made.reconcile()
            made.run_for(300)
        assert statuses(made) == {"REVERSED"}


def test_what_could_not_be_handled_is_looked_at_again_within_an_hour() -> None:
    with only_what_is_due():
        made = refunds_of_three_days()
        the_bank_sends_all_back(made)
        with failing_reversals(MAX_PAGE_TRIES):
            made.reconcile()
            made.run_for(HOUR)
        assert "SUCCEEDED" in statuses(made)
        made.run_for(300)
        made.reconcile()
        made.run_for(300)
        assert statuses(made) == {"REVERSED"}


@contextmanager
def failing_reversals(times: int) -> Iterator[None]:
    reverse, left = PaidRefunds.reverse, [times]

    def fails(self: Any, *given: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise ConnectionError("DynamoDB does not answer")
        return reverse(self, *given)

    with patch.object(PaidRefunds, "reverse", fails):
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
        assert all(walk["failures"] < MAX_PAGE_FAILURES for walk in position(made)["walks"])
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


def test_a_clock_that_was_days_ahead_hides_no_day() -> None:
    with only_what_is_due():
        made = refunds_of_three_days()
        item = dict(made.ledger.items[("#sweep#flair",)])
        ahead = {day: {"S": "2026-12-01T00:00:00.000000Z"} for day in item["seen"]["M"]}
        made.ledger.write(("#sweep#flair",), item | {"seen": {"M": ahead}})
        the_bank_sends_all_back(made)
        reconcile_for_a_day(made)
        assert statuses(made) == {"REVERSED"}


def test_an_old_date_at_the_end_of_a_page_skips_no_day() -> None:
    with only_what_is_due():
        made = refunds_of_three_days(4)
        made.flair.page_size = 2
        shown, last_of_its_page = made.flair._shown, made.flair.refunds[-2]

        def dated(moved: Moved) -> dict[str, Any]:
            wrong = {"created_at": "2026-01-02T03:04:05Z"} if moved is last_of_its_page else {}
            return shown(moved) | wrong

        the_bank_sends_all_back(made)
        with patch.object(made.flair, "_shown", dated):
            reconcile_for_a_day(made)
        assert statuses(made) == {"REVERSED"}


def test_a_page_that_takes_longer_than_a_run_is_handled_by_several() -> None:
    with only_what_is_due():
        made = refunds_of_three_days(4)
        made.flair.page_size = 20
        the_bank_sends_all_back(made)
        reverse = PaidRefunds.reverse

        def slow(self: Any, *given: Any) -> Any:
            made.kernel.pause(45)
            return reverse(self, *given)

        with patch.object(PaidRefunds, "reverse", slow):
            made.reconcile()
            made.run_for(300)
            assert statuses(made) == {"REVERSED", "SUCCEEDED"}
            for _ in range(5):
                made.reconcile()
                made.run_for(300)
        assert statuses(made) == {"REVERSED"}
