"""Restores a backup: complete tables by ImportTable, or row by row, where newer rows stay.

Every step can be repeated: progress is kept in a file, and writes are conditional.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from refunds.backup.digest import DataFile, Export
from refunds.domain.audit_entry import NOT_AN_IMAGE
from refunds.domain.refund import AUDITED
from refunds.tables.wire import condition_failed
from refunds_ops.backup.audit_chains import AuditChains, TrailError
from refunds_ops.backup.data_files import check_files, item_for_boto, item_of, whole_lines
from refunds_ops.backup.progress import Progress, Rows
from refunds_ops.backup.storage import BackupStorage
from refunds_ops.backup.tables import KEYS, Wire, creation_parameters, row_key

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ROWS_AT_ONCE = 400
MAX_IMPORT_SECONDS = 24 * 3600.0

OnProgress = Callable[[str, int, int], None]
"""Called with the current step, the number of rows that are done, and the number of all rows."""


class RestoreError(Exception):
    """The restore could not be completed, or differs from the backup."""


# --- Whole tables ---------------------------------------------------------------------------------


def import_table(  # noqa: PLR0913, PLR0917 - one import's parts, in order
    dynamodb: DynamoDBClient,
    storage: BackupStorage,
    export: Export,
    table: str,
    progress: Progress,
    on_progress: OnProgress,
    *,
    key_arn: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Restore an export into a new table, through the AWS API alone.

    Raises ``RestoreError`` unless every item was imported, ``DamagedError`` and ``AbsentError``
    before anything was.
    """
    if table not in progress.imports:
        on_progress(f"check the files of {export.table}", 0, export.item_count)
        check_files(storage, export)
        progress.imports[table] = _begin_import(
            dynamodb, storage, export, table, progress.token(table), key_arn
        )
        progress.save()
    description = _ended_import(
        dynamodb, progress.imports[table], export, table, on_progress, sleep
    )
    errors, imported = description.get("ErrorCount", 0), description.get("ImportedItemCount", 0)
    if description["ImportStatus"] != "COMPLETED" or errors or imported != export.item_count:
        progress.forget_import(table)
        raise RestoreError(
            f"the import into {table} ended {description['ImportStatus']} with {imported} of "
            f"{export.item_count} items and {errors} errors: "
            f"{description.get('FailureMessage') or ''}"
        )
    dynamodb.get_waiter("table_exists").wait(TableName=table)
    progress.tables[table] = table_identity(dynamodb, table)
    progress.save()


def _begin_import(  # noqa: PLR0913, PLR0917 - one import's parts, in order
    dynamodb: DynamoDBClient,
    storage: BackupStorage,
    export: Export,
    table: str,
    token: str,
    key_arn: str | None,
) -> str:
    """The import's ARN."""
    assert storage.bucket is not None, "ImportTable reads from a bucket"
    zstd = any(file.key.endswith(".zst") for file in export.files)
    try:
        answer = dynamodb.import_table(
            ClientToken=token,
            S3BucketSource={"S3Bucket": storage.bucket, "S3KeyPrefix": export.data_prefix},
            InputFormat="DYNAMODB_JSON",
            InputCompressionType="ZSTD" if zstd else "GZIP",
            TableCreationParameters=creation_parameters(export.table, table, key_arn),  # type: ignore[arg-type]
        )
    except dynamodb.exceptions.ResourceInUseException as exc:
        raise RestoreError(f"the table {table} exists; ImportTable needs a new name") from exc
    return answer["ImportTableDescription"]["ImportArn"]


def _ended_import(  # noqa: PLR0913, PLR0917 - one import's parts, in order
    dynamodb: DynamoDBClient,
    arn: str,
    export: Export,
    table: str,
    on_progress: OnProgress,
    sleep: Callable[[float], None],
) -> Any:
    waited, wait = 0.0, 0.1
    while waited < MAX_IMPORT_SECONDS:
        description = dynamodb.describe_import(ImportArn=arn)["ImportTableDescription"]
        on_progress(f"import {table}", description.get("ImportedItemCount", 0), export.item_count)
        if description["ImportStatus"] not in ("IN_PROGRESS", "CANCELLING"):
            return description
        sleep(wait)
        waited, wait = waited + wait, min(wait * 1.5, 10.0)
    raise RestoreError(f"the import into {table} has not ended within a day")


