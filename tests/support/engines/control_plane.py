"""What no open engine offers: Secrets Manager, an event bus, and Lambda's own API.

Only the calls that the functions and the end-to-end suite make. Any other is answered with 501.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.engines.pollers import InvocationError
from tests.support.engines.pollers import Mapping as EventSourceMapping

from refunds_devkit.local.ports import LOOPBACK

Body = dict[str, Any]
MAPPINGS = "/2015-03-31/event-source-mappings/"
FUNCTIONS = "/2015-03-31/functions/"


class ControlPlane:
    def __init__(self, send_message: Callable[[str, str], object]) -> None:
        """``send_message`` takes a queue's ARN and a body: the bus delivers with it."""
        self._send_message = send_message
        self._secrets: dict[str, str] = {}
        # By bus and rule: the sources that it takes, and the ARNs of its queues by target id.
        self._rules: dict[tuple[str, str], list[str]] = {}
        self._targets: dict[tuple[str, str], dict[str, str]] = {}
        self.functions: dict[str, Callable[[Any], Any]] = {}
        self.variables: dict[str, str] = {}
        """The environment of every function."""
        self.mappings: dict[str, EventSourceMapping] = {}
        self._server = ThreadingHTTPServer((LOOPBACK, 0), _handler(self))
        self.url = f"http://{LOOPBACK}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def call(self, target: str, body: Body) -> Body:
        """Answers ``X-Amz-Target`` calls. Raises ``NotImplementedError``."""
        operations: Mapping[str, Callable[[Body], Body]] = {
            "secretsmanager.CreateSecret": self._create_secret,
            "secretsmanager.GetSecretValue": self._secret_value,
            "AWSEvents.CreateEventBus": lambda asked: {"EventBusArn": asked["Name"]},
            "AWSEvents.PutRule": self._put_rule,
            "AWSEvents.DeleteRule": self._delete_rule,
            "AWSEvents.PutTargets": self._put_targets,
            "AWSEvents.RemoveTargets": self._remove_targets,
            "AWSEvents.PutEvents": self._put_events,
        }
        if target not in operations:
            raise NotImplementedError(target)
        return operations[target](body)

    def invoke(self, function: str, event: Any, *, wait: bool) -> tuple[Any, bool]:
        """The response, and whether the function failed."""
        run = self.functions[function]
        if not wait:
            threading.Thread(target=_invoke, args=(run, event), daemon=True).start()
            return None, False
        return _invoke(run, event)

    def describe(self, path: str) -> Body:
        """GetFunctionConfiguration, or GetEventSourceMapping."""
        if path.startswith(FUNCTIONS):
            return {"Environment": {"Variables": self.variables}}
        return self.mapping(path.removeprefix(MAPPINGS))

    def mapping(self, identifier: str, change: Body | None = None) -> Body:
        """GetEventSourceMapping, or UpdateEventSourceMapping with a change."""
        mapping = self.mappings[identifier]
        if change:
            mapping.enabled = change.get("Enabled", mapping.enabled)
            scaling = change.get("ScalingConfig", {})
            mapping.concurrency = scaling.get("MaximumConcurrency", mapping.concurrency)
        return {
            "UUID": identifier,
            "EventSourceArn": mapping.source_arn,
            "State": "Enabled" if mapping.enabled else "Disabled",
            "BatchSize": mapping.batch_size,
            "ScalingConfig": {"MaximumConcurrency": mapping.concurrency},
        }

    def _create_secret(self, asked: Body) -> Body:
        arn = f"arn:aws:secretsmanager:us-east-1:123456789012:secret:{asked['Name']}"
        self._secrets[arn] = asked["SecretString"]
        return {"ARN": arn, "Name": asked["Name"]}

    def _secret_value(self, asked: Body) -> Body:
        arn = asked["SecretId"]
        return {"ARN": arn, "Name": arn, "SecretString": self._secrets[arn]}

    def _put_rule(self, asked: Body) -> Body:
        key = (asked["EventBusName"], asked["Name"])
        self._rules[key] = json.loads(asked["EventPattern"])["source"]
        return {"RuleArn": asked["Name"]}

    def _delete_rule(self, asked: Body) -> Body:
        self._rules.pop((asked["EventBusName"], asked["Name"]))
        return {}

    def _put_targets(self, asked: Body) -> Body:
        queues = self._targets.setdefault((asked["EventBusName"], asked["Rule"]), {})
        queues.update({each["Id"]: each["Arn"] for each in asked["Targets"]})
        return {"FailedEntryCount": 0, "FailedEntries": []}

    def _remove_targets(self, asked: Body) -> Body:
        for identifier in asked["Ids"]:
            del self._targets[asked["EventBusName"], asked["Rule"]][identifier]
        return {"FailedEntryCount": 0, "FailedEntries": []}

    def _put_events(self, asked: Body) -> Body:
        results = []
        for entry in asked["Entries"]:
            event = {
                "version": "0",
                "id": secrets.token_hex(16),
                "detail-type": entry["DetailType"],
                "source": entry["Source"],
                "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "resources": entry.get("Resources", []),
                "detail": json.loads(entry["Detail"]),
            }
            for (bus, rule), sources in list(self._rules.items()):
                if bus == entry["EventBusName"] and entry["Source"] in sources:
                    for queue_arn in list(self._targets.get((bus, rule), {}).values()):
                        self._send_message(queue_arn, json.dumps(event))
            results.append({"EventId": event["id"]})
        return {"FailedEntryCount": 0, "Entries": results}


def _invoke(run: Callable[[Any], Any], event: Any) -> tuple[Any, bool]:
    try:
        return run(event), False
    except InvocationError as exc:
        return {"errorMessage": str(exc)}, True


def _handler(plane: ControlPlane) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, plane.describe(self.path))

        def do_PUT(self) -> None:
            self._send(202, plane.mapping(self.path.removeprefix(MAPPINGS), self._body()))

        def do_POST(self) -> None:
            body = self._body()
            if self.path.startswith(FUNCTIONS):
                name = self.path.removeprefix(FUNCTIONS).partition("/")[0]
                wait = self.headers.get("X-Amz-Invocation-Type") != "Event"
                result, failed = plane.invoke(name, body, wait=wait)
                headers = {"X-Amz-Function-Error": "Unhandled"} if failed else {}
                self._send(200 if wait else 202, result, headers)
                return
            try:
                self._send(200, plane.call(self.headers["X-Amz-Target"], body))
            except NotImplementedError as exc:
                self._send(501, {"message": f"{exc} is not implemented here"})

        def _body(self) -> Any:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return json.loads(content or b"{}")

        def _send(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Logs nothing."""

    return Handler
