"""Every adapter: lists and look-ups, amounts and currencies."""

from __future__ import annotations

from datetime import timedelta

from tests.conformance.calls import (
    CLOCK,
    accepted,
    id_for,
    look_up,
    refund,
    seconds,
    whole_list,
)
from tests.conformance.harness import Harness

from refunds.gateways.contract import (
    Declined,
    ListsBefore,
)


def test_a_look_up_finds_ours_among_others(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    made = accepted(refund(gateway, paid, 1_000))
    accepted(refund(gateway, paid, 2_000, refund_id=id_for(paid) + "-more"))
    harness.refund_by_others(paid, 500)

    assert look_up(gateway, paid) == [made]
    assert look_up(gateway, paid, "r-nowhere") == []


def test_a_look_up_finds_ours_behind_a_page_of_others(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    made = accepted(refund(gateway, paid, 1_000))
    for _ in range(105):
        harness.refund_by_others(paid, 1)

    assert look_up(gateway, paid) == [made]


def test_a_payments_list_has_everybodys_refunds_of_it_and_no_others(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    other = harness.new_payment()
    accepted(refund(gateway, other))
    accepted(refund(gateway, paid, 1_000))
    harness.refund_by_others(paid, 500)
    listed = whole_list(gateway, transaction_id=paid)

    assert [(each.transaction_id, each.amount_minor) for each in listed] == [
        (paid, 500),
        (paid, 1_000),
    ]
    assert listed[1].refund_id == id_for(paid)
    assert listed[0].refund_id != id_for(paid)


def test_the_whole_list_ends_and_misses_nothing(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment(1_000_000)
    made = {
        accepted(refund(gateway, paid, 10, refund_id=f"{paid}-{number}")).gateway_refund_id
        for number in range(105)
    }
    listed = [each.gateway_refund_id for each in whole_list(gateway)]

    assert made <= set(listed)
    assert len(listed) == len(set(listed))
    shown = [each for each in listed if each in made]
    newest_first = whole_list(gateway, transaction_id=paid)
    assert shown == [each.gateway_refund_id for each in newest_first]


def test_the_list_begins_where_it_is_told_to(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    made = accepted(refund(gateway, paid))
    since = CLOCK.now()

    later = whole_list(gateway, created_from=since + timedelta(seconds=5))
    assert made.gateway_refund_id not in {each.gateway_refund_id for each in later}
    earlier = whole_list(gateway, created_from=since - timedelta(minutes=5))
    assert made.gateway_refund_id in {each.gateway_refund_id for each in earlier}


# Amounts and currencies


def test_amounts_are_the_same_on_both_sides(harness: Harness) -> None:
    gateway = harness.gateway()
    for sample in harness.expressible:
        amount, currency = sample.amount_minor, sample.currency
        paid = harness.new_payment(amount, currency)
        shown = gateway.get_payment(paid, seconds(5))
        made = accepted(refund(gateway, paid, amount, currency))

        assert shown is not None
        assert (shown.captured_minor, shown.currency) == (amount, currency)
        assert (made.amount_minor, made.currency) == (amount, currency)
        assert look_up(gateway, paid) == [made]
        assert harness.paid_out_minor(paid) == amount


def test_currencies_of_no_two_and_three_decimals_were_among_them(harness: Harness) -> None:
    currencies = {sample.currency for sample in harness.expressible}

    assert currencies & {"JPY", "KRW", "CLP"}
    assert currencies & {"USD", "EUR"}
    assert currencies & {"KWD", "BHD", "JOD", "OMR", "TND"}


def test_an_amount_that_the_gateway_has_no_number_for_is_declined_before_a_call(
    harness: Harness,
) -> None:
    gateway = harness.gateway()
    for sample in harness.inexpressible:
        paid = harness.new_payment(1_000_000, sample.currency)
        answer = refund(gateway, paid, sample.amount_minor, sample.currency)

        assert isinstance(answer, Declined)
        assert sample.currency in answer.message
        assert harness.refund_calls(paid) == 0


def test_a_list_that_can_begin_in_the_past_has_nothing_newer(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    before = accepted(refund(gateway, paid, 1_000))
    harness.pass_time(timedelta(days=2))
    after = accepted(refund(gateway, paid, 500, refund_id=id_for(paid) + "-more"))
    (made_at,) = [
        each.created_at
        for each in whole_list(gateway)
        if each.gateway_refund_id == after.gateway_refund_id
    ]
    if not isinstance(gateway, ListsBefore):
        return
    assert made_at is not None, "the sweep for reversals needs to know when a refund was made"
    page = gateway.list_refunds_before(
        seconds(5), created_from=made_at - timedelta(days=30), created_before=made_at
    )

    shown = {each.gateway_refund_id for each in page.refunds}
    assert before.gateway_refund_id in shown
    assert after.gateway_refund_id not in shown