def table_identity(dynamodb: DynamoDBClient, table: str) -> str:
    """Distinguishes a table from a later one of the same name. Empty when there is no such
    table."""
    try:
        described = dynamodb.describe_table(TableName=table)["Table"]
    except dynamodb.exceptions.ResourceNotFoundException:
        return ""
    return f"{described['TableArn']} {described.get('TableId') or described['CreationDateTime']}"


# --- Row by row -----------------------------------------------------------------------------------


class RowRestore:
    """Writes as many rows at once as ``pool`` has threads; the client needs as many connections.

    ``chains`` continues the audit chain of each refund. Without it, rows are written unchanged.
    """

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        storage: BackupStorage,
        pool: Executor,
        chains: AuditChains | None = None,
    ) -> None:
        self._dynamodb = dynamodb
        self._storage = storage
        self._pool = pool
        self._chains = chains

    def restore(
        self, export: Export, table: str, progress: Progress, on_progress: OnProgress
    ) -> None:
        """Write each row that is missing, or that the table has in an older version, file by file.

        The outcome is in ``progress.rows``. Raises ``DamagedError`` and ``AbsentError`` before the
        first row of a file that is not the one in the digest.
        """
        progress.tables.setdefault(table, table_identity(self._dynamodb, table))
        rows = progress.rows.setdefault(export.table, Rows())
        done = 0
        for file in export.files:
            name = f"{file.key} > {table}"
            if name not in progress.files:
                rows.add(self._restore_file(export, file, table, done, on_progress))
                progress.files.append(name)
                progress.save()
            done += file.item_count

    def _restore_file(
        self, export: Export, file: DataFile, table: str, done: int, on_progress: OnProgress
    ) -> Rows:
        rows, lines = Rows(), whole_lines(self._storage, file)
        while chunk := list(islice(lines, ROWS_AT_ONCE)):
            items = [item_of(line, file.key) for line in chunk]
            results = self._pool.map(lambda item: self._put(export.table, table, item), items)
            for item, result in zip(items, results, strict=True):
                rows.count(result, row_key(export.table, item))
            done += len(chunk)
            on_progress(f"rows of {table}", done, export.item_count)
        return rows

    def _put(self, kind: str, table: str, wire: Wire) -> str:
        item = item_for_boto(wire)
        try:
            continued = self._continued(item) if kind == "refunds" else None
        except TrailError:
            return "blocked"
        condition: dict[str, Any] = {
            "ConditionExpression": f"attribute_not_exists({KEYS[kind][0]})",
        }
        if kind == "refunds":
            newest = int(continued["version"]["N"]) - 1 if continued else item["version"]["N"]
            condition["ConditionExpression"] += " OR #version < :newest"
            condition |= {
                "ExpressionAttributeNames": {"#version": "version"},
                "ExpressionAttributeValues": {":newest": {"N": str(newest)}},
            }
        try:
            self._dynamodb.put_item(
                TableName=table,
                Item=continued or item,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **condition,
            )
        except ClientError as exc:
            if not condition_failed(exc):
                raise
            stored: Any = exc.response.get("Item") or self._get(kind, table, item)
            return _comparison(kind, item, stored)
        return "continued" if continued else "restored"

    def _continued(self, item: Wire) -> Wire | None:
        try:
            return self._chains.continued(item) if self._chains else None
        except NOT_AN_IMAGE:
            return None  # It is not a refund, so it has no chain: write it unchanged.

    def _get(self, kind: str, table: str, item: Wire) -> Wire:
        # Not every engine returns the item that failed the condition.
        answer = self._dynamodb.get_item(
            TableName=table, Key={name: item[name] for name in KEYS[kind]}, ConsistentRead=True
        )
        return answer.get("Item", {})


def _comparison(kind: str, ours: Wire, stored: Wire) -> str:
    if ours == stored:
        return "same"
    if kind == "ledger":
        return "different"  # ledger rows have no version
    if kind == "refunds":
        if _version(stored) > _version(ours):
            return "newer"
        same = all(ours.get(name) == stored.get(name) for name in AUDITED)
    else:
        # WriteAudit writes the entry of a restored refund again, with another recorded_at.
        same = _about_the_refund(ours) == _about_the_refund(stored)
    return "same" if same else "different"


def _version(row: Wire) -> int:
    try:
        return int(row["version"]["N"])
    except (KeyError, ValueError, TypeError):
        return 0  # a damaged row


def _about_the_refund(entry: Wire) -> Wire:
    return {name: value for name, value in entry.items() if name not in ("recorded_at", "rebuilt")}
