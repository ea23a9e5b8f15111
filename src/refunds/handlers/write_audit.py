"""WriteAudit: writes a batch of the Refunds table's stream to the audit trail, then to the event
bus."""

from __future__ import annotations

import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.utilities.typing import LambdaContext

from refunds.audit.money_metrics import MoneyMetrics
from refunds.audit_settings import WriteAuditSettings
from refunds.domain.clock import SystemClock
from refunds.lambda_runtime import lambda_clients, quiet_libraries, thread_pool
from refunds.wiring.write_audit import build_write_audit

logger = Logger()
metrics = Metrics()
quiet_libraries()

_settings = WriteAuditSettings.read(os.environ)
_write_audit = build_write_audit(
    _settings,
    clients=lambda_clients("dynamodb", "events"),
    clock=SystemClock(),
    pool=thread_pool(),
    metrics=metrics,
    money=MoneyMetrics(_settings.metrics_namespace, _settings.metrics_service),
    log=logger,
)


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Returns the partial batch response: the records that Lambda must deliver again."""
    return _write_audit.handle(event)
