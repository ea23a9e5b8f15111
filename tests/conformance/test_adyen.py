"""Adyen: what is safe about its one call, and why the kit refuses the adapter all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.conformance.adyen import AdyenHarness
from tests.conformance.calls import (
    FAR,
    accepted,
    assert_no_secret,
    everything_logged,
    id_for,
    order,
    refund,
    seconds,
)
from tests.conformance.harness import RIGHT_KEY, Case, Key

from refunds.domain.clock import Deadline, SystemClock
from refunds.gateways.adyen import MAX_KEY_CHARACTERS
from refunds.gateways.contract import (
    GatewayStatus,
    GatewayUnavailableError,
    KeyTooOld,
    Misconfiguration,
    Misconfigured,
    PaymentStatus,
    Retryable,
    Unknown,
)
from refunds.gateways.http import HttpResponse
from refunds.gateways.requirements import unmet_demands


@pytest.fixture(scope="module")
def adyen() -> Iterator[AdyenHarness]:
    with AdyenHarness() as harness:
        yield harness


def test_the_kit_says_why_the_adapter_is_refused(adyen: AdyenHarness) -> None:
    (why,) = unmet_demands(adyen.adyen())

    assert why.startswith("it shows neither payments nor refunds")


def test_nothing_can_be_read(adyen: AdyenHarness) -> None:
    gateway, paid = adyen.adyen(), adyen.new_payment()
    accepted(refund(gateway, paid))
    for reading in (
        lambda: gateway.get_payment(paid, seconds(5)),
        lambda: gateway.find_refunds(id_for(paid), paid, seconds(5)),
        lambda: gateway.list_refunds(seconds(5), transaction_id=paid),
    ):
        with pytest.raises(GatewayUnavailableError, match="shows neither"):
            reading()


# What is safe


@pytest.mark.parametrize("case", [None, Case.PENDING, Case.FAILS_AT_ONCE])
def test_received_is_never_taken_for_an_outcome(adyen: AdyenHarness, case: Case | None) -> None:
    gateway, paid = adyen.adyen(), adyen.new_payment()
    if case:
        adyen.script(case, paid)
    made = accepted(refund(gateway, paid))

    assert made.status is GatewayStatus.PENDING
    assert (made.transaction_id, made.refund_id) == (paid, id_for(paid))
    assert (made.amount_minor, made.currency) == (2_500, "USD")


def test_the_same_key_pays_once_and_gets_the_same_id(adyen: AdyenHarness) -> None:
    gateway, paid = adyen.adyen(), adyen.new_payment()
    first, again = accepted(refund(gateway, paid)), accepted(refund(gateway, paid))

    assert first == again
    assert adyen.paid_out_minor(paid) == 2_500


@pytest.mark.parametrize(
    "case",
    [
        Case.KEY_IN_USE,
        Case.DROPPED_BEFORE,
        Case.ERROR_BEFORE,
        Case.DOWN,
        Case.PROXY_PAGE,
        Case.DROPPED_AFTER,
        Case.ERROR_AFTER,
        Case.DOWN_AFTER,
        Case.PROXY_PAGE_AFTER,
        Case.CUT_OFF,
        Case.CLOSED_EARLY,
    ],
)
def test_a_lost_answer_is_unknown_and_repeating_the_key_pays_once(
    adyen: AdyenHarness, case: Case
) -> None:
    gateway, paid = adyen.adyen(), adyen.new_payment()
    adyen.script(case, paid)

    assert isinstance(refund(gateway, paid), Unknown)
    refund(gateway, paid)
    # (A 500 that was stored for the key is repeated to us, and its money moved once.)
    assert adyen.paid_out_minor(paid) == 2_500


def test_only_the_key_protects_so_an_old_one_is_not_sent(adyen: AdyenHarness) -> None:
    gateway, paid = adyen.adyen(), adyen.new_payment()
    asked = order(gateway, paid)

    assert gateway.create_refund(asked, seconds(5), not_after=SystemClock().now()) == KeyTooOld()
    adyen.script(Case.KEY_FORGOTTEN, paid)
    refund(gateway, paid)
    refund(gateway, paid)
    # Nothing that could be asked would have shown the first one.
    assert adyen.paid_out_minor(paid) == 5_000


@pytest.mark.parametrize("stage", ["", "twenty-letters-stage"])
def test_a_reference_is_a_key_that_adyen_takes(adyen: AdyenHarness, stage: str) -> None:
    gateway = adyen.adyen(stage=stage)
    references = {gateway.reference_for(f"{'r' * 63}{end}") for end in "abc"}

    assert len(references) == 3
    assert max(map(len, references)) <= MAX_KEY_CHARACTERS


def test_a_refused_key_is_our_misconfiguration(adyen: AdyenHarness) -> None:
    wrong, paid = adyen.adyen(key="of yesterday"), adyen.new_payment()
    assert refund(wrong, paid) == Misconfigured(Misconfiguration.KEY_REFUSED)

    elsewhere = adyen.gateway(key=Key(f"AnotherECOM\n{RIGHT_KEY}"), url=_url(adyen))
    assert refund(elsewhere, paid) == Misconfigured(Misconfiguration.PERMISSION_MISSING)
    without = adyen.gateway(key=Key("no second line"), url=_url(adyen))
    assert refund(without, paid) == Misconfigured(Misconfiguration.KEY_REFUSED)


def test_a_full_gateway_is_asked_again_when_it_wishes(adyen: AdyenHarness) -> None:
    gateway, paid = adyen.adyen(), adyen.new_payment()
    adyen.script(Case.RATE_LIMITED, paid)

    assert refund(gateway, paid) == Retryable("HTTP 429", 7)


def test_an_answer_that_adyen_calls_transient_is_unknown() -> None:
    with AdyenHarness() as harness:
        gateway, paid = harness.adyen(), harness.new_payment()
        problem = {"status": 422, "errorCode": "901", "message": "try again"}
        gateway._transport = _Says(HttpResponse(422, {"transient-error": "true"}, _json(problem)))

        assert refund(gateway, paid) == Unknown("HTTP 422")


def test_no_secret_is_told(adyen: AdyenHarness) -> None:
    with everything_logged() as output:
        for case in (Case.DECLINED, Case.ERROR_BEFORE, Case.PROXY_PAGE):
            gateway, paid = adyen.adyen(), adyen.new_payment(status=PaymentStatus.CAPTURED)
            adyen.script(case, paid)
            answer = gateway.create_refund(order(gateway, paid), seconds(5), not_after=FAR)
            if isinstance(answer, Unknown):
                output.append(repr(answer))
    assert_no_secret(*output)


def test_the_bytes_of_format_1_never_change() -> None:
    with AdyenHarness() as harness:
        gateway = harness.adyen()
        says = _Says(HttpResponse(500, {}, b""))
        gateway._transport = says
        refund(gateway, "883", refund_id="refund-1")

    assert says.bodies == [
        b'{"merchantAccount": "SandboxECOM", "amount": {"currency": "USD", "value": 2500}, '
        b'"reference": "refund-1"}'
    ]


class _Says:
    """A transport with one answer."""

    def __init__(self, answer: HttpResponse) -> None:
        self._answer = answer
        self.bodies: list[bytes | None] = []

    def request(
        self, method: str, url: str, *, headers: object, body: bytes | None, deadline: Deadline
    ) -> HttpResponse:
        self.bodies.append(body)
        return self._answer


def _json(content: object) -> bytes:
    return json.dumps(content).encode()


def _url(harness: AdyenHarness) -> str:
    return f"{harness._server.url}/v71"
