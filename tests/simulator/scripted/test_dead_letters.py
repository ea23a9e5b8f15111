"""What people do with dead letters: nothing is lost, and nobody hides behind them."""

from __future__ import annotations

import json
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.simulator.functions import Environment
from tests.simulator.limit_histories import decide
from tests.simulator.limit_scripting import as_operator, limited
from tests.simulator.scripting import HOUR, MINUTE, crash_at, paid, request, status, world
from tests.simulator.sqs import DAY
from tests.simulator.world import World
from tests.support.builders import person

from refunds.domain.limits import Limits
from refunds.processing.deferral import FIRST_SENT_BY
from refunds_ops.dead_letters import DeadLetters, StillNeededError

OUTPUTS = {
    "RefundQueueUrl": "queue",
    "RefundDeadLetterQueueUrl": "dlq",
    "FailuresBucketName": "failures",
    "RefundsTableName": "Refunds",
    "LedgerTableName": "Ledger",
}


class Stack(SimpleNamespace):
    def __getitem__(self, output: str) -> str:
        return OUTPUTS[output]


def for_each_dead_letter(made: World, action: str) -> None:
    """``action``: resend or drop, by a person."""
    services = made.services
    stack = Stack(sqs=services.sqs, s3=services.s3, dynamodb=services.dynamodb)

    def act(env: Environment) -> None:
        with DeadLetters(cast(Any, stack)) as letters:
            for letter in letters.all(archived=False):
                getattr(letters, action)(letter, by=person("pat"), why="paid by hand, T-1")

    as_operator(made, act)


def send_forged(made: World, first_sent_by: str) -> None:
    """jo sends a request that names somebody else as its first sender."""
    attributes = {FIRST_SENT_BY: {"DataType": "String", "StringValue": first_sent_by}}
    message = made.sqs.enqueue(made.queue, json.dumps(request()), attributes)
    message.sender = "AROA1:jo"
    made.run_for(HOUR)


@pytest.mark.parametrize("step", ["dynamodb put Refunds", "dynamodb put Refunds, done"])
def test_a_dropped_message_leaves_no_refund_that_nobody_comes_back_to(step: str) -> None:
    made = world(max_receives=1)
    crash_at(made, step)
    made.send(request())
    made.run_for(HOUR)
    assert len(made.dlq.messages) == 1
    with suppress(StillNeededError):
        for_each_dead_letter(made, "drop")
    made.run_for(4 * DAY)
    made.settle()
    assert status(made) in ("SUCCEEDED", "FAILED")


def test_a_dropped_message_of_a_refund_that_others_find_is_gone() -> None:
    made = world(max_receives=1)
    made.kernel.fault_rates = {"gateway takes no orders": 1.0}
    made.send(request())
    made.run_for(HOUR)
    made.kernel.fault_rates = {}
    assert (status(made), len(made.dlq.messages)) == ("PROCESSING", 1)
    for_each_dead_letter(made, "drop")
    assert not made.dlq.messages
    made.settle()
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)


@pytest.mark.parametrize("forged", ["AROA9:finance", "AROA9:" + "x" * 300])
def test_who_sent_a_request_is_known_after_a_resend(forged: str) -> None:
    made = limited(Limits(per_refund={"USD": 100}), max_receives=1)
    crash_at(made, "dynamodb put Refunds")
    send_forged(made, forged)
    assert len(made.dlq.messages) == 1
    for_each_dead_letter(made, "resend")
    made.run_for(HOUR)
    decide(made, "r1", "jo")
    made.run_for(MINUTE)
    assert status(made) == "AWAITING_APPROVAL"


@pytest.mark.parametrize("forged", ["AROA9:finance", "\N{GRINNING FACE}" * 300])
def test_whatever_a_message_says_who_sent_it_is_known(forged: str) -> None:
    made = limited(Limits(per_refund={"USD": 100}))
    send_forged(made, forged)
    decide(made, "r1", "jo")
    made.run_for(MINUTE)
    assert status(made) == "AWAITING_APPROVAL"


def test_who_sent_a_refused_request_is_known_after_a_resend() -> None:
    made = limited(Limits(per_refund={"USD": 100}))
    message = made.send(request(currency="XXY"))  # a currency of the next release
    message.sender = "AROA1:jo"
    made.run_for(MINUTE)
    [letter] = made.dlq.messages.values()
    letter.sender = "AROA2:ProcessRefund"
    letter.body = json.dumps(request())
    for_each_dead_letter(made, "resend")
    made.run_for(HOUR)
    decide(made, "r1", "jo")
    made.run_for(MINUTE)
    assert status(made) == "AWAITING_APPROVAL"
