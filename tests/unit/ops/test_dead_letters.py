"""`refunds dead-letters`: seen without being hidden, resent once and marked, put away with why."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.builders import VISA, body, refund, request
from tests.support.command_line import Refunds
from tests.support.counted_calls import counted_calls
from tests.support.people import MOTO
from tests.support.world import World

from refunds.domain.clock import from_rfc3339, rfc3339
from refunds.domain.refund import Status
from refunds_ops import dead_letters
from refunds_ops.commands.dead_letters import readable
from refunds_ops.dead_letters import CLOSED

WHY = ("--why", "the table is back, TICKET-7", "--by", "operator:jo")
LONG_AGO = datetime.now(UTC) - timedelta(days=90)


@pytest.fixture(autouse=True)
def no_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short polling is enough: moto has one server."""
    monkeypatch.setattr(dead_letters, "WAIT_SECONDS", 0)


def put(world: World, content: Any, **attributes: str) -> str:
    """A dead letter in the queue; its message id."""
    return world.stack.clients.sqs.send_message(
        QueueUrl=world.stack.dead_letter_queue_url,
        MessageBody=content if isinstance(content, str) else json.dumps(content),
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
        },
    )["MessageId"]


def archive(world: World, content: Any, message_id: str = "m-archived", **attributes: str) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    world.failures.keep(
        "dead-letters",
        message_id,
        {
            "body": text,
            "sent_at_ms": int(LONG_AGO.timestamp() * 1000),
            "attributes": attributes,
        },
    )
    return message_id


def closed(world: World) -> list[Any]:
    kept = world.stack.kept(world.stack.failures_bucket)
    return [content for key, content in kept.items() if key.startswith(f"{CLOSED}/")]


def queued(world: World) -> list[Any]:
    return world.stack.messages(world.stack.queue_url)


def test_none_is_a_clean_exit(refunds: Refunds) -> None:
    ran = refunds("dead-letters", "list")
    assert (ran.status, ran.out) == (0, "No dead letters.\n")


def test_refused_and_failed_are_told_apart_with_what_a_resend_would_do(
    world: World, refunds: Refunds
) -> None:
    put(world, body(refund_id="failed"))
    put(world, "{", error_code="invalid_json", error_message="the body is not JSON")
    archive(world, body(refund_id="old"))
    world.refunds.put_new(
        refund(
            refund_id="paid",
            status=Status.SUCCEEDED,
            fingerprint=request(refund_id="paid").fingerprint(),
        )
    )
    put(world, body(refund_id="paid"))
    put(world, body(refund_id="paid", amount_minor=1), error_code="idempotency_conflict")
    ran = refunds("dead-letters", "list", "--json")
    assert ran.status == 1
    found = {(row["refund_id"], row["kind"]): row for row in ran.lines}
    assert found["failed", "failed"]["resend"] == "would be processed"
    assert found["old", "failed"]["where"] == "archive"
    assert found["", "refused"]["resend"].startswith("would be refused again: invalid_json")
    assert "would change nothing: the refund is SUCCEEDED" in found["paid", "failed"]["resend"]
    assert "another request's" in found["paid", "refused"]["resend"]
    shown = refunds("dead-letters", "list").out
    assert "Refused: 2" in shown
    assert "Failed too often: 3" in shown


def test_looking_hides_nothing_from_others(world: World, refunds: Refunds) -> None:
    for number in range(23):
        put(world, body(refund_id=f"r{number}"))
    for _ in range(2):
        assert len(refunds("dead-letters", "list", "--json").lines) == 23


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (("--refused",), {"a", "b"}),
        (("--failed",), {"c", "d"}),
        (("--code", "card_number"), {"b"}),
        (("--in", "archive"), {"d"}),
        (("--in", "queue", "--failed"), {"c"}),
    ],
)
def test_dead_letters_are_filtered(
    world: World, refunds: Refunds, filters: tuple[str, ...], expected: set[str]
) -> None:
    put(world, body(refund_id="a"), error_code="unknown_field", error_message="x")
    put(world, body(refund_id="b"), error_code="card_number", error_message="x")
    put(world, body(refund_id="c"))
    archive(world, body(refund_id="d"))
    rows = refunds("dead-letters", "list", *filters, "--json").lines
    assert {row["refund_id"] for row in rows} == expected


