"""The stand-ins for event source mappings follow Lambda's rules."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.engines.pollers import (
    InvocationError,
    ShardDelivery,
    StreamRules,
    deliver_messages,
    failed_identifiers,
)


@pytest.mark.parametrize(
    "response", [None, {}, {"batchItemFailures": None}, {"batchItemFailures": []}]
)
def test_a_response_without_failures_is_a_success_of_the_batch(response: Any) -> None:
    assert failed_identifiers(response, ["a", "b"]) == set()


@pytest.mark.parametrize(
    "response",
    [
        "text",
        {"batchItemFailures": "a"},
        {"batchItemFailures": ["a"]},
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"itemIdentifier": None}]},
        {"batchItemFailures": [{"identifier": "a"}]},
        {"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "unknown"}]},
    ],
)
def test_a_malformed_response_is_a_failure_of_the_batch(response: Any) -> None:
    assert failed_identifiers(response, ["a", "b"]) == {"a", "b"}


class DeletedMessages:
    def __init__(self) -> None:
        self.receipts: list[str] = []

    def delete_message_batch(self, *, QueueUrl: str, Entries: list[Any]) -> None:  # noqa: N803
        self.receipts += [entry["ReceiptHandle"] for entry in Entries]


def messages(*names: str) -> list[dict[str, Any]]:
    return [{"messageId": name, "receiptHandle": f"receipt-{name}"} for name in names]


def test_only_messages_that_succeeded_are_deleted() -> None:
    queue = DeletedMessages()
    response = {"batchItemFailures": [{"itemIdentifier": "b"}]}
    deliver_messages(queue, "url", messages("a", "b", "c"), lambda event: response)
    assert queue.receipts == ["receipt-a", "receipt-c"]


def test_no_message_is_deleted_when_the_function_fails() -> None:
    queue = DeletedMessages()
    deliver_messages(queue, "url", messages("a", "b"), fail)
    assert queue.receipts == []


def fail(event: Any) -> Any:
    raise InvocationError


def records(*numbers: int, created: float = 1000) -> list[dict[str, Any]]:
    return [
        {"dynamodb": {"SequenceNumber": str(number), "ApproximateCreationDateTime": created}}
        for number in numbers
    ]


class Shard:
    """A delivery whose function fails whenever its batch has one of ``bad``."""

    def __init__(self, *bad: int, partial: bool = False, **rules: Any) -> None:
        self.invoked: list[list[int]] = []
        self.discarded: list[tuple[list[int], str]] = []
        self._bad = bad
        self._partial = partial
        self._delivery = ShardDelivery(
            StreamRules(**rules), self._invoke, self._discard, now=lambda: 1000.0
        )

    def deliver(self, *numbers: int, created: float = 1000) -> None:
        self._delivery.deliver(records(*numbers, created=created))

    def _invoke(self, event: dict[str, Any]) -> Any:
        batch = _numbers(event["Records"])
        self.invoked.append(batch)
        failed = [number for number in batch if number in self._bad]
        if failed and not self._partial:
            raise InvocationError
        return {"batchItemFailures": [{"itemIdentifier": str(number)} for number in failed]}

    def _discard(self, batch: list[dict[str, Any]], condition: str) -> None:
        self.discarded.append((_numbers(batch), condition))


def _numbers(batch: list[dict[str, Any]]) -> list[int]:
    return [int(record["dynamodb"]["SequenceNumber"]) for record in batch]


def test_batches_of_a_shard_come_in_order() -> None:
    shard = Shard(batch_size=2)
    shard.deliver(1, 2, 3, 4, 5)
    assert shard.invoked == [[1, 2], [3, 4], [5]]


def test_a_partial_failure_is_retried_from_the_lowest_failed_record() -> None:
    shard = Shard(3, partial=True, maximum_retry_attempts=1, bisect=False)
    shard.deliver(1, 2, 3, 4)
    assert shard.invoked == [[1, 2, 3, 4], [3, 4]]
    assert shard.discarded == [([3, 4], "RetryAttemptsExhausted")]


def test_a_failing_batch_is_halved_until_the_bad_record_is_alone() -> None:
    shard = Shard(3, maximum_retry_attempts=2)
    shard.deliver(1, 2, 3, 4)
    assert shard.invoked == [[1, 2, 3, 4], [1, 2], [3, 4], [3], [3], [3], [4]]
    assert shard.discarded == [([3], "RetryAttemptsExhausted")]


def test_without_bisecting_the_whole_batch_is_retried_and_discarded() -> None:
    shard = Shard(2, maximum_retry_attempts=2, bisect=False)
    shard.deliver(1, 2, 3)
    assert shard.invoked == [[1, 2, 3]] * 3
    assert shard.discarded == [([1, 2, 3], "RetryAttemptsExhausted")]


def test_a_record_that_is_too_old_is_discarded_without_an_invocation() -> None:
    shard = Shard(maximum_record_age=60)
    shard.deliver(1, 2, created=900)
    assert shard.invoked == []
    assert shard.discarded == [([1, 2], "EventAgeExceeded")]
