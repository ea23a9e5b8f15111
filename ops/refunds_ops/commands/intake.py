"""`refunds pause`, `refunds resume`, `refunds status`: whether requests flow, and which wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from refunds.breaker.queue_mapping import RUNNING, Switch, Switched
from refunds.domain.intake import BreakerState, Intake, pause_intake, resume_intake
from refunds.environment import SettingsError
from refunds.gateways.registry import ADAPTERS
from refunds.settings import GatewaySettings
from refunds.tables.state import ContendedError, Control
from refunds_ops.dates import Zone, zone_of
from refunds_ops.errors import REFUSED, NotReadyError, RefusedError
from refunds_ops.flow_status import Found, look, paused_by, switch_of
from refunds_ops.identity import ON_BEHALF_OF, check_kept, identify, why_option
from refunds_ops.json_output import json_option
from refunds_ops.stack import audit_writer
from refunds_ops.stack.stack import Stack, find_stack
from refunds_ops.statuses import acting
from refunds_ops.terminal import console, print_json

F = TypeVar("F", bound=Callable[..., Any])

SWITCH_SECONDS = 120.0
"""How long to wait for Lambda: a change takes up to a minute, and an earlier one may still be in
progress."""
_ASK_AGAIN_SECONDS = 1.0
_WHY = why_option("Kept, and shown by `refunds status`.")


STATUS_FIELDS = {
    "flows": "whether requests should flow: not paused, breaker closed",
    "mapping_state": "state of the event source mapping, as Lambda reports it",
    "breaker": "closed, open or recovering",
    "breaker_since": "",
    "breaker_why": "",
    "paused_at": "null when nobody has paused",
    "paused_by": "who, as AWS STS identifies them; a function when the stop was automatic",
    "paused_on_behalf_of": "the note on whom they act for",
    "paused_why": "",
    "gateways_paused": "with several gateways, those that a person paused: who, since when, why",
    "history": "the last changes: at, what, by, on_behalf_of, why",
    "waiting": "messages in the queue",
    "in_flight": "messages being processed or waiting for a retry",
    "dead_letters": "messages in the dead-letter queue",
    "open_refunds": "refunds that are not finished",
    "in_review": "of them, those that wait for a person",
    "awaiting_approval": "of them, those that are over a limit and wait for a person's approval",
    "balance_short": "of them, those that wait because our balance at the gateway is too low",
    "unreadable_refunds": "open rows that somebody has damaged, not counted above",
    "paid_though_ended": "refunds that ended here without money and are paid at the gateway",
    "last_backup": "when the newest published backup began",
    "gateways_down": "with several gateways, those that are down: state, since when and why",
    "sweep": "by gateway and age of the refunds: since when all have been checked for reversals",
    "sweep_late": "gateways whose refunds are checked for reversals later than promised",
    "backup_damaged": "why the newest backup's digest can't be read; null when it can",
    "attention": "what a person should look at",
}


SWITCH_FIELDS = {
    "flows": "whether requests flow now",
    "breaker": "closed, open or recovering",
    "paused_at": "null when nobody has paused",
    "paused_by": "",
    "paused_on_behalf_of": "",
    "paused_why": "",
    "changed": "whether this call changed the state",
}


def _which(command: F) -> F:
    one = click.option(
        "--gateway",
        "--only",
        "gateway",
        type=click.Choice(sorted(ADAPTERS)),
        help="Only the requests for this gateway, if there are several.",
    )
    everything = click.option(
        "--all", "everything", is_flag=True, help="All requests (the default)."
    )
    return everything(one(command))


@click.command()
@_WHY
@ON_BEHALF_OF
@_which
@json_option(SWITCH_FIELDS)
@click.pass_obj
def pause(stack_name: str | None, /, **options: Any) -> None:
    """Keep refund requests in the queue until `resume`.

    Returns when no new batch starts; batches that have started end within a minute. Only a person
    resumes what a person has paused. SQS keeps requests for 7 days.

    With --gateway, only that gateway's requests wait. This starts within a minute and may last as
    long as you like, because they are sent again every 15 minutes.
    """
    stack = _checked_stack(stack_name, options)
    before, intake, gateway = _switch(stack, pause_intake, options)
    out = console()
    if options["as_json"]:
        _print_switched(before, intake)
    elif before.paused:
        out.print(f"Already paused {_by_whom(intake, zone_of(stack))}")
    elif gateway:
        out.print(
            f"[yellow]●[/] Paused. Requests for {gateway} wait until: "
            f"refunds resume --gateway {gateway}"
        )
    else:
        out.print("[yellow]●[/] Paused. Requests wait in the queue until: refunds resume")


@click.command()
@_WHY
@ON_BEHALF_OF
@_which
@json_option(SWITCH_FIELDS)
@click.pass_obj
def resume(stack_name: str | None, /, **options: Any) -> None:
    """Let refund requests flow again.

    Refuses while WriteAudit doesn't read the stream of Refunds, because money would move without
    audit entries.
    """
    stack = _checked_stack(stack_name, options)
    try:
        audit_writer.check_connected(stack)
    except audit_writer.NotConnectedError as exc:
        raise RefusedError(f"Requests stay paused: {exc}.", *exc.steps) from exc
    before, intake, gateway = _switch(stack, resume_intake, options)
    out = console()
    if options["as_json"]:
        _print_switched(before, intake)
    elif intake.breaker is BreakerState.OPEN:
        out.print(
            "[yellow]●[/] The pause has ended, but the gateway is down: requests flow when it "
            "answers again. See: refunds status"
        )
    elif before.paused and gateway:
        out.print(f"[green]✓[/] Requests for {gateway} flow again, the last within 15 minutes.")
    elif before.paused:
        out.print("[green]✓[/] Requests flow again.")
    else:
        out.print(f"{gateway or 'The queue'} was not paused: requests flow.")


@click.command()
@json_option(STATUS_FIELDS)
@click.pass_obj
def status(stack_name: str | None, as_json: bool) -> None:
    """Show whether requests flow, and what waits.

    Exit status 1 when something needs attention.
    """
    stack = find_stack(stack_name)
    found = look(stack)
    if as_json:
        print_json(asdict(found) | {"attention": found.attention})
    else:
        console().print(_table(found, zone_of(stack)))
    if found.attention:
        raise click.exceptions.Exit(REFUSED)


def _checked_stack(stack_name: str | None, options: dict[str, Any]) -> Stack:
    """The stack, once the options are known to be valid."""
    if options["gateway"] and options["everything"]:
        raise click.UsageError("Give --gateway NAME or --all.")
    check_kept(why=options["why"])
    return find_stack(stack_name)


def _switch(
    stack: Stack, step: Callable[..., Intake], options: dict[str, Any]
) -> tuple[Intake, Intake, str | None]:
    """Record the change, then switch the mapping. If the command ends in between, the reconciler or
    the next call completes it. Returns the state before and after, and the gateway if it is one of
    several.

    A change for one gateway needs no switch of the mapping: ProcessRefund reads the change within a
    minute.
    """
    gateway, why = options["gateway"], options["why"]
    who = identify(stack, options["on_behalf_of"])
    if gateway is not None:
        _check_one_of_several(stack, gateway)
    control, note = Control(stack.dynamodb, stack["LedgerTableName"]), who.on_behalf_of
    try:
        before, after = control.change_intake(
            lambda intake: step(intake, who.arn, why, datetime.now(UTC), on_behalf_of=note), gateway
        )
    except ContendedError as exc:
        raise NotReadyError(
            "Nothing was changed: the functions keep changing the breaker.",
            "Run the same command again.",
        ) from exc
    if gateway is None:
        after = _until_switched(switch_of(stack)).intake
    return before, after, gateway


def _check_one_of_several(stack: Stack, gateway: str) -> None:
    name = stack["ProcessRefundFunctionName"]
    configuration = stack.functions.get_function_configuration(FunctionName=name)
    variables = configuration.get("Environment", {}).get("Variables", {})
    try:
        names = [account.name for account in GatewaySettings.read(variables).accounts]
    except SettingsError as exc:
        raise NotReadyError(f"The settings of {name} can't be read: {exc}.") from exc
    if gateway not in names:
        raise RefusedError(
            f"{gateway} is not a gateway of this stack.", f"Its gateways: {', '.join(names)}"
        )
    if len(names) == 1:
        raise RefusedError(f"{gateway} is the only gateway.", "Leave --gateway out.")


def _until_switched(switch: Switch) -> Switched:
    deadline = time.monotonic() + SWITCH_SECONDS
    while time.monotonic() < deadline:
        switched = switch.follow()
        # "Disabling" and "Enabling" are temporary; only the state after them is final.
        if switched.settled and switch.mapping_state() in ("Enabled", "Disabled"):
            return switched
        time.sleep(_ASK_AGAIN_SECONDS)
    raise NotReadyError(
        f"The change is recorded, but Lambda has not applied it within {SWITCH_SECONDS:.0f} s.",
        "The reconciler applies it at its next run. See: refunds status",
    )


def _print_switched(before: Intake, after: Intake) -> None:
    values = {name: getattr(after, name) for name in SWITCH_FIELDS if name != "changed"}
    print_json({**values, "changed": before.paused != after.paused})


def _by_whom(intake: Intake, zone: Zone) -> str:
    since = zone.show(intake.paused_at) if intake.paused_at else "an unknown time"
    return escape(f"by {paused_by(intake)} since {since}: {intake.paused_why}")


def _table(found: Found, zone: Zone) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    running = found.mapping_state in RUNNING
    table.add_row(
        "requests",
        Text("flow", style="green")
        if found.flows and running
        else Text(f"wait in the queue (mapping {found.mapping_state})", style="bold yellow"),
    )
    if found.paused_at:
        table.add_row(
            "paused",
            Text(f"by {paused_by(found)} since {zone.show(found.paused_at)}: {found.paused_why}"),
        )
    breaker = found.breaker
    if found.breaker_since and found.breaker != BreakerState.CLOSED:
        breaker += f" since {zone.show(found.breaker_since)}: {found.breaker_why}"
    table.add_row("breaker", Text(breaker))
    for name, state in found.gateways_down.items():
        table.add_row(f"gateway {name}", Text(state, style="bold yellow"))
    for name, state in found.gateways_paused.items():
        table.add_row(f"gateway {name}", Text(f"paused {state}", style="bold yellow"))
    table.add_row("queue", f"{found.waiting} waiting, {found.in_flight} in flight or retried later")
    table.add_row("dead letters", str(found.dead_letters))
    table.add_row("open refunds", f"{found.open_refunds:,}")
    table.add_row("in review", f"{found.in_review:,}")
    table.add_row("awaiting approval", f"{found.awaiting_approval:,}")
    if found.paid_though_ended:
        table.add_row(
            "paid though ended", Text(f"{found.paid_though_ended:,}", style="bold yellow")
        )
    if found.balance_short:
        table.add_row(
            "balance too low",
            Text(f"{found.balance_short:,} wait for it at the gateway", style="bold yellow"),
        )
    for name, looked_at in found.sweep.items():
        ages = ", ".join(f"{age} since {at[:16]}Z" for age, at in looked_at.items())
        late = "bold yellow" if name in found.sweep_late else ""
        table.add_row("looked for reversals", Text(f"{name}: {ages}", style=late))
    table.add_row(
        "last backup",
        zone.show(found.last_backup) if found.last_backup else Text("none", style="yellow"),
    )
    for change in found.history[-5:]:
        table.add_row(
            zone.show(change["at"]),
            Text(
                f"{change['what']} by {acting(change['by'], change.get('on_behalf_of'))}: "
                f"{change['why']}"
            ),
        )
    if found.attention:
        table.add_row("look at", Text("; ".join(found.attention), style="bold yellow"))
    return table
