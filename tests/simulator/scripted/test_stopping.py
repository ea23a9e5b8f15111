"""The automatic stop: no refund above the day's level, nothing lost, and only a person resumes."""

from __future__ import annotations

from tests.simulator.scripting import (
    HOUR,
    MINUTE,
    attribute,
    crash_at,
    empty_tables,
    paid,
    pause,
    request,
    resume,
    status,
    world,
)
from tests.simulator.sqs import DAY
from tests.simulator.world import World

from refunds.domain.intake import Intake
from refunds.domain.limits import Limits
from refunds.tables.state import INTAKE
from refunds.tables.wire import item_from_wire

STOP_ABOVE = 1000


def stopping(**options: object) -> World:
    made = World(1, trace=True, limits=Limits(stop_above={"USD": STOP_ABOVE}), **options)  # type: ignore[arg-type]
    made.pay("tx1", 100_000)
    return made


def send(made: World, *refund_ids: str) -> None:
    for refund_id in refund_ids:
        made.send(request(refund_id))


def paid_minor(made: World) -> int:
    return sum(each.amount for each in made.flair.refunds if each.ever_succeeded)


def intake_of(made: World) -> Intake:
    return Intake.from_item(item_from_wire(made.ledger.items.get((INTAKE,), {})))


def test_requests_stop_at_the_level_and_go_on_after_a_resume() -> None:
    made = stopping()
    send(made, "r1", "r2", "r3", "r4", "r5")  # 1500
    made.run_for(20 * MINUTE)
    assert paid_minor(made) == 900
    held = intake_of(made)
    assert held.paused
    assert str(held.paused_by).startswith("process")
    assert len(made.queue.messages) == 2  # kept
    made.run_for(2 * HOUR)
    made.reconcile()
    made.run_for(MINUTE)
    assert paid_minor(made) == 900

    resume(made)
    made.run_for(HOUR)
    assert paid_minor(made) == 1500
    assert not intake_of(made).paused
    made.settle()


def test_it_stops_again_a_step_above_the_total_and_not_before() -> None:
    made = stopping()
    send(made, "r1", "r2", "r3", "r4")  # 1200: stops
    made.run_for(10 * MINUTE)
    resume(made)  # stops again above 2200
    made.run_for(20 * MINUTE)
    assert paid_minor(made) == 1200
    send(made, "r5", "r6", "r7", "r8")  # 2400
    made.run_for(20 * MINUTE)
    assert paid_minor(made) == 2100
    assert intake_of(made).paused
    resume(made)
    made.run_for(HOUR)
    made.settle()
    assert paid_minor(made) == 2400


def test_a_crash_while_stopping_lets_nothing_through() -> None:
    made = stopping()
    send(made, "r1", "r2", "r3")
    made.run_for(MINUTE)
    assert paid_minor(made) == 900
    crash_at(made, "dynamodb put Ledger")
    send(made, "r4")
    made.run_for(20 * MINUTE)
    assert paid_minor(made) == 900
    assert intake_of(made).paused
    resume(made)
    made.run_for(HOUR)
    made.settle()
    assert paid(made, "r4") == 1


def test_a_lost_announcement_stops_the_queue_at_the_next_run() -> None:
    made = stopping()
    made.kernel.script["gateway-down event lost"] = [True]
    send(made, "r1", "r2", "r3", "r4")
    made.run_for(3 * MINUTE)
    assert paid_minor(made) == 900
    made.reconcile()
    made.run_for(MINUTE)
    assert not made.tap._source.enabled
    made.run_for(20 * MINUTE)
    assert paid_minor(made) == 900
    resume(made)
    made.run_for(HOUR)
    made.settle()


def test_the_next_day_begins_anew_but_only_a_person_resumes() -> None:
    made = stopping()
    send(made, "r1", "r2", "r3", "r4")
    made.run_for(DAY + HOUR)
    made.reconcile()
    made.run_for(HOUR)
    assert paid_minor(made) == 900
    resume(made)
    made.run_for(HOUR)
    assert paid_minor(made) == 1200
    made.settle()


def test_the_resume_of_a_persons_pause_raises_no_level() -> None:
    made = stopping()
    send(made, "r1", "r2", "r3")
    made.run_for(5 * MINUTE)
    pause(made)
    made.run_for(1)
    send(made, "r4")  # is delivered while Lambda still stops the queue
    made.run_for(5 * MINUTE)
    assert (intake_of(made).paused_by, paid_minor(made)) == ("ada", 900)
    resume(made)
    made.run_for(20 * MINUTE)
    assert paid_minor(made) == 900
    assert "StopAboveMinor" in str(intake_of(made).paused_why)
    resume(made)
    made.run_for(HOUR)
    made.settle()
    assert paid_minor(made) == 1200


def test_a_pause_outlives_the_table_that_has_it() -> None:
    made = world()
    pause(made)
    made.run_for(5 * MINUTE)
    made.send(request())
    empty_tables(made)
    made.reconcile()
    made.run_for(HOUR)
    assert paid(made) == 0
    assert made.watch.board.on("QueuePaused")
    resume(made)
    made.settle()
    assert paid(made) == 1


def test_a_request_that_is_stopped_for_longer_than_its_message_lives_waits_for_a_person() -> None:
    made = stopping()
    message = made.send(request(amount_minor=1200))
    made.run_for(10 * MINUTE)
    assert (intake_of(made).paused, made.refunds.items) == (True, {})
    made.sqs.move(message, made.dlq)  # it was delivered too often
    for _ in range(14):
        made.reconcile()
        made.run_for(DAY)
    assert status(made) == "REJECTED"  # nobody has approved it, and it is in the archive
    assert attribute(made, "failure_code") == "approval_expired"
    assert int(made.ledger.items[("tx1",)]["remaining"]["N"]) == 100_000
    assert made.s3.objects
    resume(made)
    made.settle()
