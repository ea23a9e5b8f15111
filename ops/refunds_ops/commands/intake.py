"""`refunds pause`, `refunds resume`, `refunds status`: whether requests flow, and what waits."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from refunds.backup.digest import DigestError
from refunds.breaker.queue_mapping import RUNNING, Switch, Switched
from refunds.domain.card_numbers import has_card_number
from refunds.domain.clock import rfc3339
from refunds.domain.intake import BreakerState, Intake, paused, resumed
from refunds.processing.review import MAX_LISTED, in_review
from refunds.tables.refunds import OPEN_SHARDS, RefundsTable
from refunds.tables.state import Control
from refunds_ops.backup.places import AbsentError, Bucket
from refunds_ops.backup.verification import newest
from refunds_ops.errors import REFUSED, NotReadyError, RefusedError
from refunds_ops.stack.stack import Stack, find_stack

SWITCH_SECONDS = 120.0
"""How long Lambda is waited for: it takes up to a minute, and may be busy with a change before."""
_ASK_AGAIN_SECONDS = 1.0

_ALL = rfc3339(datetime(9999, 1, 1, tzinfo=UTC))

_WHY = click.option("--why", required=True, help="Kept, and shown by `refunds status`.")
_BY = click.option("--by", default=None, help="Who switches; your login if left out.")


@click.command()
@_WHY
@_BY
@click.pass_obj
def pause(stack_name: str | None, why: str, by: str | None) -> None:
    """Have refund requests wait in the queue, untouched, until `refunds resume`.

    Returns when no new batch is begun; those that have begun end within a minute. Nothing else
    resumes what a person has paused. SQS keeps requests for 7 days.
    """
    before, switched = _switch(stack_name, why, by, paused)
    intake, console = switched.intake, Console(highlight=False)
    if before.paused:
        console.print(f"Already paused {_by_whom(intake)}")
    else:
        console.print("[yellow]●[/] Paused. Requests wait in the queue until: refunds resume")


@click.command()
@_WHY
@_BY
@click.pass_obj
def resume(stack_name: str | None, why: str, by: str | None) -> None:
    """Let refund requests flow again, after `refunds pause`."""
    before, switched = _switch(stack_name, why, by, resumed)
    console = Console(highlight=False)
    if switched.intake.breaker is BreakerState.OPEN:
        console.print(
            "[yellow]●[/] No person holds the queue any more, but the gateway is down: requests "
            "flow when it answers again. refunds status shows it."
        )
    elif before.paused:
        console.print("[green]✓[/] Requests flow again.")
    else:
        console.print("Nobody had paused it: requests flow.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def status(stack_name: str | None, as_json: bool) -> None:
    """Show whether requests flow, and what waits. Exit status 1 when something wants attention."""
    found = look(find_stack(stack_name))
    if as_json:
        click.echo(json.dumps(asdict(found) | {"attention": found.attention}, indent=2))
    else:
        Console().print(_table(found))
    if found.attention:
        raise click.exceptions.Exit(REFUSED)


@dataclass(frozen=True)
class Found:
    """What `refunds status` shows. ``open_refunds`` and ``in_review`` are counted up to 1,000."""

    flows: bool
    mapping_state: str
    breaker: str
    breaker_since: str | None
    breaker_why: str | None
    paused_at: str | None
    paused_by: str | None
    paused_why: str | None
    history: list[dict[str, str]]
    waiting: int
    in_flight: int
    dead_letters: int
    open_refunds: int
    in_review: int
    last_backup: str | None
    backup_damaged: str | None = None
    """Why the newest backup's digest can't be read."""

    @property
    def attention(self) -> list[str]:
        """What a person should look at."""
        wrong = []
        if self.paused_at:
            wrong.append("paused by a person")
        if self.breaker != BreakerState.CLOSED:
            wrong.append(f"the breaker is {self.breaker}")
        if self.flows != (self.mapping_state in RUNNING):
            wrong.append(f"the event source mapping is {self.mapping_state}")
        if self.dead_letters:
            wrong.append("dead letters")
        if self.in_review:
            wrong.append("refunds wait for a person: refunds review list")
        if self.backup_damaged:
            wrong.append("the newest backup's digest can't be read: refunds backup verify")
        return wrong


def look(stack: Stack) -> Found:
    """Everything that `refunds status` shows."""
    intake = Control(stack.dynamodb, stack["LedgerTableName"]).intake()
    refunds = RefundsTable(stack.dynamodb, stack["RefundsTableName"])
    waiting, in_flight = _depth(stack, stack["RefundQueueUrl"])
    dead, dead_in_flight = _depth(stack, stack["RefundDeadLetterQueueUrl"])
    last_backup, damaged = None, None
    try:
        if backup := newest(Bucket(stack.s3, stack["BackupBucketName"])):
            last_backup = backup.start_time
    except (DigestError, AbsentError) as exc:
        damaged = str(exc)
    return Found(
        flows=intake.flows,
        mapping_state=_switch_of(stack).mapping_state(),
        breaker=intake.breaker.value,
        breaker_since=intake.since,
        breaker_why=intake.why,
        paused_at=intake.paused_at,
        paused_by=intake.paused_by,
        paused_why=intake.paused_why,
        history=[dict(change) for change in intake.history],
        waiting=waiting,
        in_flight=in_flight,
        dead_letters=dead + dead_in_flight,
        open_refunds=sum(
            len(refunds.due(str(shard), _ALL, MAX_LISTED // OPEN_SHARDS))
            for shard in range(OPEN_SHARDS)
        ),
        in_review=len(in_review(refunds, _ALL)),
        last_backup=last_backup,
        backup_damaged=damaged,
    )


def _depth(stack: Stack, queue_url: str) -> tuple[int, int]:
    """How many messages wait, and how many are in flight or put back with a delay. SQS says
    "approximate"."""
    there = stack.sqs.get_queue_attributes(
        QueueUrl=queue_url,
        AttributeNames=[
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ],
    )["Attributes"]
    return (
        int(there["ApproximateNumberOfMessages"])
        + int(there["ApproximateNumberOfMessagesDelayed"]),
        int(there["ApproximateNumberOfMessagesNotVisible"]),
    )


def _switch_of(stack: Stack) -> Switch:
    return Switch(
        control=Control(stack.dynamodb, stack["LedgerTableName"]),
        client=stack.functions,
        mapping_id=stack["RefundRequestsMappingId"],
        maximum_concurrency=int(stack["MaximumConcurrency"]),
    )


def _switch(
    stack_name: str | None,
    why: str,
    by: str | None,
    step: Callable[[Intake, str, str, datetime], Intake],
) -> tuple[Intake, Switched]:
    """Change the state, then the mapping. Interrupted in between, the reconciler goes on with it;
    called again, this does."""
    who = by or f"operator:{getpass.getuser()}"
    if not why.strip() or not who.strip():
        raise RefusedError("Say who and why: it is kept.")
    if has_card_number(why) or has_card_number(who):
        raise RefusedError("Leave card numbers out: it is kept.")
    stack = find_stack(stack_name)
    switch = _switch_of(stack)
    before, _ = Control(stack.dynamodb, stack["LedgerTableName"]).change_intake(
        lambda intake: step(intake, who, why, datetime.now(UTC))
    )
    return before, _until_switched(switch)


def _until_switched(switch: Switch) -> Switched:
    deadline = time.monotonic() + SWITCH_SECONDS
    while time.monotonic() < deadline:
        switched = switch.follow()
        # "Disabling" and "Enabling" are on the way; only the state after them is the end of it.
        if switched.settled and switch.mapping_state() in ("Enabled", "Disabled"):
            return switched
        time.sleep(_ASK_AGAIN_SECONDS)
    raise NotReadyError(
        f"It is recorded, but Lambda has not followed within {SWITCH_SECONDS:.0f} s.",
        "The reconciler makes it follow at its next run; refunds status shows how it is.",
    )


def _by_whom(intake: Intake) -> str:
    return f"by {escape(str(intake.paused_by))} since {intake.paused_at}: " + escape(
        str(intake.paused_why)
    )


def _table(found: Found) -> Table:
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
            "paused", Text(f"by {found.paused_by} since {found.paused_at}: {found.paused_why}")
        )
    breaker = found.breaker
    if found.breaker_since and found.breaker != BreakerState.CLOSED:
        breaker += f" since {found.breaker_since}: {found.breaker_why}"
    table.add_row("breaker", Text(breaker))
    table.add_row("queue", f"{found.waiting} waiting, {found.in_flight} in flight or put off")
    table.add_row("dead letters", str(found.dead_letters))
    table.add_row("open refunds", _counted(found.open_refunds))
    table.add_row("in review", _counted(found.in_review))
    table.add_row("last backup", found.last_backup or Text("none", style="yellow"))
    for change in found.history[-5:]:
        table.add_row(
            change["at"][:19], Text(f"{change['what']} by {change['by']}: {change['why']}")
        )
    if found.attention:
        table.add_row("look at", Text("; ".join(found.attention), style="bold yellow"))
    return table


def _counted(number: int) -> str:
    return f"{MAX_LISTED} or more" if number >= MAX_LISTED else str(number)
