"""Webhooks: only what the gateway has surely signed is heard, and what is heard is only which
refund to look at."""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws
from tests.support.builders import NOW, refund, shown
from tests.support.moto_stack import REGION
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import GatewayStatus, GatewayUnavailableError
from refunds.gateways.webhooks import (
    MAX_BODY_BYTES,
    REPLAY_WINDOW_SECONDS,
    RefusedWebhookError,
    refund_to_look_at,
    usable,
)
from refunds_devkit.sample_events import WEBHOOK_SECRET
from refunds_devkit.sandbox.server import SandboxGateway
from refunds_devkit.sandbox.webhooks import WebhookSender, event_of, sign

SECRET = "a-secret-of-a-test-1234"  # noqa: S105 - no secret
OTHER = "another-of-a-test-56789"


def told(**changes: Any) -> dict[str, Any]:
    """Flair's event about refund-1."""
    return {
        "id": "evt_1",
        "type": "refund.updated",
        "created": int(NOW.timestamp()),
        "data": {"object": {"id": "re_1", "reference": "refund-1", "status": "succeeded"}},
    } | changes


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


def test_a_body_that_is_not_base64_is_refused() -> None:
    event = signed(encoded=True)
    event["body"] = "§§§"
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


def test_stripes_events_name_the_refund_in_its_metadata() -> None:
    stripes = {"id": "re_1", "object": "refund", "metadata": {"refund_reference": "refund-1"}}
    for kind in ("refund.created", "refund.updated", "refund.failed", "charge.refund.updated"):
        assert heard(signed(told(type=kind, data={"object": stripes}))) == "refund-1"


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


# --- The one refund is looked at ------------------------------------------------------------------


def pending(world: World, **changes: Any) -> Refund:
    """A refund that the gateway said was pending an hour ago; its next look is due in an hour."""
    return world.put(
        refund(
            status=Status.PENDING,
            gateway_refund_id="gw-1",
            lease_until=None,
            open_since=rfc3339(NOW - timedelta(hours=1)),
            open_shard="0",
            check_at=rfc3339(NOW + timedelta(hours=1)),
            **changes,
        )
    )


def look(world: World, refund_id: str = "refund-1") -> Refund | None:
    return world.reconciler.look_at(refund_id, world.deadline(230))


@pytest.mark.parametrize(
    ("at_gateway", "ends"),
    [
        (GatewayStatus.SUCCEEDED, Status.SUCCEEDED),
        (GatewayStatus.FAILED, Status.FAILED),
        (GatewayStatus.PENDING, Status.PENDING),
    ],
)
def test_the_gateways_answer_counts_not_the_event(
    world: World, at_gateway: GatewayStatus, ends: Status
) -> None:
    pending(world)
    world.gateway.refunds = [shown(status=at_gateway)]
    look(world)
    assert world.stored().status is ends
    assert world.held() == (0 if ends is Status.FAILED else 2500)


def test_doubled_events_do_nothing_more(world: World) -> None:
    pending(world)
    world.gateway.refunds = [shown()]
    look(world)
    after = world.stored()
    for _ in range(3):
        look(world)
    assert world.stored() == after


def test_an_old_event_does_not_undo_what_came_after_it(world: World) -> None:
    pending(world)
    world.gateway.refunds = [shown(status=GatewayStatus.FAILED)]
    look(world)
    # "pending" and "succeeded" come late: the gateway is asked and says failed, as it is.
    look(world)
    assert world.stored().status is Status.FAILED
    assert world.held() == 0


def test_a_reversal_is_recorded_once_the_gateway_shows_it(world: World) -> None:
    world.put(refund(status=Status.SUCCEEDED, gateway_refund_id="gw-1", lease_until=None))
    world.gateway.refunds = [shown()]
    look(world)
    assert world.stored().status is Status.SUCCEEDED
    world.gateway.refunds = [shown(status=GatewayStatus.FAILED)]
    look(world)
    assert world.stored().status is Status.REVERSED
    assert world.held() == 0


def test_an_unknown_refund_leads_to_nothing(world: World) -> None:
    assert look(world, "no-such-refund") is None
    assert world.gateway.calls == []


def test_a_refund_that_is_being_worked_on_is_left_alone(world: World) -> None:
    world.put(refund(open_since=rfc3339(NOW), open_shard="0", check_at=rfc3339(NOW)))
    before = world.stored()
    assert look(world) == before
    assert world.stored() == before
    assert world.gateway.calls == []


@pytest.mark.parametrize("status", [Status.PROCESSING, Status.IN_REVIEW])
def test_no_event_puts_off_when_a_refund_is_looked_at_next(world: World, status: Status) -> None:
    """Else whoever sends many would keep it waiting."""
    world.put(refund(status=status, open_since=rfc3339(NOW), open_shard="0", check_at=rfc3339(NOW)))
    for _ in range(3):
        look(world)
    assert world.stored().check_at == rfc3339(NOW)


@pytest.mark.parametrize("status", [Status.FAILED, Status.REJECTED, Status.REVERSED])
def test_what_has_ended_stays_ended(world: World, status: Status) -> None:
    world.put(refund(status=status, lease_until=None), held=1)
    before = world.stored()
    world.gateway.refunds = [shown()]
    look(world)
    assert world.stored() == before


def test_a_gateway_that_is_down_leaves_everything_as_it_was(world: World) -> None:
    world.put(refund(status=Status.SUCCEEDED, gateway_refund_id="gw-1", lease_until=None))
    world.gateway.down = True
    with pytest.raises(GatewayUnavailableError):
        look(world)
    assert world.stored().status is Status.SUCCEEDED


