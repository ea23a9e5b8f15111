"""`refunds sandbox-gateway`: the sandbox gateway at a terminal."""

from __future__ import annotations

import ipaddress
import sqlite3
import sys

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from refunds_ops.sandbox.faults import SETTLE_SECONDS
from refunds_ops.sandbox.ledger import NotOurDatabaseError
from refunds_ops.sandbox.seeds import SEEDS
from refunds_ops.sandbox.server import (
    DEFAULT_API_KEY,
    DEFAULT_HOST,
    DEFAULT_PORT,
    PortTakenError,
    serve,
)

DEFAULT_DATABASE = ".local/sandbox-gateway.sqlite3"
ENVIRONMENT_ERROR = 3


@click.command("sandbox-gateway")
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port to listen on, 0 for a free one.",
)
@click.option(
    "--database",
    type=click.Path(dir_okay=False),
    default=DEFAULT_DATABASE,
    show_default=True,
    help="The ledger's SQLite file, kept between runs. ':memory:' keeps nothing.",
)
@click.option("--api-key", default=DEFAULT_API_KEY, show_default=True, help="The bearer token.")
@click.option("--reset", is_flag=True, help="Forget the refunds, payments, faults and clock first.")
@click.option("--seed/--no-seed", default=True, show_default=True, help="Add the payments to try.")
@click.option(
    "--settle-seconds",
    type=click.FloatRange(0, 86400),
    default=SETTLE_SECONDS,
    show_default=True,
    help="How long the seeded pending and reversed refunds take.",
)
@click.option("--access-log", is_flag=True, help="Print a line for each request.")
def sandbox_gateway(
    host: str,
    port: int,
    database: str,
    api_key: str,
    reset: bool,
    seed: bool,
    settle_seconds: float,
    access_log: bool,
) -> None:
    """Run a payment gateway with the Flair API and no real money, for tests and for trying out."""
    out, err = Console(), Console(stderr=True, soft_wrap=True)

    def show(url: str) -> None:
        _show(out, url, database, seeded=seed)
        if not _is_loopback(host):
            err.print("[yellow]Others can reach this address; the admin API asks for no key.[/]")

    try:
        serve(
            host,
            port,
            database,
            api_key,
            reset=reset,
            seed=seed,
            settle_seconds=settle_seconds,
            access_log=access_log,
            on_listening=show,
        )
    except PortTakenError as exc:
        err.print(f"[red]{escape(str(exc))}[/]: stop that one, or choose another with --port.")
        sys.exit(ENVIRONMENT_ERROR)
    except (OSError, NotOurDatabaseError, sqlite3.Error) as exc:
        err.print(f"[red]{escape(str(exc))}[/] (listening on {escape(host)}, ledger {database})")
        sys.exit(ENVIRONMENT_ERROR)
    out.print("stopped")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _show(out: Console, url: str, database: str, *, seeded: bool) -> None:
    out.print(f"Sandbox gateway at [bold]{url}[/], ledger {escape(database)}", highlight=False)
    if seeded:
        table = Table("payment", "captured", "what its refunds do", title="Payments to try")
        for seed in SEEDS:
            table.add_row(seed.id, f"{seed.amount_captured} {seed.currency}", seed.note)
        out.print(table)
    out.print("Script a fault for the next refund of a payment:", highlight=False)
    # One line whatever the terminal's width, to be copied.
    out.print(
        f"  curl -X POST {url}/_sandbox/faults "
        """-d '{"kind": "commit_then_timeout", "transaction_id": "pay_full"}'""",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    out.print(f"Count the money: curl {url}/_sandbox/ledger    Stop: Ctrl-C", highlight=False)
