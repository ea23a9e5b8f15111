"""ReconcileRefunds: one run of the reconciler every few minutes. Any event starts one, even
``{}``."""

from __future__ import annotations

import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.utilities.typing import LambdaContext

from refunds.domain.clock import SystemClock
from refunds.lambda_runtime import deadline_of, quiet_libraries
from refunds.settings import ReconcileRefundsSettings
from refunds.wiring.reconcile_refunds import build_reconcile_refunds
from refunds.wiring.surroundings import lambda_surroundings

logger = Logger()
metrics = Metrics()
quiet_libraries()

_clock = SystemClock()
_reconcile_refunds = build_reconcile_refunds(
    ReconcileRefundsSettings.read(os.environ), lambda_surroundings(metrics, logger)
)


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Returns what the run did, in counts."""
    return _reconcile_refunds.handle(event, deadline_of(context, _clock))
