"""The operator's commands: what they send and show, how they refuse, and how they end."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.support.deployed import Deployed, deployed

from refunds.domain.request import RefundRequest
from refunds_devkit.sample_events import FOLDER
from refunds_ops.amounts import minor_units
from refunds_ops.cli import cli
from refunds_ops.commands.request import request
from refunds_ops.errors import RefusedError
from refunds_ops.stack.stack import OUTPUTS, find_stack
from refunds_ops.terminal import run_command

FIELDS = ("--transaction", "pay_1", "--user", "ada", "--currency", "USD", "--reason", "other")


@pytest.fixture(scope="module")
def functions() -> Iterator[Deployed]:
    with deployed() as there:
        for name in ("process-refund-full", "process-refund-declined"):
            there.call("ProcessRefund", json.loads((FOLDER / f"{name}.json").read_text()))
        yield there


@pytest.fixture
def run(
    functions: Deployed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., int]]:
    """Runs `refunds …` on the stack in moto; returns the exit status."""
    known = functions.environment
    outputs = {
        "RefundQueueUrl": known["REFUND_QUEUE_URL"],
        "RefundsTableName": known["REFUNDS_TABLE"],
        "AuditTableName": known["AUDIT_TABLE"],
        "BackupBucketName": known["BACKUP_BUCKET"],
        "LedgerTableName": known["LEDGER_TABLE"],
        "RefundDeadLetterQueueUrl": known["DEAD_LETTER_QUEUE_URL"],
        "BackupRefundsFunctionName": "BackupRefunds",
    }
    for output in OUTPUTS:
        monkeypatch.setenv(output, outputs.get(output, "not-here"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield lambda *arguments: run_command(lambda: cli(list(arguments), standalone_mode=False))
    for number, handler in handlers.items():
        signal.signal(number, handler)


def sent(functions: Deployed) -> list[str]:
    """The bodies in the queue; they are taken out."""
    answer = boto3.client("sqs").receive_message(
        QueueUrl=functions.environment["REFUND_QUEUE_URL"], MaxNumberOfMessages=10
    )
    for message in answer.get("Messages", []):
        boto3.client("sqs").delete_message(
            QueueUrl=functions.environment["REFUND_QUEUE_URL"],
            ReceiptHandle=message["ReceiptHandle"],
        )
    return [message["Body"] for message in answer.get("Messages", [])]


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("25.00", "USD", 2500),
        ("25", "USD", 2500),
        ("0.01", "USD", 1),
        ("2500", "JPY", 2500),
        ("1.234", "KWD", 1234),
        ("10000000000", "USD", 10**12),
        ("70368744177.66", "JPY", None),
        ("25.001", "USD", None),
        ("0.1", "JPY", None),
        ("0", "USD", None),
        ("-1", "USD", None),
        ("1e3", "USD", None),
        ("1,000", "USD", None),
        ("NaN", "USD", None),
        ("٢٥", "USD", None),
        ("10000000000.01", "USD", None),
        ("25.00", "usd", None),
        ("1", "XAU", None),
    ],
)
def test_a_decimal_amount_becomes_exact_minor_units(
    text: str, currency: str, minor: int | None
) -> None:
    if minor is None:
        with pytest.raises(RefusedError):
            minor_units(text, currency)
    else:
        assert minor_units(text, currency) == minor


def test_a_request_is_sent_with_all_its_fields(
    run: Callable[..., int], functions: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--amount", "25.00", "--metadata", "order=A-1", "--metadata", "note=a=b")
    assert run("request", *FIELDS, *more, "--refund-id", "rf_1", "--requested-by", "agent:x") == 0
    (body,) = sent(functions)
    message = json.loads(body)
    assert message.pop("requested_at")
    assert message == {
        "refund_id": "rf_1",
        "transaction_id": "pay_1",
        "user_id": "ada",
        "amount_minor": 2500,
        "currency": "USD",
        "reason": "other",
        "requested_by": "agent:x",
        "metadata": {"order": "A-1", "note": "a=b"},
    }
    assert "rf_1" in capsys.readouterr().out


def test_a_request_is_sent_with_every_optional_field(
    run: Callable[..., int], functions: Deployed
) -> None:
    more = ("--amount", "25.00", "--reason-code", "RMA-7", "--note", "Broken, says Ada")
    items = ("--line-item", "mug, red,2,19.80", "--line-item", "card,1,0")
    assert run("request", *FIELDS, *more, *items, "--expected-refundable", "0") == 0
    message = json.loads(sent(functions)[0])
    assert message["reason_code"] == "RMA-7"
    assert message["note"] == "Broken, says Ada"
    assert message["line_items"] == [
        {"sku": "mug, red", "quantity": 2, "amount_minor": 1980},
        {"sku": "card", "quantity": 1, "amount_minor": 0},
    ]
    assert message["expected_refundable_minor"] == 0

    assert run("request", *FIELDS, "--expected-refundable-minor", "4200") == 0
    assert json.loads(sent(functions)[0])["expected_refundable_minor"] == 4200


def test_every_field_of_a_message_can_be_given_as_an_option() -> None:
    options = {each.name for each in request.params}
    assert {*RefundRequest.model_fields} - {"requested_at"} <= options


def test_optional_fields_are_checked_before_anything_is_sent(
    run: Callable[..., int], functions: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--amount", "1.00", "--line-item", "mug,1,2.00", "--note", "x" * 501)
    assert run("request", *FIELDS, *more) == 1
    shown = capsys.readouterr().err
    assert "note: " in shown
    assert run("request", *FIELDS, "--note", "card 4242 4242 4242 4242") == 1
    assert "4242" not in capsys.readouterr().err
    assert sent(functions) == []


def test_a_refund_id_is_made_up_and_shown(
    run: Callable[..., int], functions: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("request", *FIELDS) == 0
    (body,) = sent(functions)
    message = json.loads(body)
    assert message["refund_id"] in capsys.readouterr().out
    assert message["requested_by"].startswith("operator:")
    assert "amount_minor" not in message


def test_an_invalid_request_is_explained_and_not_sent(
    run: Callable[..., int], functions: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("request", *FIELDS, "--refund-id", "no good", "--amount-minor", "0") == 1
    told = capsys.readouterr().err
    assert "refund_id: must be 1 to 64" in told
    assert "amount_minor: must be an integer" in told
    assert sent(functions) == []


def test_a_dry_run_shows_the_message_and_sends_nothing(
    run: Callable[..., int], functions: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("request", *FIELDS, "--amount-minor", "5", "--dry-run") == 0
    assert json.loads(capsys.readouterr().out)["amount_minor"] == 5
    assert sent(functions) == []


def test_a_message_from_standard_input_is_sent_byte_for_byte(
    run: Callable[..., int], functions: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = (
        '{"refund_id":"rf_é",  "transaction_id":"p","user_id":"ü","currency":"USD",'
        '"reason":"other","requested_by":"x"}'
    ).replace("rf_é", "rf_e")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body.encode())))
    assert run("request", "--message", "-") == 0
    assert sent(functions) == [body]


@pytest.mark.parametrize(
    "arguments",
    [
        ("request",),
        ("request", *FIELDS, "--amount", "1", "--amount-minor", "100"),
        ("request", *FIELDS, "--metadata", "nonsense"),
        ("request", *FIELDS, "--line-item", "mug,1"),
        ("request", *FIELDS, "--line-item", "mug,two,1.00"),
        ("request", *FIELDS, "--expected-refundable", "1", "--expected-refundable-minor", "100"),
        ("request", "--message", "/dev/null", "--note", "a"),
        ("request", "--message", "/dev/null", "--user", "ada"),
        ("request", *FIELDS[:-1], "no_reason"),
        ("frobnicate",),
    ],
)
def test_wrong_usage_is_status_2(run: Callable[..., int], arguments: tuple[str, ...]) -> None:
    assert run(*arguments) == 2


def test_without_a_stack_it_says_how_to_name_one(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for output in OUTPUTS:
        monkeypatch.delenv(output)
    assert run("request", *FIELDS) == 3
    told = capsys.readouterr().err
    assert "--stack NAME" in told
    assert "make up" in told


def test_what_aws_refuses_is_status_3(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RefundsTableName", "no-such-table")
    assert run("show", "rf_1") == 3
    assert "AWS_REGION" in capsys.readouterr().err


def test_show_says_what_became_of_a_refund_and_why(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show", "sample_declined") == 0
    shown = capsys.readouterr().out
    for told in ("FAILED", "Refund Failed", "card_declined", "25.00 USD", "agent:grace", "A-1001"):
        assert told in shown


def test_show_has_json_for_programs(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show", "--json", "sample_full") == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert shown["refund"]["amount_minor"] == 10_000
    assert shown["audit_entries"] == []


def test_a_refund_that_is_not_there_is_status_1(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show", "rf_nowhere") == 1
    assert "There is no refund rf_nowhere." in capsys.readouterr().err


def test_the_local_stacks_file_is_found_in_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for output in OUTPUTS:
        monkeypatch.delenv(output, raising=False)
    monkeypatch.chdir(tmp_path)
    Path(".local").mkdir()
    Path(".local/stack.env").write_text(
        "AWS_ENDPOINT_URL=http://127.0.0.1:1\nRefundQueueUrl='http://q/a b'\nAWS_REGION=us-east-1\n"
    )
    stack = find_stack(None, {})
    assert stack["RefundQueueUrl"] == "http://q/a b"
    assert stack.settings["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert stack.sqs.meta.endpoint_url == "http://127.0.0.1:1"
