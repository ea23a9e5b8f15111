"""ProcessRefund: a batch of refund requests from the queue."""

from __future__ import annotations

import os
from typing import Any

# Imported before pydantic is: Powertools' batch would load its models of every kind of event, too.
import aws_lambda_powertools.utilities.batch  # noqa: F401
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.utilities.typing import LambdaContext

from refunds.domain.clock import SystemClock
from refunds.lambda_runtime import deadline_of, quiet_libraries
from refunds.settings import ProcessRefundSettings
from refunds.wiring.process_refund import build_process_refund
from refunds.wiring.surroundings import lambda_surroundings

logger = Logger()
metrics = Metrics()
quiet_libraries()

_clock = SystemClock()
_process_refund = build_process_refund(
    ProcessRefundSettings.read(os.environ), lambda_surroundings(metrics, logger)
)


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Returns the partial batch response: the messages that SQS must deliver again."""
    return _process_refund.handle(event, deadline_of(context, _clock))
