"""A run in steps: it goes on where it was stopped, and trusts only its own progress."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.backup_parts import BackedUp, LocalSigner, latest, refund, rows, small_pages
from tests.support.builders import NOW, FakeClock, TickingClock

import refunds.backup.export_format
import refunds.backup.run
from refunds.backup.digest import DIGESTS_PREFIX, digest_key, sequence_of, sha256_hex, signature_key
from refunds.backup.run import MAX_STEPS, BackupIncompleteError
from refunds.backup.run_progress import RUNS_PREFIX, RunProgress
from refunds.domain.clock import Deadline


def to_the_end(stack: BackedUp, event: dict[str, Any], clock: FakeClock, **more: Any) -> int:
    """Run step by step, as Lambda would be invoked again; how many steps there were."""
    run = stack.make_run(clock=clock, **more)
    for step in count(1):
        # Through JSON, as an event comes.
        told = run.run(json.loads(json.dumps(event)), Deadline.after(clock, 900))
        if "continued" not in told:
            return step
        event = stack.continuations.pop()
    raise AssertionError


# --- Steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [17, 40])
def test_a_run_goes_on_in_the_next_invocation(
    stack: BackedUp, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refunds.backup.run, "ONE_SEGMENT_ITEMS", 20)
    stack.add(*(refund(number) for number in range(40)))
    small_pages(stack, 3)
    steps = to_the_end(stack, {}, TickingClock(seconds))
    assert steps > 1
    digest = latest(stack)
    for table in ("refunds", "ledger", "audit"):
        found = [json.dumps(row, sort_keys=True) for row in rows(stack, digest, table)]
        assert len(set(found)) == len(found) == 40
    assert not stack.verify().findings


def test_a_step_that_is_delivered_twice_is_done_once(stack: BackedUp) -> None:
    stack.add(*(refund(number) for number in range(20)))
    small_pages(stack, 3)
    clock = TickingClock(60)
    stack.make_run(clock=clock).run({}, Deadline.after(clock, 900))
    (event,) = stack.continuations
    stack.continuations.clear()
    calm = FakeClock(NOW + timedelta(hours=1))
    first = stack.make_run(clock=calm).run(event, Deadline.after(calm, 900))
    before = stack.listed()
    second = stack.make_run(clock=calm).run(event, Deadline.after(calm, 900))
    assert first["digest"]["sequence"] == 1
    assert second == {"skipped": True, "prefix": first["prefix"], "step": 1}
    assert stack.listed() == before  # and nothing was begun in its place
    assert not stack.verify().findings


class DisabledKey(LocalSigner):
    """KMS refuses every signature, as with a key that somebody has disabled."""

    def sign(self, sha256: bytes) -> bytes:
        raise ClientError({"Error": {"Code": "DisabledException"}}, "Sign")


def test_a_lasting_fault_ends_in_one_failed_run(stack: BackedUp) -> None:
    stack.add(*(refund(number) for number in range(20)))
    small_pages(stack, 3)
    clock = TickingClock(60)
    events: deque[dict[str, Any]] = deque([{}])
    invocations = failed = 0
    while events:
        event = events.popleft()
        for _ in range(3):  # Lambda delivers an event that failed twice more
            invocations += 1
            assert invocations < 100
            try:
                run = stack.make_run(signer=DisabledKey(), clock=clock)
                run.run(event, Deadline.after(clock, 900))
            except ClientError:
                failed += 1
                continue
            break
        events.extend(stack.continuations)
        stack.continuations.clear()
    assert failed == 1
    assert len({key.split("/")[2] for key in stack.listed(RUNS_PREFIX)}) == 1
    assert not stack.listed(DIGESTS_PREFIX)


def test_a_caller_in_a_loop_is_refused(stack: BackedUp) -> None:
    clock = FakeClock()
    for _ in range(3):
        stack.back_up(clock=clock, max_runs_a_day=3)
        clock.advance(seconds=60)
    with pytest.raises(BackupIncompleteError, match="3 runs began within a day"):
        stack.back_up(clock=clock, max_runs_a_day=3)
    clock.advance(seconds=24 * 3600)
    assert stack.back_up(clock=clock, max_runs_a_day=3)["digest"]["sequence"] == 4


def test_two_runs_that_begin_in_one_second_have_their_own_prefixes(stack: BackedUp) -> None:
    stack.add(refund(1))
    clock = FakeClock()
    one, other = stack.back_up(clock=clock), stack.back_up(clock=clock)
    assert one["prefix"].endswith("/20261123T071000Z")
    assert other["prefix"].endswith("/20261123T071001Z")
    assert not stack.verify().findings


def test_a_run_has_a_bounded_number_of_steps(stack: BackedUp) -> None:
    stack.add(*(refund(number) for number in range(20)))
    small_pages(stack, 1)
    clock = TickingClock(60)
    run = stack.make_run(clock=clock)
    run.run({}, Deadline.after(clock, 900))
    progress = kept_progress(stack)
    progress.step = MAX_STEPS - 1
    content = progress.to_bytes()
    stack.s3.put_object(Bucket=stack.bucket, Key=progress.progress_key, Body=content)
    event = {"continue": {"key": progress.progress_key, "sha256": sha256_hex(content)}}
    with pytest.raises(BackupIncompleteError):
        run.run(event, Deadline.after(clock, 900))
    assert not stack.continuations
    assert not [key for key in stack.listed() if sequence_of(key)]


@pytest.mark.parametrize(
    "event",
    [
        None,
        "refund-backups/runs/20261123T071000Z/0001-progress.json",
        {},
        {"name": "20261123T071000Z"},
        {"key": 1, "sha256": ""},
        {"key": "refund-backups/digests/000000000001.json", "sha256": ""},
        {"key": "refund-backups/runs/../../secret/0001-progress.json", "sha256": ""},
        {"key": "elsewhere/refund-backups/runs/20261123T071000Z/0001-progress.json"},
    ],
    ids=str,
)
def test_a_continue_event_of_another_shape_begins_and_reads_nothing(
    stack: BackedUp, event: Any
) -> None:
    stack.add(refund(1))
    for operation in ("GetObject", "PutObject"):
        stack.s3.meta.events.register(f"before-call.s3.{operation}", _unexpected)
    with pytest.raises(BackupIncompleteError, match="names no progress"):
        stack.back_up({"continue": event})


def _unexpected(**_: Any) -> None:
    raise AssertionError("no call was expected")


@pytest.mark.parametrize("field", ["name", "root", "file"])
def test_progress_that_names_objects_of_another_run_is_not_signed(
    stack: BackedUp, field: str
) -> None:
    stack.add(*(refund(number) for number in range(20)))
    small_pages(stack, 3)
    clock = TickingClock(60)
    stack.make_run(clock=clock).run({}, Deadline.after(clock, 900))
    (event,) = stack.continuations
    progress = RunProgress.from_bytes(stack.object(event["continue"]["key"]))
    if field == "name":
        progress.name = "20200101T000000Z"
    elif field == "root":
        progress.tables[0].root = "refund-backups/2020/01/01/20200101T000000Z/refunds"
    else:
        progress.tables[0].files[0] = replace(progress.tables[0].files[0], key="elsewhere")
    content = progress.to_bytes()
    key = event["continue"]["key"]
    stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=content)
    with pytest.raises(BackupIncompleteError, match="progress of another run"):
        stack.back_up({"continue": {"key": key, "sha256": sha256_hex(content)}})
    assert not stack.listed(DIGESTS_PREFIX)


def kept_progress(stack: BackedUp) -> RunProgress:
    """Of the run that has just been handed on."""
    return RunProgress.from_bytes(stack.object(stack.continuations.pop()["continue"]["key"]))


def test_an_event_is_small_however_many_files_there_are(
    stack: BackedUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refunds.backup.export_format, "MAX_FILE_BYTES", 1)
    stack.add(*(refund(number) for number in range(20)))
    small_pages(stack, 1)
    clock = TickingClock(17)
    stack.make_run(clock=clock).run({}, Deadline.after(clock, 900))
    (event,) = stack.continuations
    assert len(json.dumps(event)) < 300
    assert len(kept_progress(stack).tables[0].files) > 5


@pytest.mark.parametrize("damage", [b"{}", None])
def test_progress_that_is_not_what_was_kept_publishes_nothing(
    stack: BackedUp, damage: bytes | None
) -> None:
    stack.add(*(refund(number) for number in range(20)))
    small_pages(stack, 1)
    clock = TickingClock(60)
    stack.make_run(clock=clock).run({}, Deadline.after(clock, 900))
    (event,) = stack.continuations
    key = event["continue"]["key"]
    if damage is None:
        stack.s3.delete_object(Bucket=stack.bucket, Key=key)
    else:
        stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=damage)
    with pytest.raises(BackupIncompleteError, match="progress"):
        stack.back_up(event)
    assert not stack.listed("refund-backups/digests/")


def test_nothing_is_invoked_before_its_progress_is_stored(stack: BackedUp) -> None:
    stack.add(*(refund(number) for number in range(20)))
    small_pages(stack, 1)

    def fail(params: dict[str, Any], **_: Any) -> None:
        if params["Key"].endswith("-progress.json"):
            raise ClientError({"Error": {"Code": "SlowDown"}}, "PutObject")

    stack.s3.meta.events.register("provide-client-params.s3.PutObject", fail)
    clock = TickingClock(60)
    with pytest.raises(ClientError):
        stack.make_run(clock=clock).run({}, Deadline.after(clock, 900))
    assert not stack.continuations


@pytest.mark.long
def test_a_step_ends_with_time_left_to_store_and_to_continue(stack: BackedUp) -> None:
    stack.add(*(refund(number) for number in range(200)))
    small_pages(stack, 1)
    clock = TickingClock(2)
    deadline = Deadline.after(clock, 900)
    left: list[float] = []

    def invoke_again(event: dict[str, Any]) -> None:
        left.append(deadline.left_seconds())

    told = stack.make_run(clock=clock, invoke_again=invoke_again).run({}, deadline)
    assert told["continued"]
    assert left[0] > 50


def test_tables_are_scanned_one_after_another_refunds_first(stack: BackedUp) -> None:
    # So that no entry of the trail is of a refund newer than the backup's.
    stack.add(refund(1))
    scanned: list[str] = []
    consistent: list[bool] = []

    def see(params: dict[str, Any], **_: Any) -> None:
        scanned.append(params["TableName"])
        consistent.append(params["ConsistentRead"])

    stack.dynamodb.meta.events.register("provide-client-params.dynamodb.Scan", see)
    stack.back_up()
    assert scanned == [stack.refunds, stack.ledger, stack.audit]
    assert all(consistent)


@pytest.mark.parametrize("signature", ["no hex", ""])
def test_a_damaged_signature_of_the_newest_digest_ends_no_run(
    stack: BackedUp, signature: str
) -> None:
    stack.back_up()
    key = digest_key(1)
    stack.s3.put_object(
        Bucket=stack.bucket, Key=key, Body=stack.object(key), Metadata={"signature": signature}
    )
    assert stack.back_up()["digest"]["sequence"] == 2
    previous = latest(stack).previous
    assert previous is not None
    assert bytes.fromhex(previous.signature) == stack.object(signature_key(1))
