"""`refunds show`, `list` and `open`: found by what people know, and told in their words."""

from __future__ import annotations

import csv
import io
from typing import Any

import botocore.client
import pytest
from tests.support.builders import refund
from tests.support.command_line import Refunds
from tests.support.finished_refunds import NOW, add, at
from tests.support.moto_stack import table_without_indexes
from tests.support.world import World

from refunds.domain.intake import open_breaker, pause_intake
from refunds.domain.refund import Status


def ids(ran: Any) -> list[str]:
    return [row["refund_id"] for row in ran.lines]


# --- Show -----------------------------------------------------------------------------------------


def test_show_tells_the_story_with_dates_in_the_stacks_zone_and_utc(
    world: World, refunds: Refunds
) -> None:
    add(world, "r1")
    ran = refunds("show", "r1")
    assert ran.status == 0
    assert "agent:anna asked to refund 25.00 USD of payment payment-1" in ran.out
    assert "25.00 USD was paid back through flair." in ran.out
    assert " UTC)" in ran.out
    assert "CET (" in ran.out or "CEST (" in ran.out
    assert "The audit trail is whole: 2 of 2" in ran.out
    assert "Tell the customer: We have refunded you." in ran.out


def test_show_as_json_says_whether_the_records_are_intact(world: World, refunds: Refunds) -> None:
    add(world, "r1", became=Status.IN_REVIEW, failure_code="gateway_mismatch")
    shown = refunds("show", "r1", "--json").json
    assert shown["intact"] is True
    assert shown["refund"]["status"] == "IN_REVIEW"
    assert "refunds review decide" in shown["next"]


def test_show_says_what_was_tampered_with(world: World, refunds: Refunds) -> None:
    add(world, "r1")
    world.stack.clients.dynamodb.update_item(
        TableName=world.stack.refunds_table,
        Key={"refund_id": {"S": "r1"}},
        UpdateExpression="SET amount_minor = :more",
        ExpressionAttributeValues={":more": {"N": "9900"}},
    )
    ran = refunds("show", "r1")
    assert ran.status == 1
    assert "differs from its last audit entry in amount_minor" in ran.err
    assert refunds("show", "r1", "--json").json["intact"] is False


def test_show_says_when_entries_are_missing(world: World, refunds: Refunds) -> None:
    last = add(world, "r1")
    world.stack.clients.dynamodb.delete_item(
        TableName=world.stack.audit_table,
        Key={"transaction_id": {"S": "payment-1"}, "entry_id": {"S": "REFUND#r1#000002"}},
    )
    ran = refunds("show", "r1")
    assert (ran.status, "after version 1 are missing" in ran.err) == (1, True)
    world.stack.clients.dynamodb.delete_item(
        TableName=world.stack.audit_table,
        Key={"transaction_id": {"S": "payment-1"}, "entry_id": {"S": "REFUND#r1#000001"}},
    )
    assert "its audit entries are missing" in str(refunds("show", "r1", "--json").json)
    assert last.version == 2


def test_a_refund_that_is_not_there_may_wait_in_the_queue(world: World, refunds: Refunds) -> None:
    def why() -> str:
        ran = refunds("show", "rf_new")
        assert ran.status == 1
        return ran.err

    assert "Was it sent to this stack?" in why()
    world.stack.clients.sqs.send_message(QueueUrl=world.stack.queue_url, MessageBody="{}")
    assert "Requests in the queue: 1." in why()
    world.control.change_intake(lambda intake: pause_intake(intake, "jo", "maintenance", NOW))
    assert "paused by jo" in why()
    world.control.change_intake(lambda intake: open_breaker(intake, "P:1", "HTTP 503", NOW))
    assert "The gateway is down" in why()
    world.stack.clients.sqs.send_message(
        QueueUrl=world.stack.dead_letter_queue_url, MessageBody="{}"
    )
    assert "refunds dead-letters list" in why()


def test_hostile_text_reaches_no_terminal(world: World, refunds: Refunds) -> None:
    hostile = "\x1b[2J\u202etxt"
    add(world, "r1", user_id=f"ada{hostile}", requested_by=hostile, became=Status.PROCESSING)
    add(
        world,
        "r2",
        user_id=f"ada{hostile}",
        became=Status.IN_REVIEW,
        failure_code=f"x{hostile}",
        check_at=at(0),
        open_shard="0",
        open_since=at(1),
    )
    for arguments in (
        ("show", "r1"),
        ("list", "--day", f"{NOW:%Y-%m-%d}"),
        ("list", "--since", "7d"),
        ("list", "--since", "7d", "--csv"),
        ("list", "--since", "7d", "--json"),
        ("open",),
        ("review", "list"),
        ("audit", "show", "r2"),
        ("show", hostile),
        ("show", "r1", hostile),
        (hostile,),
    ):
        ran = refunds(*arguments)
        assert (ran.out + ran.err).replace("\n", "").isprintable(), arguments


# --- List -----------------------------------------------------------------------------------------


