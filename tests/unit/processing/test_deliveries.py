"""What the processor is told of a message besides its body."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.builders import InlinePool, body
from tests.support.world import World

from refunds.domain.refund import Refund, Status
from refunds.processing.delivery import Delivery
from refunds.processing.queue import PutBackError, handle_batch
from refunds.processing.recorder import Later


def test_whether_to_look_up_first_reaches_the_processor(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    process: Callable[..., Any] = world.processor.process

    def watched(request: Any, deadline: Any, delivery: Delivery) -> Any:
        seen.append(delivery.look_up_first)
        return process(request, deadline, delivery)

    monkeypatch.setattr(world.processor, "process", watched)
    handle_batch(
        [world.stack.send(body())],
        world.queue,
        world.deadline(),
        InlinePool(),
        lambda record, result: None,
        look_up_first=True,
    )
    assert seen == [True]


@pytest.mark.parametrize("look_up_first", [True, False])
@pytest.mark.parametrize(
    ("sent_ms", "sent_at"),
    [(None, None), ("1795418131250", datetime(2026, 11, 23, 7, 15, 31, 250_000, UTC))],
)
def test_when_a_message_was_sent_reaches_the_processor(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    look_up_first: bool,
    sent_ms: str | None,
    sent_at: datetime | None,
) -> None:
    seen: list[Delivery] = []

    def watched(request: Any, deadline: Any, delivery: Delivery) -> Any:
        seen.append(delivery)
        return Later("not now")

    monkeypatch.setattr(world.processor, "process", watched)
    record = world.stack.send(body())
    record["attributes"].pop("SentTimestamp", None)
    if sent_ms is not None:
        record["attributes"]["SentTimestamp"] = sent_ms
    with pytest.raises(PutBackError):
        world.queue.handle(record, world.deadline(), look_up_first=look_up_first)
    assert seen == [Delivery(sent_at, look_up_first=look_up_first)]


@pytest.mark.parametrize("look_up_first", [True, False])
@pytest.mark.parametrize(
    ("sent_ms", "first_sent"),
    [
        (None, "2026-11-01T00:00:00Z"),
        ("1795418131250", "2026-11-01T00:00:00Z"),
        ("1795418131250", "2026-11-24T00:00:00Z"),  # The mark makes no message younger.
    ],
)
def test_a_message_that_was_sent_again_is_as_old_as_it_says_and_looked_up_first(
    monkeypatch: pytest.MonkeyPatch,
    world: World,
    look_up_first: bool,
    sent_ms: str | None,
    first_sent: str,
) -> None:
    seen: list[Delivery] = []

    def watched(request: Any, deadline: Any, delivery: Delivery) -> Any:
        seen.append(delivery)
        return Later("not now")

    monkeypatch.setattr(world.processor, "process", watched)
    record = world.stack.send(body())
    record["messageAttributes"] = {"resent": {"stringValue": first_sent, "dataType": "String"}}
    record["attributes"].pop("SentTimestamp", None)
    sent = [datetime.fromisoformat(first_sent)]
    if sent_ms is not None:
        record["attributes"]["SentTimestamp"] = sent_ms
        sent.append(datetime(2026, 11, 23, 7, 15, 31, 250_000, UTC))
    with pytest.raises(PutBackError):
        world.queue.handle(record, world.deadline(), look_up_first=look_up_first)

    assert seen == [Delivery(min(sent), look_up_first=True)]


@pytest.mark.parametrize("mark", ["", "yesterday", "2026-13-01T00:00:00Z"])
def test_a_mark_that_is_no_instant_holds_no_message_up(world: World, mark: str) -> None:
    record = world.stack.send(body())
    record["messageAttributes"] = {"resent": {"stringValue": mark, "dataType": "String"}}

    result = world.queue.handle(record, world.deadline())
    assert isinstance(result, Refund)
    assert result.status is Status.SUCCEEDED
