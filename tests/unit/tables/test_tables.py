"""The tables' conditional writes: each does what it says once, and only on what was read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.builders import LEFT_OUT, NOW, refund
from tests.support.world import World

from refunds.domain.audit_entry import audit_entry
from refunds.domain.clock import rfc3339
from refunds.domain.refund import IllegalTransitionError, Refund, Status, change_status
from refunds.tables.audit_trail import AuditTable
from refunds.tables.ledger import Ledger, LedgerTable
from refunds.tables.refunds import OPEN_SHARDS, Due, RefundsTable, shard_of
from refunds.tables.wire import item_to_wire

MINE = "my-attempt"
SOON = rfc3339(NOW + timedelta(minutes=5))


def succeeded(there: Refund) -> Refund:
    return change_status(there, Status.SUCCEEDED, at=SOON, by="f:1", previous_hash="h")


# Refunds


def test_a_new_refund_is_stored_as_it_is(world: World) -> None:
    there = refund(metadata={"a": "b"})

    assert world.refunds.put_new(there) is None
    assert world.stored() == there


def test_no_refund_is_there_before_it_was_put(world: World) -> None:
    assert world.refunds.get("refund-1") is None


def test_a_refund_that_is_there_is_returned_and_not_overwritten(world: World) -> None:
    there = world.put(refund())

    assert world.refunds.put_new(refund(attempt_token=MINE, user_id="other")) == there
    assert world.stored() == there


def test_our_own_put_whose_answer_was_lost_counts_as_stored(world: World) -> None:
    world.put(refund(attempt_token=MINE))

    assert world.refunds.put_new(refund(attempt_token=MINE)) is None


def test_a_change_replaces_exactly_what_differs(world: World) -> None:
    old = world.put(refund(open_shard="1", check_at=SOON, open_since=SOON))
    new = replace(succeeded(old), open_shard=None, check_at=None, open_since=None)

    assert world.refunds.save(old, new)
    assert world.stored() == new


def test_a_change_to_the_same_needs_no_write(world: World) -> None:
    assert world.refunds.save(refund(), refund())  # nothing is stored at all


@pytest.mark.parametrize(
    "meanwhile",
    [
        {"version": 2},
        {"status": Status.PENDING},
        {"attempt_token": "another"},
        {"attempt_token": LEFT_OUT},
    ],
    ids=["version", "status", "another token", "no token"],
)
def test_a_change_of_what_somebody_else_has_changed_is_refused(
    world: World, meanwhile: dict[str, Any]
) -> None:
    there = world.put(refund(**meanwhile))

    assert not world.refunds.save(refund(), succeeded(refund()))
    assert world.stored() == there


def test_a_refund_without_a_token_is_fenced_by_having_none(world: World) -> None:
    without = refund(attempt_token=LEFT_OUT)
    world.put(refund(attempt_token=MINE))

    assert not world.refunds.save(without, succeeded(without))


def test_our_own_change_whose_answer_was_lost_counts_as_done(world: World) -> None:
    old = world.put(refund())
    new = succeeded(old)
    world.refunds.save(old, new)

    assert world.refunds.save(old, new)


def test_somebody_elses_change_to_nearly_the_same_is_not_ours(world: World) -> None:
    old = world.put(refund())
    world.refunds.save(old, succeeded(old))

    assert not world.refunds.save(old, replace(succeeded(old), processed_by="g:2"))


def test_a_change_of_a_refund_that_is_gone_is_refused(world: World) -> None:
    assert not world.refunds.save(refund(), succeeded(refund()))
    assert world.refunds.get("refund-1") is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Status.SUCCEEDED, Status.FAILED),
        (Status.FAILED, Status.SUCCEEDED),
        (Status.PENDING, Status.PROCESSING),
    ],
)
def test_an_illegal_transition_never_gets_to_the_table(
    world: World, old: Status, new: Status
) -> None:
    there = world.put(refund(status=old))

    with pytest.raises(IllegalTransitionError):
        world.refunds.save(there, replace(there, status=new))
    assert world.stored() == there


def test_a_finished_refund_leaves_the_index_even_if_another_put_it_there(world: World) -> None:
    ours = world.put(refund())
    put_in = replace(ours, open_since=SOON, open_shard=shard_of("refund-1"), check_at=SOON)
    assert world.refunds.save(ours, put_in)

    assert world.refunds.save(ours, replace(succeeded(ours), lease_until=None))
    assert world.stored().open_shard is None
    assert world.refunds.due(shard_of("refund-1"), SOON, 10) == []


def test_due_refunds_of_a_shard_come_oldest_first_and_bounded(world: World) -> None:
    for number, minutes in enumerate((3, 1, 2, 9)):
        at = rfc3339(NOW + timedelta(minutes=minutes))
        world.put(refund(refund_id=f"r{number}", open_shard="5", check_at=at), held=0)
    world.put(refund(refund_id="other", open_shard="6", check_at=rfc3339(NOW)), held=0)
    world.put(refund(refund_id="closed"), held=0)

    assert world.refunds.due("5", SOON, 10) == ["r1", "r2", "r0"]
    assert world.refunds.due("5", SOON, 2) == ["r1", "r2"]
    assert world.refunds.due("5", rfc3339(NOW + timedelta(minutes=1)), 10) == ["r1"]


def test_the_look_at_a_refund_that_cannot_be_read_is_put_off_once(world: World) -> None:
    world.put(refund(open_shard="1", check_at=SOON, open_since=SOON))
    later = rfc3339(NOW + timedelta(hours=1))
    due = Due(SOON, "refund-1", "1")

    assert world.refunds.put_off(due, later)
    assert world.stored().check_at == later
    assert not world.refunds.put_off(due, later)  # it has changed since


def test_refunds_are_spread_over_all_shards() -> None:
    shards = {shard_of(f"refund-{number}") for number in range(100)}

    assert shards == {str(number) for number in range(OPEN_SHARDS)}
    assert shard_of("refund-1") == shard_of("refund-1")


class Mute:
    """A client whose failed conditions keep the item to themselves, as some engines do."""

    def __init__(self, client: Any, code: str | None = None) -> None:
        self._client = client
        self._code = code

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def mute(**arguments: Any) -> Any:
            try:
                return call(**arguments)
            except ClientError as exc:
                response: Any = exc.response
                response.pop("Item", None)
                raise

        return mute if name in ("put_item", "update_item") else call


def test_an_engine_that_keeps_the_old_item_to_itself_is_asked_for_it(world: World) -> None:
    there = world.put(refund())
    mute: Any = Mute(world.stack.clients.dynamodb)
    table = RefundsTable(mute, world.stack.refunds_table)

    assert table.put_new(refund(attempt_token=MINE)) == there
    new = succeeded(there)
    assert world.refunds.save(there, new)
    assert table.save(there, new)
    assert not table.save(there, replace(new, processed_by="other"))


def test_a_refund_that_is_neither_stored_nor_there_is_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(refund())
    mute: Any = Mute(world.stack.clients.dynamodb)
    table = RefundsTable(mute, world.stack.refunds_table)
    monkeypatch.setattr(table, "get", lambda refund_id: None)

    with pytest.raises(ClientError):
        table.put_new(refund(attempt_token=MINE))


class Failing:
    """A client whose writes fail for another reason than their condition."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def fail(**arguments: Any) -> Any:
            code = "ProvisionedThroughputExceededException"
            raise ClientError({"Error": {"Code": code, "Message": ""}}, name)

        return fail


