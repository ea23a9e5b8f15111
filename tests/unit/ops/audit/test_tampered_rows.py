"""Every way to tamper with refunds and the ledger that we thought of, and what `verify` says."""

from __future__ import annotations

import pytest
from tests.support.audit_rows import Trail
from tests.support.tampering import Tamperings, assert_named_exactly

from refunds.domain.refund import Status

TAMPERED = Tamperings()
tampering = TAMPERED.add


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
    trail.edit_ledger("p1", captured="many")


@tampering(("ledger_unreadable", None, None))
def capture_more_than_any_payment(trail: Trail) -> None:
    trail.edit_ledger("p1", captured=10**20)


@tampering(("ledger_unreadable", None, None))
def reserve_more_than_any_payment(trail: Trail) -> None:
    trail.edit_ledger("p1", **{"r#r1": 10**20})


@tampering(("ledger_unreadable", None, None))
def reserve_more_than_sums_can_hold(trail: Trail) -> None:
    trail.edit_ledger("p1", **{f"r#ghost-{number}": 2**53 - 1 for number in range(1_025)})


@tampering(("ledger_unreadable", None, None))
def reserve_for_no_refund(trail: Trail) -> None:
    trail.edit_ledger("p1", **{"r#": 5, "remaining": 10**8 - 3_505})


@tampering(("ledger_unreadable", None, None))
def reserve_for_a_refund_with_an_endless_id(trail: Trail) -> None:
    trail.edit_ledger("p1", **{"r#" + "x" * 3_000: 5, "remaining": 10**8 - 3_505})


@tampering(("ledger_unreadable", None, None))
def free_money_with_a_negative_reservation(trail: Trail) -> None:
    trail.edit_ledger("p1", captured=5_000, **{"r#ghost": -100_000, "remaining": 101_500})


@tampering(("ledger_unreadable", None, None))
def take_the_ledgers_currency_away(trail: Trail) -> None:
    trail.edit_ledger("p1", currency=None)


@tampering(("reservation_differs", "r1", 2), ("reservation_differs", "r2", 2))
def edit_the_ledgers_currency(trail: Trail) -> None:
    trail.edit_ledger("p1", currency="JPY")


@tampering(("reservation_left", "r4", 3))
def hold_money_as_if_it_was_about_to_be_released(trail: Trail) -> None:
    trail.edit_ledger("p3", **{"r#r4": 500, "remaining": 10**8 - 500})
    trail.edit_refund("r4", open_since="9999-12-31T23:59:59.999999Z")


@pytest.mark.parametrize("name", TAMPERED)
def test_verify_names_exactly(name: str, trail: Trail) -> None:
    assert_named_exactly(trail, *TAMPERED[name])
