"""The records of a batch side by side, and Lambda's partial batch response."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

Record = dict[str, Any]
"""A record of an event, as Lambda gives it."""


class Pool(Protocol):
    """The part of ``concurrent.futures.Executor`` that is used; the simulator has its own."""

    def map(self, fn: Callable[[Any], Any], *iterables: Iterable[Any]) -> Iterable[Any]:
        """Results in the order of the arguments."""
        ...


def run_batch(
    records: list[Record],
    handle: Callable[[Record], Any],
    pool: Pool,
    *,
    identify: Callable[[Record], str],
    in_order: Callable[[Record], str] | None = None,
) -> tuple[list[Any], dict[str, Any]]:
    """Handle all records; a batch takes about as long as its slowest. Each fails for itself.

    ``identify`` names a record to Lambda; records for which ``in_order`` says the same are handled
    one after the other. Returns the results in the records' order, None for those that raised, and
    the response that brings those back: also when all did, which is why nothing is raised.
    """
    lines: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        lines.setdefault(in_order(record) if in_order else str(number), []).append(number)
    results: list[Any] = [None] * len(records)
    failed: set[int] = set()

    def run(numbers: list[int]) -> None:
        for number in numbers:
            try:
                results[number] = handle(records[number])
            except Exception:
                failed.add(number)

    for _ in pool.map(run, lines.values()):
        pass
    return results, {
        "batchItemFailures": [
            {"itemIdentifier": identify(records[number])} for number in sorted(failed)
        ]
    }
