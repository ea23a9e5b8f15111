"""What every adapter must do, whatever its gateway does. docs/adding-a-gateway.md says how to use
it for another one."""

from __future__ import annotations

import logging
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.conformance.harness import PERSONAL, RIGHT_KEY, Case, Harness, Key

from refunds.domain.clock import Deadline, SystemClock
from refunds.gateways.contract import (
    NOT_OURS,
    Accepted,
    Answer,
    Declined,
    Gateway,
    GatewayMisconfiguredError,
    GatewayRefund,
    GatewayStatus,
    GatewayUnavailableError,
    KeyReused,
    KeyTooOld,
    Misconfiguration,
    Misconfigured,
    Payment,
    PaymentStatus,
    RefundOrder,
    RefundPage,
    Retryable,
    Unknown,
)
from refunds.gateways.registry import ADAPTERS

CLOCK = SystemClock()
FAR = datetime(2100, 1, 1, tzinfo=UTC)
SHORT_SECONDS = 0.3
LONGER_SECONDS = 1.0
"""Enough for the scripted server to do what is asked of it before it falls silent."""
SLACK_SECONDS = 1.0
"""What a busy machine may add to a call that ends at its deadline; the slow cases take longer."""

MAX_PAGES = 50


def seconds(number: float) -> Deadline:
    return Deadline.after(CLOCK, number)


def id_for(transaction_id: str) -> str:
    """The refund id of a test: keys are the gateway's for the whole run, so they must differ."""
    return f"r-{transaction_id}"


def order(
    gateway: Gateway,
    transaction_id: str,
    amount_minor: int = 2_500,
    currency: str = "USD",
    refund_id: str | None = None,
) -> RefundOrder:
    refund_id = refund_id or id_for(transaction_id)
    return RefundOrder(
        refund_id,
        transaction_id,
        amount_minor,
        currency,
        "requested_by_customer",
        reference=gateway.reference_for(refund_id),
        format=gateway.body_format,
    )


def refund(
    gateway: Gateway,
    transaction_id: str,
    amount_minor: int = 2_500,
    currency: str = "USD",
    refund_id: str | None = None,
    within: float = 5.0,
) -> Answer:
    wanted = order(gateway, transaction_id, amount_minor, currency, refund_id)
    return gateway.create_refund(wanted, seconds(within), not_after=FAR)


def accepted(answer: Answer) -> GatewayRefund:
    assert isinstance(answer, Accepted), answer
    return answer.refund


def look_up(
    gateway: Gateway, transaction_id: str, refund_id: str | None = None
) -> list[GatewayRefund]:
    reference = gateway.reference_for(refund_id or id_for(transaction_id))
    return list(gateway.find_refunds(reference, transaction_id, seconds(5)))


def whole_list(gateway: Gateway, **filters: Any) -> list[GatewayRefund]:
    found: list[GatewayRefund] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = gateway.list_refunds(seconds(5), cursor=cursor, **filters)
        found += page.refunds
        if (cursor := page.next_cursor) is None:
            return found
    raise AssertionError("the list has no end")


# Facts


def test_its_facts_are_declared(harness: Harness) -> None:
    gateway = harness.gateway(timeout_seconds=3.5)

    assert gateway.name in ADAPTERS
    assert gateway.key_lifetime >= timedelta(hours=1)
    assert isinstance(gateway.remembers_declines, bool)
    assert isinstance(gateway.can_reverse, bool)
    assert gateway.account
    assert RIGHT_KEY not in gateway.account
    assert gateway.body_format >= 1
    assert gateway.timeout_seconds == 3.5


# Payments


