"""docs/daily.md: every command there is one that exists, and the stories can be lived through."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import click
import pytest
from tests.support.builders import body, refund, shown
from tests.support.command_line import Ran, Refunds
from tests.support.daily_stories import PAGE, STORIES, filled_in
from tests.support.finished_refunds import NOW, add, at
from tests.support.world import World

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Status
from refunds.gateways.routing import Gateways
from refunds_ops import dead_letters
from refunds_ops.audit import sources
from refunds_ops.cli import cli
from refunds_ops.commands import bulk_request

ON_A_STACK = Path(__file__).parents[2] / "local" / "test_daily_stories.py"


def test_there_are_sixteen_stories_each_with_a_command() -> None:
    assert list(STORIES) == [*range(1, 17)]
    assert all(STORIES.values())


@pytest.mark.parametrize(
    "line", [line for lines in STORIES.values() for line in lines], ids=" ".join
)
def test_every_command_of_the_page_exists(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("key.pem", "REFUND_ID.receipt.html", "refunds.csv"):
        Path(name).touch()
    command: click.Command = cli
    context = cli.make_context("refunds", [*line], resilient_parsing=False)
    rest = [*line]
    while isinstance(command, click.Group):
        called, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command = found
        context = command.make_context(str(called), [*rest], parent=context)
        rest = [*context.protected_args, *context.args]


@pytest.fixture
def living(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refunds: Refunds
) -> Refunds:
    """A stack with a day's worth of everything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "gateways", lambda stack: Gateways([world.gateway]))
    monkeypatch.setattr(bulk_request, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(dead_letters, "WAIT_SECONDS", 0)
    add(world, "r1", 1, user_id="u-1042", transaction_id="pay_42")
    add(world, "r2", 2, became=Status.FAILED, failure_code="card_declined")
    world.gateway.refunds += [shown(refund_id="r1", transaction_id="pay_42")]
    return refunds


def live(refunds: Refunds, story: int, **placeholders: str) -> list[Ran]:
    """Run the story's commands as they stand on the page."""
    return [refunds(*filled_in(line, placeholders)) for line in STORIES[story]]


def statuses(ran: list[Ran]) -> list[int]:
    return [each.status for each in ran]


def test_1_not_arrived(living: Refunds) -> None:
    ran = live(living, 1, REFUND_ID="r1")
    assert statuses(ran) == [0, 0, 0, 0]
    assert "r1" in ran[0].out
    assert "r1" in ran[1].out
    assert "Tell the customer: We have refunded you" in ran[3].out


def test_2_stuck(world: World, living: Refunds) -> None:
    world.refunds.put_new(
        refund(
            refund_id="r9",
            status=Status.PENDING,
            open_shard="1",
            open_since=at(30),
            check_at=rfc3339(NOW),
        )
    )
    assert "r9" in living("open").out
    assert living("watch", "r9", "--seconds", "0").status == 1


def test_what_ended_here_and_is_paid_there_is_named(world: World, living: Refunds) -> None:
    """The alarm RefundsPaidThoughEnded names no refund: this is its first command."""
    ended = refund(
        refund_id="r8",
        status=Status.FAILED,
        open_shard="1",
        open_since=at(30),
        check_at=rfc3339(NOW),
        seen_paid_at=at(30),
    )
    world.refunds.put_new(ended)
    closing = replace(ended, refund_id="r7", seen_paid_at=None)
    world.refunds.put_new(closing)
    ran = living("open")
    assert (ran.status, "r8" in ran.out, "r7" in ran.out) == (1, True, False)
    assert "refunds correct r8" in " ".join(ran.out.split())
    assert "refunds correct" in ran.err


def test_3_money_today(living: Refunds) -> None:
    ran = live(living, 3)
    assert statuses(ran) == [0, 0]
    assert "paid out" in ran[1].out


def test_4_dead_letters(world: World, living: Refunds) -> None:
    queue = world.stack.dead_letter_queue_url
    world.stack.clients.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(body()))
    refused = world.stack.clients.sqs.send_message(
        QueueUrl=queue,
        MessageBody="{",
        MessageAttributes={"error_code": {"DataType": "String", "StringValue": "invalid_json"}},
    )["MessageId"]
    ran = live(living, 4, MESSAGE_ID=refused)
    assert statuses(ran) == [1, 0, 0, 0, 0]
    assert len(world.stack.messages(world.stack.queue_url)) == 1
    assert living("dead-letters", "list").status == 0


