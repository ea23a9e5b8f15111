"""Faults of the local stack, and the runbook's own commands: the alarm goes on, the commands show
the cause, the correction ends both.

The emulator evaluates no alarms. So the metrics are read from the functions' logs, as CloudWatch
does, and the simulator's evaluator runs the alarms of template.yaml over them.
"""

from __future__ import annotations

import io
import json
import re
import secrets
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest
import urllib3
from tests.local.flow import QUEUE_SECONDS, Flow, eventually
from tests.local.runbook import Runbook
from tests.simulator.alarms import AlarmBoard, series
from tests.simulator.kernel import START_SECONDS
from tests.support.expanded_template import STACK_NAME

from refunds_devkit.local.ports import LOOPBACK

HOUR = 3600.0
RUN_SECONDS = 300.0
FUNCTIONS = ("ProcessRefund", "WriteAudit", "ReconcileRefunds", "BackupRefunds")
ROLL_BACK = "Roll back a release"


class Alarms:
    """The template's alarms over what the functions of a stack report."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._logs = flow.stack.new_client("logs")
        self._seen = {function: len(self._lines(function)) for function in FUNCTIONS}
        self._board = AlarmBoard()
        self._now = START_SECONDS + 60
        self.reported: set[str] = set()
        """The names of the metrics above 0 since the last look."""

    def look(self) -> set[str]:
        """Take what was reported since the last look as of one minute; the alarms that are on."""
        self.reported = set()
        for function in FUNCTIONS:
            lines = self._lines(function)
            for name, value in _metrics(lines[self._seen[function] :]):
                self._add("Refunds", name, value, service=STACK_NAME)
                if value > 0:
                    self.reported.add(name)
            self._seen[function] = len(lines)
        self._dead_letters()
        self._now += 120
        self._board.advance(self._now)
        return self._board.all_on()

    def later(self, hours: float = 2) -> set[str]:
        """The alarms that are on after some hours in which each run reports what this one does."""
        for _ in range(int(hours * HOUR / RUN_SECONDS)):
            self._flow_runs()
            self._now += RUN_SECONDS
        self._board.advance(self._now)
        return self._board.all_on()

    def _flow_runs(self) -> None:
        if not hasattr(self, "_run"):
            self._seen["ReconcileRefunds"] = len(self._lines("ReconcileRefunds"))
            self._flow.invoke("ReconcileRefunds")
            lines = self._lines("ReconcileRefunds")
            self._run = _metrics(lines[self._seen["ReconcileRefunds"] :])
        for name, value in self._run:
            self._add("Refunds", name, value, service=STACK_NAME)
        self._dead_letters()

    def _dead_letters(self) -> None:
        attribute: Literal["ApproximateNumberOfMessages"] = "ApproximateNumberOfMessages"
        found = self._flow.stack.sqs.get_queue_attributes(
            QueueUrl=self._flow.stack["RefundDeadLetterQueueUrl"], AttributeNames=[attribute]
        )
        self._add(
            "AWS/SQS",
            "ApproximateNumberOfMessagesVisible",
            float(found["Attributes"][attribute]),
            QueueName="RefundDeadLetterQueue.QueueName",
        )

    def _add(self, namespace: str, name: str, value: float, **dimensions: str) -> None:
        self._board.add(series(namespace, name, **dimensions), self._now, value)

    def _lines(self, function: str) -> list[str]:
        group = f"/aws/lambda/{self._flow.stack['StackName']}-{function}"
        pages = self._logs.get_paginator("filter_log_events").paginate(logGroupName=group)
        return [event["message"] for page in pages for event in page["events"]]


def _metrics(lines: list[str]) -> list[tuple[str, float]]:
    found = []
    for line in lines:
        if '"_aws"' not in line or not line.startswith("{"):
            continue
        written = json.loads(line)
        for directive in written["_aws"]["CloudWatchMetrics"]:
            if ["service"] not in directive["Dimensions"]:
                continue
            for metric in directive["Metrics"]:
                values = written[metric["Name"]]
                found += [
                    (metric["Name"], float(value))
                    for value in (values if isinstance(values, list) else [values])
                ]
    return found


@pytest.fixture(scope="module")
def runbook(flow: Flow, tmp_path_factory: pytest.TempPathFactory) -> Runbook:
    return Runbook(flow.stack, tmp_path_factory.mktemp("runbook"))


@pytest.fixture
def alarms(flow: Flow) -> Alarms:
    return Alarms(flow)


def deploy(
    flow: Flow,
    function: str,
    *,
    code: bytes | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Publish a version with this code and these variables, if given, and let the alias serve it.
    Returns its number."""
    functions, name = flow.stack.functions, flow.stack[f"{function}FunctionName"]
    if code is not None:
        functions.update_function_code(FunctionName=name, ZipFile=code)
    if variables is not None:
        functions.update_function_configuration(
            FunctionName=name, Environment={"Variables": dict(variables)}
        )
    version = functions.publish_version(FunctionName=name)["Version"]
    functions.update_alias(FunctionName=name, Name="live", FunctionVersion=version)
    return version


