"""The environment of a function in Lambda, with the canned servers' address."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.servers import PROJECT


def function_environment(url: str) -> dict[str, str]:
    """All functions' variables and Lambda's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_LAMBDA_FUNCTION_NAME": "refunds-prod-ProcessRefund-0123456789ab",
        "AWS_LAMBDA_FUNCTION_VERSION": "7",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
        "LAMBDA_TASK_ROOT": "/var/task",
        "TIMEOUT_SECONDS": "60",  # ours: the remaining time when an invocation starts
        "_X_AMZN_TRACE_ID": (
            "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0"
        ),
        "PYTHONPATH": os.pathsep.join(str(PROJECT / each) for each in ("src", "ops", ".")),
        "NO_PROXY": "127.0.0.1",
        "STAGE": "local",
        "POWERTOOLS_SERVICE_NAME": "refunds",
        "POWERTOOLS_METRICS_NAMESPACE": "Refunds",
        "POWERTOOLS_LOG_LEVEL": "INFO",
        "REFUNDS_TABLE": "Refunds",
        "LEDGER_TABLE": "Ledger",
        "AUDIT_TABLE": "PaymentAuditTrail",
        "REFUND_QUEUE_URL": f"{url}/123456789012/refund-requests",
        "DEAD_LETTER_QUEUE_URL": f"{url}/123456789012/dead-letters",
        "EVENT_BUS_NAME": "refunds",
        "FAILURES_BUCKET": "failures",
        "GATEWAY": "flair",
        "GATEWAY_URL": url,
        "GATEWAY_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:123456789012:secret:gateway",
        "GATEWAY_TIMEOUT_SECONDS": "15",
        "FIRST_RETRY_SECONDS": "2",
        "NOT_READY_SECONDS": "900",
        "SWEEP_PAGES_AT_ONCE": "4",
        "RECONCILE_AFTER_SECONDS": "300",
        "REQUESTS_MAPPING_ID": "00000000-0000-0000-0000-000000000000",
        "AUDIT_MAPPING_ID": "00000000-0000-0000-0000-000000000001",
        "MAXIMUM_CONCURRENCY": "10",
        "RECONCILE_FUNCTION": "ReconcileRefunds",
        "WEBHOOK_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:123456789012:secret:webhook",
        "BACKUP_BUCKET": "backups",
        "BACKUP_DATA_KEY_ARN": "arn:aws:kms:us-east-1:123456789012:key/data",
        "BACKUP_SIGNING_KEY_ARN": "arn:aws:kms:us-east-1:123456789012:key/signing",
        "BACKUP_COMPRESSION": "gzip",
        "BACKUP_READ_UNITS_PER_SECOND": "0",
        "BACKUP_NATIVE_ABOVE_GIB": "0",
    }


def lambda_context() -> Any:
    """The context that Lambda passes to a handler, with all its time remaining."""
    left_ms = 1000 * int(os.environ["TIMEOUT_SECONDS"])
    return SimpleNamespace(
        function_name="refunds-prod-ProcessRefund-0123456789ab",
        function_version="7",
        memory_limit_in_mb=1024,
        invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:ProcessRefund",
        aws_request_id="c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
        get_remaining_time_in_millis=lambda: left_ms,
    )


def run_folder() -> Path:
    """The folder for results and downloads, outside the repository."""
    folder = PROJECT / ".local" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
