"""Webhooks: only what the gateway has surely signed is heard, and only which refund to look at."""

from __future__ import annotations

import base64
import hmac
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.builders import NOW
from tests.support.stripe_openapi import check_event
from tests.support.stripe_script import a_refund
from tests.support.webhook_events import OTHER, SECRET, told

from refunds.gateways.webhooks import (
    MAX_BODY_BYTES,
    MIN_SECRET_CHARACTERS,
    REPLAY_WINDOW_SECONDS,
    RefusedWebhookError,
    refund_to_look_at,
    usable,
)
from refunds_devkit.sample_events import WEBHOOK_SECRET
from refunds_devkit.sandbox.webhooks import event_of, sign


def signed(
    content: Any = None,
    *,
    secret: str = SECRET,
    age_seconds: int = 0,
    header: str = "flair-signature",
    encoded: bool = False,
) -> dict[str, Any]:
    """A function URL's event; ``content`` is text or bytes as they stand, or what becomes JSON."""
    if content is None:
        content = told()
    raw = content if isinstance(content, bytes) else None
    text = content if isinstance(content, str) else None if raw else json.dumps(content)
    raw = raw if raw is not None else str(text).encode()
    signature = sign(secret, raw, int(NOW.timestamp()) - age_seconds)
    return {
        "version": "2.0",
        "headers": {header: signature, "content-type": "application/json"},
        "body": base64.b64encode(raw).decode() if encoded else raw.decode(errors="replace"),
        "isBase64Encoded": encoded,
    }


def heard(event: dict[str, Any], secrets: str = SECRET) -> str | None:
    return refund_to_look_at(event, secrets, NOW)


def refused(event: dict[str, Any], secrets: str = SECRET) -> int:
    with pytest.raises(RefusedWebhookError) as caught:
        heard(event, secrets)
    return caught.value.status


# --- Who may speak --------------------------------------------------------------------------------


def test_a_signed_event_names_the_refund() -> None:
    assert heard(signed()) == "refund-1"


@pytest.mark.parametrize("header", ["Flair-Signature", "STRIPE-SIGNATURE"])
def test_one_verifier_serves_both_gateways(header: str) -> None:
    assert heard(signed(header=header)) == "refund-1"


def test_it_agrees_with_stripes_own_verifier() -> None:
    stripe = pytest.importorskip("stripe")
    body = json.dumps(told())
    at = int(time.time())
    header = sign(SECRET, body.encode(), at)
    assert stripe.WebhookSignature.verify_header(body, header, SECRET, 300)


def test_a_body_that_lambda_gave_as_base64_is_the_same_body() -> None:
    assert heard(signed(encoded=True)) == "refund-1"


def test_while_a_secret_is_changed_both_are_good() -> None:
    both = f"{SECRET}\n{OTHER}\n"
    assert heard(signed(secret=SECRET), both) == heard(signed(secret=OTHER), both) == "refund-1"
    assert refused(signed(secret=SECRET), OTHER) == 401


def test_one_good_signature_among_several_is_enough() -> None:
    event = signed()
    event["headers"]["flair-signature"] += ",v1=" + "0" * 64 + ",v0=old"
    assert heard(event) == "refund-1"


def test_a_forged_event_is_refused() -> None:
    assert refused(signed(secret=OTHER)) == 401


def test_a_changed_body_is_refused() -> None:
    event = signed()
    event["body"] = event["body"].replace("refund-1", "refund-2")
    assert refused(event) == 401


def test_a_changed_time_is_refused() -> None:
    event = signed(age_seconds=REPLAY_WINDOW_SECONDS + 60)
    old = str(int(NOW.timestamp()) - REPLAY_WINDOW_SECONDS - 60)
    header = event["headers"]["flair-signature"]
    event["headers"]["flair-signature"] = header.replace(old, str(int(NOW.timestamp())))
    assert refused(event) == 401


@pytest.mark.parametrize("age", [REPLAY_WINDOW_SECONDS + 1, 86_400, -REPLAY_WINDOW_SECONDS - 1])
def test_a_replayed_or_future_event_is_refused(age: int) -> None:
    assert refused(signed(age_seconds=age)) == 401


@pytest.mark.parametrize("age", [REPLAY_WINDOW_SECONDS, -REPLAY_WINDOW_SECONDS])
def test_clocks_may_differ_by_the_window(age: int) -> None:
    assert heard(signed(age_seconds=age)) == "refund-1"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=1",
        "v1=" + "0" * 64,
        "t=x,v1=" + "0" * 64,
        "t=-5,v1=" + "0" * 64,
        "t=²,v1=" + "0" * 64,
        "t=1,t=2,v1=" + "0" * 64,
        "t=1,v1=zz",
        "t=" + "9" * 400 + ",v1=" + "0" * 64,
        "," * 100_000,
    ],
)
def test_a_header_that_is_no_signature_is_refused(header: str) -> None:
    event = signed()
    event["headers"]["flair-signature"] = header
    assert refused(event) == 401


@pytest.mark.parametrize("event", [{}, {"headers": None, "body": None}, {"headers": {}}])
def test_an_event_without_anything_is_refused(event: dict[str, Any]) -> None:
    assert refused(event) == 401


