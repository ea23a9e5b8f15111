"""Limits and approval beside losses: lost tables, removed rows, crashes before the claim."""

from __future__ import annotations

import pytest
from tests.simulator.functions import Environment
from tests.simulator.limit_histories import decide
from tests.simulator.limit_scripting import U1, as_operator, counter, limited, send
from tests.simulator.scripting import (
    HOUR,
    MINUTE,
    crash_at,
    paid,
    remove_by_hand,
    request,
    script_faults,
    status,
)
from tests.simulator.sqs import DAY
from tests.simulator.world import World

from refunds.domain.limits import Limits
from refunds.processing import limit_checks
from refunds.tables.limit_counters import Entry, Room
from refunds_ops.backup.audit_chains import AuditChains, Restorer


def forget_checks(made: World) -> None:
    """A table loses items here without the checker knowing."""
    for table, listener in (
        (made.refunds, made.limits.refund_written),
        (made.ledger, made.limits.counter_written),
    ):
        table.on_write = [each for each in table.on_write if each != listener]


def adopted_and_crashed(limits: Limits) -> World:
    """r1 was paid two days ago, all tables were lost, and the attempt that adopted it crashed."""
    made = limited(Limits(user_day={"USD": 300}), new_tables=True)
    send(made, "r1")
    assert paid(made) == 1
    made.run_for(2 * DAY)  # the gateway's keys are forgotten
    made.empty(made.refunds, made.ledger, made.audit)
    made.services.limits = limits
    made.functions.idle.clear()
    crash_at(made, "dynamodb update Ledger, done")
    made.send(request("r1"))
    return made


def test_seen_at_the_claim_and_hidden_afterwards_pays_once() -> None:
    made = adopted_and_crashed(Limits(per_refund={"USD": 1}))
    made.kernel.script["gateway hides refunds"] = [False, True, True, True]
    made.run_for(HOUR)
    assert paid(made) == 1


def test_seen_at_its_expiry_and_hidden_afterwards_pays_once() -> None:
    made = adopted_and_crashed(Limits(per_refund={"USD": 1}, approval_days=1))
    made.kernel.script["gateway hides refunds"] = [True]
    made.run_for(HOUR)
    made.run_for(DAY)
    made.kernel.script["gateway hides refunds"] = [False, True, True]
    made.reconcile()
    made.run_for(HOUR)
    assert paid(made) == 1


def test_without_limits_too() -> None:
    made = adopted_and_crashed(Limits())
    made.kernel.script["gateway hides refunds"] = [True]
    made.run_for(HOUR)
    assert paid(made) == 1


def test_a_waiting_refund_that_a_hand_removed_is_not_called_by_a_later_attempt() -> None:
    made = limited(Limits(per_refund={"USD": 100}))
    message = request("r1")
    made.send(message)
    made.run_for(MINUTE)
    assert status(made) == "AWAITING_APPROVAL"
    remove_by_hand(made)
    made.limits.limits = Limits()  # what is shown here is the payment, not the claim
    made.limits.refunds.on_write.remove(made.limits.refund_written)
    script_faults(made, gateway_says_503=[0, 1])  # the list is read, the look-up fails
    made.send(message)
    made.run_for(HOUR)
    made.reconcile()
    made.run_for(HOUR)
    assert (status(made), paid(made)) != ("SUCCEEDED", 1)


def test_the_archiver_keeps_who_sent_it() -> None:
    made = limited(Limits(per_refund={"USD": 100}), max_receives=1)
    crash_at(made, "dynamodb put Refunds")
    made.send(request())
    made.run_for(HOUR)
    assert len(made.dlq.messages) == 1
    made.run_for(4 * DAY)
    made.reconcile()
    made.run_for(MINUTE)
    assert status(made) == "AWAITING_APPROVAL"
    decide(made, "r1", "shop")  # who sent it
    made.run_for(MINUTE)
    assert status(made) == "AWAITING_APPROVAL"


def test_a_lost_counter_is_given_nothing_that_it_never_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limit_checks, "SETTLE_FROM", 1)
    made = limited(Limits(user_day={"USD": 300}))
    made.flair.stubborn["r1"] = "pending"
    send(made, "r1")
    assert (status(made), counter(made).sums) == ("PENDING", {"USD": 300})
    made.empty(made.ledger)
    forget_checks(made)
    send(made, "r2")
    assert (status(made, "r2"), counter(made).sums) == ("SUCCEEDED", {"USD": 300})
    made.flair.fail(made.flair.refunds[0], "bank_refused")
    made.run_for(10 * MINUTE)
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert status(made) == "FAILED"
    send(made, "r3")
    assert status(made, "r3") == "AWAITING_APPROVAL"  # r2 alone is at the limit


def test_a_restored_row_gives_its_share_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its backup is of when it was pending. The message comes again."""
    monkeypatch.setattr(limit_checks, "SETTLE_FROM", 1)
    made = limited(Limits(user_day={"USD": 600}))
    made.flair.stubborn["r1"] = "pending"
    send(made, "r1")
    backup = made.refunds.items[("r1",)]
    made.flair.fail(made.flair.refunds[0], "bank_refused")
    made.run_for(10 * MINUTE)
    made.reconcile()
    made.run_for(10 * MINUTE)
    send(made, "r2", "r3")
    assert status(made) == "FAILED"
    assert counter(made).sums == {"USD": 600}
    forget_checks(made)

    def restore_row(env: Environment) -> None:
        by = Restorer(by="jo", why="it was lost", source="backup 1")
        chains = AuditChains(env.protocol.audit, env.clock, by)
        row = chains.continued(backup)
        assert row is not None
        listeners, made.refunds.on_write = made.refunds.on_write, []
        made.refunds.write(("r1",), row)
        made.refunds.on_write = listeners

    as_operator(made, restore_row)
    made.run_for(10 * MINUTE)
    send(made, "r1")
    send(made, "r4")
    assert status(made, "r4") == "AWAITING_APPROVAL"  # r2 and r3 are at the limit


def test_forty_shares_in_doubt_do_not_make_the_counter_grow() -> None:
    made = limited(Limits(user_day={"USD": 100_000}))

    def doubt(env: Environment) -> None:
        counters = env.protocol.counters
        assert counters.begin_day(counters.get(U1), "2026-03-01", "a0#x", Entry("t0", 1, "USD"))
        for number in range(1, 45):
            name, share = f"a{number}#x", Entry(f"t{number}", 1, "USD")
            assert counters.add(counters.get(U1), name, share, Room())

    monkey = pytest.MonkeyPatch()
    monkey.setattr(made.limits, "ledger", made.audit)
    forget_checks(made)
    as_operator(made, doubt)
    for number in range(60):
        send(made, f"r{number}", amount_minor=10)
    assert len(counter(made).shares) < 45 + 20


@pytest.mark.parametrize("limits", [Limits(), Limits(user_day={"USD": 900})])
def test_the_archiver_knows_that_it_was_adopted(limits: Limits) -> None:
    made = limited(Limits(user_day={"USD": 300}), new_tables=True, max_receives=1)
    send(made, "r1")
    made.run_for(2 * DAY)
    made.empty(made.refunds, made.ledger, made.audit)
    made.services.limits = limits
    made.functions.idle.clear()
    crash_at(made, "dynamodb update Ledger, done")
    made.send(request("r1"))
    made.run_for(HOUR)
    assert len(made.dlq.messages) == 1
    made.run_for(4 * DAY)
    made.kernel.script["gateway hides refunds"] = [True, True, True]
    for _ in range(3):
        made.reconcile()
        made.run_for(HOUR)
    assert paid(made) == 1
