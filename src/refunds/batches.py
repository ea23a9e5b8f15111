"""Powertools' batch processor with the records of a batch running side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType


class Pool(Protocol):
    """The part of ``concurrent.futures.Executor`` that is used; the simulator has its own."""

    def map(self, fn: Callable[[Any], Any], *iterables: Iterable[Any]) -> Iterable[Any]:
        """Results in the order of the arguments."""
        ...


class ConcurrentBatchProcessor(BatchProcessor):
    """A batch takes about as long as its slowest record; each record fails for itself.

    Powertools' own asynchronous processor does the same through an event loop that outside Lambda
    is a new one each call; a pool's ``map`` is all that blocking I/O needs.
    """

    def __init__(self, event_type: EventType, pool: Pool) -> None:
        # An exception for a wholly failed batch would hide which records to hand back.
        super().__init__(event_type=event_type, raise_on_entire_batch_failure=False)
        self._pool = pool

    def process(self) -> list[tuple]:  # type: ignore[type-arg]  # as Powertools declares it
        return list(self._pool.map(self._process_record, self.records))
