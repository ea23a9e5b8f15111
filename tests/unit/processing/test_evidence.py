"""What a gateway says is stored short and without card numbers."""

from __future__ import annotations

import pytest
from tests.support.builders import VISA
from tests.support.settled_refunds import call
from tests.support.world import World

from refunds.domain.refund import Refund
from refunds.gateways.contract import Declined


def test_card_numbers_in_the_gateways_words_are_not_stored(world: World, claimed: Refund) -> None:
    world.gateway.answers.append(Declined(f"card_{VISA}", "card 4111 1111 1111 1111 is closed"))
    call(world, claimed)

    item = str(world.stack.items(world.stack.refunds_table))
    assert VISA not in item
    assert "4111 1111" not in item


@pytest.mark.parametrize("text", ["x" * 100_000, "4 " * 500_000, "é" * 3000])
def test_long_words_are_cut_and_take_no_long_time(world: World, claimed: Refund, text: str) -> None:
    world.gateway.answers.append(Declined("declined", text))
    call(world, claimed)

    message = world.stored().failure_message
    assert message is not None
    assert len(message.encode()) <= 256


def test_a_card_number_across_the_cut_leaves_no_part_of_it(world: World, claimed: Refund) -> None:
    world.gateway.answers.append(Declined("declined", "x" * 245 + " " + VISA))
    call(world, claimed)

    assert "4111" not in str(world.stored().failure_message)
