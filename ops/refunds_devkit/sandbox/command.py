"""`refunds-dev sandbox-gateway`: the sandbox gateway at a terminal."""

from __future__ import annotations

import ipaddress
import sqlite3
import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from refunds_devkit.sandbox.faults import SETTLE_SECONDS
from refunds_devkit.sandbox.ledger import NotOurDatabaseError
from refunds_devkit.sandbox.seeds import Seed
from refunds_devkit.sandbox.server import (
    APIS,
    DEFAULT_API_KEY,
    DEFAULT_HOST,
    DEFAULT_PORT,
    PortTakenError,
    serve,
)
from refunds_devkit.sandbox.webhooks import WebhookSender

DEFAULT_DATABASE = ".local/sandbox-{}.sqlite3"
ENVIRONMENT_ERROR = 3


@click.command("sandbox-gateway")
@click.option(
    "--api",
    type=click.Choice(list(APIS)),
    default="flair",
    show_default=True,
    help="The API to serve.",
)
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
    help="The ledger's SQLite file, kept between runs. ':memory:' keeps nothing. "
    "[default: .local/sandbox-API.sqlite3]",
)
@click.option(
    "--api-key",
    default=DEFAULT_API_KEY,
    show_default=True,
    help="The bearer token that callers must send.",
)
@click.option(
    "--reset",
    is_flag=True,
    help="Remove all refunds, payments, faults and the clock's offset first.",
)
@click.option("--seed/--no-seed", default=True, show_default=True, help="Add the payments to try.")
@click.option(
    "--settle-seconds",
    type=click.FloatRange(0, 86400),
    default=SETTLE_SECONDS,
    show_default=True,
    help="Seconds until seeded pending and reversed refunds change.",
)
@click.option("--webhook-url", metavar="URL", help="URL that gets an event when a refund changes.")
@click.option("--webhook-secret", metavar="SECRET", help="Secret that signs those events.")
@click.option("--access-log", is_flag=True, help="Print a line for each request.")
def sandbox_gateway(  # noqa: PLR0913 - click passes the options
    *,
    api: str,
    host: str,
    port: int,
    database: str | None,
    api_key: str,
    reset: bool,
    seed: bool,
    settle_seconds: float,
    webhook_url: str | None,
    webhook_secret: str | None,
    access_log: bool,
) -> None:
    """Run a payment gateway without real money, for tests and experiments."""
    database = database or DEFAULT_DATABASE.format(api)
    out, err = Console(), Console(stderr=True, soft_wrap=True)
    if bool(webhook_url) != bool(webhook_secret):
        raise click.UsageError("--webhook-url and --webhook-secret must be used together")

    def show(url: str) -> None:
        if webhook_url and webhook_secret:
            WebhookSender(
                gateway_url=url, api=api, api_key=api_key, url=webhook_url, secret=webhook_secret
            ).start()
        _show(out, url, database, APIS[api].seeds if seed else ())
        if not _is_loopback(host):
            err.print(
                "[yellow]Other machines can reach this address, and the admin API needs no key.[/]"
            )

    try:
        serve(
            host,
            port,
            database,
            api_key,
            api=APIS[api],
            reset=reset,
            seed=seed,
            settle_seconds=settle_seconds,
            access_log=access_log,
            on_listening=show,
        )
    except PortTakenError as exc:
        err.print(
            f"[red]{escape(str(exc))}[/]: stop that program, or choose another port with --port."
        )
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


def _show(out: Console, url: str, database: str, seeds: Sequence[Seed]) -> None:
    out.print(f"Sandbox gateway at [bold]{url}[/], ledger {escape(database)}", highlight=False)
    if seeds:
        table = Table("payment", "captured", "what its refunds do", title="Payments to try")
        for seed in seeds:
            table.add_row(seed.id, f"{seed.amount_captured} {seed.currency}", seed.note)
        out.print(table)
    out.print("Script a fault for the next refund of a payment:", highlight=False)
    # One line at any terminal width, so that it can be copied.
    out.print(
        f"  curl -X POST {url}/_sandbox/faults "
        """-d '{"kind": "commit_then_timeout", "transaction_id": "PAYMENT"}'""",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    out.print(
        f"List movements of money: curl {url}/_sandbox/ledger    Stop: Ctrl-C", highlight=False
    )
