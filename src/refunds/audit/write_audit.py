"""WriteAudit: handles a batch of the Refunds table's stream, and reports its results."""

from __future__ import annotations

from typing import Any

from refunds.audit.money_metrics import money_of
from refunds.audit.outcome_events import OutcomeBus
from refunds.audit.writer import AuditWriter, handle_stream_batch
from refunds.batches import Pool
from refunds.domain.redaction import describe
from refunds.failures import classify, count_failures
from refunds.telemetry import Log, Metrics, Money

FUNCTION = "WriteAudit"


class WriteAudit:
    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        *,
        writer: AuditWriter,
        bus: OutcomeBus,
        pool: Pool,
        metrics: Metrics,
        money: Money,
        log: Log,
    ) -> None:
        self._writer = writer
        self._bus = bus
        self._pool = pool
        self._metrics = metrics
        self._money = money
        self._log = log

    def handle(self, event: dict[str, Any]) -> dict[str, Any]:
        """Returns the partial batch response: the records that Lambda must deliver again."""
        results: list[str | Exception | None] = []
        written: list[dict[str, Any]] = []

        def on_result(record: dict[str, Any], result: str | Exception | None) -> None:
            results.append(result)
            if result is None:
                written.append(record)
            event_id = record.get("eventID")
            if isinstance(result, Exception):
                self._log.error(
                    "audit entry not written", event_id=event_id, extra=describe(result)
                )
            elif result is not None:
                self._log.error("audit record kept in S3", event_id=event_id, reason=result)

        response = handle_stream_batch(
            event["Records"], self._writer, self._bus, self._pool, on_result
        )
        failures = [classify(result) for result in results if isinstance(result, Exception)]
        count_failures(self._metrics, FUNCTION, failures)
        kept = sum(isinstance(result, str) for result in results)
        self._metrics.add_metric("AuditRecords", "Count", len(results))
        self._metrics.add_metric("AuditEntriesRejected", "Count", kept)
        self._money.add(money_of(written))
        return response
