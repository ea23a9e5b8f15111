"""A refund's rules: what may follow what, and what each change records; money; instants."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.builders import NOW, FakeClock, refund

from refunds.domain.clock import Deadline, from_rfc3339, later, rfc3339
from refunds.domain.money import EXPONENTS, Money
from refunds.domain.refund import (
    AUDITED,
    ENDED_WITHOUT_MONEY,
    ONLY_BY_A_PERSON,
    OUTCOMES,
    TRANSITIONS,
    IllegalTransitionError,
    Refund,
    Status,
    approved_version,
    change_status,
    restored_version,
    short_text,
)

LEGAL = {
    ("AWAITING_APPROVAL", "PROCESSING"),
    ("AWAITING_APPROVAL", "REJECTED"),
    ("PROCESSING", "SUCCEEDED"),
    ("PROCESSING", "FAILED"),
    ("PROCESSING", "PENDING"),
    ("PROCESSING", "IN_REVIEW"),
    ("PENDING", "SUCCEEDED"),
    ("PENDING", "FAILED"),
    ("PENDING", "IN_REVIEW"),
    ("IN_REVIEW", "SUCCEEDED"),
    ("IN_REVIEW", "FAILED"),
    ("SUCCEEDED", "REVERSED"),
}
LATER = rfc3339(NOW + timedelta(seconds=1))
MINE = "t"


@pytest.mark.parametrize(("old", "new"), list(product(Status, Status)))
def test_only_the_designs_transitions_are_legal(old: Status, new: Status) -> None:
    before = refund(status=old)
    if (old, new) in LEGAL:
        assert change_status(before, new, at=LATER, by="f:1", previous_hash="h").status is new
    else:
        with pytest.raises(IllegalTransitionError):
            change_status(before, new, at=LATER, by="f:1", previous_hash="h")


def test_every_status_has_transitions_and_the_outcome_shown_to_people() -> None:
    assert set(TRANSITIONS) == set(OUTCOMES) == set(Status)
    assert {status: OUTCOMES[status].split()[1] for status in Status} == {
        Status.SUCCEEDED: "Successful",
        Status.FAILED: "Failed",
        Status.REJECTED: "Failed",
        Status.REVERSED: "Failed",
        Status.AWAITING_APPROVAL: "Pending",
        Status.PROCESSING: "Pending",
        Status.PENDING: "Pending",
        Status.IN_REVIEW: "Pending",
    }


def test_what_ended_without_money_is_final_but_for_a_person() -> None:
    assert {Status.REJECTED, Status.FAILED, Status.REVERSED} == ENDED_WITHOUT_MONEY
    for status in ENDED_WITHOUT_MONEY:
        assert all((status, later) in ONLY_BY_A_PERSON for later in TRANSITIONS[status])


def test_a_change_raises_the_version_and_records_what_it_replaces() -> None:
    new = change_status(
        refund(version=3, processed_by="f:1"),
        Status.FAILED,
        at=LATER,
        by="g:2",
        previous_hash="abc",
        failure_code="declined",
    )

    assert (new.version, new.previous_status, new.previous_hash) == (4, Status.PROCESSING, "abc")
    assert (new.updated_at, new.processed_by) == (LATER, "g:2")
    assert new.changed_fields == ("status", "processed_by", "failure_code")


def test_fields_that_keep_their_value_are_not_listed_as_changed() -> None:
    new = change_status(
        refund(processed_by="f:1", gateway_refund_id="gw-1"),
        Status.SUCCEEDED,
        at=LATER,
        by="f:1",
        previous_hash="h",
        gateway_refund_id="gw-1",
        lease_until=None,
    )

    assert new.changed_fields == ("status",)


@pytest.mark.parametrize("on_behalf_of", [None, "the shop"])
def test_a_restored_version_says_who_restored_it_and_on_whose_behalf(
    on_behalf_of: str | None,
) -> None:
    new = restored_version(
        refund(version=3, attempt_token=MINE, lease_until=LATER),
        follows=7,
        previous_hash="h",
        at=LATER,
        by="jo",
        why="TICKET-7",
        source="backup 1",
        on_behalf_of=on_behalf_of,
    )
    how = {"at": LATER, "by": "jo", "why": "TICKET-7", "source": "backup 1"}
    assert new.restored == (how if on_behalf_of is None else how | {"on_behalf_of": on_behalf_of})
    assert (new.version, new.previous_hash, new.processed_by) == (8, "h", "jo")
    assert (new.status, new.attempt_token, new.lease_until) == (Status.PROCESSING, None, None)


@pytest.mark.parametrize("status", Status)
def test_only_what_waits_for_approval_records_approvals(status: Status) -> None:
    approvals = ({"decision": "approve", "by": "jo"},)

    def approved() -> Refund:
        there = refund(version=2, status=status)
        return approved_version(there, approvals, at=LATER, by="jo", previous_hash="h")

    if status is not Status.AWAITING_APPROVAL:
        with pytest.raises(IllegalTransitionError, match="nothing to approve"):
            approved()
        return
    new = approved()
    assert (new.status, new.version, new.approvals) == (status, 3, approvals)


def test_the_audited_attributes_are_the_designs_and_no_protocol_state() -> None:
    assert set(AUDITED) == {
        *("refund_id", "transaction_id", "user_id", "amount_minor", "currency", "status"),
        *("reason", "requested_by", "requested_at", "processed_by", "gateway"),
        *("gateway_refund_id", "failure_code", "failure_message", "metadata", "review", "restored"),
        "proposal",
        *("created_at", "updated_at", "version", "previous_status", "changed_fields"),
        *("previous_hash", "sent_by", "reason_code", "note", "line_items"),
        *("awaiting", "approvals"),
        *("expected_refundable_minor", "gateway_account", "gateway_reference", "gateway_trace"),
        *("order_format", "kept_minor"),
    }


@given(
    amount=st.none() | st.integers(1, 10**12),
    metadata=st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5)),
    previous=st.none() | st.sampled_from(Status),
    changed=st.none() | st.lists(st.sampled_from(AUDITED)).map(tuple),
    line_items=st.none() | st.lists(st.just({"sku": "mug", "quantity": 2})).map(tuple),
)
def test_a_refund_read_from_its_item_is_the_one_that_was_stored(
    amount: int | None,
    metadata: dict[str, str] | None,
    previous: Status | None,
    changed: tuple[str, ...] | None,
    line_items: tuple[dict[str, str | int], ...] | None,
) -> None:
    there = replace(
        refund(),
        amount_minor=amount,
        metadata=metadata,
        previous_status=previous,
        changed_fields=changed,
        line_items=line_items,
        approvals=({"by": "AIDAJO", "why": "known"},),
    )

    item = there.item()
    assert Refund.from_item(item) == there
    assert None not in item.values()
    assert Refund.from_item(item | {"somebody_elses": 1}) == there


def test_an_item_holds_plain_values_only() -> None:
    item = refund(previous_status=Status.PENDING, changed_fields=("status",)).item()

    assert {type(value) for value in item.values()} == {str, int, list}


def test_free_text_is_cut_to_whole_characters_within_256_bytes() -> None:
    assert short_text("é" * 200) == "é" * 128
    assert short_text("x" + "€" * 200) == "x" + "€" * 85
    assert short_text("\ud800") == "?"
    assert short_text("as it is") == "as it is"
    assert short_text(None) is None


# Money


def test_money_is_written_with_its_currencys_own_decimals() -> None:
    assert str(Money(2500, "USD")) == "25.00 USD"
    assert str(Money(5, "USD")) == "0.05 USD"
    assert str(Money(-105, "USD")) == "-1.05 USD"
    assert str(Money(2500, "JPY")) == "2500 JPY"
    assert str(Money(2500, "KWD")) == "2.500 KWD"
    assert str(Money(1, "???")) == "1 minor units of ???"


@pytest.mark.parametrize("amount", [True, 1.0, "1", None])
def test_money_of_anything_but_an_int_is_a_bug(amount: object) -> None:
    with pytest.raises(TypeError):
        Money(amount, "USD")  # type: ignore[arg-type]


def test_currencies_without_minor_units_are_left_out() -> None:
    assert (EXPONENTS["USD"], EXPONENTS["JPY"], EXPONENTS["KWD"]) == (2, 0, 3)
    assert not {"XAU", "XDR", "XTS", "XXX"} & set(EXPONENTS)


# Instants and deadlines


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_the_order_of_stored_instants_is_their_order_in_time(one: datetime, two: datetime) -> None:
    if one.year >= 1000 and two.year >= 1000:
        assert (rfc3339(one) < rfc3339(two)) == (one < two)
        assert len(rfc3339(one)) == 27
        assert from_rfc3339(rfc3339(one)) == one


def test_instants_are_stored_in_utc() -> None:
    berlin = timezone(timedelta(hours=1))
    assert rfc3339(datetime(2026, 11, 23, 8, 10, tzinfo=berlin)) == "2026-11-23T07:10:00.000000Z"
    assert from_rfc3339("2026-11-23t08:10:00+01:00") == NOW
    assert later("2026-11-23T07:10:00Z", timedelta(days=1)) == "2026-11-24T07:10:00.000000Z"


def test_an_instant_without_an_offset_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="offset"):
        from_rfc3339("2026-11-23T07:10:00")


def test_a_deadline_counts_down_to_zero_and_no_further() -> None:
    clock = FakeClock()
    deadline = Deadline.after(clock, 10)

    clock.advance(seconds=4)
    assert deadline.left_seconds() == 6
    clock.advance(seconds=7)
    assert deadline.left_seconds() == 0


def test_a_part_of_a_deadline_is_the_shorter_of_its_span_and_what_is_left_less_the_reserve() -> (
    None
):
    deadline = Deadline.after(FakeClock(), 20)

    assert deadline.within(15).left_seconds() == 15
    assert deadline.within(15, reserve_seconds=8).left_seconds() == 12
    assert deadline.within(15, reserve_seconds=30).left_seconds() == 0
