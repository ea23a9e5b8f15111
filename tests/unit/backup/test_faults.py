"""Whatever fails, at whichever call: a whole backup is published, or none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from tests.unit.backup.parts import BackedUp, refund

import refunds.backup
from refunds.digests import DIGESTS_PREFIX
from refunds.s3_objects import put_new_file

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
    monkeypatch.setattr(refunds.backup, "ONE_SEGMENT_ITEMS", 1)
    filled(stack)

    def second_segment(params: dict[str, Any], **_: Any) -> None:
        if params.get("Segment") == 1:
            throttled()

    stack.dynamodb.meta.events.register("provide-client-params.dynamodb.Scan", second_segment)
    with pytest.raises(ClientError):
        stack.back_up()
    assert published(stack) == 1
    assert not stack.verify().findings
