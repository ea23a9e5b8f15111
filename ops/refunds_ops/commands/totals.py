"""`refunds totals`: how much money went out, is in review, was reversed or failed."""

from __future__ import annotations

import csv
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refunds.domain.clock import rfc3339
from refunds.tables.refund_indexes import Span
from refunds_ops.commands.list_refunds import SafeLines
from refunds_ops.dates import Zone, utc_now, zone_of
from refunds_ops.errors import RefusedError
from refunds_ops.finding import span_of, span_options
from refunds_ops.json_output import json_option, one_format
from refunds_ops.stack.stack import find_stack
from refunds_ops.terminal import print_json_lines, print_line, print_note
from refunds_ops.totals import DIMENSIONS, Source, Total, from_backup, from_table, totals

if TYPE_CHECKING:
    from refunds_ops.stack.stack import Stack

BAR_WIDTH = 30


@click.command("totals")
@click.option(
    "--by",
    default="currency,status",
    show_default=True,
    metavar="NAMES",
    help="Any of day, hour, currency, status, with commas. Amounts are always by currency.",
)
@span_options
@click.option("--from-backup", is_flag=True, help="Read the newest backup instead of the table.")
@click.option(
    "--backup",
    "number",
    type=click.IntRange(1),
    metavar="NUMBER",
    help="Read the backup of this digest.",
)
@click.option(
    "--backup-folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Downloaded backups (aws s3 sync) instead of the stack's bucket.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@json_option(
    {
        "day": "in the stack's zone (with --by day)",
        "hour": "of the day, 00 to 23 (with --by hour)",
        "currency": "",
        "status": "paid out, in review, open, reversed or failed (with --by status)",
        "count": "refunds",
        "amount_minor": "their exact sum, in minor units",
        "amount": "the same sum as people write it, such as 25.00 USD",
        "without_amount": "rejected requests that named no amount",
        "as_of": "RFC 3339, UTC: the instant that the sums describe",
    },
    lines=True,
)
@click.pass_obj
def totals_(stack_name: str | None, /, **options: Any) -> None:
    """Sum refunds by day, currency and status.

    Sums the refunds created today, or in another time (--day, --since, --until). The sums are
    exact, and the output says as of when. With --from-backup, they are as of the backup.
    """
    one_format(as_json=options["as_json"], as_csv=options["as_csv"])
    by = [name.strip() for name in options["by"].split(",")]
    if unknown := [name for name in by if name not in DIMENSIONS]:
        raise click.UsageError(
            f"--by takes day, hour, currency and status, not {', '.join(unknown)}."
        )
    source, zone = _source(stack_name, options)
    found = totals(source.refunds, by, zone)
    if options["as_json"]:
        print_json_lines({**_row(total), "as_of": source.as_of} for total in found)
    elif options["as_csv"]:
        _write_csv(found, by)
    elif found:
        _print(found)
    else:
        print_line("No refunds.")
    print_note(f"As of {zone.show(source.as_of)}, from {source.what}.")


def _source(stack_name: str | None, options: dict[str, Any]) -> tuple[Source, Zone]:
    folder, number = options["backup_folder"], options["number"]
    stack = None if folder else find_stack(stack_name)
    zone = zone_of(stack)
    now = utc_now()
    span = span_of(zone, now, day=options["day"], since=options["since"], until=options["until"])
    if span is None:
        today = zone.start_of(zone.today(now))
        span = Span(rfc3339(today), rfc3339(now + timedelta(minutes=5)))
    if options["from_backup"] or folder or number:
        return from_backup(stack, span, folder, number), zone
    return from_table(_needed(stack), span), zone


def _needed(stack: Stack | None) -> Stack:
    if stack is None:
        raise RefusedError("A folder of backups has no table.")
    return stack


def _row(total: Total) -> dict[str, Any]:
    return {
        **total.key,
        "count": total.count,
        "amount_minor": total.amount_minor,
        "amount": total.amount,
        "without_amount": total.without_amount,
    }


def _write_csv(found: list[Total], by: list[str]) -> None:
    names = [name for name in DIMENSIONS if name in by or name == "currency"]
    writer = csv.writer(SafeLines())
    writer.writerow([*names, "count", "amount_minor", "amount", "without_amount"])
    for total in found:
        writer.writerow(
            [
                *(total.key[name] for name in names),
                total.count,
                total.amount_minor,
                total.amount.split(" ")[0],
                total.without_amount,
            ]
        )


def _print(found: list[Total]) -> None:
    from refunds_ops.layout import Column, print_table

    names = list(found[0].key)
    most: dict[str, int] = {}
    for total in found:
        currency = total.key["currency"]
        most[currency] = max(most.get(currency, 0), total.amount_minor)
    print_table(
        [
            *(Column(name) for name in names),
            Column("refunds", right=True),
            Column("amount", right=True),
            Column(""),
        ],
        [
            (
                *(total.key[name] for name in names),
                f"{total.count:,}",
                total.amount,
                _bar(total.amount_minor, most[total.key["currency"]]),
            )
            for total in found
        ],
    )


def _bar(amount: int, most: int) -> str:
    """The bar's length, in proportion to the largest amount of the same currency."""
    return "█" * (-(-amount * BAR_WIDTH // most)) if most else ""