def test_a_payment_is_shown_as_it_is(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment(10_000, "EUR")
    refund(gateway, paid, 2_500, "EUR")
    harness.refund_by_others(paid, 1_000)

    assert gateway.get_payment(paid, seconds(5)) == Payment(
        paid, PaymentStatus.CAPTURED, "EUR", captured_minor=10_000, refunded_minor=3_500
    )


@pytest.mark.parametrize("status", [PaymentStatus.DISPUTED, PaymentStatus.VOIDED])
def test_money_that_cant_be_refunded_is_known_before_it_is_tried(
    harness: Harness, status: PaymentStatus
) -> None:
    shown = harness.gateway().get_payment(harness.new_payment(status=status), seconds(5))

    assert shown is not None
    # Not every API tells a voided payment from one that was not captured yet.
    assert shown.status is not PaymentStatus.CAPTURED


def test_a_payment_that_is_not_there_is_none(harness: Harness) -> None:
    unknown = harness.new_payment() + "x"

    assert harness.gateway().get_payment(unknown, seconds(5)) is None


# What becomes of a refund


def test_a_refund_moves_its_money_once(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    first, again = refund(gateway, paid), refund(gateway, paid)

    made = accepted(first)
    assert accepted(again).gateway_refund_id == made.gateway_refund_id
    assert made == GatewayRefund(
        made.gateway_refund_id,
        paid,
        id_for(paid),
        2_500,
        "USD",
        GatewayStatus.SUCCEEDED,
        gateway_reference=id_for(paid),
    )
    assert harness.paid_out_minor(paid) == 2_500


def test_a_payment_is_refunded_in_parts_to_its_last_cent_and_no_further(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment(10_000)
    for number, amount in enumerate((3_333, 6_666, 1)):
        accepted(refund(gateway, paid, amount, refund_id=f"{paid}-{number}"))
    too_much = refund(gateway, paid, 1, refund_id=f"{paid}-more")

    assert isinstance(too_much, Declined)
    assert too_much.over_balance
    assert harness.paid_out_minor(paid) == 10_000


def test_more_than_what_others_left_is_declined_as_that(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment(10_000)
    harness.refund_by_others(paid, 9_000)
    answer = refund(gateway, paid, 2_500)

    assert isinstance(answer, Declined)
    assert answer.over_balance
    assert harness.paid_out_minor(paid) == 9_000


def test_a_key_with_another_body_is_told_from_a_replay(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    accepted(refund(gateway, paid, 2_500))

    assert refund(gateway, paid, 2_600) == KeyReused()
    assert harness.paid_out_minor(paid) == 2_500


def test_a_key_that_may_be_forgotten_is_not_sent(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    answer = gateway.create_refund(order(gateway, paid), seconds(5), not_after=CLOCK.now())

    assert answer == KeyTooOld()
    assert harness.refund_calls(paid) == 0


def test_a_pending_refund_is_pending_until_it_is_settled(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(Case.PENDING, paid)
    made = accepted(refund(gateway, paid))
    assert made.status is GatewayStatus.PENDING
    assert harness.paid_out_minor(paid) == 0

    harness.settle(made.gateway_refund_id, GatewayStatus.SUCCEEDED)
    (found,) = look_up(gateway, paid)
    assert found.status is GatewayStatus.SUCCEEDED
    assert found.gateway_refund_id == made.gateway_refund_id


def test_a_pending_refund_that_fails_says_why(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(Case.PENDING, paid)
    harness.settle(accepted(refund(gateway, paid)).gateway_refund_id, GatewayStatus.FAILED)

    (found,) = look_up(gateway, paid)
    assert found.status is GatewayStatus.FAILED
    assert found.failure_code


def test_a_refund_that_fails_at_once_has_failed(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(Case.FAILS_AT_ONCE, paid)
    made = accepted(refund(gateway, paid))

    assert made.status is GatewayStatus.FAILED
    assert made.failure_code == "bank_says_no"
    assert harness.paid_out_minor(paid) == 0


def test_a_paid_refund_that_the_bank_sends_back_is_shown_as_failed(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    if not gateway.can_reverse:
        pytest.skip(f"{gateway.name} never takes it back")
    made = accepted(refund(gateway, paid))
    harness.settle(made.gateway_refund_id, GatewayStatus.FAILED)

    (listed,) = whole_list(gateway, transaction_id=paid)
    assert (listed.gateway_refund_id, listed.reference) == (made.gateway_refund_id, id_for(paid))
    assert listed.status is GatewayStatus.FAILED
    assert harness.paid_out_minor(paid) == 0


def test_a_decline_is_for_good_and_moves_nothing(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(Case.DECLINED, paid)
    answer = refund(gateway, paid)

    assert isinstance(answer, Declined)
    assert answer.code == "bank_says_no"
    assert not answer.over_balance
    assert look_up(gateway, paid) == []
    assert harness.paid_out_minor(paid) == 0


def test_a_refund_of_a_disputed_payment_is_declined(harness: Harness) -> None:
    paid = harness.new_payment(status=PaymentStatus.DISPUTED)
    answer = refund(harness.gateway(), paid)

    assert isinstance(answer, Declined)
    assert harness.paid_out_minor(paid) == 0


def test_a_refund_of_no_payment_is_declined(harness: Harness) -> None:
    assert isinstance(refund(harness.gateway(), harness.new_payment() + "x"), Declined)


# When the gateway or the network fails

NOTHING_DONE = (
    Case.KEY_IN_USE,
    Case.DROPPED_BEFORE,
    Case.ERROR_BEFORE,
    Case.DOWN,
    Case.PROXY_PAGE,
)

DONE_AND_LOST = (
    Case.SILENT,
    Case.DROPPED_AFTER,
    Case.ERROR_AFTER,
    Case.DOWN_AFTER,
    Case.PROXY_PAGE_AFTER,
    Case.LATE,
    Case.HEADERS_DRIP,
    Case.BODY_DRIPS,
    Case.HUGE,
    Case.CUT_OFF,
    Case.CLOSED_EARLY,
)

SLOW = {Case.SILENT, Case.LATE, Case.HEADERS_DRIP, Case.BODY_DRIPS}


@contextmanager
def in_time(limit_seconds: float) -> Iterator[Deadline]:
    """A deadline, by which what is done with it must be over, whatever the gateway does."""
    started = time.monotonic()
    yield seconds(limit_seconds)
    assert time.monotonic() - started < limit_seconds + SLACK_SECONDS


@pytest.mark.parametrize("case", NOTHING_DONE)
def test_what_the_gateway_may_have_done_is_unknown(harness: Harness, case: Case) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(case, paid)

    assert isinstance(refund(gateway, paid), Unknown)
    assert look_up(gateway, paid) == []
    # The next call, with the same key, is the first that does something.
    accepted(refund(gateway, paid))
    assert harness.paid_out_minor(paid) == 2_500


@pytest.mark.parametrize("case", DONE_AND_LOST)
def test_a_lost_answer_is_unknown_found_by_a_look_up_and_paid_once(
    harness: Harness, case: Case
) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(case, paid)

    with in_time(LONGER_SECONDS if case in SLOW else 5.0) as until:
        answer = gateway.create_refund(order(gateway, paid), until, not_after=FAR)
    assert isinstance(answer, Unknown)
    (found,) = look_up(gateway, paid)
    assert (found.reference, found.amount_minor, found.currency) == (id_for(paid), 2_500, "USD")
    # Calling again with the same key pays nothing more.
    refund(gateway, paid)
    assert harness.paid_out_minor(paid) == 2_500


@pytest.mark.parametrize(
    "case", [Case.OTHER_AMOUNT, Case.OTHER_CURRENCY, Case.OTHER_REFERENCE, Case.OTHER_PAYMENT]
)
def test_a_wrong_answer_is_not_taken_for_ours(harness: Harness, case: Case) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(case, paid)
    answer = refund(gateway, paid)

    if isinstance(answer, Accepted):
        shown = answer.refund
        told = (shown.transaction_id, shown.reference, shown.amount_minor, shown.currency)
        assert told != (paid, id_for(paid), 2_500, "USD")
    else:
        assert isinstance(answer, Unknown)


def test_a_full_gateway_is_asked_again_when_it_wishes(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(Case.RATE_LIMITED, paid)
    answer = refund(gateway, paid)

    assert isinstance(answer, Retryable)
    assert answer.retry_after_seconds == 7
    assert harness.paid_out_minor(paid) == 0


def test_a_gateway_that_cant_be_reached_has_done_nothing(harness: Harness) -> None:
    with socket.socket() as nobody:  # bound, and nobody listens
        nobody.bind(("127.0.0.1", 0))
        gateway = harness.gateway(url=f"http://127.0.0.1:{nobody.getsockname()[1]}")
        paid = harness.new_payment()

        assert isinstance(refund(gateway, paid), Retryable)
        with pytest.raises(GatewayUnavailableError):
            gateway.get_payment(paid, seconds(5))


def test_two_refunds_of_one_reference_are_both_shown(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(Case.KEY_FORGOTTEN, paid)
    refund(gateway, paid)
    refund(gateway, paid)

    assert len(look_up(gateway, paid)) == 2


READING_FAULTS = (
    Case.RATE_LIMITED,
    Case.DROPPED_BEFORE,
    Case.ERROR_BEFORE,
    Case.DOWN,
    Case.PROXY_PAGE,
    Case.SILENT,
    Case.HEADERS_DRIP,
    Case.BODY_DRIPS,
    Case.HUGE,
    Case.CUT_OFF,
    Case.CLOSED_EARLY,
)

Reading = Callable[[Gateway, str, Deadline], object]
READINGS: dict[str, Reading] = {
    "payment": lambda gateway, paid, until: gateway.get_payment(paid, until),
    "look-up": lambda gateway, paid, until: gateway.find_refunds(
        gateway.reference_for(id_for(paid)), paid, until
    ),
    "list": lambda gateway, paid, until: gateway.list_refunds(until, transaction_id=paid),
}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("case", READING_FAULTS)
def test_no_answer_is_never_taken_for_nothing_there(
    harness: Harness, case: Case, reading: str
) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    accepted(refund(gateway, paid))
    harness.script(case, paid, reading=True)

    limit_seconds = SHORT_SECONDS if case in SLOW else 5.0
    with in_time(limit_seconds) as until, pytest.raises(GatewayUnavailableError) as raised:
        READINGS[reading](gateway, paid, until)
    assert raised.value.retry_after_seconds == (7 if case is Case.RATE_LIMITED else None)


def test_nothing_is_sent_when_the_time_is_up(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()

    assert isinstance(refund(gateway, paid, within=0), Retryable)
    assert harness.refund_calls(paid) == 0


# Lists and look-ups


def test_a_look_up_finds_ours_among_others(harness: Harness) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    made = accepted(refund(gateway, paid, 1_000))
    accepted(refund(gateway, paid, 2_000, refund_id=id_for(paid) + "0"))
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
    assert listed[1].reference == id_for(paid)
    assert listed[0].reference != id_for(paid)


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


# Keys


def test_a_key_that_was_changed_is_asked_for_again(harness: Harness) -> None:
    key = Key("sk_of_yesterday", RIGHT_KEY)
    gateway, paid = harness.gateway(key=key), harness.new_payment()

    assert refund(gateway, paid) == Misconfigured(Misconfiguration.KEY_REFUSED)
    assert key.forgotten == 1
    accepted(refund(gateway, paid))


def test_a_question_with_a_key_that_was_changed_is_asked_again(harness: Harness) -> None:
    key = Key("sk_of_yesterday", RIGHT_KEY)
    gateway, paid = harness.gateway(key=key), harness.new_payment()

    with pytest.raises(GatewayMisconfiguredError):
        gateway.get_payment(paid, seconds(5))
    assert gateway.get_payment(paid, seconds(5)) is not None


def test_without_a_key_nothing_is_sent(harness: Harness) -> None:
    gateway = harness.gateway(key=Key(ConnectionError("no secret today")))
    paid = harness.new_payment()

    assert isinstance(refund(gateway, paid), Retryable)
    assert harness.refund_calls(paid) == 0
    for reading in READINGS.values():
        with pytest.raises(GatewayUnavailableError):
            reading(gateway, paid, seconds(5))


# Redaction


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What a test says was told, and all that was logged meanwhile, by anybody, at any level."""
    with everything_logged() as texts:
        yield texts
    nothing_told(*texts)


@contextmanager
def everything_logged() -> Iterator[list[str]]:
    # Not caplog: at a fixture's end it has what was logged since the test ended, which is nothing.
    texts: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(self.format(record))

    root, handler = logging.getLogger(), Kept()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield texts
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


def nothing_told(*texts: str) -> None:
    for secret in (RIGHT_KEY, "sk_of_yesterday", *PERSONAL.split()):
        assert not [text for text in texts if secret in text]


@pytest.mark.parametrize(
    "case", [Case.RATE_LIMITED, *NOTHING_DONE, *sorted({*DONE_AND_LOST} - SLOW), Case.BODY_DRIPS]
)
def test_no_secret_and_nothing_personal_is_told_of_a_failed_call(
    harness: Harness, case: Case, told: list[str]
) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(case, paid)
    told.append(repr(refund(gateway, paid, within=SHORT_SECONDS if case in SLOW else 5.0)))
    told.append(repr(gateway))


@pytest.mark.parametrize("case", [Case.DECLINED, Case.FAILS_AT_ONCE])
def test_the_gateways_own_words_are_in_its_answer_and_nowhere_else(
    harness: Harness, case: Case, told: list[str]
) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(case, paid)

    assert isinstance(refund(gateway, paid), Declined | Accepted)
    look_up(gateway, paid)


@pytest.mark.parametrize("case", [*sorted({*READING_FAULTS} - SLOW), Case.BODY_DRIPS])
def test_no_secret_and_nothing_personal_is_told_of_a_failed_question(
    harness: Harness, case: Case, told: list[str]
) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(Case.FAILS_AT_ONCE, paid)
    refund(gateway, paid)
    harness.script(case, paid, reading=True)
    for reading in READINGS.values():
        try:
            reading(gateway, paid, seconds(SHORT_SECONDS if case in SLOW else 5.0))
        except GatewayUnavailableError as exc:
            told.append("".join(traceback.format_exception(exc)))


def test_a_wrong_key_is_not_told(harness: Harness, told: list[str]) -> None:
    gateway, paid = harness.gateway(key=Key("sk_of_yesterday")), harness.new_payment()
    told.append(repr(refund(gateway, paid)))
    try:
        gateway.get_payment(paid, seconds(5))
    except GatewayUnavailableError as exc:
        told.append("".join(traceback.format_exception(exc)))


# Stages that share an account


def test_two_stages_may_have_a_refund_of_the_same_id(harness: Harness) -> None:
    paid = harness.new_payment()
    stages = [harness.gateway(stage=name) for name in ("dev", "prod", "")]
    made = [
        accepted(refund(gateway, paid, 1_000 + number)) for number, gateway in enumerate(stages)
    ]

    assert [each.reference for each in made] == [id_for(paid)] * 3
    assert harness.paid_out_minor(paid) == 3_003
    for gateway, ours in zip(stages, made, strict=True):
        assert look_up(gateway, paid) == [ours]


def test_anothers_stage_is_foreign(harness: Harness) -> None:
    paid = harness.new_payment()
    dev, prod = harness.gateway(stage="dev"), harness.gateway(stage="prod")
    accepted(refund(prod, paid, 1_000))
    harness.refund_by_others(paid, 500, f"dev-{id_for(paid)}")
    accepted(refund(dev, paid, 2_000))
    listed = whole_list(dev, transaction_id=paid)

    assert [(each.reference, each.amount_minor) for each in listed] == [
        (id_for(paid), 2_000),
        (NOT_OURS, 500),
        (NOT_OURS, 1_000),
    ]


def test_a_stage_has_a_key_of_its_own(harness: Harness) -> None:
    paid = harness.new_payment()
    dev, prod = harness.gateway(stage="dev"), harness.gateway(stage="prod")
    accepted(refund(dev, paid, 1_000))

    assert not isinstance(refund(prod, paid, 2_000), KeyReused)
    assert refund(dev, paid, 2_000) == KeyReused()


def test_an_empty_page_is_a_page(harness: Harness) -> None:
    shown = harness.gateway().list_refunds(seconds(5), transaction_id=harness.new_payment())

    assert shown == RefundPage((), None)
