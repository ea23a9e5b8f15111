"""The sandbox gateway sends webhooks, signed as Stripe signs them."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from tests.support.stripe_openapi import check_event
from tests.support.stripe_script import a_refund
from tests.support.webhook_events import SECRET

from refunds.gateways.webhooks import refund_to_look_at
from refunds_devkit.sandbox.server import SandboxGateway
from refunds_devkit.sandbox.webhooks import WebhookSender, event_of, sign


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
    assert event_of({"id": "re_1", "status": "failed"}, "flair")["type"] == "refund.failed"
    assert event_of({"id": "re_1", "status": "succeeded"}, "flair")["type"] == "refund.updated"


def test_stripes_events_have_the_shape_of_its_specification() -> None:
    check_event(event_of(a_refund(), "stripe"))


def test_the_signature_is_stripes_scheme() -> None:
    expected = hmac.new(SECRET.encode(), b"5.body", hashlib.sha256).hexdigest()
    assert sign(SECRET, b"body", 5) == f"t=5,v1={expected}"
