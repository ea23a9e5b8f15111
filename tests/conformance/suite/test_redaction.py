"""Every adapter: no secret or personal data in logs and errors."""

from __future__ import annotations

import traceback

import pytest
from tests.conformance.calls import (
    DONE_AND_LOST,
    NOTHING_DONE,
    READING_FAULTS,
    READINGS,
    SHORT_SECONDS,
    SLOW,
    look_up,
    refund,
    seconds,
)
from tests.conformance.harness import Case, Harness, Key

from refunds.gateways.contract import (
    Accepted,
    Declined,
    GatewayUnavailableError,
)


@pytest.mark.parametrize(
    "case", [Case.RATE_LIMITED, *NOTHING_DONE, *sorted({*DONE_AND_LOST} - SLOW), Case.BODY_DRIPS]
)
def test_no_secret_and_nothing_personal_is_told_of_a_failed_call(
    harness: Harness, case: Case, output: list[str]
) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(case, paid)
    output.append(repr(refund(gateway, paid, within=SHORT_SECONDS if case in SLOW else 5.0)))
    output.append(repr(gateway))


@pytest.mark.parametrize("case", [Case.DECLINED, Case.FAILS_AT_ONCE])
def test_the_gateways_own_words_are_in_its_answer_and_nowhere_else(
    harness: Harness, case: Case, output: list[str]
) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(case, paid)

    assert isinstance(refund(gateway, paid), Declined | Accepted)
    look_up(gateway, paid)


@pytest.mark.parametrize("case", [*sorted({*READING_FAULTS} - SLOW), Case.BODY_DRIPS])
def test_no_secret_and_nothing_personal_is_told_of_a_failed_question(
    harness: Harness, case: Case, output: list[str]
) -> None:
    gateway, paid = harness.gateway(), harness.new_payment()
    harness.script(Case.FAILS_AT_ONCE, paid)
    refund(gateway, paid)
    harness.script(case, paid, reading=True)
    for reading in READINGS.values():
        try:
            reading(gateway, paid, seconds(SHORT_SECONDS if case in SLOW else 5.0))
        except GatewayUnavailableError as exc:
            output.append("".join(traceback.format_exception(exc)))


def test_a_wrong_key_is_not_told(harness: Harness, output: list[str]) -> None:
    gateway, paid = harness.gateway(key=Key("sk_of_yesterday")), harness.new_payment()
    output.append(repr(refund(gateway, paid)))
    try:
        gateway.get_payment(paid, seconds(5))
    except GatewayUnavailableError as exc:
        output.append("".join(traceback.format_exception(exc)))
