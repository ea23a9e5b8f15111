"""A review above the amount: one person proposes, another confirms, whatever crashes."""

from __future__ import annotations

from functools import partial

import pytest
from tests.simulator.functions import Environment
from tests.simulator.scripting import (
    HOUR,
    MINUTE,
    attribute,
    crash_at,
    remaining,
    request,
    status,
    world,
)
from tests.simulator.world import World
from tests.support.builders import person

from refunds.domain.clock import Deadline
from refunds.domain.identity import Identity
from refunds.domain.refund import Status
from refunds.processing.review import Reasons, Reviewer, ReviewError

ABOVE = {"USD": 200}


def in_review() -> World:
    """r1 is of 300 and in review: its key has expired, and the gateway shows nothing."""
    made = world()
    made.kernel.fault_rates = {"gateway takes no orders": 1.0}
    made.send(request())
    made.run_for(30 * HOUR)
    made.reconcile()
    made.run_for(HOUR)
    made.kernel.fault_rates = {}
    assert status(made) == "IN_REVIEW"
    return made


def decide(made: World, *people: Identity) -> list[str]:
    """Each decides "not paid", all at once. What those are told who are refused."""
    refused: list[str] = []

    def body(who: Identity, env: Environment, deadline: Deadline) -> None:
        protocol = env.protocol
        reviewer = Reviewer(protocol.refunds, protocol.settler, protocol.ledger, ABOVE)
        try:
            reviewer.decide("r1", Status.FAILED, Reasons(who, "seen", "T-1"), deadline)
        except ReviewError as exc:
            refused.append(str(exc))

    for who in people:
        made.functions.invoke("operator", partial(body, who), lambda result: None, lambda: None)
    made.run_for(MINUTE)
    return refused


def test_one_person_only_proposes_and_another_ends_it() -> None:
    made = in_review()
    assert decide(made, person("ada")) == []
    assert (status(made), remaining(made)) == ("IN_REVIEW", 700)
    assert "another person" in " ".join(decide(made, person("ada", "Admin")))
    assert (status(made), remaining(made)) == ("IN_REVIEW", 700)
    assert decide(made, person("eve")) == []
    assert (status(made), remaining(made)) == ("FAILED", 1000)
    assert attribute(made, "review")["proposed_by"]["S"] == person("ada").arn
    made.settle()


@pytest.mark.parametrize("step", ["dynamodb update Refunds", "dynamodb update Refunds, done"])
def test_a_proposal_that_crashes_is_made_or_not_and_never_counts_twice(step: str) -> None:
    made = in_review()
    crash_at(made, step)
    decide(made, person("ada"))
    decide(made, person("ada"))  # repeated: proposed now, or refused as proposed already
    assert (status(made), remaining(made)) == ("IN_REVIEW", 700)
    decide(made, person("eve"))
    assert (status(made), remaining(made)) == ("FAILED", 1000)
    made.settle()


def test_two_who_decide_at_once_are_one_proposal() -> None:
    made = in_review()
    assert "changed meanwhile" in " ".join(decide(made, person("ada"), person("eve")))
    assert (status(made), remaining(made)) == ("IN_REVIEW", 700)
    decide(made, person("ada"), person("eve"))
    assert (status(made), remaining(made)) == ("FAILED", 1000)
    made.settle()
