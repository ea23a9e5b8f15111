"""Every way to tamper with what is stored that we could think of, and what `verify` says of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.unit.audit.factories import Trail, moved, named, rehashed

from refunds.refund import Status

Tamper = Callable[[Trail], None]
Names = set[tuple[str, str | None, int | None]]

TAMPERED: dict[str, tuple[Tamper, Names]] = {}


def tampering(*names: tuple[str, str | None, int | None]) -> Callable[[Tamper], Tamper]:
    """A way to tamper, and all that `verify` must find, no more and no less."""

    def add(tamper: Tamper) -> Tamper:
        TAMPERED[tamper.__name__] = (tamper, set(names))
        return tamper

    return add


def change(
    trail: Trail, refund_id: str, version: int, *, hash_too: bool = False, **new: object
) -> None:
    entry = trail.entry(refund_id, version) | new
    trail.put_entry(rehashed(entry) if hash_too else entry)


@tampering(("changed", "r1", 2))
def edit_the_amount(trail: Trail) -> None:
    entry = trail.entry("r1", 2)
    trail.put_entry(entry | {"details": entry["details"] | {"amount_minor": 1}})


@tampering(("changed", "r1", 2))
def edit_the_actor(trail: Trail) -> None:
    change(trail, "r1", 2, processed_by="operator:mallory")


@tampering(("changed", "r1", 1))
def edit_the_time(trail: Trail) -> None:
    change(trail, "r1", 1, occurred_at="2020-01-01T00:00:00.000000Z")


@tampering(("changed", "r1", 2))
def edit_the_outcome(trail: Trail) -> None:
    change(trail, "r1", 2, status="FAILED", outcome="Refund Failed")


@tampering(("changed", "r1", 2))
def add_an_attribute(trail: Trail) -> None:
    change(trail, "r1", 2, note="all in order")


@tampering(("changed", "r1", 2))
def edit_only_the_hash(trail: Trail) -> None:
    change(trail, "r1", 2, entry_hash="0" * 64)


@tampering(("unreadable", "r1", 2))
def take_the_hash_away(trail: Trail) -> None:
    entry = trail.entry("r1", 2)
    del entry["entry_hash"]
    trail.put_entry(entry)


@tampering(("chain", "r1", 2))
def edit_the_first_with_its_hash(trail: Trail) -> None:
    change(trail, "r1", 1, hash_too=True, requested_by="agent:mallory")


@tampering(("refund_changed", "r1", 2))
def edit_the_last_with_its_hash(trail: Trail) -> None:
    change(trail, "r1", 2, hash_too=True, requested_by="agent:mallory")


@tampering(("gap", "r4", 1))
def drop_the_first(trail: Trail) -> None:
    trail.drop_entry("r4", 1)


@tampering(("gap", "r4", 2))
def drop_the_middle(trail: Trail) -> None:
    trail.drop_entry("r4", 2)


@tampering(("gap", "r4", 3))
def drop_the_last(trail: Trail) -> None:
    trail.drop_entry("r4", 3)


@tampering(("gap", "r4", 2))
def truncate(trail: Trail) -> None:
    trail.drop_entry("r4", 2)
    trail.drop_entry("r4", 3)


@tampering(("no_entries", "r4", 3))
def drop_all(trail: Trail) -> None:
    for version in (1, 2, 3):
        trail.drop_entry("r4", version)


@tampering(("changed", "r4", 1), ("changed", "r4", 2))
def swap_two(trail: Trail) -> None:
    one, two = trail.entry("r4", 1), trail.entry("r4", 2)
    for here, there in ((one, two), (two, one)):
        trail.put_entry(there | {"entry_id": here["entry_id"], "version": here["version"]})


@tampering(("misplaced", "r4", 1), ("misplaced", "r4", 2))
def swap_two_as_they_are(trail: Trail) -> None:
    one, two = trail.entry("r4", 1), trail.entry("r4", 2)
    trail.put_entry(two | {"entry_id": one["entry_id"]})
    trail.put_entry(one | {"entry_id": two["entry_id"]})


@tampering(("chain", "r4", 1), ("transition", "r4", 1), ("chain", "r4", 2), ("chain", "r4", 3))
def swap_two_with_their_hashes(trail: Trail) -> None:
    one, two = trail.entry("r4", 1), trail.entry("r4", 2)
    trail.put_entry(rehashed(moved(two, version=1)))
    trail.put_entry(rehashed(moved(one, version=2)))


@tampering(("double", "r1", 2))
def duplicate_under_another_payment(trail: Trail) -> None:
    trail.put_entry(rehashed(trail.entry("r1", 2) | {"transaction_id": "p9"}))


@tampering(("refund_behind", "r1", 2), ("transition", "r1", 3))
def duplicate_as_the_next_version(trail: Trail) -> None:
    last = trail.entry("r1", 2)
    trail.put_entry(rehashed(moved(last, version=3) | {"previous_hash": last["entry_hash"]}))


@tampering(("misplaced", None, None))
def duplicate_under_a_key_of_its_own(trail: Trail) -> None:
    trail.put_entry(trail.entry("r1", 2) | {"entry_id": "REFUND#r1#2"})


@tampering(("misplaced", "r2", 2))
def splice_from_another_refund(trail: Trail) -> None:
    trail.put_entry(trail.entry("r1", 2) | {"entry_id": trail.entry("r2", 2)["entry_id"]})


@tampering(("chain", "r2", 2), ("refund_changed", "r2", 2))
def splice_with_new_names_and_hash(trail: Trail) -> None:
    trail.put_entry(rehashed(moved(trail.entry("r1", 2), refund_id="r2")))


@tampering(("misplaced", "r1", 2), ("gap", "r1", 2))
def move_to_another_payment(trail: Trail) -> None:
    trail.put_entry(rehashed(trail.drop_entry("r1", 2) | {"transaction_id": "p2"}))


@tampering(("orphan", "r7", 1))
def invent_a_refund_in_the_trail(trail: Trail) -> None:
    trail.put_entry(rehashed(moved(trail.entry("r1", 1), refund_id="r7")))


@tampering(("gap", "r1", 2))
def disguise_an_entry_as_a_payment_record(trail: Trail) -> None:
    change(trail, "r1", 2, record_type="PAYMENT")


@tampering(("misplaced", None, None))
def disguise_a_payment_record_as_a_refunds(trail: Trail) -> None:
    trail.put_entry(
        {"transaction_id": "p1", "entry_id": "PAYMENT#p1#000001", "record_type": "REFUND"}
    )


@tampering(("unreadable", "r9", 1), ("orphan", "r9", 1))
def disguise_a_payment_record_under_a_refunds_key(trail: Trail) -> None:
    trail.put_entry(
        {
            "transaction_id": "p1",
            "entry_id": "REFUND#r9#000001",
            "record_type": "REFUND",
            "refund_id": "r9",
            "version": 1,
            "entry_hash": "0" * 64,
            "amount": 2 * 10**20,
        }
    )


# --- The refunds and the ledger -------------------------------------------------------------------


@tampering(("refund_changed", "r1", 2))
def edit_a_refunds_actor(trail: Trail) -> None:
    trail.edit_refund("r1", processed_by="operator:mallory")


@tampering(("refund_changed", "r1", 2), ("reservation_left", "r1", 2))
def edit_a_refunds_status(trail: Trail) -> None:
    trail.edit_refund("r1", status=Status.FAILED.value)


@tampering(("refund_changed", "r1", 2), ("reservation_differs", "r1", 2))
def edit_a_refunds_amount(trail: Trail) -> None:
    trail.edit_refund("r1", amount_minor=2_499)


@tampering(("gap", "r1", 3))
def edit_a_refund_as_a_new_version(trail: Trail) -> None:
    trail.edit_refund("r1", version=3, processed_by="operator:mallory")


@tampering(("refund_behind", "r4", 2), ("reservation_missing", "r4", 2))
def put_an_older_version_back(trail: Trail) -> None:
    older = trail.stream.records[-1]
    for record in trail.stream.records:
        if record["dynamodb"]["Keys"] == {"refund_id": {"S": "r4"}}:
            image = record["dynamodb"]["NewImage"]
            older = image if image["version"] == {"N": "2"} else older
    trail.client.put_item(TableName=trail.stack.refunds_table, Item=older)


@tampering(("refund_unreadable", "r1", None))
def make_a_refund_unreadable(trail: Trail) -> None:
    trail.edit_refund("r1", version=[1])


@tampering(("orphan", "r3", 2), ("reservation_stray", "r3", None))
def delete_a_refund_behind_the_streams_back(trail: Trail) -> None:
    trail.client.delete_item(TableName=trail.stack.refunds_table, Key={"refund_id": {"S": "r3"}})


@tampering(("reservation_stray", "r1", None))
def delete_a_refund_with_its_whole_trail(trail: Trail) -> None:
    trail.client.delete_item(TableName=trail.stack.refunds_table, Key={"refund_id": {"S": "r1"}})
    for version in (1, 2):
        trail.drop_entry("r1", version)


@tampering(("reservation_missing", "r1", 2), ("balance", None, None))
def free_a_paid_refunds_money(trail: Trail) -> None:
    trail.edit_ledger("p1", **{"r#r1": 0, "remaining": 10**8 - 1})


@tampering(("reservation_missing", "r1", 2))
def forget_a_reservation(trail: Trail) -> None:
    trail.edit_ledger("p1", **{"r#r1": None})


@tampering(("reservation_differs", "r1", 2))
def lower_a_reservation(trail: Trail) -> None:
    trail.edit_ledger("p1", **{"r#r1": 2_400})


@tampering(("reservation_left", "r4", 3))
def hold_money_for_a_refund_that_ended(trail: Trail) -> None:
    trail.edit_ledger("p3", **{"r#r4": 500, "remaining": 10**8 - 500})


@tampering(("balance", None, None))
def raise_what_remains(trail: Trail) -> None:
    trail.edit_ledger("p1", remaining=10**8 - 3_499)


@tampering(("overdrawn", None, None))
def overdraw(trail: Trail) -> None:
    trail.edit_ledger("p1", remaining=-1)


@tampering(("overdrawn", None, None))
def lower_what_was_captured(trail: Trail) -> None:
    trail.edit_ledger("p1", captured=3_000)


@tampering(("ledger_unreadable", None, None))
def make_a_ledger_unreadable(trail: Trail) -> None:
    trail.edit_ledger("p3", captured="many")


def test_an_untouched_stack_is_clean(trail: Trail) -> None:
    report = trail.verify()
    assert report.findings == []
    assert report.clean
    assert report.checked == {"refunds": 4, "entries": 9, "payments": 3}


@pytest.mark.parametrize("name", TAMPERED)
def test_verify_names_exactly(name: str, trail: Trail) -> None:
    tamper, expected = TAMPERED[name]
    tamper(trail)
    report = trail.verify()
    assert named(report.findings) == expected
    assert len(report.findings) == len(expected)
    for finding in report.findings:
        assert finding.what
        assert finding.to_do
