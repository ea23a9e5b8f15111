"""Whatever is typed: an exit status of the documented ones, a sentence, and no traceback."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.command_line import Refunds
from tests.support.examples import examples
from tests.support.finished_refunds import add, at
from tests.support.moto_stack import Stack
from tests.support.world import World

from refunds.domain.refund import Status
from refunds_ops import dead_letters
from refunds_ops.cli import cli
from refunds_ops.errors import CommandError
from refunds_ops.json_output import json_output_of


def all_commands(
    group: click.Group = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from all_commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(all_commands())

HOSTILE = ["", "-", "--", "\x1b[2J", "\u202e", "0", "-1", "1e999", "9" * 400, "NaN", "\udcff", "r1"]
VALUES = st.one_of(
    st.sampled_from([*HOSTILE, "2026-11-27", "9999-12-31", "0001-01-01", "7d", "USD", "25.00"]),
    # What an operating system passes: no NUL, and of broken Unicode only bytes as U+DC80 to U+DCFF.
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20),
)
NOT_FUZZED = {"--stack"}  # would ask CloudFormation for each


@st.composite
def command_lines(draw: st.DrawFn, path: tuple[str, ...]) -> list[str]:
    """A command with some of its options and arguments, each with any value."""
    command = COMMANDS[path]
    line = list(path)
    for parameter in draw(st.lists(st.sampled_from(command.params), max_size=5)):
        if isinstance(parameter, click.Option):
            if NOT_FUZZED & set(parameter.opts):
                continue
            line.append(draw(st.sampled_from([*parameter.opts, *parameter.secondary_opts])))
            if not parameter.is_flag:
                line.append(draw(VALUES))
        else:
            line.append(draw(VALUES))
    return line


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_any_options_of_any_command_end_with_a_sentence(
    path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the errors that the terminal explains leaves a command. Where AWS would be
    called there is none: every AWS call fails, as without a network."""
    monkeypatch.chdir(tmp_path)
    outputs = dict.fromkeys(("RefundsTableName", "RefundQueueUrl", "LedgerTableName"), "x")

    @settings(
        max_examples=examples(6),
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(command_lines(path))
    def run(line: list[str]) -> None:
        shown = io.StringIO()
        offline = ClientError({"Error": {"Code": "Offline", "Message": "x"}}, "Any")
        with (
            patch.dict(os.environ, {**outputs, "AWS_REGION": "eu-central-1"}),
            patch("botocore.client.BaseClient._make_api_call", side_effect=offline),
            patch("sys.stdin", io.TextIOWrapper(io.BytesIO(b"{\xff"), "utf-8", "surrogateescape")),
            patch("time.sleep"),
            # It would serve until Ctrl-C.
            patch("refunds_console.server.serve", lambda stack, listening, **_: listening.close()),
            contextlib.redirect_stdout(shown),
            contextlib.redirect_stderr(shown),
            contextlib.suppress(
                CommandError,
                click.ClickException,
                click.Abort,
                click.exceptions.Exit,
                ClientError,
                BotoCoreError,
                OSError,
            ),
        ):
            cli(line, standalone_mode=False, prog_name="refunds")
        assert "\x1b" not in shown.getvalue()
        assert "Traceback" not in shown.getvalue()

    run()


# --- On a stack that has something of each kind ---------------------------------------------------


@pytest.fixture
def full(world: World, refunds_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "WAIT_SECONDS", 0)
    add(world, "r1")
    add(world, "r2", became=Status.FAILED, failure_code="card_declined", transaction_id="p2")


TABLE: list[tuple[tuple[str, ...], int]] = [
    (("show", "r1"), 0),
    (("show", "nothing"), 1),
    (("show",), 2),
    (("list",), 0),
    (("list", "--limit", "0"), 2),
    (("list", "--since", "soon"), 1),
    (("open",), 0),
    (("review", "list"), 0),
    (("review", "decide", "r1"), 2),
    (("watch", "r1", "--seconds", "0"), 0),
    (("watch", "r2", "--seconds", "0"), 1),
    (("as-of", "1m", "r1"), 0),
    (("as-of", "2020-01-01", "r1"), 1),
    (("totals", "--since", "1d"), 0),
    (("totals", "--by", "x"), 2),
    (("statement", "--month", "x", "--output", "x"), 1),
    (("dead-letters", "list"), 0),
    (("dead-letters", "show", "x"), 1),
    (("dead-letters", "drop"), 2),
    (("audit", "show", "r1"), 0),
    (("audit", "show", "--transaction", "nothing"), 0),
    (("audit", "show", "nothing"), 1),
    (("audit", "rebuild"), 2),
    (("audit", "check-receipt", "nowhere"), 2),
    (("request", "--transaction", "p"), 2),
    (("pause", "--why", " "), 1),
    (("backup", "list"), 0),
    (("backup", "export", "-", "--format", "parquet"), 2),
    (("stack", "outputs", "RefundQueueUrl"), 0),
    (("stack", "outputs", "Nothing"), 3),
    (("key", "check"), 3),
    (("correct", "r2"), 2),
    (("correct", "nothing", "--why", "x", "--evidence", "y"), 3),
    (("status",), 3),
    (("resume",), 2),
    (("dead-letters", "resend"), 2),
    (("dead-letters", "resend", "--all", "--why", "x"), 0),
    (("verify",), 1),
    (("audit", "receipt", "r1"), 0),
    (("audit", "receipt", "nothing"), 1),
    (("audit", "replay", "--dry-run"), 0),
    (("audit", "close"), 2),
    (("audit", "close", "nothing", "--why", "x"), 1),
    (("backup", "cat"), 1),
    (("backup", "cat", "refunds"), 2),
    (("backup", "drill"), 3),
    (("backup", "public-key"), 3),
    (("backup", "restore"), 3),
    (("backup", "run"), 3),
    (("backup", "verify"), 3),
    (("doctor",), 1),
    (("doctor", "x"), 2),
    (("stack", "adopt"), 2),
    (("stack", "set-key"), 3),
    (("stack", "index-days", "--dry-run"), 0),
    (("stack", "index-days", "--per-second", "-1"), 2),
    (("console", "--port", "70000"), 2),
    (("approve", "nothing", "--why", "x", "--yes"), 1),
    (("deny", "nothing", "--why", "x", "--yes"), 1),
    (("limits", "show", "--user"), 2),
    (("limits", "set"), 2),
    (("nonsense",), 2),
]


def test_every_command_has_an_exit_status_in_the_table() -> None:
    tried = {path for arguments, _ in TABLE for path in COMMANDS if path == arguments[: len(path)]}
    assert tried == set(COMMANDS)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(("arguments", "status"), TABLE, ids=lambda value: str(value)[:40])
def test_exit_statuses(
    refunds: Refunds,
    arguments: tuple[str, ...],
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = refunds(*arguments)
    assert ran.status == status, ran.err
    # Not a terminal: no boxes.
    assert not set(ran.out) & set("┏┡│└├╭─━")
    if status >= 2:
        assert ran.out == ""
        assert ran.err


# --- Text from outside ----------------------------------------------------------------------------

UNSEEN = "\x1b[2J\x9b31m\u202eevil\u2066\u200b\x07\r\x00"
"""What a terminal would obey or hide: in the rows of a stack, and in a dead letter."""


@pytest.fixture
def hostile(world: World, refunds_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "WAIT_SECONDS", 0)
    text: Any = {
        "user_id": f"u{UNSEEN}",
        "requested_by": f"agent:{UNSEEN}",
        "sent_by": UNSEEN,
        "processed_by": UNSEEN,
        "gateway_refund_id": UNSEEN,
        "gateway_trace": UNSEEN,
        "reason_code": UNSEEN,
        "note": UNSEEN,
        "metadata": {UNSEEN: UNSEEN},
        "failure_message": UNSEEN,
    }
    opened: Any = {"open_since": at(30), "open_shard": "0", "check_at": at(30)}
    add(world, "r1", **text)
    add(world, "r2", became=Status.FAILED, failure_code=UNSEEN, **text)
    add(world, "r3", became=Status.PENDING, **text, **opened)
    add(world, "r4", became=Status.IN_REVIEW, failure_code=UNSEEN, **text, **opened)
    sqs, queue = world.stack.clients.sqs, world.stack.dead_letter_queue_url
    reason: Any = {
        name: {"DataType": "String", "StringValue": "x\u202e\u2066y"}
        for name in ("error_code", "error_message")
    }
    for body in (f'{{"refund_id": "r9", "note": "{NO_NUL}"}}', NO_NUL):
        sqs.send_message(QueueUrl=queue, MessageBody=body, MessageAttributes=reason)


NO_NUL = "\u202eevil\u2066\u200b"
"""What SQS takes of it."""


@pytest.mark.long
@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("arguments", [row[0] for row in TABLE], ids=lambda row: " ".join(row)[:40])
def test_no_command_prints_what_a_terminal_would_obey_or_hide(
    refunds: Refunds,
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ((), ("--json",), (UNSEEN.replace("\x00", ""),)):
        ran = refunds(*arguments, *more)
        for shown in (ran.out, ran.err):
            assert shown.replace("\n", "").isprintable(), (more, shown)


@pytest.mark.usefixtures("hostile")
def test_the_hostile_text_was_there_to_be_shown(refunds: Refunds) -> None:
    for arguments in (("show", "r2"), ("review", "list"), ("dead-letters", "list")):
        assert "evil" in refunds(*arguments).out or "u202e" in refunds(*arguments).out, arguments


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "r1"),
        ("list",),
        ("audit", "show", "r1"),
        ("watch", "--seconds", "0"),
        ("as-of", "1m", "r1"),
        ("totals", "--since", "1d", "--by", "day,status"),
        ("stack", "outputs"),
        ("verify",),
        ("doctor",),
        ("audit", "receipt", "r1"),
    ],
    ids=" ".join,
)
def test_json_has_the_documented_fields(
    refunds: Refunds,
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = next(path for path in COMMANDS if path == arguments[: len(path)])
    output = json_output_of(COMMANDS[path])
    assert output is not None
    ran = refunds(*arguments, "--json")
    documents = ran.lines if output.lines else [ran.json]
    assert documents
    for document in documents:
        if "…" not in output.fields:
            assert set(document) <= set(output.fields), path
