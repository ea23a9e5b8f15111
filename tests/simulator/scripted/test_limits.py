"""Limits and approval: what happens at each edge of a counter, and of a decision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.simulator.functions import Environment
from tests.simulator.limit_histories import change_exceptions, decide
from tests.simulator.limit_scripting import U1, as_operator, counter, limited, send, statuses
from tests.simulator.scripting import HOUR, MINUTE, crash_at, paid, remaining, request, status
from tests.simulator.sqs import DAY
from tests.support.builders import refund

from refunds.domain.limits import LimitException, Limits
from refunds.processing import limit_checks
from refunds.tables.limit_counters import (
    Counter,
    Entry,
    LimitCounters,
    Room,
    Settled,
    day_counter,
)

# --- counting ------------------------------------------------------------


def test_what_is_over_the_limit_of_a_user_and_day_waits_and_the_rest_is_paid() -> None:
    made = limited(Limits(user_day={"USD": 700}))
    send(made, "r1", "r2", "r3")
    assert statuses(made) == {
        "r1": "SUCCEEDED",
        "r2": "SUCCEEDED",
        "r3": "AWAITING_APPROVAL",
    }
    assert counter(made).sums == {"USD": 600}
    send(made, "r4", user_id="u2")
    assert status(made, "r4") == "SUCCEEDED"


def test_a_day_later_the_user_may_again() -> None:
    made = limited(Limits(user_day={"USD": 300}))
    send(made, "r1", "r2")
    made.run_for(DAY)
    send(made, "r3")
    assert (status(made, "r2"), status(made, "r3")) == ("AWAITING_APPROVAL", "SUCCEEDED")
    assert (counter(made).day, counter(made).count) == ("2026-03-02", 1)


def test_a_limit_holds_for_a_request_without_an_amount() -> None:
    made = limited(Limits(per_refund={"USD": 9_999}))
    send(made, "r1", amount_minor=None)
    assert status(made) == "AWAITING_APPROVAL"
    assert made.refunds.items[("r1",)]["amount_minor"] == {"N": "10000"}
    assert remaining(made) == 0


def test_a_currency_that_a_limit_does_not_name_waits() -> None:
    made = limited(Limits(per_refund={"EUR": 10_000}))
    send(made, "r1")
    assert status(made) == "AWAITING_APPROVAL"


@pytest.mark.parametrize("step", ["dynamodb update Ledger, done", "dynamodb put Ledger, done"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_crash_between_count_and_claim_counts_once(step: str, nth: int) -> None:
    made = limited(Limits(user_day={"USD": 900}, day={"USD": 900}))
    crash_at(made, step, nth)
    send(made, "r1", "r2", "r3")
    made.settle()
    assert set(statuses(made).values()) == {"SUCCEEDED"}
    assert counter(made).sums == counter(made, day_counter("USD")).sums == {"USD": 900}


def test_a_share_left_before_midnight_is_counted_on_the_new_day_only() -> None:
    made = limited(Limits(user_day={"USD": 300}))
    made.run_for(DAY - HOUR - 30)
    crash_at(made, "dynamodb put Ledger, done", 2)  # its ledger's first, its share
    made.send(request("r1"))
    made.run_for(DAY)
    made.settle()
    assert status(made) == "SUCCEEDED"


def test_one_that_ends_without_money_gives_its_share_back() -> None:
    made = limited(Limits(user_day={"USD": 300}))
    made.flair.stubborn["r1"] = "declined"
    send(made, "r1", "r2")
    assert statuses(made) == {"r1": "FAILED", "r2": "SUCCEEDED"}
    assert counter(made).sums == {"USD": 300}
    made.settle()


@pytest.mark.parametrize("nth", [2, 3])  # the release, the announced give-back
def test_a_crash_in_the_middle_of_giving_back_gives_back_once(nth: int) -> None:
    made = limited(Limits(user_day={"USD": 300}))
    made.flair.stubborn["r1"] = "declined"
    crash_at(made, "dynamodb update Ledger, done", nth)
    send(made, "r1")
    made.run_for(HOUR)
    made.settle()
    send(made, "r2", "r3")
    assert statuses(made) == {"r1": "FAILED", "r2": "SUCCEEDED", "r3": "AWAITING_APPROVAL"}
    made.settle()


def test_what_is_announced_and_not_given_back_yet_still_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limit_checks, "SETTLE_FROM", 1)
    made = limited(Limits(user_day={"USD": 600}))
    made.flair.stubborn["r1"] = "declined"
    crash_at(made, "dynamodb update Ledger, done", 3)
    send(made, "r1")
    assert set(counter(made).backs) == {"r1"}
    send(made, "r2", "r3")
    assert statuses(made) == {"r1": "FAILED", "r2": "SUCCEEDED", "r3": "AWAITING_APPROVAL"}
    made.settle()


def test_who_gives_back_late_gives_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_checks, "SETTLE_FROM", 1)
    made = limited(Limits(user_day={"USD": 900}))
    made.flair.stubborn["r1"] = "declined"
    send(made, "r1", "r2")  # r2 settles what r1 gave back
    assert counter(made).sums == {"USD": 300}

    def late(env: Environment) -> None:
        refund = env.protocol.refunds.get("r1")
        assert refund is not None
        seen = replace(refund, uncounted=None, open_since=refund.updated_at, open_shard="0")
        env.protocol.recorder.give_back(seen)

    as_operator(made, late)
    send(made, "r3")
    assert counter(made).sums == {"USD": 600}
    made.settle()


def test_a_write_that_arrives_late_does_not_count_again() -> None:
    made = limited(Limits(user_day={"USD": 900}))
    send(made, "r1")

    def late(env: Environment) -> list[object]:
        counters, share = env.protocol.counters, Entry("a", 100, "USD")
        read = counters.get(U1)
        added = counters.add(read, "r9#x", share, Room(900))
        now = counters.get(U1)
        gone = Settled(shares=["r9#x"], sums={"USD": -100}, count=-1)
        settled = counters.add(now, "r8#x", Entry("b", 100, "USD"), Room(900), gone)
        again = counters.add(read, "r9#x", share, Room(900))
        return [added, settled, again]

    with pytest.MonkeyPatch.context() as monkeypatch:
        # The entries are of no refund: only the counter is looked at here.
        monkeypatch.setattr(made.limits, "ledger", made.audit)
        assert as_operator(made, late) == [400, 400, None]


def test_a_share_whose_answer_was_lost_is_not_counted_again_under_its_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A duplicate has claimed with it and another refund has settled it before that is noticed."""
    made = limited(Limits(user_day={"USD": 9000}))
    monkeypatch.setattr(made.limits, "ledger", made.audit)  # no refund is written here
    begin_day = LimitCounters.begin_day
    lost: list[Entry] = []

    def loses_its_answer(
        self: LimitCounters, read: Counter, day: str, name: str, share: Entry
    ) -> bool:
        assert begin_day(self, read, day, name, share)
        lost.append(share)
        settled = Settled(shares=[name])
        assert self.add(self.get(read.key), "r2#x", Entry("b", 1, "USD"), Room(), settled)
        return False

    monkeypatch.setattr(LimitCounters, "begin_day", loses_its_answer)
    refund_ = refund(user_id="u1", refund_id="r1")
    as_operator(made, lambda env: env.protocol.processor._limits.admit(refund_))
    tokens = {share.token for name, share in counter(made).shares.items() if name != "r2#x"}
    assert len(tokens) == 1
    assert tokens.isdisjoint({each.token for each in lost})


