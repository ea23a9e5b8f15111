"""WriteAudit: a batch of the Refunds table's stream into the audit trail, then onto the bus."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from refunds.audit.failures_bucket import FailureStore
from refunds.audit.outcome_events import OutcomeBus
from refunds.audit.writer import AuditWriter, handle_stream_batch
from refunds.domain.clock import SystemClock
from refunds.domain.redaction import describe
from refunds.lambda_runtime import Aws, thread_pool
from refunds.settings import text
from refunds.tables.audit_trail import AuditTable

logger = Logger()
metrics = Metrics()
tracer = Tracer(auto_patch=False)  # not a subsegment for each of a hundred entries

_clock, _aws = SystemClock(), Aws()
_pool = thread_pool()
_bus = OutcomeBus(_aws.events(), text("EVENT_BUS_NAME"), _pool)
_writer = AuditWriter(
    audit=AuditTable(_aws.dynamodb(), text("AUDIT_TABLE")),
    failures=FailureStore(_aws.when_needed("s3"), text("FAILURES_BUCKET"), _clock),
    clock=_clock,
)


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
@tracer.capture_lambda_handler(capture_response=False, capture_error=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Returns the stream's partial batch response: the records that must come again."""
    results: list[str | Exception | None] = []

    def tell(record: dict[str, Any], result: str | Exception | None) -> None:
        results.append(result)
        if isinstance(result, Exception):
            logger.error(
                "audit entry not written", event_id=record.get("eventID"), extra=describe(result)
            )
        elif result is not None:
            logger.error("audit record kept in S3", event_id=record.get("eventID"), reason=result)

    response = handle_stream_batch(event["Records"], _writer, _bus, _pool, tell)
    kept = sum(isinstance(result, str) for result in results)
    metrics.add_metric("AuditRecords", MetricUnit.Count, len(results))
    metrics.add_metric("AuditEntriesRejected", MetricUnit.Count, kept)
    return response
