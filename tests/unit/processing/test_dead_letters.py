"""Old dead letters are moved to S3 whole, and their refunds looked at."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.builders import body, refund
from tests.support.reconciler_runs import dead_letter, names, run
from tests.support.world import World

from refunds.domain.refund import Status
from refunds.failures import FailureKind
from refunds.processing.dead_letters import ArchiveResult
from refunds.tables.refunds import shard_of


def test_what_was_in_the_dlq_for_four_days_is_moved_to_s3_whole(old: World) -> None:
    dead_letter(old, "not json é")
    summary = run(old)

    (kept,) = old.stack.kept(old.stack.failures_bucket).items()
    assert kept[0].startswith("dead-letters/")
    assert kept[1]["body"] == "not json é"
    assert kept[1]["attributes"] == {"error_code": "invalid_json"}
    assert summary.dead_letters.archived == 1
    assert old.stack.dead_letters() == []


def test_what_is_younger_stays_and_its_age_is_told(world: World) -> None:
    world.clock.set(datetime.now(UTC) + timedelta(days=3))
    dead_letter(world, body())
    summary = run(world)

    assert summary.dead_letters.archived == 0
    assert abs(summary.dead_letters.oldest_seconds - 3 * 86_400) < 60
    assert world.stack.kept(world.stack.failures_bucket) == {}


def test_an_unfinished_refund_enters_the_index_before_its_message_goes(old: World) -> None:
    there = old.put(refund(lease_until=None))
    dead_letter(old, body())
    run(old)

    now = old.stored()
    assert now == replace(
        there, open_since=now.open_since, open_shard=now.open_shard, check_at=now.check_at
    )
    assert now.open_shard == shard_of("refund-1")
    assert old.stack.dead_letters() == []


def test_an_unfinished_refund_is_kept_open_though_this_release_refuses_its_message(
    old: World,
) -> None:
    old.put(refund(user_id=" ", lease_until=None))
    dead_letter(old, body(user_id=" "))
    run(old)

    assert old.stored().open_shard == shard_of("refund-1")
    assert old.stack.dead_letters() == []


def test_so_it_is_if_the_release_that_gave_up_on_it_accepted_it(old: World) -> None:
    """Such a message has no error code."""
    old.put(refund(user_id=" ", lease_until=None))
    for text in (json.dumps(body(user_id=" ")), "not json"):
        old.stack.clients.sqs.send_message(
            QueueUrl=old.stack.dead_letter_queue_url, MessageBody=text
        )
    summary = run(old)

    assert (summary.dead_letters.archived, summary.dead_letters.failed) == (2, 0)
    assert old.stored().open_shard == shard_of("refund-1")


def test_the_results_of_two_messages_are_added() -> None:
    one, other = ArchiveResult(1, 20, 3, 4, 5), ArchiveResult(10, 10, 30, 40, 50)

    assert one.plus(other) == other.plus(one) == ArchiveResult(11, 20, 33, 44, 55)


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED])
def test_a_finished_refund_is_not_opened_again(old: World, status: Status) -> None:
    there = old.put(refund(status=status))
    dead_letter(old, body())
    run(old)

    assert old.stored() == there


def test_a_message_whose_refund_is_being_worked_on_stays_and_its_neighbours_go(
    old: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    old.put(refund(lease_until=None))
    dead_letter(old, body())
    dead_letter(old, "other")
    monkeypatch.setattr(old.settler.recorder, "recheck", lambda there: False)
    summary = run(old)

    assert (summary.dead_letters.archived, names(summary)) == (1, ["refund_in_progress"])
    assert [each["body"] for each in old.stack.kept(old.stack.failures_bucket).values()] == [
        "other"
    ]


def test_a_message_that_could_not_be_kept_is_not_deleted(
    old: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> str:
        raise ClientError({"Error": {"Code": "SlowDown", "Message": ""}}, "PutObject")

    dead_letter(old, "x")
    monkeypatch.setattr(old.failures, "keep", full)
    summary = run(old)

    assert (summary.dead_letters.archived, summary.failed) == (0, 1)
    shown_again = old.stack.clients.sqs.get_queue_attributes(
        QueueUrl=old.stack.dead_letter_queue_url,
        AttributeNames=["ApproximateNumberOfMessages"],
    )["Attributes"]
    assert shown_again["ApproximateNumberOfMessages"] == "1"


def test_what_was_only_looked_at_is_visible_to_others_at_once(world: World) -> None:
    def asked(params: dict[str, Any], **rest: Any) -> None:
        # SQS refuses a timeout below 0, which moto takes for 0, and more than ten messages.
        assert {each["VisibilityTimeout"] for each in params["Entries"]} == {0}
        assert len(params["Entries"]) <= 10

    events = world.stack.clients.sqs.meta.events
    events.register("provide-client-params.sqs.ChangeMessageVisibilityBatch", asked)
    for number in range(12):
        dead_letter(world, f"refused {number}")
    world.clock.set(datetime.now(UTC) + timedelta(minutes=1))
    summary = run(world)

    assert len(world.stack.dead_letters()) == 12
    assert summary.failed == 0


def test_an_empty_queue_is_asked_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []

    def receive() -> list[Any]:
        asked.append(None)
        return []

    monkeypatch.setattr(world.archiver, "_receive", receive)
    run(world)
    assert len(asked) == 1


def test_messages_that_could_not_be_shown_again_are_reported(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def throttled(**arguments: Any) -> Any:
        raise ClientError({"Error": {"Code": "ThrottlingException"}}, "ChangeVisibility")

    dead_letter(world, "x")
    monkeypatch.setattr(
        world.stack.clients.sqs, "change_message_visibility_batch", throttled, raising=False
    )
    summary = run(world)
    assert summary.dead_letters.failed == 1
    assert [each.kind for each in summary.failures] == [FailureKind.UNAVAILABLE]


def test_what_cant_be_read_is_reported_as_old_and_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*args: Any, **more: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, "x")

    monkeypatch.setattr(world.archiver, "_receive", denied)
    monkeypatch.setattr(world.failures, "count", denied)
    monkeypatch.setattr(world.refunds, "due_page", denied)
    result = run(world)

    assert result.dead_letters.oldest_seconds > 14 * 86_400
    assert (result.dead_letters.unhandled, result.dead_letters.unhandled_records) == (1, 1)
    assert result.open.oldest_open_seconds > 14 * 86_400
    assert {each.kind for each in result.failures} == {FailureKind.MISCONFIGURED}


def test_archived_dead_letters_count_until_somebody_has_dealt_with_them(old: World) -> None:
    dead_letter(old, "x")
    assert run(old).dead_letters.unhandled == 1
    assert run(old).dead_letters.unhandled == 1

    (key,) = old.stack.kept(old.stack.failures_bucket)
    old.stack.clients.s3.delete_object(Bucket=old.stack.failures_bucket, Key=key)
    assert run(old).dead_letters.unhandled == 0


def test_without_time_no_dead_letter_is_looked_at(old: World) -> None:
    dead_letter(old, "x")

    assert run(old, seconds=14).dead_letters.archived == 0
    assert len(old.stack.dead_letters()) == 1


def test_a_dead_letter_gives_back_what_it_holds_of_another_payment(old: World) -> None:
    old.put(refund(status=Status.SUCCEEDED))
    old.open_ledger("payment-2", "refund-1", 300)
    dead_letter(old, body(transaction_id="payment-2"))
    dead_letter(old, body(refund_id="nobody"))
    run(old)

    assert (old.held(transaction_id="payment-2"), old.held()) == (0, 2500)
    assert old.stack.dead_letters() == []
