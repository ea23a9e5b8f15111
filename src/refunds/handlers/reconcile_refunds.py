"""ReconcileRefunds: every few minutes, one run of the reconciler. Takes any event, ``{}`` too; two
of them ask for a part of it: a gateway that is down, and a refund that a webhook has named."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from refunds.audit.failures_bucket import FailureStore
from refunds.audit.outcome_events import GATEWAY_DOWN
from refunds.breaker.queue_mapping import RUNNING, IntakeKeeper, Switch
from refunds.domain.clock import Deadline
from refunds.domain.redaction import describe
from refunds.lambda_runtime import deadline_of
from refunds.processing.dead_letters import DeadLetterArchiver
from refunds.processing.reconciler import Reconciler
from refunds.settings import function_identity, number, text
from refunds.wiring import parts

logger = Logger()
metrics = Metrics()
tracer = Tracer(patch_modules=["botocore"])

_parts = parts(function_identity())
_reconciler = Reconciler(
    refunds=_parts.refunds,
    settler=_parts.settler,
    gateways=_parts.gateways,
    control=_parts.control,
    clock=_parts.clock,
    pool=_parts.pool,
    archiver=DeadLetterArchiver(
        client=_parts.aws.when_needed("sqs"),
        queue_url=text("DEAD_LETTER_QUEUE_URL"),
        refunds=_parts.refunds,
        settler=_parts.settler,
        failures=FailureStore(_parts.aws.when_needed("s3"), text("FAILURES_BUCKET"), _parts.clock),
        clock=_parts.clock,
    ),
)

_keeper = IntakeKeeper(
    control=_parts.control,
    switch=Switch(
        control=_parts.control,
        client=_parts.aws.when_needed("lambda"),
        mapping_id=text("REQUESTS_MAPPING_ID"),
        maximum_concurrency=number("MAXIMUM_CONCURRENCY", 2, 1000),
    ),
    gateways=_parts.gateways,
    clock=_parts.clock,
    by=function_identity(),
)


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
@tracer.capture_lambda_handler(capture_response=False, capture_error=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Returns what the run did, in counts."""
    deadline = deadline_of(context, _parts.clock)
    if refund_id := event.get("look_at"):
        return _look_at(refund_id, deadline)
    intake = _keep_intake(deadline)
    if event.get("detail-type") == GATEWAY_DOWN:
        return intake
    summary = _reconciler.run(deadline)
    metrics.add_metric(
        "OldestOpenRefundAgeSeconds", MetricUnit.Seconds, summary.oldest_open_seconds
    )
    metrics.add_metric(
        "OldestDeadLetterAgeSeconds", MetricUnit.Seconds, summary.oldest_dead_letter_seconds
    )
    metrics.add_metric("RefundsInReview", MetricUnit.Count, summary.in_review)
    metrics.add_metric("RefundsReversed", MetricUnit.Count, summary.reversed)
    metrics.add_metric("ReconcileErrors", MetricUnit.Count, summary.failed)
    told = asdict(summary) | intake
    logger.info("reconciled", **told)
    return told


def _keep_intake(deadline: Deadline) -> dict[str, Any]:
    """Open or close the queue's tap as it should be; tell how it is."""
    try:
        switched = _keeper.keep(deadline)
    except Exception as exc:
        # The refunds that are open are settled all the same; the next run tries again.
        logger.error("queue not switched", extra=describe(exc))
        metrics.add_metric("QueueSwitchErrors", MetricUnit.Count, 1)
        return {"requests": "not switched"}
    intake = switched.intake
    stands = not intake.flows or switched.mapping_state not in RUNNING
    metrics.add_metric("QueuePaused", MetricUnit.Count, int(stands))
    told: dict[str, Any] = {"breaker": intake.breaker.value, "paused": intake.paused}
    logger.info("queue looked after", mapping_state=switched.mapping_state, **told)
    return {"requests": switched.mapping_state, **told}


def _look_at(refund_id: str, deadline: Deadline) -> dict[str, Any]:
    refund = _reconciler.look_at(refund_id, deadline)
    status = refund.status.value if refund else None
    metrics.add_metric("RefundsLookedAt", MetricUnit.Count, 1)
    logger.info("refund looked at", refund_id=refund_id, status=status)
    return {"refund_id": refund_id, "status": status}
