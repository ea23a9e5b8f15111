"""The reconciler: settles what is open, finds late reversals, saves old dead letters."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.builders import NOW, body, refund, request, shown
from tests.support.world import World

from refunds.domain.clock import from_rfc3339, rfc3339
from refunds.domain.refund import Refund, Status
from refunds.failures import FailureKind
from refunds.gateways.contract import GatewayStatus
from refunds.processing.reconciler import RunResult
from refunds.processing.reversal_sweep import MAX_CURSOR_FAILURES, SWEEP_BACK
from refunds.tables.refunds import OPEN_SHARDS, Due, shard_of

RUN_SECONDS = 300.0
HOUR_AGO = rfc3339(NOW - timedelta(hours=1))


def run(world: World, seconds: float = RUN_SECONDS) -> RunResult:
    return world.reconciler.run(world.deadline(seconds))


def names(result: RunResult) -> list[str]:
    return [failure.name for failure in result.failures]


def opened(world: World, refund_id: str = "refund-1", **changes: Any) -> Refund:
    """An unfinished refund in the index, due, that no attempt is at work on."""
    fields = {
        "refund_id": refund_id,
        "lease_until": None,
        "open_since": HOUR_AGO,
        "open_shard": shard_of(refund_id),
        "check_at": rfc3339(NOW),
        "amount_minor": 100,
    }
    return world.put(refund(**fields | changes))


# What is open


@pytest.mark.parametrize("status", [Status.PROCESSING, Status.PENDING])
@pytest.mark.parametrize(
    ("at_gateway", "becomes", "held"),
    [
        (GatewayStatus.SUCCEEDED, Status.SUCCEEDED, 100),
        (GatewayStatus.FAILED, Status.FAILED, 0),
    ],
)
def test_an_open_refund_becomes_what_the_gateway_shows(
    world: World, status: Status, at_gateway: GatewayStatus, becomes: Status, held: int
) -> None:
    opened(world, status=status)
    world.gateway.refunds.append(shown(amount_minor=100, status=at_gateway))
    summary = run(world)

    assert world.stored().status is becomes
    assert world.held() == held
    assert (summary.open.settled, summary.open.still_open, summary.failed) == (1, 0, 0)
    assert world.gateway.orders == []


def test_a_refund_that_the_gateway_never_saw_is_called_with_its_own_key(world: World) -> None:
    opened(world)
    run(world)

    assert world.stored().status is Status.SUCCEEDED
    assert [order.refund_id for order in world.gateway.orders] == ["refund-1"]


def test_what_is_still_pending_is_looked_at_later_and_its_age_told(world: World) -> None:
    opened(world, status=Status.PENDING, gateway_refund_id="gw-1")
    world.gateway.refunds.append(shown(amount_minor=100, status=GatewayStatus.PENDING))
    summary = run(world)

    check_at = world.stored().check_at
    assert check_at is not None
    assert from_rfc3339(check_at) > NOW
    assert (summary.open.still_open, summary.open.oldest_open_seconds) == (1, 3600)
    assert run(world).open.still_open == 0


def test_what_is_not_yet_due_is_left_alone(world: World) -> None:
    opened(world, check_at=rfc3339(NOW + timedelta(microseconds=1)))
    run(world)

    assert world.stored().status is Status.PROCESSING
    assert "find_refunds" not in world.gateway.calls


def test_an_attempt_under_its_lease_is_not_disturbed(world: World) -> None:
    there = opened(world, lease_until=rfc3339(NOW + timedelta(seconds=5)))
    run(world)

    now = world.stored()
    assert (now.attempt_token, now.lease_until) == (there.attempt_token, there.lease_until)
    assert "find_refunds" not in world.gateway.calls


def test_a_refund_in_review_is_only_counted(world: World) -> None:
    opened(world, status=Status.IN_REVIEW)
    world.gateway.refunds.append(shown(amount_minor=100))
    summary = run(world)

    assert world.stored().status is Status.IN_REVIEW
    assert (summary.open.in_review, summary.open.oldest_open_seconds) == (1, 3600)
    assert world.held() == 100


@pytest.mark.parametrize("status", [Status.FAILED, Status.REVERSED, Status.REJECTED])
def test_what_a_crash_left_reserved_on_an_ended_refund_is_released(
    world: World, status: Status
) -> None:
    opened(world, status=status)
    summary = run(world)

    assert world.held() == 0
    assert world.stored().open_shard is None
    assert summary.open.settled == 1
    assert world.stored().version == 1


def test_an_index_that_is_behind_does_no_harm(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = world.put(refund(status=Status.SUCCEEDED))
    due = iter([[Due(HOUR_AGO, "refund-1", "0"), Due(HOUR_AGO, "gone", "0")]])
    monkeypatch.setattr(world.refunds, "due_page", lambda *args, **more: next(due, []))
    summary = run(world)

    assert world.stored() == done
    assert (summary.open.settled, summary.failed) == (0, 0)


def test_one_refund_that_cant_be_looked_at_does_not_hold_up_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(world, "bad")
    opened(world, "good")
    take_over = world.settler.take_over

    def sometimes(there: Refund, deadline: Any) -> Any:
        if there.refund_id == "bad":
            raise RuntimeError("x")
        return take_over(there, deadline)

    monkeypatch.setattr(world.settler, "take_over", sometimes)
    summary = run(world)

    assert world.stored("good").status is Status.SUCCEEDED
    assert (summary.failed, names(summary)) == (1, ["RuntimeError"])
    # And not first in line the next time either.
    check_at = world.stored("bad").check_at
    assert check_at is not None
    assert from_rfc3339(check_at) > NOW


def test_a_refund_that_cant_even_be_put_off_is_counted_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("x")

    opened(world, "bad")
    opened(world, "good")
    monkeypatch.setattr(world.settler.recorder, "recheck", broken)
    monkeypatch.setattr(world.settler, "ask_then_call", broken)
    summary = run(world)

    assert names(summary) == ["RuntimeError", "RuntimeError"]


def test_a_gateway_that_is_down_leaves_everything_open_and_reserved(world: World) -> None:
    opened(world)
    world.gateway.down = True
    summary = run(world)

    assert (world.stored().status, world.held()) == (Status.PROCESSING, 100)
    assert world.stored().open_shard is not None
    assert summary.open.still_open == 1
    assert "gateway_unavailable" in names(summary)  # the sweep


def test_a_refund_whose_gateway_is_known_to_be_down_is_put_off_without_a_call(
    world: World,
) -> None:
    # A timeout for each of thousands would use up the time of the other gateways' refunds.
    opened(world)
    world.gateway.calls.clear()
    summary = world.reconciler.run(world.deadline(240), down=["flair"])

    check_at = world.stored().check_at
    assert check_at is not None
    assert from_rfc3339(check_at) > NOW
    assert world.held() == 100
    assert "find_refunds" not in world.gateway.calls
    assert (summary.open.still_open, summary.open.oldest_open_seconds) == (1, 3600)


def test_the_others_refunds_are_settled_all_the_same(world: World) -> None:
    opened(world)
    world.reconciler.run(world.deadline(240), down=["acme"])

    assert world.stored().status is Status.SUCCEEDED


def test_more_than_one_page_of_open_refunds_is_settled_in_one_run(world: World) -> None:
    # One shard's pages are of 25.
    ids = [f"r{n}" for n in range(1000) if shard_of(f"r{n}") == "3"][:27]
    for refund_id in ids:
        opened(world, refund_id)

    assert run(world).open.settled == 27


def test_with_its_time_up_a_run_ends_and_the_next_goes_on(world: World) -> None:
    for n in range(3):
        opened(world, f"r{n}")

    summary = run(world, seconds=14)
    assert (summary.open.settled, world.gateway.calls) == (0, [])
    assert run(world).open.settled == 3


def test_a_flood_of_open_refunds_leaves_time_for_the_sweep(world: World) -> None:
    for n in range(30):
        opened(world, f"r{n}")
    # Each look takes ten seconds.
    world.gateway.on_call = lambda name: world.clock.advance(
        seconds=10 if name == "find_refunds" else 0
    )
    run(world)

    assert "list_refunds" in world.gateway.calls


def test_trouble_in_one_part_keeps_no_other_from_running(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def throttled(*args: Any, **more: Any) -> Any:
        raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "Query")

    monkeypatch.setattr(world.refunds, "due_page", throttled)
    summary = run(world)

    assert summary.sweep.complete
    assert names(summary) == ["ThrottlingException"] * OPEN_SHARDS


def test_due_refunds_are_taken_by_age_whatever_their_shard(world: World) -> None:
    ids = [f"r{number}" for number in range(16)]
    for number, refund_id in enumerate(ids):
        opened(world, refund_id, check_at=rfc3339(NOW - timedelta(seconds=100 - number)))
    looked: list[str] = []
    get = world.refunds.get
    world.refunds.get = lambda refund_id: looked.append(refund_id) or get(refund_id)  # type: ignore[method-assign,func-returns-value]
    world.reconciler.run(world.deadline(RUN_SECONDS))

    assert len({shard_of(each) for each in ids}) > 2
    assert looked == ids


def test_no_shard_starves_when_every_run_ends_before_all_is_done(world: World) -> None:
    ids = [f"r{number}" for number in range(24)]
    for refund_id in ids:
        opened(world, refund_id, status=Status.PENDING)
        world.gateway.refunds.append(
            shown(reference=refund_id, amount_minor=100, status=GatewayStatus.PENDING)
        )
    seen: list[str] = []
    find = world.gateway.find_refunds

    def slow(reference: str, *rest: Any) -> Any:
        world.clock.advance(seconds=20)
        seen.append(reference)
        return find(reference, *rest)

    world.gateway.find_refunds = slow  # type: ignore[method-assign,assignment]
    for _ in range(4):
        run(world)

    # Nine fit into a run. Nobody gets a second look before everybody had the first.
    assert sorted(seen[:24]) == sorted(ids)


def test_a_row_that_cant_be_read_is_put_off_counted_and_holds_nobody_up(world: World) -> None:
    there = opened(world, "bad", check_at=HOUR_AGO)
    world.stack.clients.dynamodb.update_item(
        TableName=world.stack.refunds_table,
        Key={"refund_id": {"S": "bad"}},
        UpdateExpression="SET #status = :nonsense",
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={":nonsense": {"S": "nonsense"}},
    )
    opened(world, "good")
    result = run(world)

    assert world.stored("good").status is Status.SUCCEEDED
    assert (result.open.unreadable, result.open.oldest_open_seconds) == (1, 3600)
    (due,) = world.refunds.due_page(there.open_shard or "", "9999", 10)
    assert due.check_at > rfc3339(NOW)
    assert run(world).open.unreadable == 0


def test_trouble_in_one_shard_keeps_no_other_from_its_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"r{number}" for number in range(16)]
    for refund_id in ids:
        opened(world, refund_id)
    page = world.refunds.due_page

    def denied(shard: str, *rest: Any, **more: Any) -> Any:
        if shard == "0":
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, "Query")
        return page(shard, *rest, **more)

    monkeypatch.setattr(world.refunds, "due_page", denied)
    result = run(world)

    others = [each for each in ids if shard_of(each) != "0"]
    assert result.open.settled == len(others)
    assert (result.open.failed, names(result)) == (1, ["permission_denied"])


def test_a_slow_list_of_the_gateway_leaves_time_for_archiving_and_settling(old: World) -> None:
    dead_letter(old, "x")
    opened(old, check_at=rfc3339(old.clock.now()))
    old.gateway.on_call = lambda name: old.clock.advance(
        seconds=200 if name == "list_refunds" else 0
    )
    result = run(old)

    assert (result.dead_letters.archived, result.open.settled) == (1, 1)


# Late reversals


def paid(world: World, **changes: Any) -> Refund:
    return world.put(
        refund(status=Status.SUCCEEDED, version=2, gateway_refund_id="gw-1", **changes)
    )


def bounced(**changes: Any) -> Any:
    return shown(status=GatewayStatus.FAILED, failure_code="account_closed", **changes)


def test_a_refund_that_came_back_from_the_bank_is_reversed_and_its_money_freed(
    world: World,
) -> None:
    paid(world)
    world.gateway.refunds.append(bounced())
    summary = run(world)

    there = world.stored()
    assert (there.status, there.failure_code) == (Status.REVERSED, "account_closed")
    assert (world.held(), summary.sweep.reversed) == (0, 1)


@pytest.mark.parametrize(
    "listed",
    [
        bounced(gateway_refund_id="gw-2"),
        bounced(reference="others"),
        shown(),
        shown(status=GatewayStatus.PENDING),
    ],
    ids=["another of the gateway's", "unknown to us", "succeeded", "pending"],
)
def test_nothing_else_reverses_a_refund(world: World, listed: Any) -> None:
    there = paid(world)
    world.gateway.refunds.append(listed)

    assert run(world).sweep.reversed == 0
    assert world.stored() == there


@pytest.mark.parametrize("status", [Status.IN_REVIEW, Status.FAILED, Status.REVERSED])
def test_only_what_we_hold_for_paid_is_reversed(world: World, status: Status) -> None:
    there = world.put(refund(status=status, gateway_refund_id="gw-1"))
    world.gateway.refunds.append(bounced())

    assert run(world).sweep.reversed == 0
    assert world.stored() == there


def test_another_gateways_refund_is_not_reversed(world: World) -> None:
    paid(world, gateway="stripe")
    world.gateway.refunds.append(bounced())

    assert run(world).sweep.reversed == 0


def test_what_a_person_took_for_paid_is_reversed_when_nothing_of_it_is_left(world: World) -> None:
    world.put(refund(status=Status.SUCCEEDED, version=3))
    world.gateway.refunds.append(bounced())

    assert run(world).sweep.reversed == 1


def test_what_a_person_took_for_paid_stays_while_any_of_it_lives(world: World) -> None:
    world.put(refund(status=Status.SUCCEEDED, version=3))
    world.gateway.refunds += [bounced(), shown(gateway_refund_id="gw-2")]

    assert run(world).sweep.reversed == 0


def test_the_sweep_goes_back_as_far_as_a_bank_may_take(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[datetime] = []
    listed = world.gateway.list_refunds

    def watched(deadline: Any, *, created_from: datetime, cursor: str | None) -> Any:
        asked.append(created_from)
        return listed(deadline, created_from=created_from, cursor=cursor)

    monkeypatch.setattr(world.gateway, "list_refunds", watched)
    run(world)
    world.clock.advance(days=1)
    run(world)

    # A sweep begins where the one before it began; the one after follows.
    assert asked == [NOW - SWEEP_BACK, NOW - SWEEP_BACK]


def test_every_page_is_swept_and_the_sweep_starts_anew(world: World) -> None:
    world.gateway.page_size = 2
    world.gateway.refunds += [shown(reference=f"x{n}") for n in range(5)]
    summary = run(world)

    assert (summary.sweep.pages, summary.sweep.complete) == (3, True)
    assert world.control.sweep_position("flair")["cursor"] is None


def test_a_sweep_that_runs_out_of_time_goes_on_from_there(world: World) -> None:
    world.gateway.page_size = 1
    world.gateway.refunds += [shown(reference=f"x{n}") for n in range(4)]
    world.gateway.on_call = lambda name: world.clock.advance(seconds=100)

    first = run(world, seconds=210)
    assert (first.sweep.pages, first.sweep.complete) == (2, False)
    assert world.control.sweep_position("flair")["cursor"] == "2"
    second = run(world, seconds=210)
    assert (second.sweep.pages, second.sweep.complete) == (2, True)


def test_a_refund_that_cant_be_reversed_does_not_hold_up_the_sweep(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid(world)
    world.gateway.refunds += [bounced(reference="broken"), bounced()]
    get = world.refunds.get

    def broken(refund_id: str) -> Refund | None:
        if refund_id == "broken":
            raise RuntimeError(refund_id)
        return get(refund_id)

    monkeypatch.setattr(world.refunds, "get", broken)
    summary = run(world)

    assert summary.sweep.complete
    assert (summary.sweep.reversed, summary.failed) == (1, 1)


def test_a_cursor_that_the_gateway_no_longer_takes_is_dropped_after_a_few_tries(
    world: World,
) -> None:
    world.control.set_sweep_position("flair", HOUR_AGO, "stale", 0)
    world.gateway.down = True
    cursors = []
    for _ in range(MAX_CURSOR_FAILURES):
        run(world)
        cursors.append(world.control.sweep_position("flair")["cursor"])

    assert cursors == ["stale"] * (MAX_CURSOR_FAILURES - 1) + [None]
    position = world.control.sweep_position("flair")
    assert position["created_from"] == rfc3339(NOW - SWEEP_BACK)


def test_a_page_that_was_read_forgives_the_failures_before_it(world: World) -> None:
    world.control.set_sweep_position("flair", HOUR_AGO, "0", MAX_CURSOR_FAILURES - 1)
    world.gateway.page_size = 1
    world.gateway.refunds += [shown(reference=f"x{n}") for n in range(3)]

    def then_down(name: str) -> None:
        world.gateway.down = len(world.gateway.calls) > 1

    world.gateway.on_call = then_down
    run(world)

    position = world.control.sweep_position("flair")
    assert (position["cursor"], position["failures"]) == ("1", 1)


# Dead letters


def dead_letter(world: World, content: Any) -> None:
    world.stack.clients.sqs.send_message(
        QueueUrl=world.stack.dead_letter_queue_url,
        MessageBody=content if isinstance(content, str) else json.dumps(content),
        MessageAttributes={"error_code": {"DataType": "String", "StringValue": "invalid_json"}},
    )


@pytest.fixture
def old(world: World) -> World:
    """Four days and a minute after now: what is sent to the DLQ is old enough."""
    # moto stamps messages with the machine's own time.
    world.clock.set(datetime.now(UTC) + timedelta(days=4, minutes=1))
    return world


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
    for number in range(12):
        dead_letter(world, f"refused {number}")
    world.clock.set(datetime.now(UTC) + timedelta(minutes=1))
    run(world)

    assert len(world.stack.dead_letters()) == 12


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


# One refund out of turn


def test_a_refund_that_somebody_named_is_settled_by_what_the_gateway_says(world: World) -> None:
    opened(world, check_at=rfc3339(NOW + timedelta(hours=1)))
    world.gateway.refunds.append(shown(amount_minor=100))

    there = world.reconciler.look_at("refund-1", world.deadline())
    assert there is not None
    assert there.status is Status.SUCCEEDED


def test_a_paid_refund_that_somebody_named_is_reversed_only_if_the_gateway_says_so(
    world: World,
) -> None:
    paid(world)
    world.gateway.refunds.append(shown())
    assert world.reconciler.look_at("refund-1", world.deadline()) == world.stored()
    assert world.stored().status is Status.SUCCEEDED

    world.gateway.refunds[0] = bounced()
    there = world.reconciler.look_at("refund-1", world.deadline())
    assert there is not None
    assert there.status is Status.REVERSED


@pytest.mark.parametrize(
    "changes",
    [
        {"lease_until": rfc3339(NOW + timedelta(seconds=5))},
        {"status": Status.IN_REVIEW},
        {"open_shard": None, "open_since": None, "check_at": None},
    ],
    ids=["under its lease", "in review", "its message will come"],
)
def test_hearsay_changes_nothing_of_what_others_will_settle(
    world: World, changes: dict[str, Any]
) -> None:
    there = opened(world, **changes)

    assert world.reconciler.look_at("refund-1", world.deadline()) == there
    assert world.stored() == there
    assert world.gateway.calls == []


def test_hearsay_of_an_unknown_refund_is_nothing(world: World) -> None:
    assert world.reconciler.look_at("refund-1", world.deadline()) is None


def test_a_settled_refund_and_its_duplicate_message_agree(world: World) -> None:
    opened(world, amount_minor=2500)
    run(world)

    world.processor.process(request(), world.deadline())
    assert len(world.gateway.orders) == 1
