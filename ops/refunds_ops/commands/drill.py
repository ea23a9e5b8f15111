"""`refunds backup drill`: rehearses a restore and reports the result to CloudWatch."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import click
from rich.markup import escape

from refunds.backup.drills import record_drill
from refunds.backup.table_scan import sources
from refunds.domain.clock import SystemClock
from refunds_ops.backup.data_files import DamagedError
from refunds_ops.backup.drill import Drill, Driller
from refunds_ops.backup.restore import RestoreError
from refunds_ops.backup.stack_restore import own_tables
from refunds_ops.backup.storage import AbsentError, backup_storage
from refunds_ops.commands.backup_options import (
    KEY,
    MAX_SHOWN,
    NUMBER,
    WORK,
    digest_of,
    keys_of,
    progress_bar,
    reader_of,
)
from refunds_ops.errors import REFUSED, RefusedError
from refunds_ops.json_output import json_option
from refunds_ops.stack.stack import Stack, find_stack
from refunds_ops.terminal import console, print_json


@click.command()
@KEY
@NUMBER
@click.option("--no-metric", is_flag=True, help="Do not report or record the result.")
@json_option(
    {
        "passed": "",
        "why": "why it failed; empty when it passed",
        "seconds": "how long it took",
        "number": "the backup's",
        "started_at": "when the backup began",
        "tables": "for each: rows, seconds, and what differs from the backup and the live table",
    }
)
@click.pass_obj
def drill(
    stack_name: str | None,
    key_files: tuple[Path, ...],
    number: int | None,
    no_metric: bool,
    as_json: bool,
) -> None:
    """Restore the newest backup into temporary tables, compare them, and remove them.

    Compares every row with the backup and with the live tables. Exit status 1 when it failed. The
    metric BackupDrillFailed raises an alarm. A drill that passed is recorded beside the backups.
    """
    stack = find_stack(stack_name)
    began = time.monotonic()
    done: Drill | None = None
    why = ""
    try:
        storage = backup_storage(stack, None)
        digest = digest_of(storage, number, keys_of(stack, key_files))
        with progress_bar() as on_progress:
            done = driller_of(stack).run(digest, secrets.token_hex(4), on_progress)
    except (RestoreError, DamagedError, AbsentError, RefusedError) as exc:
        why = _why(exc)
    finally:
        # Report the result, whatever ended the drill: a drill that reports nothing raises no alarm.
        seconds = time.monotonic() - began
        passed = done is not None and done.passed
        result = _drill_json(done, passed, seconds, why)
        if not no_metric:
            if passed:
                record_drill(stack.s3, stack["BackupBucketName"], SystemClock().now(), result)
            _report_to_cloudwatch(stack, passed, seconds)
    if as_json:
        print_json(result)
    else:
        _show_drill(result)
    if not passed:
        raise click.exceptions.Exit(REFUSED)


def _why(exc: BaseException | None) -> str:
    """The error and its causes: a table may also be left when the import has failed."""
    result = []
    while exc is not None:
        result.append(str(exc))
        exc = exc.__context__
    return "; ".join(result)


def driller_of(stack: Stack) -> Driller:
    return Driller(
        dynamodb=stack.dynamodb,
        storage=backup_storage(stack, None),
        reader=reader_of(stack),
        sources=sources(*own_tables(stack).values()),
        work=WORK,
        clock=SystemClock(),
        key_arn=stack.outputs.get("DataKeyArn"),
    )


def _drill_json(drill: Drill | None, passed: bool, seconds: float, why: str) -> dict[str, Any]:
    return {
        "passed": passed,
        "why": why,
        "seconds": round(seconds, 1),
        "number": drill and drill.digest.sequence,
        "started_at": drill and drill.digest.start_time,
        "tables": [asdict(table) for table in drill.tables] if drill else [],
    }


def _show_drill(result: dict[str, Any]) -> None:
    out = console()
    for table in result["tables"]:
        backup_, source = table["against_backup"], table["against_source"]
        out.print(
            f"{table['table']}: {backup_['rows']:,} rows restored in {table['import_seconds']:.1f}"
            f" s, compared in {table['compare_seconds']:.1f} s; {source['since']:,} changed since"
        )
        for against, found in (("the backup", backup_), ("the live table", source)):
            for kind in ("lacking", "unexpected", "different"):
                for key in found[kind][:MAX_SHOWN]:
                    out.print(f"[red]✗ {kind}[/] against {against}: {escape(key)}")
    if result["passed"]:
        out.print(f"[green]✓ drill passed[/]: backup {result['number']}, {result['seconds']} s")
    else:
        out.print(f"[red]✗ drill failed[/] {escape(result['why'])}")


def _report_to_cloudwatch(stack: Stack, passed: bool, seconds: float) -> None:
    # The alarm reads this dimension, which the functions' own metrics have, too.
    function = stack.functions.get_function_configuration(
        FunctionName=stack["BackupRefundsFunctionName"]
    )
    service = function["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"]
    dimensions = [{"Name": "service", "Value": service}]
    values: list[tuple[str, float, Literal["Count", "Seconds"]]] = [
        ("BackupDrillFailed", int(not passed), "Count"),
        ("BackupDrillSeconds", seconds, "Seconds"),
    ]
    if passed:
        # This ends the alarm now, not only with the next backup.
        values.append(("DaysSinceBackupDrill", 0, "Count"))
    stack.new_client("cloudwatch").put_metric_data(
        Namespace="Refunds",
        MetricData=[
            {"MetricName": name, "Dimensions": dimensions, "Value": value, "Unit": unit}
            for name, value, unit in values
        ],
    )
