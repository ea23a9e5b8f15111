"""`refunds-dev cost`: dollars per million refunds, compared with two other designs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from refunds_devkit.cost.model import (
    Bill,
    Prices,
    Setup,
    ours,
    read_counts,
    read_prices,
    sequential,
    step_functions,
)

_DEFAULT = Setup()


@click.command("cost")
@click.option(
    "--batch",
    type=click.IntRange(1, 50),
    default=_DEFAULT.batch,
    show_default=True,
    help="Requests in a batch of ProcessRefund (RequestBatchSize).",
)
@click.option(
    "--memory",
    type=click.IntRange(128, 10_240),
    default=_DEFAULT.memory_mb,
    show_default=True,
    help="The functions' memory in MB (FunctionMemoryMB).",
)
@click.option(
    "--gateway-ms",
    type=click.FloatRange(1, 60_000),
    default=_DEFAULT.gateway_ms,
    show_default=True,
    help="Duration of one call to the gateway.",
)
@click.option(
    "--sent-together",
    type=click.IntRange(1, 10),
    default=_DEFAULT.sent_together,
    show_default=True,
    help="Requests that producers send with one SendMessageBatch.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0.001, 100_000),
    default=_DEFAULT.refunds_per_second,
    show_default=True,
    help="Refunds per second. KMS is paid by time, not by refund.",
)
@click.option(
    "--list-indexes",
    type=click.IntRange(0, 2),
    default=2,
    show_default=True,
    help="How many of UserIndex and DayIndex are on.",
)
@click.option(
    "--prices",
    "price_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Price file in the form of ops/refunds_devkit/cost/prices.json.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def cost(  # noqa: PLR0913 - click passes the options
    *,
    batch: int,
    memory: int,
    gateway_ms: float,
    sent_together: int,
    rate: float,
    list_indexes: int,
    price_file: Path | None,
    as_json: bool,
) -> None:
    """Show what a million successful refunds cost, here and in two other designs.

    `make bench` measures the counts on the wire. docs/cost.md explains the arithmetic.
    """
    try:
        prices = read_prices(price_file)
        setup = Setup(
            batch=batch,
            memory_mb=memory,
            gateway_ms=gateway_ms,
            sent_together=sent_together,
            refunds_per_second=rate,
            list_indexes=list_indexes,
        )
        bills = all_bills(prices, setup)
    except (ValueError, KeyError, TypeError) as exc:
        raise click.UsageError(f"--prices: not a price file ({type(exc).__name__}: {exc})") from exc
    if as_json:
        totals = [asdict(bill) | {"total": bill.total, "with_all": bill.with_all} for bill in bills]
        print(
            json.dumps({"region": prices.region, "as_of": prices.as_of, "bills": totals}, indent=1)
        )
        return
    show(Console(), prices, setup, bills)


def all_bills(prices: Prices, setup: Setup) -> list[Bill]:
    """This stack, the sequential design and the state machine, set the same."""
    counts = read_counts()
    return [
        ours(prices, counts["ours"], setup),
        sequential(prices, counts["sequential"], setup),
        step_functions(prices, counts["sequential"], setup),
    ]


def show(console: Console, prices: Prices, setup: Setup, bills: list[Bill]) -> None:
    table = Table(
        title=f"Dollars per million refunds ({prices.region}, prices of {prices.as_of})",
        title_justify="left",
    )
    table.add_column("")
    for bill in bills:
        table.add_column(bill.name, justify="right")
    lines = list(dict.fromkeys(line for bill in bills for line in bill.core))
    for line in lines:
        table.add_row(line, *(_dollars(bill.core.get(line)) for bill in bills))
    table.add_section()
    table.add_row("SQS, Lambda, DynamoDB", *(f"[bold]{_dollars(bill.total)}[/]" for bill in bills))
    table.add_section()
    for line in bills[0].more:
        table.add_row(line, *(_dollars(bill.more.get(line)) for bill in bills))
    table.add_section()
    table.add_row("with all", *(_dollars(bill.with_all) for bill in bills))
    console.print(table)
    console.print(
        f"Batches of {setup.batch}, {setup.memory_mb} MB, a gateway of {setup.gateway_ms:g} ms, "
        f"requests sent {setup.sent_together} at a time, {setup.refunds_per_second:g} refunds/s. "
        "Only this stack looks at the payment first, keeps over-refunds out, and writes an audit "
        "entry for every change.",
        highlight=False,
    )


def _dollars(amount: float | None) -> str:
    return "" if not amount else f"{amount:,.2f}"