def test_a_resend_says_what_it_would_do_unless_told_to(world: World, refunds: Refunds) -> None:
    message_id = put(world, body())
    ran = refunds("dead-letters", "resend", message_id, *WHY)
    assert ran.status == 0
    assert "would be resent" in ran.out
    assert "--yes" in ran.err
    assert queued(world) == []
    assert closed(world) == []
    assert len(refunds("dead-letters", "list", "--json").lines) == 1


def test_a_resent_message_says_when_it_was_first_sent(world: World, refunds: Refunds) -> None:
    archive(world, body())
    ran = refunds("dead-letters", "resend", "m-archived", *WHY, "--yes", "--json")
    assert (ran.status, ran.lines[0]["done"]) == (0, "resent")
    (message,) = queued(world)
    assert json.loads(message["Body"]) == body()
    first_sent = from_rfc3339(message["MessageAttributes"]["resent"]["StringValue"])
    assert abs(first_sent - LONG_AGO) < timedelta(seconds=1)
    (kept,) = closed(world)
    assert (kept["action"], kept["by"]) == ("resent", MOTO)
    assert kept["on_behalf_of"] == "operator:jo"
    assert kept["why"] == "the table is back, TICKET-7"
    assert json.loads(kept["body"]) == body()
    assert refunds("dead-letters", "list").status == 0


def test_resent_again_it_is_as_old_as_the_first_time(world: World, refunds: Refunds) -> None:
    put(world, body(), resent=rfc3339(LONG_AGO))
    assert refunds("dead-letters", "resend", "--all", *WHY, "--yes").status == 0
    (message,) = queued(world)
    assert message["MessageAttributes"]["resent"]["StringValue"] == rfc3339(LONG_AGO)


@pytest.mark.parametrize("resent", ["garbage", "9999-12-31T23:59:59-14:00", "9999-01-01T00:00:00Z"])
def test_what_a_sender_wrote_as_the_time_hides_no_dead_letter(
    world: World, refunds: Refunds, resent: str
) -> None:
    """SQS moves a message to the dead-letter queue with the attributes that its sender set."""
    message_id = put(world, body(), resent=resent, first_sent_by="\u202e" + "y" * 3000)
    put(world, body(refund_id="another"))
    listed = refunds("dead-letters", "list")
    assert (listed.status, "another" in listed.out) == (1, True)
    assert refunds("dead-letters", "show", message_id).status == 0
    assert refunds("dead-letters", "resend", message_id, *WHY, "--yes").status == 0
    (message,) = queued(world)
    again = from_rfc3339(message["MessageAttributes"]["resent"]["StringValue"])
    assert again <= datetime.now(UTC)


def test_what_a_resend_cannot_help_is_skipped(world: World, refunds: Refunds) -> None:
    put(world, "{", error_code="invalid_json", error_message="x")
    put(world, body())
    ran = refunds("dead-letters", "resend", "--all", *WHY, "--yes", "--json")
    assert ran.status == 1
    assert sorted(row["done"] for row in ran.lines) == ["resent", "skipped"]
    assert len(queued(world)) == 1
    assert [row["kind"] for row in refunds("dead-letters", "list", "--json").lines] == ["refused"]


def test_a_dropped_message_is_kept_with_who_and_why(world: World, refunds: Refunds) -> None:
    first, second = put(world, "{", error_code="invalid_json"), archive(world, "not JSON")
    assert refunds("dead-letters", "drop", first, second, *WHY).status == 0
    assert len(refunds("dead-letters", "list", "--json").lines) == 2
    assert refunds("dead-letters", "drop", first, second, *WHY, "--yes").status == 0
    assert refunds("dead-letters", "list").status == 0
    assert {kept["body"] for kept in closed(world)} == {"{", "not JSON"}
    assert {kept["action"] for kept in closed(world)} == {"dropped"}
    assert queued(world) == []


