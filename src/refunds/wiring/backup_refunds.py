"""Builds BackupRefunds."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from botocore.config import Config

from refunds.backup.digest_chain import DigestChain, KmsSigner
from refunds.backup.drills import DrillAge
from refunds.backup.export_format import compressor
from refunds.backup.native_export import NativeExport
from refunds.backup.run import SEGMENTS, BackupRun
from refunds.backup.table_scan import PageReader, ReadLimit, sources
from refunds.backup_settings import BackupRefundsSettings
from refunds.domain.clock import Clock
from refunds.lambda_runtime import DEFAULT_CLIENT_CONFIG, Clients

# A run has minutes, and DynamoDB sometimes throttles the scan of a busy table.
PATIENT_CLIENT_CONFIG = DEFAULT_CLIENT_CONFIG.merge(
    Config(
        connect_timeout=5,
        read_timeout=30,
        retries={"mode": "standard", "total_max_attempts": 8},
        max_pool_connections=2 * SEGMENTS,
        # Each stored file has its SHA-256 in a signed header, and S3 checks it. To sign the file
        # itself, botocore would read and hash it once more.
        s3={"payload_signing_enabled": False},
    )
)


def build_drill_age(settings: BackupRefundsSettings, clients: Clients) -> DrillAge:
    return DrillAge(
        s3=clients.s3,
        bucket=settings.bucket,
        dynamodb=clients.dynamodb,
        refunds_table=settings.tables.refunds,
    )


def build_backup_refunds(
    settings: BackupRefundsSettings,
    *,
    clients: Clients,
    clock: Clock,
    new_token: Callable[[], str],
) -> BackupRun:
    """Raises ``ValueError`` for a compression that does not exist."""
    compressor(
        settings.compression
    )  # A wrong setting fails the cold start, not the end of a long scan.
    tables = settings.tables

    def invoke_again(event: dict[str, Any]) -> None:
        clients.functions.invoke(
            FunctionName=settings.function_name,
            Qualifier=settings.function_version,
            InvocationType="Event",
            Payload=json.dumps(event),
        )

    return BackupRun(
        dynamodb=clients.dynamodb,
        s3=clients.s3,
        bucket=settings.bucket,
        key_arn=settings.data_key_arn,
        reader=PageReader(clients.dynamodb, ReadLimit(settings.read_units_per_second)),
        native=NativeExport(
            dynamodb=clients.dynamodb,
            s3=clients.s3,
            bucket=settings.bucket,
            key_arn=settings.data_key_arn,
        ),
        chain=DigestChain(
            clients.s3, settings.bucket, KmsSigner(clients.kms, settings.signing_key_arn)
        ),
        tables=sources(tables.refunds, tables.ledger, tables.audit),
        clock=clock,
        new_token=new_token,
        invoke_again=invoke_again,
        compression=settings.compression,
        native_above_bytes=settings.native_above_bytes,
    )