@contextmanager
def restored(flow: Flow, function: str) -> Iterator[str]:
    """Afterwards a version with today's code and variables serves. Yields today's version."""
    functions, name = flow.stack.functions, flow.stack[f"{function}FunctionName"]
    version = functions.get_alias(FunctionName=name, Name="live")["FunctionVersion"]
    code = code_of(flow, function)
    variables = variables_of(flow, function)
    try:
        yield version
    finally:
        deploy(flow, function, code=code, variables=variables)


def variables_of(flow: Flow, function: str) -> dict[str, str]:
    name = flow.stack[f"{function}FunctionName"]
    configuration = flow.stack.functions.get_function_configuration(FunctionName=name)
    return dict(configuration["Environment"]["Variables"])


def code_of(flow: Flow, function: str) -> bytes:
    name = flow.stack[f"{function}FunctionName"]
    location = flow.stack.functions.get_function(FunctionName=name)["Code"]["Location"]
    answer = urllib3.request("GET", location, timeout=60)
    assert answer.status == 200
    return answer.data


def with_a_bug(code: bytes) -> bytes:
    """The same release, but that no request can be processed."""
    module = "refunds/processing/processor.py"
    bug = b"\n\ndef _bug(*arguments, **more):\n    raise TypeError('a bug of this release')\n"
    bug += b"\n\nProcessor.process = _bug\n"
    broken = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(code)) as old, zipfile.ZipFile(broken, "w") as new:
        for entry in old.infolist():
            if "processing/__pycache__/processor." in entry.filename:
                continue  # it would be run in the source's place
            text = old.read(entry)
            new.writestr(entry, text + bug if entry.filename == module else text)
    return broken.getvalue()


def test_a_broken_release(flow: Flow, runbook: Runbook, alarms: Alarms) -> None:
    with restored(flow, "ProcessRefund") as good:
        bad = deploy(flow, "ProcessRefund", code=with_a_bug(code_of(flow, "ProcessRefund")))
        body = flow.request(flow.payment(), 2_500)
        flow.send(body)
        section = "ProcessRefundUnexpectedErrors"
        said = eventually(
            lambda: runbook.shows(section, "aws logs tail"), "the log names the exception"
        )
        assert "TypeError" in said
        assert section in alarms.look()

        assert bad in runbook.shows(ROLL_BACK, "aws lambda get-alias")
        versions = runbook.shows(ROLL_BACK, "aws lambda list-versions-by-function")
        assert re.search(rf'"{good}".*"{bad}"', versions, re.DOTALL)
        runbook.shows(ROLL_BACK, "aws lambda update-alias", VERSION=good)
        flow.refund(body, "SUCCEEDED")
        alarms.look()
        assert section not in alarms.later()