def test_show_masks_a_card_number(world: World, refunds: Refunds) -> None:
    message_id = put(
        world, {**body(), "metadata": {"note": f"card {VISA}"}}, error_code="card_number"
    )
    for more in ((), ("--json",)):
        ran = refunds("dead-letters", "show", message_id, *more)
        assert ran.status == 0
        assert VISA not in ran.out + ran.err
        assert "payment-1" in ran.out


def test_an_archived_object_that_cannot_be_read_is_shown_all_the_same(
    world: World, refunds: Refunds
) -> None:
    s3, bucket = world.stack.clients.s3, world.stack.failures_bucket
    s3.put_object(Bucket=bucket, Key="dead-letters/2026/01/01/x.json", Body=b"\xff[")
    (row,) = refunds("dead-letters", "list", "--json").lines
    assert (row["message_id"], row["where"]) == ("x", "archive")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("show", "nothing"), 1),
        (("resend", "nothing", *WHY, "--yes"), 1),
        (("resend", *WHY), 2),
        (("drop", "x", "--all", *WHY), 2),
        (("drop", "x"), 2),
        (("drop", "--all", "--why", " "), 1),
        (("drop", "--all", "--why", f"card {VISA}"), 1),
    ],
)
def test_what_cannot_be_done_says_why(
    refunds: Refunds, arguments: tuple[str, ...], status: int
) -> None:
    ran = refunds("dead-letters", *arguments)
    assert (ran.status, ran.out) == (status, "")
    assert VISA not in ran.err


def test_a_resent_request_keeps_who_sent_it_first(world: World, refunds: Refunds) -> None:
    archive(world, body())
    assert refunds("dead-letters", "resend", "m-archived", *WHY, "--yes").status == 0
    (message,) = queued(world)
    assert message["MessageAttributes"]["first_sent_by"]["StringValue"] == "unknown"


# --- Ten thousand of them -------------------------------------------------------------------------


def test_a_list_reads_the_refunds_of_all_letters_together(world: World, refunds: Refunds) -> None:
    for number in range(12):
        put(world, body(refund_id=f"r{number}"))
    with counted_calls() as calls:
        assert len(refunds("dead-letters", "list", "--json").lines) == 12
    assert (calls["BatchGetItem"], calls["GetItem"]) == (1, 0)


def test_one_archived_letter_is_read_without_the_others(world: World, refunds: Refunds) -> None:
    for number in range(5):
        archive(world, body(refund_id=f"r{number}"), f"m-{number}")
    with counted_calls() as calls:
        assert refunds("dead-letters", "show", "m-3", "--json").json["refund_id"] == "r3"
    assert calls["GetObject"] == 1


def test_letters_are_handled_in_the_order_in_which_they_were_named(
    world: World, refunds: Refunds
) -> None:
    queued_id = put(world, body(refund_id="in-queue"))
    archive(world, body(refund_id="in-archive"))
    ran = refunds("dead-letters", "drop", "m-archived", queued_id, "m-archived", *WHY, "--json")
    assert [row["refund_id"] for row in ran.lines] == ["in-archive", "in-queue"]


