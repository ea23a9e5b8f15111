"""The words that scripted histories are written in: a world, its faults, and what to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.simulator.sqs import Message
from tests.simulator.world import World
from tests.support.builders import person

from refunds.domain.intake import Intake, pause_intake, resume_intake
from refunds.domain.refund import Status
from refunds.processing.review import Reasons, Reviewer

MINUTE = 60.0
HOUR = 3600.0


def request(refund_id: str = "r1", **changes: Any) -> dict[str, Any]:
    body = {
        "refund_id": refund_id,
        "transaction_id": "tx1",
        "user_id": "u1",
        "amount_minor": 300,
        "currency": "USD",
        "reason": "order_cancelled",
        "requested_by": "agent:7",
    }
    return {name: value for name, value in (body | changes).items() if value is not None}


def request_for_rest(refund_id: str = "r1", **changes: Any) -> dict[str, Any]:
    """A request for whatever is left."""
    return request(refund_id, amount_minor=None, **changes)


def world(captured: int = 1000, **options: Any) -> World:
    made = World(1, trace=True, **options)
    made.pay("tx1", captured)
    return made


HIDDEN = {"gateway hides refunds": 1.0, "gateway hides a payment's refunds": 1.0}
"""Neither a look-up nor a payment's list shows a refund."""


def script_faults(made: World, **faults: list[int]) -> None:
    """``gateway_slow=[0, 1]``: not the first time, but the second."""
    for name, answers in faults.items():
        made.kernel.script[name.replace("_", " ")] = [bool(each) for each in answers]


def fix_random(made: World, uniform: Callable[[float, float], float]) -> None:
    """How long what is slow takes, and by how much a clock is off."""
    setattr(made.kernel.random, "uniform", uniform)  # noqa: B010  # to a bound method's place


def choose(made: World, one_of: Callable[[Sequence[Any]], Any]) -> None:
    """Which of several is damaged, or which status a broken answer has."""
    setattr(made.kernel.random, "choice", one_of)  # noqa: B010  # to a bound method's place


def choose_the_first(made: World) -> None:
    """The first of several is what is damaged."""
    choose(made, lambda several: several[0])


def choose_the_last(made: World) -> None:
    """The last of several is what is damaged, or how long a list lags."""
    choose(made, lambda several: several[-1])


def crash_at(made: World, step: str, nth: int = 1) -> None:
    made.kernel.script["crash at " + step] = [False] * (nth - 1) + [True]


def deliver_again(made: World, **changes: Any) -> Message:
    message = made.send(request(**changes))
    made.run_for(10 * MINUTE)
    return message


def reconcile_hourly(made: World, hours: int) -> None:
    for _ in range(hours):
        made.reconcile()
        made.run_for(HOUR)


def empty_tables(made: World) -> None:
    made.empty(made.refunds, made.ledger)


def lose_row(made: World, refund_id: str = "r1") -> None:
    listeners, made.refunds.on_write = made.refunds.on_write, []
    made.refunds.write((refund_id,), None)
    made.refunds.on_write = listeners
    made.checker.forget()


def remove_by_hand(made: World, refund_id: str = "r1") -> None:
    """The row goes through the stream: the trail ends with its removal."""
    made.checker.tampered.add(refund_id)
    made.refunds.on_write.remove(made.checker.refund_written)
    made.refunds.write((refund_id,), None)
    made.refunds.on_write.append(made.checker.refund_written)
    made.checker.forget()
    made.run_for(MINUTE)


def fail_here_and_pay_there(made: World) -> None:
    made.flair.stubborn["r1"] = "declined"
    made.send(request())
    made.run_for(10 * MINUTE)
    assert (status(made), remaining(made)) == ("FAILED", 1000)
    made.checker.tampered.add("r1")
    made.flair._create("tx1", "r1", 300, ours=False)


def correct(made: World) -> None:
    """r1 failed here, the gateway shows it as paid, and a person corrects it."""
    reasons = Reasons(person("jo"), why="the dashboard shows it", evidence="T-1")
    made.functions.invoke(
        "operator",
        lambda env, deadline: Reviewer(
            env.protocol.refunds, env.protocol.settler, env.protocol.ledger
        ).correct("r1", reasons, deadline),
        lambda result: None,
        lambda: None,
    )


def decide(made: World, to: Status, refund_id: str = "r1") -> None:
    """A person decides on a refund in review, whatever the gateway shows."""
    reasons = Reasons(person("jo"), why="a customer's word", evidence="T-1")
    made.checker.careless.add(refund_id)
    made.functions.invoke(
        "operator",
        lambda env, deadline: Reviewer(
            env.protocol.refunds, env.protocol.settler, env.protocol.ledger
        ).decide(refund_id, to, reasons, deadline, against_gateway=True),
        lambda result: None,
        lambda: None,
    )


def pause(made: World) -> None:
    """A person stops requests."""
    _change_intake(made, lambda intake, now: pause_intake(intake, "ada", "maintenance", now))


def resume(made: World) -> None:
    """A person lets requests flow again."""
    _change_intake(made, lambda intake, now: resume_intake(intake, "ada", "a sale, TICKET-1", now))
    made.run_for(2 * MINUTE)


def _change_intake(made: World, change: Callable[[Intake, datetime], Intake]) -> None:
    now = datetime.fromtimestamp(made.kernel.now, UTC)
    made.functions.invoke(
        "operator",
        lambda env, deadline: (
            env.protocol.control.change_intake(lambda intake: change(intake, now)),
            env.switch.follow(),
        ),
        lambda result: None,
        lambda: None,
    )


def status(made: World, refund_id: str = "r1") -> str:
    return str(made.refunds.items[(refund_id,)]["status"]["S"])


def attribute(made: World, name: str, refund_id: str = "r1") -> Any:
    return next(iter(made.refunds.items[(refund_id,)].get(name, {"S": None}).values()))


def remaining(made: World) -> int:
    return int(made.ledger.items[("tx1",)]["remaining"]["N"])


def paid(made: World, refund_id: str = "r1") -> int:
    """How often money moved for it."""
    return sum(each.ever_succeeded for each in made.flair.of(refund_id))


def posts(made: World) -> int:
    return made.kernel.counts["gateway POSTs"]
