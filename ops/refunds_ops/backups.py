"""`refunds backups`: which backups are in the bucket and what each holds."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table

from refunds_ops.errors import RefusedError
from refunds_ops.stack import Stack, find_stack

PREFIX = "refund-backups/"
TABLES = ("refunds", "ledger", "audit")
MAX_PAGES = 200
"""Pages of 1,000 keys that are listed: some thirty years of daily backups."""

_SUMMARY = re.compile(
    r"(refund-backups/\d{4}/\d{2}/\d{2}/(\d{8}T\d{6}Z))/(\w+)/AWSDynamoDB/[^/]+/"
    r"manifest-summary\.json"
)


@dataclass
class Backup:
    """One run: where it is, when it was begun, and each table's item count and size in bytes."""

    prefix: str
    started_at: str
    item_counts: dict[str, int] = field(default_factory=dict)
    size_bytes: int = 0

    @property
    def complete(self) -> bool:
        return set(self.item_counts) == set(TABLES)


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def backups(stack_name: str | None, limit: int, as_json: bool) -> None:
    """List the newest backups in the bucket and what each holds."""
    stack = find_stack(stack_name)
    found = list_backups(stack, limit)
    if as_json:
        click.echo(json.dumps([asdict(backup) for backup in found], indent=2))
    elif not found:
        raise RefusedError(
            f"There is no backup in s3://{stack['BackupBucketName']}/{PREFIX}.",
            "The first is made within a day; at once: aws lambda invoke --function-name "
            f"{stack['BackupRefundsFunctionName']} /dev/stdout",
        )
    else:
        Console().print(backups_table(stack["BackupBucketName"], found))


def list_backups(stack: Stack, limit: int) -> list[Backup]:
    """The newest ``limit`` runs, newest first. A run without all its tables is not ``complete``."""
    bucket = stack["BackupBucketName"]
    keys: dict[str, list[str]] = {}
    pages = stack.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=PREFIX)
    for number, page in enumerate(pages):
        if number == MAX_PAGES:
            raise RefusedError(f"s3://{bucket}/{PREFIX} has too many objects to list.")
        for found in page.get("Contents", []):
            if match := _SUMMARY.fullmatch(found["Key"]):
                keys.setdefault(match[1], []).append(found["Key"])
    newest = sorted(keys, reverse=True)[:limit]
    return [_backup(stack, bucket, prefix, keys[prefix]) for prefix in newest]


def _backup(stack: Stack, bucket: str, prefix: str, summaries: list[str]) -> Backup:
    stamp = prefix.rpartition("/")[2]
    started = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    backup = Backup(prefix, started.isoformat().replace("+00:00", "Z"))
    for key in sorted(summaries):
        summary = json.loads(stack.s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        match = _SUMMARY.fullmatch(key)
        assert match is not None
        backup.item_counts[match[3]] = summary["itemCount"]
        backup.size_bytes += summary["billedSizeBytes"]
    return backup


def backups_table(bucket: str, found: list[Backup]) -> Table:
    table = Table(title=f"Backups in s3://{bucket}", title_justify="left")
    table.add_column("begun (UTC)", no_wrap=True)
    for name in TABLES:
        table.add_column(name, justify="right")
    table.add_column("bytes", justify="right")
    table.add_column("complete")
    table.add_column("where", overflow="fold", style="dim")
    for backup in found:
        table.add_row(
            backup.started_at,
            *(str(backup.item_counts.get(name, "–")) for name in TABLES),
            f"{backup.size_bytes:,}",
            "[green]yes[/]" if backup.complete else "[red]no[/]",
            backup.prefix,
        )
    return table