# --- The function at the URL ----------------------------------------------------------------------


class Endpoint:
    """ReceiveWebhook as it is deployed, over Secrets Manager in moto; ``started`` is what the
    reconciler was started with."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self.started: list[Any] = []
        module._functions = SimpleNamespace(invoke=self._invoke)

    def _invoke(self, *, FunctionName: str, InvocationType: str, Payload: bytes) -> None:  # noqa: N803
        assert (FunctionName, InvocationType) == ("reconciler:live", "Event")
        self.started.append(json.loads(Payload))

    def call(self, event: dict[str, Any]) -> Any:
        context = SimpleNamespace(
            function_name="ReceiveWebhook",
            memory_limit_in_mb=256,
            invoked_function_arn="arn:aws:lambda:eu-central-1:123456789012:function:x",
            aws_request_id="0",
        )
        return self._module.handler(event, context)


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    name = "refunds.handlers.receive_webhook"
    with mock_aws():
        made = boto3.client("secretsmanager", region_name=REGION).create_secret(
            Name=f"webhook-{time.time_ns()}", SecretString=f"{OTHER}\n{SECRET}\n"
        )
        for variable, value in {
            "AWS_DEFAULT_REGION": REGION,
            "WEBHOOK_SECRET_ARN": made["ARN"],
            "RECONCILE_FUNCTION": "reconciler:live",
            "POWERTOOLS_TRACE_DISABLED": "true",
            "POWERTOOLS_SERVICE_NAME": "refunds-test",
            "POWERTOOLS_METRICS_NAMESPACE": "Refunds",
        }.items():
            monkeypatch.setenv(variable, value)
        sys.modules.pop(name, None)
        yield Endpoint(importlib.import_module(name))
        sys.modules.pop(name, None)


def now_signed(content: Any = None, secret: str = SECRET) -> dict[str, Any]:
    body = json.dumps(told() if content is None else content)
    signature = sign(secret, body.encode(), int(time.time()))
    return {"headers": {"flair-signature": signature}, "body": body, "isBase64Encoded": False}


def test_a_signed_event_starts_the_reconciler_for_that_refund(function: Endpoint) -> None:
    assert function.call(now_signed()) == {"statusCode": 202}
    assert function.started == [{"look_at": "refund-1"}]


def test_nothing_of_the_event_but_the_refund_id_is_passed_on(function: Endpoint) -> None:
    content = told(data={"object": {"reference": "refund-1", "status": "failed", "amount": 1}})
    function.call(now_signed(content))
    assert function.started == [{"look_at": "refund-1"}]


def test_forged_and_uninteresting_events_start_nothing(
    function: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert function.call(now_signed(None, "forged-by-somebody")) == {"statusCode": 401}
    assert function.call(now_signed({"type": "refund.created", "data": 1})) == {"statusCode": 202}
    assert function.call({"headers": {}, "body": "planted-in-a-body"}) == {"statusCode": 401}
    assert function.started == []
    assert "planted" not in "".join(capsys.readouterr())


def test_an_event_that_could_not_be_passed_on_is_asked_for_again(function: Endpoint) -> None:
    def broken(event: Any) -> None:
        raise RuntimeError("throttled")

    function._module._functions = SimpleNamespace(invoke=lambda **call: broken(call))
    with pytest.raises(RuntimeError):  # to whoever called, that is HTTP 502
        function.call(now_signed())


# --- The sandbox gateway sends them ---------------------------------------------------------------


class Received(HTTPServer):
    """A webhook endpoint that keeps what it gets; it refuses the first ``refusing``."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.refusing = 0
        super().__init__(("127.0.0.1", 0), _Endpoint)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class _Endpoint(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Received)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.got.append((dict(self.headers.items()), body))
        server.refusing -= 1
        self.send_response(503 if server.refusing >= 0 else 202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def endpoint() -> Iterator[Received]:
    server = Received()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join(5)
    server.server_close()


def test_the_sandbox_tells_of_a_refund_that_has_changed_and_signs_it(endpoint: Received) -> None:
    with SandboxGateway(seed=False) as gateway:
        sender = WebhookSender(
            gateway_url=gateway.url,
            api="flair",
            api_key=gateway.api_key,
            url=endpoint.url,
            secret=SECRET,
        )
        gateway.client.add_payment("payment-1", 1000)
        gateway.client.add_foreign_refund("payment-1", 100, reference="refund-1", status="pending")
        assert sender.look() == 0  # it is new: whoever asked for it knows
        (there,) = gateway.client.ledger()["refunds"]
        gateway.client.settle(there["id"], "succeeded")
        endpoint.refusing = 2
        assert sender.look() == 1
        assert sender.look() == 0
    assert len(endpoint.got) == 3
    headers, body = endpoint.got[-1]
    event = {"headers": headers, "body": body.decode()}
    assert refund_to_look_at(event, SECRET, datetime.now(UTC)) == "refund-1"


def test_a_failed_refund_has_an_event_type_of_its_own() -> None:
    assert event_of({"id": "re_1", "status": "failed"})["type"] == "refund.failed"
    assert event_of({"id": "re_1", "status": "succeeded"})["type"] == "refund.updated"


def test_the_signature_is_stripes_scheme() -> None:
    expected = hmac.new(SECRET.encode(), b"5.body", hashlib.sha256).hexdigest()
    assert sign(SECRET, b"body", 5) == f"t=5,v1={expected}"
