"""Powertools' batch processor, but with the records of a batch handled in parallel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType

Record = dict[str, Any]
"""A record of an event, as Lambda gives it."""


class Pool(Protocol):
    """The part of ``concurrent.futures.Executor`` that is used; the simulator has its own."""

    def map(self, fn: Callable[[Any], Any], *iterables: Iterable[Any]) -> Iterable[Any]:
        """Results in the order of the arguments."""
        ...


class _SideBySide(BatchProcessor):
    # Powertools' asynchronous processor does the same through an event loop, which outside Lambda
    # is a new one each call; a pool's map is all that blocking I/O needs.

    def __init__(
        self, event_type: EventType, pool: Pool, in_order: Callable[[Record], str] | None
    ) -> None:
        # Powertools raises when every record has failed. The partial batch response says the same
        # without an error.
        super().__init__(event_type=event_type, raise_on_entire_batch_failure=False)
        self._pool = pool
        self._in_order = in_order

    def process(self) -> list[tuple]:  # type: ignore[type-arg]  # as Powertools declares it
        lines: dict[str, list[int]] = {}
        for number, record in enumerate(self.records):
            line = self._in_order(record) if self._in_order else str(number)
            lines.setdefault(line, []).append(number)
        done: dict[int, tuple] = {}  # type: ignore[type-arg]

        def run(numbers: list[int]) -> None:
            for number in numbers:
                done[number] = self._process_record(self.records[number])

        for _ in self._pool.map(run, lines.values()):
            pass
        return [done[number] for number in range(len(self.records))]


def run_batch(
    records: list[Record],
    handle: Callable[[Record], Any],
    event_type: EventType,
    pool: Pool,
    *,
    in_order: Callable[[Record], str] | None = None,
) -> tuple[list[Any], dict[str, Any]]:
    """Handle all records; a batch takes about as long as its slowest. One failure does not affect
    the others.

    Records for which ``in_order`` returns the same value are handled one after the other. Returns
    the results in the records' order (None for records that raised), and Lambda's partial batch
    response, which names the records that raised, even if all of them did.
    """
    batch = _SideBySide(event_type, pool, in_order)

    def handler(record: Any) -> Any:
        return handle(record.raw_event)

    with batch(records=records, handler=handler):
        results = batch.process()
    answers = [answer if outcome == "success" else None for outcome, answer, _ in results]
    return answers, dict(batch.response())