@pytest.fixture
def four(world: World) -> None:
    add(world, "r1", 100, user_id="ada", amount_minor=300)
    add(world, "r2", 30, user_id="bob", amount_minor=100, became=Status.FAILED, failure_code="no")
    add(world, "r3", 20, user_id="ada", amount_minor=200, transaction_id="payment-2")
    add(world, "r4", 2, user_id="ada", currency="JPY", gateway="stripe", requested_by="agent:bo")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["r4", "r3", "r2", "r1"]),
        (("--user", "ada"), ["r4", "r3", "r1"]),
        (("--transaction", "payment-1"), ["r4", "r2", "r1"]),
        (("--transaction", "payment-1", "--user", "ada"), ["r4", "r1"]),
        (("--since", "24h"), ["r4", "r3"]),
        (("--since", "7d", "--until", "25h"), ["r2", "r1"]),
        (("--status", "failed"), ["r2"]),
        (("--status", "FAILED", "--status", "SUCCEEDED", "--user", "bob"), ["r2"]),
        (("--amount", "2.00", "--currency", "USD"), ["r3"]),
        (("--gateway-name", "stripe"), ["r4"]),
        (("--requested-by", "agent:bo"), ["r4"]),
        (("--sort", "amount", "--currency", "USD"), ["r1", "r3", "r2"]),
        (("--oldest-first", "--limit", "2"), ["r1", "r2"]),
        (("--user", "nobody"), []),
    ],
)
def test_refunds_are_listed_by_what_people_know(
    four: None, refunds: Refunds, arguments: tuple[str, ...], expected: list[str]
) -> None:
    ran = refunds("list", *arguments, "--json")
    assert (ran.status, ids(ran)) == (0, expected)


@pytest.mark.parametrize("order", [(), ("--oldest-first",)])
def test_pages_follow_each_other_without_a_gap(
    world: World, refunds: Refunds, order: tuple[str, ...]
) -> None:
    for number in range(7):  # some share an instant
        add(world, f"r{number}", number // 3, transaction_id=f"p{number}")
    everything = ids(refunds("list", *order, "--json"))
    assert len(everything) == 7
    seen: list[str] = []
    after: tuple[str, ...] = ()
    for _ in range(4):
        ran = refunds("list", *order, "--limit", "2", *after, "--json")
        seen += ids(ran)
        if "--after" not in ran.err:
            break
        after = ("--after", ran.err.split("--after ")[1].split()[0])
    assert seen == everything


def test_a_list_never_scans(
    world: World, refunds: Refunds, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(world, "r1")

    def scan(*_: object, **__: object) -> None:
        raise AssertionError("a scan")

    client: Any = botocore.client.BaseClient
    real = client._make_api_call
    monkeypatch.setattr(
        client,
        "_make_api_call",
        lambda self, name, params: scan() if name == "Scan" else real(self, name, params),
    )
    for arguments in (("list",), ("list", "--user", "user-1"), ("open",), ("review", "list")):
        assert refunds(*arguments).status == 0


def test_csv_has_amounts_as_people_write_them_and_no_formula(
    world: World, refunds: Refunds
) -> None:
    add(world, "r1", user_id="=cmd()")
    rows = list(csv.DictReader(io.StringIO(refunds("list", "--csv").out)))
    assert (rows[0]["amount"], rows[0]["amount_minor"]) == ("25.00", "2500")
    assert rows[0]["user_id"] == "'=cmd()"


def test_a_stack_without_the_index_says_which_parameter(
    world: World, refunds: Refunds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RefundsTableName", table_without_indexes(world.stack))
    ran = refunds("list")
    assert (ran.status, "DayIndex=true" in ran.err) == (3, True)
    ran = refunds("list", "--user", "ada")
    assert (ran.status, "UserIndex=true" in ran.err) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--day", "yesterday"), 1),
        (("--since", "soon"), 1),
        (("--since", "1d", "--until", "2d"), 1),
        (("--day", "2026-11-27", "--since", "1d"), 2),
        (("--amount", "5"), 2),
        (("--currency", "usd"), 1),
        (("--csv", "--json"), 2),
        (("--after", "x"), 2),
        (("--after", "x@y"), 2),
    ],
)
def test_a_list_that_cannot_be_made_says_why(
    refunds: Refunds, arguments: tuple[str, ...], status: int
) -> None:
    ran = refunds("list", *arguments)
    assert (ran.status, ran.out) == (status, "")
    assert ran.err.count("\n") >= 2


def test_nothing_found_is_no_error(refunds: Refunds) -> None:
    ran = refunds("list")
    assert (ran.status, ran.out) == (0, "No refunds.\n"), ran.err
    assert refunds("open").status == 0


# --- Open -----------------------------------------------------------------------------------------


@pytest.mark.long
def test_thirty_in_review_are_found_among_many_open(world: World, refunds: Refunds) -> None:
    for number in range(300):
        status = Status.IN_REVIEW if number % 10 == 0 else Status.PENDING
        made = refund(
            refund_id=f"o{number}",
            status=status,
            open_shard="3",  # all in one shard
            open_since=at(number),
            check_at=at(-1),
            failure_code="gateway_mismatch" if status is Status.IN_REVIEW else None,
        )
        world.refunds.put_new(made)
    waiting = refunds("review", "list", "--json")
    assert (waiting.status, len(waiting.lines)) == (1, 30)
    listed = refunds("open", "--json")
    assert (listed.status, len(listed.lines)) == (1, 300)
    assert listed.lines[0]["refund_id"] == "o299"  # open longest
    assert "the gateway is asked after" in listed.lines[1]["next"] or listed.lines[1]["next"]
    assert "gateway_mismatch" in refunds("open").out