def test_two_that_have_read_the_same_counter_are_not_both_counted() -> None:
    made = limited(Limits(user_day={"USD": 900}))
    send(made, "r1")

    def both(env: Environment) -> list[object]:
        counters = env.protocol.counters
        read = counters.get(U1)
        return [
            counters.add(read, f"{name}#x", Entry(name, 400, "USD"), Room(900, count))
            for name, count in (("r8", None), ("r9", None), ("r7", 2))
        ]

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(made.limits, "ledger", made.audit)
        assert as_operator(made, both) == [700, None, None]


def test_a_counter_stays_small() -> None:
    made = limited(Limits(user_day={"USD": 100_000}))
    for number in range(30):
        send(made, f"refund-with-a-long-id-{number}", amount_minor=10)
    read = counter(made)
    assert (read.sums, read.count) == ({"USD": 300}, 30)
    assert len(read.shares) <= limit_checks.SETTLE_FROM


# --- approval ------------------------------------------------------------


def test_an_approved_refund_goes_on_and_is_paid_once() -> None:
    made = limited(Limits(per_refund={"USD": 100}))
    send(made, "r1")
    decide(made, "r1", "jo")
    made.run_for(MINUTE)
    assert status(made) == "PROCESSING"
    made.reconcile()
    made.run_for(MINUTE)
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)
    made.settle()


