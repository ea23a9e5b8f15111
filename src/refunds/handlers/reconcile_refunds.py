"""ReconcileRefunds: every few minutes, one run of the reconciler. Takes any event, ``{}`` too."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from refunds.failures import FailureStore
from refunds.reconciling import DeadLetterArchiver, Reconciler
from refunds.runtime import CLIENT, deadline_of
from refunds.settings import function_identity, text
from refunds.wiring import parts

logger = Logger()
metrics = Metrics()
tracer = Tracer(patch_modules=["botocore"])

_parts = parts(function_identity())
_reconciler = Reconciler(
    refunds=_parts.refunds,
    settler=_parts.settler,
    gateway=_parts.gateway,
    control=_parts.control,
    clock=_parts.clock,
    pool=_parts.pool,
    archiver=DeadLetterArchiver(
        client=boto3.client("sqs", config=CLIENT),
        queue_url=text("DEAD_LETTER_QUEUE_URL"),
        refunds=_parts.refunds,
        settler=_parts.settler,
        failures=FailureStore(
            boto3.client("s3", config=CLIENT), text("FAILURES_BUCKET"), _parts.clock
        ),
        clock=_parts.clock,
    ),
)


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
@tracer.capture_lambda_handler(capture_response=False, capture_error=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Returns what the run did, in counts."""
    summary = _reconciler.run(deadline_of(context, _parts.clock))
    metrics.add_metric(
        "OldestOpenRefundAgeSeconds", MetricUnit.Seconds, summary.oldest_open_seconds
    )
    metrics.add_metric("RefundsInReview", MetricUnit.Count, summary.in_review)
    metrics.add_metric("RefundsReversed", MetricUnit.Count, summary.reversed)
    metrics.add_metric("ReconcileErrors", MetricUnit.Count, summary.failed)
    told = asdict(summary)
    logger.info("reconciled", **told)
    return told
