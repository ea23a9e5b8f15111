"""BackupRefunds: every day, one backup of refunds, ledger and audit trail. Takes any event."""

from __future__ import annotations

from typing import Any

import boto3
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from refunds.backup import BackupRun, sources
from refunds.runtime import CLIENT, deadline_of, new_token
from refunds.settings import Tables, text
from refunds.times import SystemClock

logger = Logger()
metrics = Metrics()
tracer = Tracer(patch_modules=["botocore"])

_clock = SystemClock()
_tables = Tables.from_environment()
_run = BackupRun(
    dynamodb=boto3.client("dynamodb", config=CLIENT),
    s3=boto3.client("s3", config=CLIENT),
    bucket=text("BACKUP_BUCKET"),
    clock=_clock,
    new_token=new_token,
)


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
@tracer.capture_lambda_handler(capture_response=False, capture_error=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Returns where the backup is and what it holds."""
    told = _run.run(
        sources(_tables.refunds, _tables.ledger, _tables.audit), deadline_of(context, _clock)
    )
    metrics.add_metric("BackupCompleted", MetricUnit.Count, 1)
    for name, table in told["tables"].items():
        metrics.add_metric(f"BackupItems{name.title()}", MetricUnit.Count, table["item_count"])
    logger.info("backup written", **told)
    return told