def test_a_redelivered_message_goes_on_with_an_approved_refund() -> None:
    made = limited(Limits(per_refund={"USD": 100}))
    send(made, "r1")
    decide(made, "r1", "jo")
    made.run_for(MINUTE)
    send(made, "r1")
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)


def test_a_duplicate_of_what_waits_is_dropped_and_changes_nothing() -> None:
    made = limited(Limits(per_refund={"USD": 100}))
    send(made, "r1")
    before = dict(made.refunds.items[("r1",)])
    duplicate = made.send(request("r1"))
    made.run_for(MINUTE)
    assert made.refunds.items[("r1",)] == before
    assert duplicate.gone == "deleted"


def test_neither_requester_nor_sender_approves_and_two_people_are_two() -> None:
    made = limited(Limits(per_refund={"USD": 100}, second_approval_above={"USD": 200}))
    send(made, "r1")
    for name in ("7", "shop", "jo", "jo", "JO"):
        decide(made, "r1", name)
        made.run_for(MINUTE)
    assert status(made) == "AWAITING_APPROVAL"
    decide(made, "r1", "kim")
    made.run_for(MINUTE)
    assert status(made) == "PROCESSING"
    made.settle()


def test_a_denied_refund_frees_its_money_and_is_counted_nowhere() -> None:
    made = limited(Limits(user_day={"USD": 100}))
    send(made, "r1")
    assert remaining(made) == 9_700
    decide(made, "r1", "jo", approve=False)
    made.run_for(MINUTE)
    assert (status(made), remaining(made)) == ("REJECTED", 10_000)
    assert made.refunds.items[("r1",)]["failure_code"] == {"S": "approval_denied"}
    assert not made.ledger.items.get((U1,))


def test_approval_expires_and_is_refused_afterwards() -> None:
    made = limited(Limits(per_refund={"USD": 100}, approval_days=1))
    send(made, "r1")
    made.run_for(DAY)
    decide(made, "r1", "jo")
    made.run_for(MINUTE)
    assert status(made) == "AWAITING_APPROVAL"
    made.reconcile()
    made.run_for(MINUTE)
    assert (status(made), remaining(made)) == ("REJECTED", 10_000)
    assert made.refunds.items[("r1",)]["failure_code"] == {"S": "approval_expired"}
    made.settle()


def test_what_was_paid_before_its_tables_were_lost_is_not_denied_but_recorded() -> None:
    made = limited(Limits(user_day={"USD": 300}), new_tables=True)
    send(made, "r1")
    assert paid(made) == 1
    made.empty(made.refunds, made.ledger)
    made.services.limits = Limits(per_refund={"USD": 1})
    made.functions.idle.clear()
    send(made, "r1")
    made.run_for(HOUR)
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)


# --- exceptions ------------------------------------------------------------


def exception(**limits: Any) -> LimitException:
    return LimitException(by="jo", why="a known customer", at="2026-03-01", **limits)


def test_an_exception_raises_a_limit_for_one_user_and_lowers_it_for_a_requester() -> None:
    made = limited(Limits(per_refund={"USD": 100}))
    change_exceptions(made, "user:u1", exception(per_refund={"USD": 300}))
    made.limits.highest["per_refund"] = 300
    made.run_for(MINUTE)
    send(made, "r1")
    send(made, "r2", user_id="u2")
    assert (status(made, "r1"), status(made, "r2")) == ("SUCCEEDED", "AWAITING_APPROVAL")
    change_exceptions(made, "requester:agent:7", exception(per_refund={"USD": 50}))
    made.run_for(2 * MINUTE)
    send(made, "r3")
    assert status(made, "r3") == "AWAITING_APPROVAL"
