"""The handlers over moto and a scripted gateway, with everything that they log."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

import boto3
import pytest
from tests.support import deployed
from tests.support.builders import EMAIL, SECRET, VISA, refund

from refunds.tables.wire import item_to_wire

CARD_IN_GROUPS = "4111 1111 1111 1111"
PLANTED = (EMAIL, VISA, CARD_IN_GROUPS, SECRET)
Answers = Callable[[str, str], tuple[int, Any]]
"""Method and path to status and content."""


PAYMENT = {
    "id": "payment-1",
    "status": "captured",
    "currency": "USD",
    "amount_captured": 1_000_000,
    "amount_refunded": 0,
}


class Gateway:
    """A gateway that says what it is told to."""

    def __init__(self) -> None:
        self.answers: Answers = lambda method, path: (500, "")
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                self._answer(json.loads(self.rfile.read(length)))

            def _answer(self, asked: Any) -> None:
                status, content = gateway.answers(self.command, self.path)
                if content == "echo":
                    content = {"id": "gw-1", "status": "succeeded"} | asked
                sent = content if isinstance(content, str) else json.dumps(content)
                self.send_response(status)
                self.send_header("Content-Length", str(len(sent.encode())))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(sent.encode())

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


def pays(method: str, path: str) -> tuple[int, Any]:
    if method == "POST":
        return 201, "echo"
    return (200, PAYMENT) if "/payments/" in path else (200, {"data": []})


@dataclass
class Called:
    """What a function returned, and all that it wrote to its log."""

    answer: Any
    output: str

    def lines(self) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]
        return [line for line in found if "message" in line]

    def line(self, message: str) -> dict[str, Any]:
        (found,) = [line for line in self.lines() if line["message"] == message]
        return found

    def metrics(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for line in self.output.splitlines():
            told = json.loads(line) if line.startswith("{") else {}
            for each in told.get("_aws", {}).get("CloudWatchMetrics", []):
                found |= {metric["Name"]: told[metric["Name"]] for metric in each["Metrics"]}
        return found


class Functions:
    """The four functions with their template's environment, over moto and a scripted gateway."""

    def __init__(self, there: deployed.Deployed, gateway: Gateway) -> None:
        self.deployed = there
        self.gateway = gateway
        self.environment = there.environment
        # What a function says goes where its logger went when it was first loaded.
        self._said = io.StringIO()
        self._ids = count(1)
        self._receipts: list[str] = []

    def call(self, function: str, event: Any) -> Called:
        before = self._said.tell()
        with redirect_stdout(self._said):
            answer = self.deployed.call(function, event)
        return Called(answer, self._said.getvalue()[before:])

    def failing_call(self, function: str, event: Any) -> tuple[BaseException, str]:
        """The error that the function ends with, and what it wrote."""
        before = self._said.tell()
        with redirect_stdout(self._said), pytest.raises(Exception) as caught:  # noqa: PT011
            self.deployed.call(function, event)
        return caught.value, self._said.getvalue()[before:]

    def new_id(self) -> str:
        return f"r{next(self._ids)}"

    def message(self, content: Any) -> dict[str, Any]:
        """A message of the queue as an event's record; ``content`` is text or becomes JSON."""
        client, url = boto3.client("sqs"), self.environment["REFUND_QUEUE_URL"]
        text = content if isinstance(content, str) else json.dumps(content)
        client.send_message(QueueUrl=url, MessageBody=text)
        (got,) = client.receive_message(QueueUrl=url, MessageSystemAttributeNames=["All"])[
            "Messages"
        ]
        self._receipts.append(got["ReceiptHandle"])
        attributes: Any = got["Attributes"]
        return {
            "messageId": got["MessageId"],
            "receiptHandle": got["ReceiptHandle"],
            "body": got["Body"],
            "attributes": attributes,
            "messageAttributes": {},
            "eventSource": "aws:sqs",
        }

    def take_back_messages(self) -> None:
        """Those that were put back would come to another test."""
        for receipt in self._receipts:
            boto3.client("sqs").delete_message(
                QueueUrl=self.environment["REFUND_QUEUE_URL"], ReceiptHandle=receipt
            )
        self._receipts.clear()

    def process(self, *contents: Any) -> Called:
        records = [self.message(content) for content in contents]
        return self.call("ProcessRefund", {"Records": records})

    def put_refund(self, **changes: Any) -> None:
        boto3.client("dynamodb").put_item(
            TableName=self.environment["REFUNDS_TABLE"],
            Item=item_to_wire(refund(**changes).item()),
        )


@contextmanager
def clean_handlers() -> Iterator[None]:
    """Handlers build their clients when they are loaded: these are loaded here, and forgotten."""
    deployed._forget_handlers()
    yield
    deployed._forget_handlers()


# WriteAudit


def stream_event(*records: dict[str, Any]) -> dict[str, Any]:
    return {"Records": list(records)}