def test_6_review(world: World, living: Refunds) -> None:
    world.refunds.put_new(
        refund(
            refund_id="r5",
            status=Status.IN_REVIEW,
            open_shard="1",
            open_since=at(3),
            check_at=at(0),
            failure_code="gateway_mismatch",
        )
    )
    ran = living("review", "list")
    assert (ran.status, "r5" in ran.out) == (1, True)


def test_7_bulk_of_forty(world: World, living: Refunds) -> None:
    example = re.search(r"^```csv\n(.*?)^```", PAGE, re.M | re.S)
    assert example is not None
    heading = example[1].splitlines()[0]
    rows = [f"pay_{n},u-{n},{n}.00,USD,order_cancelled,A-{n}" for n in range(1, 41)]
    Path("refunds.csv").write_text("\n".join([heading, *rows]))
    check, send, again = live(living, 7, **{"600": "0"})  # nothing takes them here
    assert "40 requests" in check.err
    assert "is not known to flair" in check.err
    assert statuses([check, send]) == [0, 0]
    assert len(world.stack.messages(world.stack.queue_url)) == 40
    assert again.status in (0, 1)
    assert world.stack.messages(world.stack.queue_url) == []


def test_7_the_pages_own_file_is_valid(living: Refunds) -> None:
    example = re.search(r"^```csv\n(.*?)^```", PAGE, re.M | re.S)
    assert example is not None
    Path("refunds.csv").write_text(example[1])
    assert living("request", "--file", "refunds.csv", "--dry-run").status == 0


def test_8_the_months_end(living: Refunds) -> None:
    month = f"{NOW:%Y-%m}"
    ran = living("statement", "--month", month, "--output", "november")
    assert ran.status in (0, 1), ran.err
    assert {path.name for path in Path("november").iterdir()} == {
        "README.txt",
        "SHA256SUMS",
        "proof",
        "reconciliation.csv",
        "refunds.csv",
        "totals.csv",
    }


def test_9_an_auditor(living: Refunds) -> None:
    assert living("audit", "show", "r1").status == 0
    assert living("as-of", "1m", "r1").status == 0


def test_11_key_rotation(living: Refunds) -> None:
    assert living("key", "check").status == 0


def test_12_over_a_limit(world: World, living: Refunds, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put(
        refund(
            refund_id="r7",
            status=Status.AWAITING_APPROVAL,
            awaiting={
                "over": "per_refund",
                "limit": "1000",
                "approvers": "1",
                "expires_at": rfc3339(NOW + timedelta(days=3)),
            },
            created_at=at(1),
            attempt_token=None,
            open_shard="1",
            open_since=at(1),
            check_at=at(0),
        )
    )
    world.refunds.put_new(
        refund(
            refund_id="r8",
            status=Status.REJECTED,
            failure_code="amount_exceeds_balance",
            created_at=at(1),
        )
    )
    monkeypatch.setattr(sources, "settings_of", lambda stack: {"LIMIT_PER_REFUND": "USD=1000"})
    monkeypatch.setenv("ReconcileRefundsFunctionName", "no-such-function")
    waits, shown_one, limits, approved, denied, *exceptions, rejected = live(
        living, 12, REFUND_ID="r7"
    )
    assert "r7" in waits.out
    assert "over a limit (one refund, 10.00 USD)" in " ".join(shown_one.out.split())
    assert "10.00 USD" in limits.out
    assert (approved.status, "r7: approved" in approved.out) == (0, True)
    assert (denied.status, "only refunds AWAITING_APPROVAL" in denied.err) == (1, True)
    assert statuses(exceptions) == [0, 0]
    assert "amount_exceeds_balance" in rejected.out


def test_14_a_hostile_name(world: World, living: Refunds) -> None:
    add(world, "r8", 1, user_id="u-1042", requested_by="=cmd\x1b[2J\u202e")
    for ran in live(living, 14, REFUND_ID="r8"):
        assert ran.status == 0
        assert ran.out.replace("\n", "").isprintable()


def test_15_scripts(living: Refunds) -> None:
    ran = live(living, 15, REFUND_ID="r1")
    assert statuses(ran) == [0, 0, 0]
    assert [row["refund_id"] for row in ran[0].lines] == ["r2"]
    assert ran[1].json["intact"] is True


def test_the_other_stories_are_run_on_the_local_stack() -> None:
    here, there = (
        {int(number) for number in re.findall(r"^def test_(\d+)_", text, re.M)}
        for text in (Path(__file__).read_text(), ON_A_STACK.read_text())
    )
    assert there == {5, 10, 13, 16}
    assert here | there == set(STORIES)
