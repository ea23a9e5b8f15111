"""What the functions remember between runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import NOW
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.intake import Intake
from refunds.domain.limits import LimitException
from refunds.tables.state import Control


def test_nothing_is_looked_up_first_unless_a_restore_said_so(world: World) -> None:
    assert not world.control.look_up_first(NOW)


def test_a_restore_has_refunds_looked_up_first_until_its_time_is_over(world: World) -> None:
    world.control.set_look_up_first(NOW + timedelta(days=28))

    assert world.control.look_up_first(NOW)
    assert world.control.look_up_first(NOW + timedelta(days=28) - timedelta(microseconds=1))
    assert not world.control.look_up_first(NOW + timedelta(days=28))


def test_the_sweep_goes_on_from_where_it_was(world: World) -> None:
    assert world.control.sweep("flair") == {}
    world.control.set_sweep("flair", {"walks": [{"cursor": "cursor-7", "day": None}]})
    world.control.set_sweep("flair", {"walks": []})

    assert world.control.sweep("flair")["walks"] == []


def test_no_transaction_can_be_taken_for_a_note(world: World) -> None:
    world.control.set_look_up_first(NOW)
    world.control.set_sweep("flair", {})

    # A transaction's id never has a '#'.
    ids = {item["transaction_id"] for item in world.stack.items(world.stack.ledger_table)}
    assert ids == {"#look-up-first", "#sweep#flair"}


def test_each_gateways_sweep_has_a_state_of_its_own(world: World) -> None:
    world.control.set_sweep("flair", {"walks": []})

    assert world.control.sweep("stripe") == {}


def test_exceptions_change_only_from_the_version_that_was_read(world: World) -> None:
    control = world.control
    who: Any = {"by": "jo", "why": "a refund day", "at": rfc3339(NOW)}
    exception = LimitException(user_day={"USD": 500}, **who)
    added = control.read_exceptions().changed("user:u-1", exception, **who)

    assert control.write_exceptions(added, expected_version=0)
    assert control.read_exceptions() == added
    removed = added.changed("user:u-1", None, **who)
    assert not control.write_exceptions(removed, expected_version=0)
    assert control.read_exceptions() == added


def test_a_change_is_returned_with_what_it_replaced(world: World) -> None:
    before, after = world.control.change_intake(lambda there: replace(there, why="one"))
    assert (before, after) == (Intake(), Intake(version=1, why="one"))
    assert world.control.intake() == after
    assert world.control.change_intake(lambda there: there) == (after, after)


@pytest.mark.parametrize("shows_what_is_there", [True, False])
def test_a_write_whose_answer_was_lost_is_taken_for_done(
    world: World, shows_what_is_there: bool
) -> None:
    class Repeats:
        """Sends each write a second time, as a client does that got no answer."""

        def put_item(self, **arguments: Any) -> Any:
            client: Any = world.stack.clients.dynamodb
            client.put_item(**arguments)
            if not shows_what_is_there:
                arguments.pop("ReturnValuesOnConditionCheckFailure")
            return client.put_item(**arguments)

        def __getattr__(self, name: str) -> Any:
            return getattr(world.stack.clients.dynamodb, name)

    repeating: Any = Repeats()
    control = Control(repeating, world.stack.ledger_table)
    who: Any = {"by": "jo", "why": "a refund day", "at": rfc3339(NOW)}
    exception = LimitException(user_day={"USD": 500}, **who)
    added = control.read_exceptions().changed("user:u-1", exception, **who)
    assert control.write_exceptions(added, expected_version=0)
    assert not control.write_exceptions(replace(added, entries={}), expected_version=0)
    _, after = control.change_intake(lambda there: replace(there, why="ours"))
    assert world.control.intake() == after == Intake(version=1, why="ours")
