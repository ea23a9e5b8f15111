"""Whatever fails, at whichever call: a whole backup is published, or none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from tests.support.backup_parts import BackedUp, refund, small_pages
from tests.support.builders import TickingClock

import refunds.backup.run
from refunds.backup.digest import DIGESTS_PREFIX
from refunds.backup.write_once import put_new, put_new_file
from refunds.domain.clock import Deadline

ROWS = 5


class Crash(BaseException):
    """The process is gone: nothing catches it."""


def throttled(**_: Any) -> None:
    raise ClientError(
        {"Error": {"Code": "ProvisionedThroughputExceededException", "Message": ""}}, "Any"
    )


def denied(**_: Any) -> None:
    raise ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, "Any")


def unreachable(**_: Any) -> None:
    raise EndpointConnectionError(endpoint_url="https://s3")


def crashed(**_: Any) -> None:
    raise Crash


@contextmanager
def failing_at(
    stack: BackedUp, number: int, event: str, fail: Callable[..., None]
) -> Iterator[list[str]]:
    """The ``number``-th call to S3 or DynamoDB fails: ``before-call`` it is not made, with
    ``after-call`` it is made and its answer lost."""
    made: list[str] = []

    def count(model: Any, **_: Any) -> None:
        made.append(model.name)
        if len(made) == number:
            fail()

    clients = (stack.s3, stack.dynamodb)
    for client in clients:
        client.meta.events.register(event, count)
    try:
        yield made
    finally:
        for client in clients:
            client.meta.events.unregister(event, count)


def published(stack: BackedUp) -> int:
    return len([key for key in stack.listed(DIGESTS_PREFIX) if key.endswith(".json")])


def filled(stack: BackedUp) -> BackedUp:
    stack.add(*(refund(number) for number in range(ROWS)))
    stack.back_up()
    return stack


def calls_of_a_run(stack: BackedUp) -> list[str]:
    with failing_at(stack, 0, "before-call", crashed) as made:
        stack.back_up()
    return made


@pytest.mark.long
@pytest.mark.parametrize(
    ("event", "fail"),
    [("before-call", throttled), ("before-call", crashed), ("after-call", crashed)],
    ids=["throttled", "crashed before", "crashed after"],
)
def test_a_fault_at_any_call_leaves_a_whole_backup_or_none(
    stack: BackedUp, event: str, fail: Callable[..., None]
) -> None:
    calls = calls_of_a_run(filled(stack))
    there = published(stack)
    for number in range(1, len(calls) + 1):
        with failing_at(stack, number, event, fail) as made:
            try:
                stack.back_up()
                failed = False
            except (ClientError, Crash):
                failed = True
        now = published(stack)
        assert now - there in (0, 1), f"call {number} of {calls[number - 1]}"
        if now == there:
            assert failed, f"{made[number - 1]} failed and nobody was told"
        there = now
    report = stack.verify()
    assert not report.findings
    assert report.digests == there
    assert report.items == 3 * ROWS * there
    # And the next run is as good as any.
    stack.back_up()
    assert not stack.verify().findings


# --- Over several invocations ---------------------------------------------------------------------


def deliver(stack: BackedUp, clock: TickingClock, **more: Any) -> int:
    """As Lambda does it: each event up to three times until it is taken, then its continuations.

    Returns the number of invocations.
    """
    events: list[dict[str, Any]] = [{}]
    invoked = 0
    while events:
        event = json.loads(json.dumps(events.pop(0)))
        for _ in range(3):
            invoked += 1
            try:
                stack.make_run(clock=clock, **more).run(event, Deadline.after(clock, 900))
                break
            except (ClientError, Crash):
                clock.advance(seconds=60)
        events += stack.continuations
        stack.continuations.clear()
    return invoked


@pytest.fixture
def of_steps(stack: BackedUp) -> tuple[BackedUp, TickingClock]:
    """A stack whose backup takes several invocations."""
    stack.add(*(refund(number) for number in range(ROWS)))
    small_pages(stack, 2)
    return stack, TickingClock(90)


@pytest.mark.long
def test_a_crash_in_any_invocation_of_a_run_leaves_whole_backups_only(
    of_steps: tuple[BackedUp, TickingClock],
) -> None:
    stack, clock = of_steps
    with failing_at(stack, 0, "after-call", crashed) as calls:
        assert deliver(stack, clock) > 2
    there = published(stack)
    for number in range(1, len(calls) + 1):
        with failing_at(stack, number, "after-call", crashed):
            deliver(stack, clock)
        now = published(stack)
        # A first invocation that failed is delivered again, and begins another run. A later one
        # begins nothing: the alarm has been raised.
        assert now - there in (0, 1, 2), f"call {number}, {calls[number - 1]}"
        there = now
    report = stack.verify()
    assert not report.findings
    assert report.items == 3 * ROWS * there


def test_a_step_that_failed_after_it_had_invoked_the_next_one_is_whole(
    of_steps: tuple[BackedUp, TickingClock],
) -> None:
    stack, clock = of_steps
    invocations = count(1)

    def invoke_again(event: dict[str, Any]) -> None:
        stack.continuations.append(event)
        if next(invocations) == 2:
            raise Crash

    deliver(stack, clock, invoke_again=invoke_again)
    assert published(stack) == 1
    report = stack.verify()
    assert not report.findings
    assert report.items == 3 * ROWS


@pytest.mark.parametrize("slow_scan", [1, 5])
def test_a_function_that_is_timed_out_leaves_no_half_backup(
    of_steps: tuple[BackedUp, TickingClock], slow_scan: int
) -> None:
    # One answer takes longer than the invocation has: Lambda kills it, wherever it is.
    stack, clock = of_steps
    scans = count(1)

    def slow(**_: Any) -> None:
        if next(scans) == slow_scan:
            clock.advance(seconds=900)
            crashed()

    stack.dynamodb.meta.events.register("after-call.dynamodb.Scan", slow)
    deliver(stack, clock)
    # Killed in its first invocation, the run is begun again; killed in a later one, it has failed.
    assert published(stack) == (1 if slow_scan == 1 else 0)
    report = stack.verify()
    assert not report.findings
    assert report.items == 3 * ROWS * published(stack)


# --- Single faults --------------------------------------------------------------------------------


def test_an_upload_whose_answer_was_lost_is_sent_again_and_stored_once(stack: BackedUp) -> None:
    # botocore sends again what was stored: "overwritten" would stay a finding for ever.
    def once(attempts: int, **_: Any) -> Any:
        return 0 if attempts == 1 else None

    stack.s3.meta.events.register_first("needs-retry.s3.PutObject", once)
    filled(stack)
    assert not stack.verify().findings


def test_another_object_under_a_new_files_key_is_an_error(stack: BackedUp) -> None:
    stack.s3.put_object(Bucket=stack.bucket, Key="taken", Body=b"something else")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        put_new_file(
            stack.s3, stack.bucket, "taken", BytesIO(b"ours"), 4, hashlib.sha256(b"ours").digest()
        )


class Conflicts:
    """S3 answers the first writes of an object with 409; ``stored``: and stores the object."""

    def __init__(self, s3: Any, times: int, *, stored: bool = False) -> None:
        self._s3 = s3
        self._left = times
        self._stored = stored
        self.waits: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._s3, name)

    def put_object(self, **arguments: Any) -> Any:
        if self._left:
            self._left -= 1
            if self._stored:
                self._s3.put_object(**arguments)
            raise ClientError({"Error": {"Code": "ConditionalRequestConflict"}}, "PutObject")
        return self._s3.put_object(**arguments)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr("refunds.backup.write_once.time.sleep", found.append)
    return found


@pytest.mark.parametrize("stored", [False, True])
def test_a_409_is_repeated_and_the_object_is_stored(
    stack: BackedUp, waits: list[float], stored: bool
) -> None:
    s3: Any = Conflicts(stack.s3, 1 if stored else 3, stored=stored)
    assert put_new(s3, stack.bucket, "key", b"ours")
    assert stack.object("key") == b"ours"
    s3 = Conflicts(stack.s3, 1 if stored else 3, stored=stored)
    put_new_file(s3, stack.bucket, "file", BytesIO(b"ours"), 4, hashlib.sha256(b"ours").digest())
    assert stack.object("file") == b"ours"
    assert len(waits) == (2 if stored else 6)


def test_a_409_that_lasts_is_an_error_and_not_taken_for_stored(
    stack: BackedUp, waits: list[float]
) -> None:
    s3: Any = Conflicts(stack.s3, 100)
    with pytest.raises(ClientError, match="ConditionalRequestConflict"):
        put_new(s3, stack.bucket, "key", b"ours")
    with pytest.raises(ClientError, match="ConditionalRequestConflict"):
        put_new_file(s3, stack.bucket, "key", BytesIO(b"ours"), 4, hashlib.sha256(b"ours").digest())
    assert sum(waits) < 7


def test_a_409_from_a_write_of_other_content_is_not_ours(
    stack: BackedUp, waits: list[float]
) -> None:
    stack.s3.put_object(Bucket=stack.bucket, Key="key", Body=b"theirs")
    assert not put_new(Conflicts(stack.s3, 1), stack.bucket, "key", b"ours")  # type: ignore[arg-type]


@pytest.mark.parametrize("operation", ["PutObject", "ListObjectsV2"])
def test_a_bucket_that_denies_leaves_what_is_there(stack: BackedUp, operation: str) -> None:
    filled(stack)
    stack.s3.meta.events.register(f"before-call.s3.{operation}", denied)
    with pytest.raises(ClientError):
        stack.back_up()
    stack.s3.meta.events.unregister(f"before-call.s3.{operation}", denied)
    assert published(stack) == 1
    assert not stack.verify().findings


def test_a_signer_that_fails_publishes_nothing(stack: BackedUp) -> None:
    filled(stack)

    class Broken(type(stack.signer)):  # type: ignore[misc]
        def sign(self, sha256: bytes) -> bytes:
            throttled()
            raise AssertionError

    with pytest.raises(ClientError):
        stack.back_up(signer=Broken())
    assert published(stack) == 1


def test_one_failing_segment_ends_the_others(
    stack: BackedUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refunds.backup.run, "ONE_SEGMENT_ITEMS", 1)
    filled(stack)

    def second_segment(params: dict[str, Any], **_: Any) -> None:
        if params.get("Segment") == 1:
            throttled()

    stack.dynamodb.meta.events.register("provide-client-params.dynamodb.Scan", second_segment)
    with pytest.raises(ClientError):
        stack.back_up()
    assert published(stack) == 1
    assert not stack.verify().findings