def test_an_error_that_is_no_failed_condition_is_never_an_answer() -> None:
    failing: Any = Failing()
    refunds, ledger = RefundsTable(failing, "t"), LedgerTable(failing, "t")

    for write in (
        lambda: refunds.put_new(refund()),
        lambda: refunds.save(refund(), succeeded(refund())),
        lambda: ledger.reserve("t", "r", 1),
        lambda: ledger.release("t", "r"),
        lambda: ledger.replace(None, Ledger("t")),
    ):
        with pytest.raises(ClientError):
            write()


# The ledger


@pytest.fixture
def ledger(world: World) -> LedgerTable:
    """10,000 captured, of which refund-0 holds 1,000."""
    world.open_ledger("payment-1", "refund-0", 1000)
    return world.ledger


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
    ledger.release("payment-1", "refund-0")
    ledger.release("payment-1", "refund-0")

    assert read(ledger) == Ledger("payment-1", 10_000, 10_000, "USD", {"refund-0": 0})
    assert not ledger.reserve("payment-1", "refund-0", 1)


def test_a_refund_that_never_reserved_is_barred_from_doing_so_later(ledger: LedgerTable) -> None:
    ledger.release("payment-1", "refund-1")

    assert read(ledger).remaining == 9_000
    assert not ledger.reserve("payment-1", "refund-1", 1)


def test_a_tombstone_alone_is_no_ledger_yet(world: World) -> None:
    world.ledger.release("payment-1", "refund-0")
    assert world.ledger.get("payment-1") == Ledger("payment-1", reservations={"refund-0": 0})

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
        adopt=("refund-1", 500),
    )
    assert read(ledger).reservations == {"refund-0": 1000, "refund-1": 500}
    assert not ledger.recount(
        read(ledger),
        captured_minor=10_000,
        remaining_minor=0,
        currency="USD",
        adopt=("refund-1", 500),
    )


# The audit trail


def test_an_entry_is_put_once_and_the_one_there_is_returned(world: World) -> None:
    entry = audit_entry(refund().item())

    assert world.audit.put_new(entry) is None
    assert world.audit.put_new(entry | {"recorded_at": "later"}) == entry
    assert world.stack.items(world.stack.audit_table) == [entry]


def test_the_latest_entry_of_a_refund_is_found_among_others(world: World) -> None:
    for there in (
        refund(version=1),
        refund(version=2),
        refund(version=10),
        refund(refund_id="refund-11", version=99),
        refund(transaction_id="payment-2", version=50),
    ):
        world.audit.put_new(audit_entry(there.item()))
    theirs = {"transaction_id": "payment-1", "entry_id": "REFUND#refund-1#~", "record_type": "X"}
    world.stack.clients.dynamodb.put_item(
        TableName=world.stack.audit_table, Item=item_to_wire(theirs)
    )

    latest = world.audit.latest("payment-1", "refund-1")
    assert latest is not None
    assert latest["version"] == 10
    assert world.audit.latest("payment-1", "refund") is None


def test_an_audit_error_that_is_no_failed_condition_is_raised() -> None:
    failing: Any = Failing()
    with pytest.raises(ClientError):
        AuditTable(failing, "t").put_new({})
