"""What Stripe can answer and the scripted server doesn't show: statuses, disputes, refusals.

tests/conformance has what every adapter must do.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
import stripe
from tests.support.builders import NOW, FakeClock

from refunds.domain.clock import Deadline
from refunds.gateways.contract import (
    NOT_OURS,
    REFERENCE_KEY,
    Accepted,
    Answer,
    Declined,
    GatewayMisconfiguredError,
    GatewayStatus,
    GatewayUnavailableError,
    KeyReused,
    Misconfiguration,
    Misconfigured,
    PaymentStatus,
    RefundOrder,
    Retryable,
    Stage,
    Unknown,
)
from refunds.gateways.http import HttpResponse
from refunds.gateways.registry import ADAPTERS, open_gateway
from refunds.gateways.stripe import (
    API_VERSION,
    EMPTY_PAGE_TRIES,
    MAX_LOOK_UP_PAGES,
    StripeGateway,
)


class Key:
    forgotten = 0

    def get(self) -> str:
        return "sk_test_1"

    def forget(self) -> None:
        self.forgotten += 1


class Script:
    """An ``HttpTransport`` that gives its answers in turn, and keeps what it was asked."""

    def __init__(self, *answers: tuple[int, Any] | HttpResponse) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, str, Mapping[str, str], dict[str, str]]] = []
        self.bodies: list[bytes | None] = []

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: Deadline,
    ) -> HttpResponse:
        self.bodies.append(body)
        self.asked.append((method, url, headers, dict(parse_qsl((body or b"").decode()))))
        answer = self._answers.pop(0)
        if isinstance(answer, HttpResponse):
            return answer
        status, content = answer
        text = content if isinstance(content, str) else json.dumps(content)
        return HttpResponse(status, {"request-id": "req_1"}, text.encode())


def gateway(script: Script, *, key: Key | None = None, stage: str = "") -> StripeGateway:
    return StripeGateway(
        base_url="https://stripe.test/",
        api_key=key or Key(),
        transport=script,
        clock=FakeClock(),
        timeout_seconds=5,
        stage=Stage(stage),
    )


def soon() -> Deadline:
    return Deadline.after(FakeClock(), 5)


def create(script: Script, *, key: Key | None = None, stage: str = "", **changes: Any) -> Answer:
    wanted: dict[str, Any] = {
        "refund_id": "refund-1",
        "transaction_id": "pi_1",
        "amount_minor": 2500,
        "currency": "USD",
        "reason": "other",
    }
    asked = gateway(script, key=key, stage=stage)
    wanted |= {"reference": asked.reference_for("refund-1")} | changes
    return asked.create_refund(
        RefundOrder(**wanted), soon(), not_after=FakeClock(NOW).now().replace(year=2100)
    )


def a_refund(**changes: Any) -> dict[str, Any]:
    return {
        "id": "re_1",
        "object": "refund",
        "amount": 2500,
        "charge": "ch_1",
        "payment_intent": "pi_1",
        "currency": "usd",
        "status": "succeeded",
        "metadata": {REFERENCE_KEY: "refund-1"},
    } | changes


def a_charge(**changes: Any) -> dict[str, Any]:
    return {
        "id": "ch_1",
        "object": "charge",
        "amount_captured": 10_000,
        "amount_refunded": 2_500,
        "captured": True,
        "currency": "usd",
        "disputed": False,
        "status": "succeeded",
    } | changes


def an_intent(**changes: Any) -> dict[str, Any]:
    return {
        "id": "pi_1",
        "object": "payment_intent",
        "currency": "usd",
        "status": "succeeded",
        "latest_charge": a_charge(),
    } | changes


def a_list(*data: Any, has_more: bool = False) -> dict[str, Any]:
    return {"object": "list", "url": "/v1/x", "has_more": has_more, "data": list(data)}


def refusal(**error: Any) -> dict[str, Any]:
    told = {"type": "invalid_request_error", "message": "Dear Jenny"}
    return {"error": told | error}


OTHER_MODE = (
    "No such payment_intent: 'pi_1'; a similar object exists in live mode, but a test mode key was "
    "used to make this request."
)


def test_the_api_version_is_the_sdks_own() -> None:
    # The models were written for it. A new SDK: read its changelog, then change the constant.
    assert stripe.api_version == API_VERSION


def test_the_sdk_is_loaded_only_where_stripe_is_configured() -> None:
    program = (
        "import sys, refunds.wiring.protocol, refunds.gateways.flair;print('stripe' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert run.stdout.strip() == "False"


# What is sent


def test_a_refund_is_sent_with_its_key_reference_and_the_pinned_version() -> None:
    script = Script((200, a_refund()))
    create(script)

    ((method, url, headers, form),) = script.asked
    assert (method, url) == ("POST", "https://stripe.test/v1/refunds")
    assert headers["Idempotency-Key"] == "refund-1"
    assert headers["Stripe-Version"] == API_VERSION
    assert headers["Authorization"] == "Bearer sk_test_1"
    assert form == {
        "payment_intent": "pi_1",
        "amount": "2500",
        f"metadata[{REFERENCE_KEY}]": "refund-1",
    }


@pytest.mark.parametrize("transaction_id", ["ch_1", "py_1"])
def test_a_charge_is_refunded_as_a_charge(transaction_id: str) -> None:
    script = Script((200, a_refund(charge=transaction_id)))
    answer = create(script, transaction_id=transaction_id)

    assert script.asked[0][3]["charge"] == transaction_id
    assert isinstance(answer, Accepted)
    assert answer.refund.transaction_id == transaction_id


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("requested_by_customer", "requested_by_customer"),
        ("duplicate", "duplicate"),
        ("fraudulent", "fraudulent"),
        ("order_cancelled", None),
        ("payment_error", None),
        ("other", None),
    ],
)
def test_a_reason_that_stripe_does_not_have_is_left_out(reason: str, sent: str | None) -> None:
    script = Script((200, a_refund()))
    create(script, reason=reason)

    assert script.asked[0][3].get("reason") == sent


def test_a_stages_name_is_on_key_and_reference() -> None:
    script = Script((200, a_refund(metadata={REFERENCE_KEY: "dev.refund-1"})))
    answer = create(script, stage="dev")

    assert script.asked[0][2]["Idempotency-Key"] == "dev.refund-1"
    assert script.asked[0][3][f"metadata[{REFERENCE_KEY}]"] == "dev.refund-1"
    assert isinstance(answer, Accepted)
    assert answer.refund.reference == "refund-1"


@pytest.mark.parametrize("transaction_id", ["pay_1", "cus_1", "re_1", "p", "PI_1"])
def test_what_cant_be_a_payment_of_stripes_is_not_asked_for(transaction_id: str) -> None:
    script = Script()

    assert gateway(script).get_payment(transaction_id, soon()) is None
    assert gateway(script).find_refunds("refund-1", transaction_id, soon()) == ()
    answer = create(script, transaction_id=transaction_id)
    assert isinstance(answer, Declined)
    assert answer.code == "payment_not_found"


@pytest.mark.parametrize(
    ("body_format", "transaction_id", "sent"),
    [
        (1, "pi_1", b"payment_intent=pi_1&amount=2500&metadata[refund_reference]=refund-1"),
        (1, "ch_1", b"charge=ch_1&amount=2500&metadata[refund_reference]=refund-1"),
        (
            2,
            "pi_1",
            b"payment_intent=pi_1&amount=2500&metadata[refund_reference]=refund-1"
            b"&reverse_transfer=true",
        ),
        (
            4,
            "pi_1",
            b"payment_intent=pi_1&amount=2500&metadata[refund_reference]=refund-1"
            b"&reverse_transfer=true&refund_application_fee=true",
        ),
        (
            4,
            "acct_1-pi_1",
            b"payment_intent=pi_1&amount=2500&metadata[refund_reference]=refund-1"
            b"&refund_application_fee=true",
        ),
    ],
)
def test_the_bytes_of_a_format_never_change(
    body_format: int, transaction_id: str, sent: bytes
) -> None:
    # Refunds that were begun by an older release are repeated with these very bytes.
    script = Script((200, a_refund()))
    create(script, format=body_format, transaction_id=transaction_id)

    assert script.bodies == [sent]


def test_a_format_of_a_newer_release_is_not_sent() -> None:
    script = Script()

    assert create(script, format=99) == Misconfigured(Misconfiguration.FORMAT_UNKNOWN)
    assert script.asked == []


# Stripe Connect


def test_every_call_about_a_direct_charge_names_its_connected_account() -> None:
    disputed = an_intent(latest_charge=a_charge(disputed=True))
    script = Script((200, a_refund()), (200, disputed), (200, a_list()), (200, a_list()))
    asked = gateway(script)
    answer = create(script, transaction_id="acct_9-pi_1")
    payment = asked.get_payment("acct_9-pi_1", soon())
    asked.find_refunds("refund-1", "acct_9-pi_1", soon())

    assert [headers["Stripe-Account"] for _, _, headers, _ in script.asked] == ["acct_9"] * 4
    assert isinstance(answer, Accepted)
    assert answer.refund.transaction_id == "acct_9-pi_1"
    assert payment is not None
    assert payment.transaction_id == "acct_9-pi_1"


def test_a_call_about_our_own_charge_names_no_account() -> None:
    script = Script((200, a_refund()))
    create(script)

    assert "Stripe-Account" not in script.asked[0][2]


@pytest.mark.parametrize(
    ("options", "body_format"),
    [
        ([], 1),
        (["reverse_transfer"], 2),
        (["refund_application_fee"], 3),
        (["refund_application_fee", "reverse_transfer"], 4),
    ],
)
def test_the_options_of_a_route_choose_the_format_of_new_refunds(
    options: list[str], body_format: int
) -> None:
    parts: dict[str, Any] = {
        "base_url": "https://stripe.test",
        "api_key": Key(),
        "transport": Script(),
        "clock": FakeClock(),
        "timeout_seconds": 5,
        "stage": Stage(),
    }
    opened = open_gateway(ADAPTERS["stripe"], options=options, **parts)

    assert opened.body_format == body_format
    with pytest.raises(ValueError, match="there are: none"):
        open_gateway(ADAPTERS["flair"], options=["reverse_transfer"], **parts)


# What becomes of a refund


@pytest.mark.parametrize(
    ("status", "told", "code"),
    [
        ("succeeded", GatewayStatus.SUCCEEDED, None),
        ("pending", GatewayStatus.PENDING, None),
        ("requires_action", GatewayStatus.PENDING, None),
        (None, GatewayStatus.PENDING, None),
        ("of_a_later_version", GatewayStatus.PENDING, None),
        ("failed", GatewayStatus.FAILED, "failed"),
        ("canceled", GatewayStatus.FAILED, "canceled"),
    ],
)
def test_a_status_is_final_only_if_it_is_surely_so(
    status: str | None, told: GatewayStatus, code: str | None
) -> None:
    answer = create(Script((200, a_refund(status=status))))

    assert isinstance(answer, Accepted)
    assert (answer.refund.status, answer.refund.failure_code) == (told, code)


@pytest.mark.parametrize(
    ("details", "trace"),
    [
        (None, None),
        (
            {"type": "card", "card": {"reference": "74312345678901234567890"}},
            "74312345678901234567890",
        ),
        ({"type": "card", "card": {"reference_status": "pending"}}, None),
        ({"type": "card", "card": {"reference": None}}, None),
        ({"type": "eu_bank_transfer", "eu_bank_transfer": {"reference": "RF18-539"}}, "RF18-539"),
        ({"type": "card", "card": {"reference": "Jenny Rosen"}}, None),
        ({"type": "klarna", "klarna": {}}, None),
        ({"type": "klarna"}, None),
        ({}, None),
    ],
)
def test_the_banks_number_is_kept_once_there_is_one(
    details: dict[str, Any] | None, trace: str | None
) -> None:
    answer = create(Script((200, a_refund(destination_details=details))))

    assert isinstance(answer, Accepted)
    assert answer.refund.trace == trace


def test_a_refund_that_waits_for_our_balance_says_so() -> None:
    waiting = a_refund(status="pending", pending_reason="insufficient_funds")
    answer = create(Script((200, waiting)))

    assert isinstance(answer, Accepted)
    assert answer.refund.status is GatewayStatus.PENDING
    assert answer.refund.pending_reason == "insufficient_funds"


def test_a_failed_refund_has_stripes_reason() -> None:
    shown = a_refund(status="failed", failure_reason="lost_or_stolen_card")
    answer = create(Script((200, shown)))

    assert isinstance(answer, Accepted)
    assert answer.refund.failure_code == "lost_or_stolen_card"


@pytest.mark.parametrize(
    "shown",
    [
        a_refund(amount="2500"),
        a_refund(amount=25.0),
        a_refund(amount=0),
        a_refund(amount=None),
        a_refund(currency=None),
        a_refund(currency="isk", amount=250),
        a_refund(id=None),
        a_refund(metadata={REFERENCE_KEY: 1}),
        {"object": "refund"},
        {},
        [],
        None,
        "<html>Bad day</html>",
        "",
        7,
    ],
    ids=str,
)
def test_a_refund_that_cant_be_read_may_have_been_made(shown: Any) -> None:
    assert isinstance(create(Script((200, shown))), Unknown)


# What a refusal says of the money


@pytest.mark.parametrize(
    ("status", "content", "answer"),
    [
        (401, refusal(), Misconfigured(Misconfiguration.KEY_REFUSED)),
        (401, refusal(code="api_key_expired"), Misconfigured(Misconfiguration.KEY_REFUSED)),
        (403, refusal(), Misconfigured(Misconfiguration.PERMISSION_MISSING)),
        (429, refusal(code="rate_limit"), Retryable("HTTP 429: too many requests")),
        (429, refusal(code="lock_timeout"), Retryable("HTTP 429: too many requests")),
        (400, refusal(code="rate_limit"), Retryable("HTTP 400: too many requests")),
        (400, refusal(type="idempotency_error"), KeyReused()),
        (
            400,
            refusal(code="livemode_mismatch"),
            Misconfigured(Misconfiguration.KEY_OF_WRONG_MODE),
        ),
        (
            404,
            refusal(code="resource_missing", message=OTHER_MODE),
            Misconfigured(Misconfiguration.KEY_OF_WRONG_MODE),
        ),
        (
            400,
            refusal(code="insufficient_funds"),
            Declined("insufficient_funds", "Dear Jenny", insufficient_funds=True),
        ),
        (
            409,
            refusal(type="idempotency_error", code="idempotency_key_in_use"),
            Unknown("HTTP 409 idempotency_key_in_use"),
        ),
        (
            400,
            refusal(type="idempotency_error", code="idempotency_key_in_use"),
            Unknown("HTTP 400 idempotency_key_in_use"),
        ),
        (409, refusal(), Unknown("HTTP 409 None")),
        (404, refusal(), Unknown("HTTP 404: nothing is known of this address")),
        (404, refusal(code="resource_missing"), Declined("resource_missing", "Dear Jenny")),
        (400, refusal(code="charge_disputed"), Declined("charge_disputed", "Dear Jenny")),
        (400, refusal(), Declined("invalid_request_error", "Dear Jenny")),
        (
            402,
            refusal(type="card_error", code="expired_or_canceled_card"),
            Declined("expired_or_canceled_card", "Dear Jenny"),
        ),
        (
            400,
            refusal(code="charge_already_refunded"),
            Declined("charge_already_refunded", "Dear Jenny", over_balance=True),
        ),
        (
            400,
            refusal(param="amount"),
            Declined("invalid_request_error", "Dear Jenny", over_balance=True),
        ),
        (
            400,
            refusal(param="amount", code="parameter_invalid_integer"),
            Declined("parameter_invalid_integer", "Dear Jenny"),
        ),
        (500, refusal(type="api_error"), Unknown("HTTP 500")),
        (503, refusal(type="api_error"), Unknown("HTTP 503")),
        (418, refusal(), Unknown("HTTP 418 None")),
        (400, "<html>Bad Request</html>", Unknown("HTTP 400")),
        (402, {"error": "no"}, Unknown("the answer can't be read: AttributeError")),
        (404, {"error": {"message": "no type"}}, Unknown("HTTP 404")),
        (429, "slow down", Unknown("HTTP 429")),
        (302, "", Unknown("HTTP 302")),
    ],
)
def test_a_refusal_is_taken_for_what_it_proves(status: int, content: Any, answer: Answer) -> None:
    assert create(Script((status, content))) == answer


def test_a_code_that_is_no_code_is_not_told() -> None:
    answer = create(Script((409, refusal(code="Jenny Rosen, 4242424242424242"))))

    assert answer == Unknown("HTTP 409 (a code that is not shown)")


def test_how_long_to_wait_is_stripes_to_say() -> None:
    told = HttpResponse(429, {"retry-after": "7"}, json.dumps(refusal()).encode())
    answer = create(Script(told))

    assert isinstance(answer, Retryable)
    assert answer.retry_after_seconds == 7


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_not_taken_is_asked_for_anew(status: int) -> None:
    key = Key()
    create(Script((status, refusal())), key=key)
    with pytest.raises(GatewayUnavailableError):
        gateway(Script((status, refusal())), key=key).get_payment("ch_1", soon())

    assert key.forgotten == 2


# Payments


@pytest.mark.parametrize(
    ("shown", "status", "captured"),
    [
        (an_intent(), PaymentStatus.CAPTURED, 10_000),
        (an_intent(status="requires_capture"), PaymentStatus.CAPTURED, 10_000),
        (
            an_intent(
                status="requires_capture", latest_charge=a_charge(captured=False, amount_captured=0)
            ),
            PaymentStatus.AUTHORIZED,
            0,
        ),
        (an_intent(status="processing"), PaymentStatus.AUTHORIZED, 10_000),
        (an_intent(status="of_a_later_version"), PaymentStatus.AUTHORIZED, 10_000),
        (an_intent(status="canceled", latest_charge=None), PaymentStatus.VOIDED, 0),
        (
            an_intent(status="requires_payment_method", latest_charge=None),
            PaymentStatus.AUTHORIZED,
            0,
        ),
        (an_intent(latest_charge=None), PaymentStatus.AUTHORIZED, 0),
        (
            an_intent(latest_charge=a_charge(amount_captured=6_000)),
            PaymentStatus.CAPTURED,
            6_000,
        ),
    ],
)
def test_a_payment_intent_is_worth_what_its_charge_captured(
    shown: dict[str, Any], status: PaymentStatus, captured: int
) -> None:
    payment = gateway(Script((200, shown))).get_payment("pi_1", soon())

    assert payment is not None
    assert (payment.status, payment.captured_minor) == (status, captured)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, PaymentStatus.CAPTURED),
        ({"captured": False, "amount_captured": 0}, PaymentStatus.AUTHORIZED),
        ({"status": "pending"}, PaymentStatus.AUTHORIZED),
        ({"status": "failed"}, PaymentStatus.VOIDED),
    ],
)
def test_a_charge_is_captured_only_if_it_succeeded_and_was(
    changes: dict[str, Any], status: PaymentStatus
) -> None:
    payment = gateway(Script((200, a_charge(**changes)))).get_payment("ch_1", soon())

    assert payment is not None
    assert payment.status is status


@pytest.mark.parametrize(
    ("disputes", "refundable"),
    [
        (["won"], True),
        (["warning_needs_response"], True),
        (["warning_closed", "won"], True),
        (["needs_response"], False),
        (["under_review"], False),
        (["lost"], False),
        (["won", "lost"], False),
        (["prevented"], False),
        (["of_a_later_version"], False),
        ([], False),
    ],
)
def test_a_dispute_bars_a_refund_while_the_bank_may_have_the_money(
    disputes: list[str], refundable: bool
) -> None:
    listed = a_list(
        *(
            {"id": "du_1", "status": status, "amount": 10_000, "currency": "usd"}
            for status in disputes
        )
    )
    script = Script((200, an_intent(latest_charge=a_charge(disputed=True))), (200, listed))
    payment = gateway(script).get_payment("pi_1", soon())

    assert payment is not None
    assert (payment.status is PaymentStatus.CAPTURED) == refundable
    assert parse_qs(urlsplit(script.asked[1][1]).query)["charge"] == ["ch_1"]


@pytest.mark.parametrize(
    ("disputes", "disputed", "status"),
    [
        ([("needs_response", 4_000, "usd")], 4_000, PaymentStatus.CAPTURED),
        ([("lost", 4_000, "usd"), ("won", 3_000, "usd")], 4_000, PaymentStatus.CAPTURED),
        ([("prevented", 4_000, "usd")], 4_000, PaymentStatus.CAPTURED),
        ([("lost", 4_000, "usd"), ("under_review", 6_000, "usd")], 10_000, PaymentStatus.DISPUTED),
        ([("lost", 12_000, "usd")], 10_000, PaymentStatus.DISPUTED),
        ([("lost", 4_000, "eur")], 10_000, PaymentStatus.DISPUTED),
        ([("won", 10_000, "eur")], 0, PaymentStatus.CAPTURED),
    ],
)
def test_a_partial_dispute_bars_only_its_own_amount(
    disputes: list[tuple[str, int, str]], disputed: int, status: PaymentStatus
) -> None:
    listed = a_list(
        *(
            {"id": "du_1", "status": state, "amount": amount, "currency": currency}
            for state, amount, currency in disputes
        )
    )
    script = Script((200, an_intent(latest_charge=a_charge(disputed=True))), (200, listed))
    payment = gateway(script).get_payment("pi_1", soon())

    assert payment is not None
    assert (payment.disputed_minor, payment.status) == (disputed, status)
    assert payment.refundable_minor == max(0, 10_000 - 2_500 - disputed)


def test_between_two_captures_what_is_captured_can_be_refunded() -> None:
    charge = a_charge(captured=False, amount_captured=700, amount_refunded=0)
    shown = an_intent(status="requires_capture", latest_charge=charge)
    payment = gateway(Script((200, shown))).get_payment("pi_1", soon())

    assert payment is not None
    assert (payment.status, payment.captured_minor) == (PaymentStatus.CAPTURED, 700)


@pytest.mark.parametrize(
    "shown",
    [
        an_intent(id="pi_2"),
        an_intent(latest_charge="ch_1"),
        an_intent(latest_charge=a_charge(amount_captured=-1)),
        an_intent(currency=None),
        {},
        [],
        "<html>",
    ],
    ids=str,
)
def test_a_payment_that_cant_be_read_is_not_guessed_at(shown: Any) -> None:
    with pytest.raises(GatewayUnavailableError):
        gateway(Script((200, shown))).get_payment("pi_1", soon())


def test_a_payment_of_the_other_mode_is_our_misconfiguration_not_a_missing_payment() -> None:
    shown = refusal(code="resource_missing", message=OTHER_MODE)
    with pytest.raises(GatewayMisconfiguredError) as caught:
        gateway(Script((404, shown))).get_payment("pi_1", soon())

    assert caught.value.reason is Misconfiguration.KEY_OF_WRONG_MODE


def test_only_stripes_own_404_says_that_there_is_no_payment() -> None:
    missing = gateway(Script((404, refusal(code="resource_missing"))))
    assert missing.get_payment("pi_1", soon()) is None

    for content in (refusal(), "<html>Not Found</html>", {"error": {"code": "resource_missing"}}):
        with pytest.raises(GatewayUnavailableError):
            gateway(Script((404, content))).get_payment("pi_1", soon())


# Look-ups and lists


def test_a_look_up_compares_the_metadata_of_every_page() -> None:
    pages = [
        a_list(a_refund(id="re_9", metadata={}), a_refund(id="re_8"), has_more=True),
        a_list(a_refund(id="re_7", metadata={REFERENCE_KEY: "refund-10"}), a_refund(id="re_6")),
    ]
    script = Script(*((200, page) for page in pages))
    found = gateway(script).find_refunds("refund-1", "pi_1", soon())

    assert [each.gateway_refund_id for each in found] == ["re_8", "re_6"]
    assert parse_qs(urlsplit(script.asked[1][1]).query)["starting_after"] == ["re_8"]


def test_a_look_up_without_an_end_is_no_answer() -> None:
    endless = a_list(a_refund(metadata={}), has_more=True)
    script = Script(*((200, endless),) * (MAX_LOOK_UP_PAGES + 5))
    with pytest.raises(GatewayUnavailableError):
        gateway(script).find_refunds("refund-1", "pi_1", soon())

    assert len(script.asked) == MAX_LOOK_UP_PAGES


def test_an_empty_page_is_not_taken_for_the_end_of_the_list() -> None:
    script = Script((200, a_list(has_more=True)), (200, a_list(a_refund())))

    (found,) = gateway(script).find_refunds("refund-1", "pi_1", soon())
    assert found.gateway_refund_id == "re_1"

    forever = Script(*((200, a_list(has_more=True)),) * EMPTY_PAGE_TRIES)
    with pytest.raises(GatewayUnavailableError):
        gateway(forever).list_refunds(soon(), transaction_id="pi_1")


def test_one_bad_row_does_not_hide_the_others() -> None:
    listed = a_list(
        a_refund(id="re_1", amount=0),
        a_refund(id="re_2", metadata={REFERENCE_KEY: 7}),
        a_refund(id="re_3", status="of_a_later_version"),
        a_refund(id="re_4"),
    )
    page = gateway(Script((200, listed))).list_refunds(soon(), transaction_id="pi_1")

    assert [each.gateway_refund_id for each in page.refunds] == ["re_3", "re_4"]
    assert page.refunds[0].status is GatewayStatus.PENDING
    assert page.unreadable == 3


def test_a_look_up_passes_over_others_rows_but_never_over_one_that_may_be_ours() -> None:
    broken = a_refund(id="re_1", amount=0, metadata=None)
    listed = a_list(broken, a_refund(id="re_2"))
    (found,) = gateway(Script((200, listed))).find_refunds("refund-1", "pi_1", soon())
    assert found.gateway_refund_id == "re_2"

    for ours in (a_refund(amount=0), a_refund(metadata=7), 7):
        with pytest.raises(GatewayUnavailableError):
            gateway(Script((200, a_list(ours)))).find_refunds("refund-1", "pi_1", soon())


def test_a_payment_has_the_id_that_it_was_asked_for_by() -> None:
    for transaction_id in ("pi_1", "ch_1"):
        page = gateway(Script((200, a_list(a_refund())))).list_refunds(
            soon(), transaction_id=transaction_id
        )
        assert page.refunds[0].transaction_id == transaction_id


def test_an_accounts_list_has_both_ids_of_a_payment() -> None:
    listed = a_list(a_refund(), a_refund(id="re_2", payment_intent=None))
    page = gateway(Script((200, listed))).list_refunds(soon())

    ids = [(each.transaction_id, each.other_payment_id) for each in page.refunds]
    assert ids == [("pi_1", "ch_1"), ("ch_1", None)]


def test_a_list_that_ignores_the_payment_is_no_answer() -> None:
    listed = a_list(a_refund(), a_refund(id="re_2", payment_intent="pi_2", charge="ch_2"))
    with pytest.raises(GatewayUnavailableError):
        gateway(Script((200, listed))).find_refunds("refund-1", "pi_1", soon())


@pytest.mark.parametrize("shown", [{"object": "list"}, [], "<html>"])
def test_a_payments_list_that_cant_be_read_whole_is_no_answer(shown: Any) -> None:
    with pytest.raises(GatewayUnavailableError):
        gateway(Script((200, shown))).list_refunds(soon(), transaction_id="pi_1")


def test_a_refund_of_another_kind_does_not_keep_the_accounts_others_from_us() -> None:
    listed = a_list(a_refund(currency="isk", amount=250), a_refund(id="re_2"))
    page = gateway(Script((200, listed))).list_refunds(soon())

    assert [each.gateway_refund_id for each in page.refunds] == ["re_2"]


def test_what_others_did_is_not_ours() -> None:
    metadata: list[Any] = [None, {}, {"order": "7"}, {REFERENCE_KEY: "prod.refund-1"}]
    listed = a_list(*(a_refund(metadata=each) for each in metadata))
    page = gateway(Script((200, listed)), stage="dev").list_refunds(soon())

    assert {each.reference for each in page.refunds} == {NOT_OURS}


def test_the_list_starts_at_a_second() -> None:
    script = Script((200, a_list()))
    since = NOW.replace(microsecond=999_999)
    gateway(script).list_refunds(soon(), created_from=since)

    (sent,) = parse_qs(urlsplit(script.asked[0][1]).query)["created[gte]"]
    assert int(sent) <= since.timestamp() < int(sent) + 1
