"""The ledger's conditional writes: money is held once, given back once, and never too much."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.world import World

from refunds.tables.ledger import Ledger, LedgerRead, LedgerTable


def read(ledger: LedgerTable) -> Ledger:
    found = ledger.get("payment-1")
    assert found is not None
    return found


def test_a_ledger_is_begun_with_its_first_reservation(ledger: LedgerTable) -> None:
    assert read(ledger) == Ledger("payment-1", 10_000, 9_000, "USD", {"refund-0": 1000})


def test_a_ledger_is_begun_once(world: World, ledger: LedgerTable) -> None:
    again: dict[str, Any] = {
        "captured_minor": 1,
        "remaining_minor": 1,
        "currency": "EUR",
        "amount_minor": 1,
    }

    assert not ledger.open("payment-1", refund_id="refund-1", **again)
    assert read(ledger).captured == 10_000


def test_a_released_refund_cannot_begin_a_ledger(world: World) -> None:
    world.ledger.release("payment-1", "refund-1")

    with pytest.raises(AssertionError):
        world.open_ledger("payment-1", "refund-1", 100)
    assert world.held() == 0


def test_all_that_remains_can_be_held_and_not_one_unit_more(ledger: LedgerTable) -> None:
    assert not ledger.reserve("payment-1", "refund-1", 9_001)
    assert ledger.reserve("payment-1", "refund-1", 9_000)
    assert read(ledger).remaining == 0
    assert not ledger.reserve("payment-1", "refund-2", 1)


def test_a_refund_is_held_once(ledger: LedgerTable) -> None:
    assert not ledger.reserve("payment-1", "refund-0", 1000)
    assert not ledger.reserve("payment-1", "refund-0", 9_000, remaining_minor=9_000)
    assert read(ledger).remaining == 9_000


def test_a_transaction_without_a_ledger_holds_nothing(world: World) -> None:
    assert not world.ledger.reserve("payment-1", "refund-1", 1)
    assert world.ledger.get("payment-1") is None


def test_holding_all_means_exactly_what_was_read(ledger: LedgerTable) -> None:
    assert not ledger.reserve("payment-1", "refund-1", 8_999, remaining_minor=8_999)
    assert not ledger.reserve("payment-1", "refund-1", 9_001, remaining_minor=9_001)
    assert ledger.reserve("payment-1", "refund-1", 9_000, remaining_minor=9_000)
    assert read(ledger).reservations["refund-1"] == 9_000


def test_a_release_gives_back_once_and_leaves_a_tombstone(ledger: LedgerTable) -> None:
    given_back = [ledger.release("payment-1", "refund-0") for _ in range(2)]

    assert given_back == [True, False]
    assert read(ledger) == Ledger("payment-1", 10_000, 10_000, "USD", {"refund-0": 0})
    assert not ledger.reserve("payment-1", "refund-0", 1)


def test_a_refund_that_never_reserved_is_barred_from_doing_so_later(ledger: LedgerTable) -> None:
    assert not ledger.release("payment-1", "refund-1")

    assert read(ledger).remaining == 9_000
    assert not ledger.reserve("payment-1", "refund-1", 1)


def test_a_tombstone_alone_is_no_ledger_yet(world: World) -> None:
    world.ledger.release("payment-1", "refund-0")
    tombstone = world.ledger.get("payment-1")
    assert tombstone == Ledger("payment-1", reservations={"refund-0": 0})
    assert tombstone.moved_unreserved_minor == 0

    world.open_ledger("payment-1", "refund-1", 100)
    assert world.remaining() == 9_900


class Slippery:
    """A ledger in which a reservation comes whenever it is looked for and goes again."""

    def update_item(self, **arguments: Any) -> Any:
        held = {"r#refund-1": {"N": "5"}}
        response: Any = {
            "Error": {"Code": "ConditionalCheckFailedException", "Message": ""},
            "Item": held,
        }
        raise ClientError(response, "UpdateItem")


def test_a_release_gives_up_in_the_end_and_says_so() -> None:
    slippery: Any = Slippery()
    with pytest.raises(RuntimeError, match="refund-1"):
        LedgerTable(slippery, "t").release("payment-1", "refund-1")


def test_a_release_that_failed_is_raised_and_not_tried_otherwise(world: World) -> None:
    world.open_ledger("payment-1", "refund-0", 1000)

    class FailsOnce:
        failed = False

        def update_item(self, **arguments: Any) -> Any:
            if not self.failed:
                self.failed = True
                raise ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, "UpdateItem")
            return world.stack.clients.dynamodb.update_item(**arguments)

    failing: Any = FailsOnce()
    with pytest.raises(ClientError, match="AccessDenied"):
        LedgerTable(failing, world.stack.ledger_table).release("payment-1", "refund-0")
    assert world.held("refund-0") == 1000


def test_a_recount_sets_the_balance_only_on_what_was_read(ledger: LedgerTable) -> None:
    seen = read(ledger)
    assert ledger.recount(seen, captured_minor=12_000, remaining_minor=700, currency="USD")
    assert (read(ledger).captured, read(ledger).remaining) == (12_000, 700)

    assert not ledger.recount(seen, captured_minor=1, remaining_minor=1, currency="USD")
    assert (read(ledger).captured, read(ledger).remaining) == (12_000, 700)


@pytest.mark.parametrize("change", ["reserve", "release"])
def test_a_recount_after_any_reservation_or_release_is_refused(
    ledger: LedgerTable, change: str
) -> None:
    seen = read(ledger)
    if change == "reserve":
        ledger.reserve("payment-1", "refund-1", 1)
    else:
        ledger.release("payment-1", "refund-0")

    assert not ledger.recount(seen, captured_minor=1, remaining_minor=1, currency="USD")


def test_a_rebuilt_ledger_is_put_only_on_what_was_read(ledger: LedgerTable) -> None:
    before = read(ledger)
    new = replace(before, remaining=1)

    assert ledger.replace(before, new)
    assert read(ledger) == new
    assert not ledger.replace(before, new)


def test_a_rebuilt_ledger_does_not_undo_what_was_released_or_reserved_meanwhile(
    world: World,
) -> None:
    """A refund that holds nothing and releases leaves the balance as it was."""
    world.open_ledger("payment-1", "refund-0", 1000)
    before = world.ledger.get("payment-1")
    assert before is not None
    new = replace(before, reservations={"refund-0": 1000, "refund-1": 100})
    world.ledger.release("payment-1", "refund-1")

    assert not world.ledger.replace(before, new)
    assert world.held("refund-1") == 0


def test_a_recount_begins_a_ledger_that_has_none(world: World) -> None:
    none = Ledger("payment-1")
    assert world.ledger.recount(none, captured_minor=10, remaining_minor=3, currency="USD")
    assert world.remaining() == 3

    assert not world.ledger.recount(none, captured_minor=10, remaining_minor=9, currency="USD")
    assert world.remaining() == 3


def test_a_refund_that_only_the_gateway_had_is_held_by_a_recount(ledger: LedgerTable) -> None:
    assert ledger.recount(
        read(ledger),
        captured_minor=10_000,
        remaining_minor=8_500,
        currency="USD",
        hold={"refund-1": 500},
    )
    assert read(ledger).reservations == {"refund-0": 1000, "refund-1": 500}
    assert not ledger.recount(
        read(ledger),
        captured_minor=10_000,
        remaining_minor=0,
        currency="USD",
        hold={"refund-1": 500},
    )


def test_many_ledgers_are_read_at_once_and_a_missing_one_is_known_to_be_missing(
    world: World,
) -> None:
    world.open_ledger("payment-1", "refund-1", 2500)
    world.open_ledger("payment-2", "refund-2", 100)

    found = world.ledger.read_many(["payment-1", "payment-2", "payment-1", "payment-3"])

    assert found == {
        "payment-1": LedgerRead(world.ledger.get("payment-1")),
        "payment-2": LedgerRead(world.ledger.get("payment-2")),
        "payment-3": LedgerRead(None),
    }


def test_no_request_names_more_keys_than_dynamodb_takes_and_what_it_leaves_out_is_not_known() -> (
    None
):
    requests: list[Any] = []

    class Client:
        def batch_get_item(self, *, RequestItems: Any) -> Any:  # noqa: N803
            keys = RequestItems["Ledger"]["Keys"]
            requests.append(keys)
            assert RequestItems["Ledger"]["ConsistentRead"]
            return {"Responses": {}, "UnprocessedKeys": {"Ledger": {"Keys": keys[:1]}}}

    names = [f"payment-{number}" for number in range(150)]
    client: Any = Client()

    found = LedgerTable(client, "Ledger").read_many(names)

    assert [len(each) for each in requests] == [100, 50]
    assert set(names) - set(found) == {"payment-0", "payment-100"}
    assert set(found.values()) == {LedgerRead(None)}
