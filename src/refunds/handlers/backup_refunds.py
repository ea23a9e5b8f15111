"""BackupRefunds: one backup a day of refunds, ledger and audit trail.

Any event, such as ``{}``, starts a run. The function's own ``{"continue": …}`` continues one.
"""

from __future__ import annotations

import json
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from refunds.backup.digest_chain import DigestChain, KmsSigner
from refunds.backup.export_format import compressor
from refunds.backup.native_export import NativeExport
from refunds.backup.run import SEGMENTS, BackupRun
from refunds.backup.table_scan import PageReader, ReadLimit, sources
from refunds.domain.clock import SystemClock
from refunds.lambda_runtime import CLIENT, Aws, deadline_of, new_token
from refunds.settings import BackupSettings, Tables, text

# A run has minutes, and DynamoDB throttles the scan of a busy table at times.
BACKUP_CLIENT_CONFIG = CLIENT.merge(
    Config(
        connect_timeout=5,
        read_timeout=30,
        retries={"mode": "standard", "total_max_attempts": 8},
        max_pool_connections=2 * SEGMENTS,
    )
)

logger = Logger()
metrics = Metrics()
tracer = Tracer(auto_patch=False)  # a scan has thousands of pages: no subsegment for each

_clock, _aws = SystemClock(), Aws(BACKUP_CLIENT_CONFIG)
_tables, _settings = Tables.from_environment(), BackupSettings.from_environment()
compressor(_settings.compression)  # a wrong setting fails at the start, not after the scan
_s3, _lambda, _kms = (_aws.when_needed(name) for name in ("s3", "lambda", "kms"))
_dynamodb = _aws.dynamodb()


def _invoke_again(event: dict[str, Any]) -> None:
    _lambda.invoke(
        FunctionName=text("AWS_LAMBDA_FUNCTION_NAME"),
        Qualifier=text("AWS_LAMBDA_FUNCTION_VERSION"),
        InvocationType="Event",
        Payload=json.dumps(event),
    )


_run = BackupRun(
    dynamodb=_dynamodb,
    s3=_s3,
    bucket=_settings.bucket,
    key_arn=_settings.data_key_arn,
    reader=PageReader(_dynamodb, ReadLimit(_settings.read_units_per_second)),
    native=NativeExport(
        dynamodb=_dynamodb, s3=_s3, bucket=_settings.bucket, key_arn=_settings.data_key_arn
    ),
    chain=DigestChain(
        _s3,
        _settings.bucket,
        KmsSigner(_kms, _settings.signing_key_arn),
    ),
    tables=sources(_tables.refunds, _tables.ledger, _tables.audit),
    clock=_clock,
    new_token=new_token,
    invoke_again=_invoke_again,
    compression=_settings.compression,
    native_above_bytes=_settings.native_above_bytes,
)


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
@tracer.capture_lambda_handler(capture_response=False, capture_error=False)
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
    return result
