"""ProcessRefund: a batch of refund requests from the queue."""

from __future__ import annotations

from typing import Any

# Before pydantic is there: Powertools' batch would load its models of every kind of event, too.
import aws_lambda_powertools.utilities.batch  # noqa: F401
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from refunds.audit.outcome_events import OutcomeBus, gateway_down_event
from refunds.breaker.breaker import Breaker, GatewayCalls
from refunds.domain.clock import Deadline
from refunds.domain.redaction import describe, shown_code
from refunds.domain.refund import Refund
from refunds.domain.request import RefusedError
from refunds.lambda_runtime import deadline_of
from refunds.processing.processor import Processor
from refunds.processing.queue import PutBackError, RefundQueue, Result, handle_batch
from refunds.settings import function_identity, number, text
from refunds.wiring import jitter, parts

logger = Logger()
metrics = Metrics()
tracer = Tracer(patch_modules=["botocore"])

_calls = GatewayCalls()
_parts = parts(function_identity(), _calls)
_bus = OutcomeBus(_parts.aws.when_needed("events"), text("EVENT_BUS_NAME"))
_breaker = Breaker(
    control=_parts.control,
    gateways=_parts.gateways,
    calls=_calls,
    clock=_parts.clock,
    by=function_identity(),
    announce=lambda intake: _bus.publish([gateway_down_event(intake)]),
)
_queue = RefundQueue(
    client=_parts.aws.when_needed("sqs"),
    queue_url=text("REFUND_QUEUE_URL"),
    dead_letter_queue_url=text("DEAD_LETTER_QUEUE_URL"),
    bus=_bus,
    processor=Processor(
        refunds=_parts.refunds,
        ledger=_parts.ledger,
        audit=_parts.audit,
        reserver=_parts.reserver,
        settler=_parts.settler,
        gateways=_parts.gateways,
        clock=_parts.clock,
    ),
    first_retry_seconds=number("FIRST_RETRY_SECONDS", 1, 900),
    random=jitter,
    hold_seconds=_breaker.hold_seconds,
)


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
@tracer.capture_lambda_handler(capture_response=False, capture_error=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Returns SQS's partial batch response: the messages that must come back."""
    results: list[Result] = []
    ages_seconds = [0]
    now_seconds = _parts.clock.now().timestamp()

    def tell(record: dict[str, Any], result: Result) -> None:
        results.append(result)
        if isinstance(result, PutBackError):
            sent_ms = int(record["attributes"].get("SentTimestamp", now_seconds * 1000))
            ages_seconds.append(int(now_seconds - sent_ms / 1000))
        _log(record["messageId"], result)

    deadline = deadline_of(context, _parts.clock)
    response = handle_batch(
        event["Records"],
        _queue,
        deadline,
        _parts.pool,
        tell,
        look_up_first=_parts.control.look_up_first(_parts.clock.now()),
    )
    for result in results:
        metrics.add_metric(_metric(result), MetricUnit.Count, 1)
    metrics.add_metric("OldestPutBackAgeSeconds", MetricUnit.Seconds, max(ages_seconds))
    _watch_gateway(deadline)
    return response


def _watch_gateway(deadline: Deadline) -> None:
    try:
        if opened := _breaker.after_batch(deadline):
            metrics.add_metric("BreakerOpened", MetricUnit.Count, 1)
            logger.error("the gateway is down: the queue stops", reason=opened.why)
    except Exception as exc:
        # The batch is done: that its calls were not counted must not send it round again.
        logger.error("calls to the gateway not counted", extra=describe(exc))


def _metric(result: Result) -> str:
    match result:
        case Refund():
            return f"Refund{result.status.title().replace('_', '')}"
        case RefusedError():
            return "MessagesRefused"
    return "MessagesPutBack"


def _log(message_id: str, result: Result) -> None:
    match result:
        case Refund():
            logger.info(
                "refund recorded",
                message_id=message_id,
                refund_id=result.refund_id,
                transaction_id=result.transaction_id,
                status=result.status.value,
                failure_code=shown_code(result.failure_code),
            )
        case RefusedError():
            logger.warning("message refused", message_id=message_id, error_code=result.code.value)
        case PutBackError():
            logger.warning(
                "message put back",
                message_id=message_id,
                reason=str(result),
                delay_seconds=result.delay_seconds,
                extra=describe(result),
            )
        case _:
            logger.error("message not handled", message_id=message_id, extra=describe(result))