@contextmanager
def a_table_that_denies() -> Iterator[str]:
    """DynamoDB as IAM lets it answer a role that may not use a table."""

    class Deny(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(
                {
                    "__type": "com.amazon.coral.service#AccessDeniedException",
                    "Message": "User is not authorized to perform this action",
                }
            ).encode()
            self.send_response(400)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer((LOOPBACK, 0), Deny)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_denied_table(flow: Flow, runbook: Runbook, alarms: Alarms) -> None:
    with a_table_that_denies() as denying, restored(flow, "ProcessRefund") as good:
        denied = {"AWS_ENDPOINT_URL_DYNAMODB": denying}
        deploy(flow, "ProcessRefund", variables=variables_of(flow, "ProcessRefund") | denied)
        body = flow.request(flow.payment(), 2_500)
        flow.send(body)

        def look() -> str | None:
            said = runbook.shows("Misconfigured", "for function in")
            return said if "AccessDeniedException" in said else None

        eventually(look, "the log names the denied permission")
        assert "Misconfigured" in alarms.look()
        assert "MisconfiguredPermissionDenied" in alarms.reported
        # The release was not to blame, but its configuration: the version before has the old one.
        runbook.shows(ROLL_BACK, "aws lambda update-alias", VERSION=good)
        refund = flow.refund(body, "SUCCEEDED")
        assert flow.moved(refund["transaction_id"]) == [2_500]
        assert "Misconfigured" not in alarms.later()


def test_a_gateway_outage(flow: Flow, runbook: Runbook, alarms: Alarms) -> None:
    flow.sandbox.add_fault("error_503", operation="any", always=True)
    try:
        bodies = [flow.request(flow.payment(), 2_500) for _ in range(8)]
        flow.send(*bodies)

        def stopped() -> str | None:
            said = runbook.shows("QueuePaused", "refunds status")
            return said if re.search(r"breaker +open", said) else None

        what = "`refunds status` says that the gateway is down"
        said = eventually(stopped, what, QUEUE_SECONDS)
        assert "since" in said
        flow.invoke("ReconcileRefunds")
        on = alarms.look()
        assert "QueuePaused" in on
        assert "Misconfigured" not in on
    finally:
        flow.sandbox.remove_faults()
    # Nothing to do, says the runbook: the reconciler asks at each run.
    for body in bodies:
        eventually(lambda: flow.invoke("ReconcileRefunds")["requests"] == "Enabled", "it flows")
        refund = flow.refund(body, "SUCCEEDED")
        assert flow.moved(refund["transaction_id"]) == [2_500]
    eventually(
        lambda: flow.invoke("ReconcileRefunds").get("breaker") == "closed", "the breaker closes"
    )
    alarms.look()
    assert "QueuePaused" not in alarms.later()


def test_a_missing_backup(flow: Flow, runbook: Runbook, alarms: Alarms) -> None:
    flow.invoke("BackupRefunds")
    alarms.look()
    with restored(flow, "BackupRefunds"):
        gone = {"BACKUP_BUCKET": "a-bucket-that-is-gone"}
        deploy(flow, "BackupRefunds", variables=variables_of(flow, "BackupRefunds") | gone)
        answer = flow.stack.functions.invoke(
            FunctionName=flow.stack["BackupRefundsFunctionName"], Qualifier="live", Payload=b"{}"
        )
        assert "FunctionError" in answer
        said = runbook.shows("BackupMissing", "aws logs tail")
        assert "NoSuchBucket" in said
        assert "BackupMissing" in alarms.later(27)
    assert "backup" in runbook.shows("BackupMissing", "refunds backup run")
    assert "BackupMissing" not in alarms.look()


def test_a_full_dead_letter_queue(flow: Flow, runbook: Runbook, alarms: Alarms) -> None:
    marks = [f"no-json-{secrets.token_hex(4)}" for _ in range(25)]
    flow.send(*marks)

    def listed() -> str | None:
        said = runbook.shows("DeadLetters", "refunds dead-letters list")
        return said if said.count("invalid_json") >= len(marks) else None

    said = eventually(listed, "all are listed")
    assert "DeadLetters" in alarms.look()
    message_id = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", said)
    assert message_id is not None
    shown = runbook.shows("DeadLetters", "refunds dead-letters show", MESSAGE_ID=message_id[0])
    assert "no-json-" in shown
    # Refused ones would only be refused again: the runbook's resend leaves them, its drop does not.
    runbook.shows("Redrive dead letters", "refunds dead-letters resend")
    runbook.shows("Redrive dead letters", "refunds dead-letters drop --all")
    assert "No dead letters" in runbook.shows("DeadLetters", "refunds dead-letters list")
    alarms.look()
    assert "DeadLetters" not in alarms.later(1)


# --- Every other command of the page --------------------------------------------------------------

STAND_INS = {
    "REFUND_ID": "no-such-refund",
    "MESSAGE_ID": "no-such-message",
}
NOT_HERE = {
    "refunds stack set-key": "it asks; test_deploying.py answers",
    "refunds backup drill": "the emulator imports no tables as DynamoDB does; test_backups.py",
    "aws lambda update-alias": "test_a_broken_release",
    "sam build": "test_deploying.py",
    "sam deploy": "the emulator has no CodeDeploy",
    "refunds dead-letters resend --all": "test_a_full_dead_letter_queue",
    "refunds dead-letters drop --all": "test_a_full_dead_letter_queue",
    "aws logs tail /aws/lambda/$STACK-ReceiveWebhook": "Webhooks=true",
    "aws lambda update-event-source-mapping": "test_walk_through.py switches it",
}
KNOWN_ANSWERS = ("There is no ", "there is no backup", "Nothing to ", "neither this backup nor")
"""What a command says of a stand-in; anything else that is not exit status 0 or 1 is a fault."""


def test_every_command_of_the_page_runs_as_it_is_written(runbook: Runbook) -> None:
    """With stand-ins for what the person fills in. A command may find something (status 1)."""
    faults = []
    commands = {each: name for name, found in runbook.sections.items() for each in found}
    for command, section in commands.items():
        if section == "Severities" or command.startswith(tuple(NOT_HERE)):
            continue
        given = {old: new for old, new in STAND_INS.items() if old in command}
        done = runbook.run(command, **given)
        unknown = given and not any(each in done.output for each in KNOWN_ANSWERS)
        if done.status > 1 or (done.status == 1 and unknown):
            faults.append(f"{section}: {command}\n{done.output[-400:]}")
    runbook.run('refunds resume --why "the walk is over" || true')
    assert not faults, "\n\n".join(faults)


def test_what_is_not_run_here_is_still_on_the_page(runbook: Runbook) -> None:
    commands = [each for found in runbook.sections.values() for each in found]
    for beginning in NOT_HERE:
        assert any(each.startswith(beginning) for each in commands), beginning


def test_the_page_has_no_bash_that_an_old_shell_lacks() -> None:
    assert "<(" not in Path("docs/runbook.md").read_text()
