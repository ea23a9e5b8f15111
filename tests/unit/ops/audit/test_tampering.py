"""Every way to tamper with the audit trail that we could think of, and what `verify` says of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.support.audit_rows import Trail, moved, named, rehashed
from tests.support.builders import refund
from tests.support.tampering import Tamperings, assert_named_exactly, change

from refunds.domain.audit_entry import audit_entry
from refunds.domain.clock import rfc3339
from refunds.domain.refund import Status
from refunds.tables.state import Control
from refunds.tables.wire import item_to_wire

TAMPERED = Tamperings()
tampering = TAMPERED.add


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


@tampering(("refund_changed", "r1", 2), ("transition", "r1", 2))
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


@tampering(("transition", "r1", 3))
def begin_again_after_success(trail: Trail) -> None:
    begin_again(trail, "r1")
    trail.clock.advance(hours=1)


@tampering(("transition", "r5", 2))
def give_it_to_another_in_a_legal_change(trail: Trail) -> None:
    begun = trail.begin("r5", "p4", 700)
    trail.finish(begun, Status.SUCCEEDED, user_id="mallory")
    trail.deliver()
    trail.clock.advance(hours=1)


@tampering(("transition", "r3", 3), ("removed", "r3", 3), ("reservation_stray", "r3", None))
def remove_it_in_another_status(trail: Trail) -> None:
    trail.stream.delete_item(TableName=trail.stack.refunds_table, Key={"refund_id": {"S": "r3"}})
    trail.deliver()
    change(trail, "r3", 3, hash_too=True, status="FAILED", outcome="Refund Failed")


@tampering(("misplaced", None, None))
def add_a_version_before_the_first(trail: Trail) -> None:
    trail.put_entry(rehashed(moved(trail.entry("r1", 1), refund_id="r9", version=0)))


@tampering(("unreadable", "r1", 2))
def write_the_version_as_text(trail: Trail) -> None:
    trail.put_entry(trail.entry("r1", 2) | {"version": "2"})


@tampering(("unreadable", "r1", 2))
def take_away_when_it_was_recorded(trail: Trail) -> None:
    entry = trail.entry("r1", 2)
    del entry["recorded_at"]
    trail.put_entry(entry)


@tampering(("unreadable", "r1", 2))
def write_a_number_for_when_it_was_recorded(trail: Trail) -> None:
    change(trail, "r1", 2, recorded_at=5)


@tampering(("unreadable", "r1", 2))
def write_when_it_was_recorded_as_we_do_not(trail: Trail) -> None:
    change(trail, "r1", 2, recorded_at="2026-11-23T08:10:00+01:00")


@tampering(("unreadable", "r1", 2))
def say_that_it_was_rebuilt_and_not_by_whom(trail: Trail) -> None:
    change(trail, "r1", 2, rebuilt=True)


def begin_again(trail: Trail, refund_id: str) -> None:
    """As a request does whose refund the tables have forgotten: at the chain's next version."""
    there = trail.refunds.get(refund_id)
    assert there is not None
    at = rfc3339(trail.clock.now())
    new = replace(
        there,
        status=Status.PROCESSING,
        version=there.version + 1,
        previous_status=None,
        changed_fields=None,
        created_at=at,
        updated_at=at,
        previous_hash=audit_entry(there.item())["entry_hash"],
    )
    trail.stream.put_item(TableName=trail.stack.refunds_table, Item=item_to_wire(new.item()))
    trail.deliver()


def test_what_begins_again_soon_after_a_restore_is_told_but_no_finding(trail: Trail) -> None:
    control = Control(trail.client, trail.stack.ledger_table)
    trail.clock.advance(days=1)
    control.set_look_up_first(trail.clock.now() + timedelta(days=27))
    begin_again(trail, "r1")
    trail.clock.advance(days=60)
    report = trail.verify()
    assert report.findings == []
    assert any("Begun again after a restore" in note and "r1 v3" in note for note in report.notes)
    control.set_look_up_first(trail.clock.now() + timedelta(days=27))
    assert named(trail.verify().findings) == {("transition", "r1", 3)}


def test_a_refund_that_was_removed_may_begin_again(trail: Trail) -> None:
    there = trail.refunds.get("r3")
    assert there is not None
    trail.stream.delete_item(TableName=trail.stack.refunds_table, Key={"refund_id": {"S": "r3"}})
    at = rfc3339(trail.clock.now())
    trail.deliver()
    new = replace(
        refund(refund_id="r3", transaction_id="p2", amount_minor=there.amount_minor),
        version=4,
        updated_at=at,
        previous_hash=trail.entry("r3", 3)["entry_hash"],
    )
    trail.stream.put_item(TableName=trail.stack.refunds_table, Item=item_to_wire(new.item()))
    trail.deliver()
    trail.clock.advance(hours=1)
    assert trail.verify().findings == []


def test_an_untouched_stack_is_clean(trail: Trail) -> None:
    report = trail.verify()
    assert report.findings == []
    assert report.clean
    assert report.checked == {"refunds": 4, "entries": 9, "payments": 3}


@pytest.mark.parametrize("name", TAMPERED)
def test_verify_names_exactly(name: str, trail: Trail) -> None:
    assert_named_exactly(trail, *TAMPERED[name])


@pytest.mark.parametrize(
    ("accounts", "noted"),
    [
        (None, 0),
        ({"flair": "api.flair.example"}, 0),
        ({"flair": "other.flair.example"}, 1),
        ({"stripe": "api.stripe.com"}, 2),
    ],
    ids=["unknown", "the same", "another", "none"],
)
def test_paid_refunds_of_an_account_that_is_not_configured_are_counted(
    trail: Trail, accounts: dict[str, str] | None, noted: int
) -> None:
    """Their late reversals are not found: the sweep reads the configured accounts only."""
    begun = trail.begin("r8", "p8", 5, gateway_account="api.flair.example")
    trail.finish(begun, Status.SUCCEEDED, gateway_refund_id="gw-r8")
    trail.deliver()
    report = trail.verify(accounts=accounts)
    assert report.clean
    notes = [note for note in report.notes if "is not configured" in note]
    assert len(notes) == noted
    if noted:
        assert notes[-1].startswith("1 paid refunds of the last 180 days are at flair api.flair")
    trail.clock.advance(days=181)
    assert not [note for note in trail.verify(accounts=accounts).notes if "configured" in note]
