"""One backup run in a process of its own: prints its rows, seconds and peak memory as JSON.

python -m tests.support.backup_run_once URL
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import boto3
from benchmarks.memory import peak_mib
from tests.support.backup_parts import LocalSigner

from refunds.backup.digest_chain import DigestChain
from refunds.backup.native_export import NativeExport
from refunds.backup.run import BackupRun
from refunds.backup.table_scan import PageReader, ReadLimit, sources
from refunds.domain.clock import Deadline, SystemClock
from refunds.lambda_runtime import new_token


def main(url: str) -> None:
    def client(service: str) -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=url,
            region_name="eu-central-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - no secret
        )

    dynamodb, s3, clock = client("dynamodb"), client("s3"), SystemClock()
    run = BackupRun(
        dynamodb=dynamodb,
        s3=s3,
        bucket="backups",
        key_arn=None,
        reader=PageReader(dynamodb, ReadLimit(0)),
        native=NativeExport(dynamodb=dynamodb, s3=s3, bucket="backups", key_arn=None),
        chain=DigestChain(s3, "backups", LocalSigner()),
        tables=sources("refunds", "ledger", "audit"),
        clock=clock,
        new_token=new_token,
        invoke_again=lambda event: None,
    )
    began = time.monotonic()
    told = run.run({}, Deadline.after(clock, 3600))
    print(
        json.dumps(
            {
                "rows": sum(table["item_count"] for table in told["tables"].values()),
                "seconds": time.monotonic() - began,
                "peak_mib": peak_mib(),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
