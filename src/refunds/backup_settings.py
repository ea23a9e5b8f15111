"""BackupRefunds' settings. They have their own module, because ``settings`` also loads the types of
gateways and limits."""

from __future__ import annotations

from typing import NamedTuple

from refunds.environment import Environment, TableNames, number, text


class BackupRefundsSettings(NamedTuple):
    """Where backups go, which keys encrypt and sign them, and how fast the tables are read."""

    tables: TableNames
    bucket: str
    data_key_arn: str
    signing_key_arn: str
    compression: str
    read_units_per_second: int
    """For all segments of a scan together; 0 sets no limit."""
    native_above_bytes: int
    """From this size on, DynamoDB itself exports Refunds; 0 means never."""
    function_name: str
    function_version: str

    @classmethod
    def read(cls, environment: Environment) -> BackupRefundsSettings:
        return cls(
            tables=TableNames.read(environment),
            bucket=text(environment, "BACKUP_BUCKET"),
            data_key_arn=text(environment, "BACKUP_DATA_KEY_ARN"),
            signing_key_arn=text(environment, "BACKUP_SIGNING_KEY_ARN"),
            compression=text(environment, "BACKUP_COMPRESSION"),
            read_units_per_second=number(environment, "BACKUP_READ_UNITS_PER_SECOND", 0, 1_000_000),
            native_above_bytes=(
                number(environment, "BACKUP_NATIVE_ABOVE_GIB", 0, 1_000_000) * 1024**3
            ),
            function_name=text(environment, "AWS_LAMBDA_FUNCTION_NAME"),
            function_version=text(environment, "AWS_LAMBDA_FUNCTION_VERSION"),
        )
