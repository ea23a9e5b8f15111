"""Restores: what the ledger leaves for others, and how old a key may be."""

from __future__ import annotations

from tests.simulator.limit_histories import decide
from tests.simulator.limit_scripting import limited
from tests.simulator.restores import back_up, quietly, restore
from tests.simulator.scripting import (
    MINUTE,
    choose_the_first,
    choose_the_last,
    fix_random,
    paid,
    reconcile_hourly,
    remaining,
    request,
    script_faults,
    status,
    world,
)
from tests.simulator.world import World

from refunds.domain.limits import Limits


def holds_beside_another_system() -> World:
    """r1 holds 300 and has not moved; another system has refunded 500 in a row that can't be
    read."""
    made = world(enforces_balance=False)
    made.kernel.fault_rates = {"gateway takes no orders": 1.0}
    made.send(request())
    made.run_for(MINUTE)
    made.flair.refund_by_others("tx1", 500)
    assert (status(made), paid(made)) == ("PROCESSING", 0)
    made.kernel.fault_rates = {}
    return made


def look_at(made: World) -> None:
    """A webhook names r1."""
    made.functions.invoke(
        "reconcile",
        lambda env, deadline: env.reconcile_refunds.handle({"look_at": "r1"}, deadline),
        lambda result: None,
        lambda: None,
    )


def test_a_restore_does_not_take_what_a_list_leaves_out_for_a_refund_that_never_moved() -> None:
    made = holds_beside_another_system()
    backup = back_up(made)
    made.empty(made.ledger)
    script_faults(made, **{"gateway's row can't be read": [1]})
    restore(made, backup)
    made.run_for(MINUTE)
    assert remaining(made) == 200
    made.settle()
    assert sum(each.amount for each in made.flair.refunds) <= 1000


def test_what_is_paid_during_a_restore_does_not_hide_a_row_that_cannot_be_read() -> None:
    made = holds_beside_another_system()
    backup = back_up(made)
    made.source.switch(enabled=False, concurrency=3)  # requests are paused
    fix_random(made, lambda _, most: most - 15)
    # The restore reads the payment, r1 is paid, and the restore reads the list.
    script_faults(made, **{"stall at gateway GET, done": [1], "gateway's row can't be read": [1]})
    choose_the_last(made)
    restore(made, backup)
    made.run_for(2)
    look_at(made)
    made.run_for(2 * MINUTE)
    assert (status(made), remaining(made)) == ("SUCCEEDED", 200)


def test_a_backup_from_before_the_approval_does_not_forget_that_a_key_was_used() -> None:
    made = limited(Limits(per_refund={"USD": 100}))
    made.send(request())
    made.run_for(MINUTE)
    assert status(made) == "AWAITING_APPROVAL"
    backup = back_up(made)
    made.kernel.fault_rates = {"gateway takes no orders": 1.0}
    decide(made, "r1", "ada")
    made.run_for(10 * MINUTE)
    assert status(made) == "PROCESSING"
    # Rows that come back are no claims.
    made.refunds.on_write.remove(made.limits.refund_written)

    def lose_and_restore() -> None:
        made.empty(made.refunds)
        restore(made, backup)

    quietly(made, lose_and_restore)
    made.run_for(MINUTE)
    made.kernel.fault_rates = {}
    reconcile_hourly(made, 3)
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)


def test_a_restore_does_not_take_what_a_list_leaves_out_for_a_refund_that_was_sent_back() -> None:
    made = world(enforces_balance=False)
    made.send(request())
    made.run_for(MINUTE)
    made.flair.fail(made.flair.refunds[0], "account_closed")
    made.flair.refund_by_others("tx1", 500)
    script_faults(made, **{"gateway's row can't be read": [1]})
    choose_the_first(made)
    restore(made, back_up(made))
    made.run_for(MINUTE)
    assert (status(made), remaining(made)) == ("SUCCEEDED", 200)
    made.reconcile()
    made.run_for(10 * MINUTE)
    assert (status(made), remaining(made)) == ("REVERSED", 500)
