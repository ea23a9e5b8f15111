"""The refunds table's conditional writes: each does what it says once, and on what was read."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.builders import LEFT_OUT, NOW, refund
from tests.support.failing_client import Failing
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import IllegalTransitionError, Refund, Status, change_status
from refunds.tables.ledger import Ledger, LedgerTable
from refunds.tables.refunds import OPEN_SHARDS, Due, RefundsTable, shard_of

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


def test_a_share_is_given_back_once(world: World) -> None:
    there = world.put(refund())

    assert world.refunds.save(there, replace(there, uncounted={"user": "first"}))
    assert not world.refunds.save(there, replace(there, uncounted={"user": "second"}))
    assert world.stored().uncounted == {"user": "first"}


def test_a_refund_that_has_given_its_share_back_can_still_change(world: World) -> None:
    there = world.put(refund(uncounted={"user": "token"}))

    assert world.refunds.save(there, replace(there, open_shard="1", check_at=SOON))
    assert world.stored().open_shard == "1"


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


def test_each_refund_is_read_by_itself_when_a_batch_leaves_it_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [refund(refund_id=f"refund-{number}") for number in range(2)]
    for each in there:
        world.refunds.put_new(each)
    assert dict(world.refunds.get_each(["refund-0", "refund-2"])) == {
        "refund-0": there[0],
        "refund-2": None,
    }

    monkeypatch.setattr(world.refunds, "get_many", lambda ids: {})
    assert [found for _, found in world.refunds.get_each(["refund-0", "refund-1"])] == there


def test_many_refunds_are_read_at_once_without_those_that_are_not_there(world: World) -> None:
    there = refund(refund_id="refund-2")
    world.refunds.put_new(there)

    assert world.refunds.get_many(["refund-1", "refund-2"]) == {"refund-2": there}
    assert world.refunds.get_many([]) == {}


def test_statuses_that_dynamodb_left_out_are_left_out_or_an_error() -> None:
    asked: list[int] = []

    class Busy:
        def batch_get_item(self, *, RequestItems: Any) -> Any:  # noqa: N803
            keys = RequestItems["table"]["Keys"]
            asked.append(len(keys))
            found = [key | {"status": {"S": "PENDING"}} for key in keys[1:]]
            return {
                "Responses": {"table": found},
                "UnprocessedKeys": {"table": {"Keys": keys[:1]}},
            }

    client: Any = Busy()
    table = RefundsTable(client, "table")
    names = [f"r{number}" for number in range(150)]
    assert set(table.statuses(names)) == set(names) - {"r0", "r100"}
    assert asked == [100, 50]
    with pytest.raises(ClientError, match="ThrottlingException"):
        table.statuses(names, complete=True)
