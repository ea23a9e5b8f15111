"""What is sent to Stripe: its keys, its format, and the account that it is about."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import stripe
from tests.support.builders import FakeClock
from tests.support.stripe_script import (
    Key,
    Script,
    a_charge,
    a_list,
    a_refund,
    an_intent,
    create,
    gateway,
    soon,
)

from refunds.gateways.contract import (
    REFERENCE_KEY,
    Accepted,
    Declined,
    Misconfiguration,
    Misconfigured,
    Stage,
)
from refunds.gateways.registry import ADAPTERS, open_gateway
from refunds.gateways.stripe import API_VERSION


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
    assert answer.refund.refund_id == "refund-1"


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
    disputes = a_list(url="/v1/disputes")
    script = Script((200, a_refund()), (200, disputed), (200, disputes), (200, a_list()))
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