@pytest.mark.parametrize("secrets", ["", "not-set", "short", "\n\n"])
def test_nobody_can_sign_with_a_placeholder(secrets: str) -> None:
    assert usable(secrets) == []
    for guess in ("", "not-set", "short"):
        assert refused(signed(secret=guess), secrets) == 401


def test_a_secret_has_a_least_length() -> None:
    assert usable("x" * MIN_SECRET_CHARACTERS) == [b"x" * MIN_SECRET_CHARACTERS]
    assert usable("x" * (MIN_SECRET_CHARACTERS - 1)) == []


def test_secrets_are_at_most_four() -> None:
    assert len(usable("\n".join(f"{number}-secret-of-a-test" for number in range(10)))) == 4


def test_every_secret_and_signature_is_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[tuple[str, str]] = []
    true = hmac.compare_digest

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return true(one, other)

    monkeypatch.setattr("refunds.gateways.webhooks.hmac.compare_digest", compare)
    event = signed(secret=SECRET)
    event["headers"]["flair-signature"] += ",v1=" + "0" * 64
    heard(event, f"{SECRET}\n{OTHER}")
    assert len(compared) == 4


# --- What is heard --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 6 * 1024 * 1024])
@pytest.mark.parametrize("encoded", [True, False])
def test_a_huge_body_is_not_even_hashed(
    size: int, encoded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = signed("x" * size, encoded=encoded)

    def never(*args: Any) -> Any:
        raise AssertionError("it was hashed")

    monkeypatch.setattr("refunds.gateways.webhooks.hmac.new", never)
    assert refused(event) == 413


@pytest.mark.parametrize(
    "content", ["", "no json", "[" * 100_000, '{"a": NaN', b"\xff\xfe\x00", '"\\ud800'], ids=repr
)
def test_garbage_from_the_gateway_is_refused_and_breaks_nothing(content: Any) -> None:
    assert refused(signed(content, encoded=isinstance(content, bytes))) == 400


@pytest.mark.parametrize("encoded", [True, False])
def test_a_body_of_the_largest_size_is_read(encoded: bool) -> None:
    text = json.dumps(told())
    assert heard(signed(text.ljust(MAX_BODY_BYTES), encoded=encoded)) == "refund-1"


@pytest.mark.parametrize("more", ["§§§", "!", "!!!!"])
def test_a_body_that_is_not_base64_is_refused(more: str) -> None:
    event = signed(encoded=True)
    event["body"] += more
    assert refused(event) == 400


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        1,
        "text",
        {},
        told(type="refund"),
        told(type="refund.UPDATED"),
        told(type="charge.refunded"),
        told(type="invoice.paid"),
        told(type=None),
        told(data=None),
        told(data={"object": None}),
        told(data={"object": {}}),
        told(data={"object": {"reference": 7}}),
        told(data={"object": {"reference": ""}}),
        told(data={"object": {"reference": "../etc"}}),
        told(data={"object": {"reference": "x" * 65}}),
        told(data={"object": {"metadata": "text"}}),
        told(data={"object": {"metadata": {"refund_reference": None}}}),
    ],
    ids=str,
)
def test_an_event_of_no_interest_leads_to_nothing(content: Any) -> None:
    assert heard(signed(json.dumps(content))) is None


@pytest.mark.parametrize(
    "kind", ["refund.created", "refund.updated", "refund.failed", "charge.refund.updated"]
)
def test_stripes_events_name_the_refund_in_its_metadata(kind: str) -> None:
    event = event_of(a_refund(), "stripe") | {"type": kind}
    check_event(event)

    assert heard(signed(event, header="stripe-signature")) == "refund-1"


def test_a_connected_accounts_event_names_the_refund_too() -> None:
    event = event_of(a_refund(), "stripe") | {"account": "acct_9"}
    check_event(event)

    assert heard(signed(event, header="stripe-signature")) == "refund-1"


def test_the_mark_of_a_stage_is_no_part_of_the_refund_id() -> None:
    content = told(data={"object": {"reference": "dev.refund-1"}})
    assert heard(signed(content)) == "refund-1"


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: raw.decode("latin-1")))
def test_whatever_is_in_a_header_or_body_the_answer_is_a_refusal(noise: str) -> None:
    for event in (
        {"headers": {"flair-signature": noise}, "body": noise},
        {"headers": {"stripe-signature": noise}, "body": noise, "isBase64Encoded": True},
    ):
        with pytest.raises(RefusedWebhookError):
            heard(event)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_whatever_the_gateway_signs_is_a_refund_id_or_nothing(content: Any) -> None:
    assert heard(signed(json.dumps({"type": "refund.updated", "data": content}))) is None


def test_a_refusal_quotes_nothing_of_the_request() -> None:
    for event in (signed(secret=OTHER), signed("planted-in-a-body"), {}):
        with pytest.raises(RefusedWebhookError) as caught:
            heard(event)
        assert "planted" not in str(caught.value)
        assert OTHER not in str(caught.value)


def test_the_sample_event_is_one_for_its_secret_and_time() -> None:
    path = Path(__file__).parents[3] / "events" / "receive-webhook.json"
    event = json.loads(path.read_text())
    at = int(event["headers"]["flair-signature"].split(",")[0].removeprefix("t="))
    when = datetime.fromtimestamp(at, UTC)
    assert refund_to_look_at(event, WEBHOOK_SECRET, when) == "sample_full"