def test_a_queue_whose_messages_are_visible_again_too_soon_is_read_to_an_end(
    world: World, refunds: Refunds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when thousands of letters take longer to receive than they stay hidden."""
    monkeypatch.setattr(dead_letters, "LOOK_SECONDS", 0)
    for number in range(3):
        put(world, body(refund_id=f"r{number}"))
    with counted_calls(at_most=100):
        assert len(refunds("dead-letters", "list", "--json").lines) == 3


def test_nested_lists_are_not_indented_to_hundreds_of_megabytes() -> None:
    flat = json.dumps([1] * 100)
    assert readable(flat).count("\n") == 101
    nested = "[" * 300 + "1," * 4000 + "1" + "]" * 300
    assert readable(nested) == nested  # indented, it would have 2.4 million characters


def test_naming_a_letter_hides_no_other_one(world: World, refunds: Refunds) -> None:
    put_ids = [put(world, body(refund_id=f"r{number}")) for number in range(8)]
    assert refunds("dead-letters", "show", put_ids[0]).status == 0
    assert len(refunds("dead-letters", "list", "--json").lines) == 8


# --- Refunds that only their message comes back to ------------------------------------------------


def test_the_message_of_a_refund_that_nothing_else_finds_is_not_dropped(
    world: World, refunds: Refunds
) -> None:
    world.open_ledger("payment-1", "reserved", 2500)
    claimed = refund(
        refund_id="claimed",
        status=Status.PROCESSING,
        fingerprint=request(refund_id="claimed").fingerprint(),
    )
    world.refunds.put_new(claimed)
    put(world, body(refund_id="reserved"))
    put(world, body(refund_id="claimed"))
    put(world, body(refund_id="new"))
    ran = refunds("dead-letters", "drop", "--all", *WHY, "--yes", "--json")
    assert ran.status == 1
    done = {row["refund_id"]: row["done"] for row in ran.lines}
    assert done == {"reserved": "skipped", "claimed": "skipped", "new": "dropped"}
    assert "claimed is PROCESSING" in ran.err
    assert "reserved has its money reserved" in ran.err
    assert len(refunds("dead-letters", "list", "--json").lines) == 2


@pytest.mark.parametrize("place", [put, archive])
def test_a_refused_message_whose_money_is_reserved_is_not_dropped(
    world: World, refunds: Refunds, place: Callable[[World, Any], str]
) -> None:
    """It was reserved, its worker died, and a later release refuses it: nothing else would come
    back to it, not even from the archive."""
    world.open_ledger("payment-1", "reserved", 2500)
    refused = body(refund_id="reserved", requested_by="x" * 200)
    place(world, refused)
    ran = refunds("dead-letters", "drop", "--all", *WHY, "--yes", "--json")
    assert (ran.status, ran.lines[0]["done"]) == (1, "skipped")
    assert "reserved has its money reserved" in ran.err
    assert "Send the corrected request with the same refund id" in ran.err
    world.refunds.put_new(refund(refund_id="reserved", status=Status.SUCCEEDED))
    assert refunds("dead-letters", "drop", "--all", *WHY, "--yes").status == 0


def test_a_reserved_request_that_says_it_was_refused_is_not_dropped_from_the_archive(
    world: World, refunds: Refunds
) -> None:
    """Its sender has set the attribute, or a redrive brought it back with that of an earlier time.
    The archiver does not resume such a request."""
    world.open_ledger("payment-1", "reserved", 2500)
    archive(world, body(refund_id="reserved"), error_code="unknown_field")
    ran = refunds("dead-letters", "drop", "--all", *WHY, "--yes", "--json")
    assert (ran.status, ran.lines[0]["done"]) == (1, "skipped")
    assert "reserved has its money reserved" in ran.err
    assert refunds("dead-letters", "resend", "--all", *WHY, "--yes").status == 0


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"refund_id": 1, "transaction_id": "payment-1"}',
        '{"refund_id": "reserved"}',
        "\ud800",
    ],
)
def test_a_refused_message_that_names_no_payment_is_dropped(
    world: World, refunds: Refunds, text: str
) -> None:
    world.open_ledger("payment-1", "reserved", 2500)
    archive(world, text)
    assert refunds("dead-letters", "drop", "--all", *WHY, "--yes").status == 0


def test_a_record_of_another_payment_does_not_let_a_reserved_request_be_dropped(
    world: World, refunds: Refunds
) -> None:
    world.open_ledger("payment-1", "reserved", 2500)
    world.refunds.put_new(refund(refund_id="reserved", transaction_id="payment-2"))
    put(world, body(refund_id="reserved"))
    ran = refunds("dead-letters", "drop", "--all", *WHY, "--yes", "--json")
    assert (ran.status, ran.lines[0]["done"]) == (1, "skipped")
    assert "reserved has its money reserved" in ran.err
