"""BackupRefunds: one backup a day of refunds, ledger and audit trail.

Any event, such as ``{}``, starts a run. The function's own ``{"continue": …}`` continues one.
"""

from __future__ import annotations

import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from refunds.backup.drills import UNKNOWN_DAYS
from refunds.backup_settings import BackupRefundsSettings
from refunds.domain.clock import SystemClock
from refunds.domain.redaction import describe
from refunds.lambda_runtime import deadline_of, lambda_clients, new_token, quiet_libraries
from refunds.wiring.backup_refunds import (
    PATIENT_CLIENT_CONFIG,
    build_backup_refunds,
    build_drill_age,
)

logger = Logger()
metrics = Metrics()
quiet_libraries()

_clock = SystemClock()
_clients = lambda_clients("dynamodb", config=PATIENT_CLIENT_CONFIG)
_settings = BackupRefundsSettings.read(os.environ)
_drill_age = build_drill_age(_settings, _clients)
_run = build_backup_refunds(
    _settings,
    clients=_clients,
    clock=_clock,
    new_token=new_token,
)


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Returns where the backup is and what it holds, or how far the run has come."""
    result = _run.run(event, deadline_of(context, _clock))
    if "skipped" in result:
        metrics.add_metric("BackupStepSkipped", MetricUnit.Count, 1)
        logger.warning("another invocation has this step of the backup", **result)
        return result
    if "continued" in result:
        metrics.add_metric("BackupContinued", MetricUnit.Count, 1)
        logger.info("another invocation continues the backup", **result)
        return result
    metrics.add_metric("BackupCompleted", MetricUnit.Count, 1)
    for name, table in result["tables"].items():
        metrics.add_metric(f"BackupItems{name.title()}", MetricUnit.Count, table["item_count"])
    logger.info("backup published", **result)
    metrics.add_metric("DaysSinceBackupDrill", MetricUnit.Count, _days_since_drill())
    return result


def _days_since_drill() -> int:
    try:
        return _drill_age.days(_clock.now())
    except Exception as exc:
        # The backup is published in any case.
        logger.error("drills not read", extra=describe(exc))
        return UNKNOWN_DAYS
