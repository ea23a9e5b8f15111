"""What `refunds status` and the console's overview show: whether requests flow, and what waits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from refunds.backup.digest import DigestError
from refunds.breaker.queue_mapping import RUNNING, Switch
from refunds.domain.intake import BreakerState, Intake
from refunds.domain.refund import Status
from refunds.gateways.registry import ADAPTERS
from refunds.tables.state import Control
from refunds_ops.backup.storage import AbsentError, Bucket
from refunds_ops.backup.verification import newest
from refunds_ops.open_refunds import UNFINISHED, is_seen_paid, open_refunds
from refunds_ops.queue_state import depth
from refunds_ops.stack.stack import Stack
from refunds_ops.statuses import acting
from refunds_ops.sweep_progress import sweep_progress

READERS = 12
"""The number of parallel reads from AWS: botocore's pool has 10 connections for each client."""


@dataclass(frozen=True)
class Concern:
    """Something that a person should check, and the command for it, if there is one."""

    what: str
    command: str = ""
    count: int = 0
    """How many there are, if they are counted."""


@dataclass(frozen=True)
class Found:
    """What `refunds status` shows."""

    flows: bool
    mapping_state: str
    breaker: str
    breaker_since: str | None
    breaker_why: str | None
    paused_at: str | None
    paused_by: str | None
    paused_on_behalf_of: str | None
    paused_why: str | None
    history: list[dict[str, str]]
    waiting: int
    in_flight: int
    dead_letters: int
    open_refunds: int
    in_review: int
    awaiting_approval: int
    balance_short: int
    """Refunds that wait because our balance at the gateway is too low."""
    last_backup: str | None
    unreadable_refunds: int = 0
    """Rows in the index of open refunds that somebody has damaged."""
    paid_though_ended: int = 0
    """Refunds that ended here without money, and that the gateway shows as paid."""
    backup_damaged: str | None = None
    """Why the newest backup's digest can't be read."""
    gateways_down: dict[str, str] = field(default_factory=dict)
    """Of several gateways, those that are down: state, since when and why."""
    gateways_paused: dict[str, str] = field(default_factory=dict)
    """Of several gateways, those that a person has paused: who, since when and why."""
    sweep: dict[str, dict[str, str]] = field(default_factory=dict)
    """By gateway and age of the refunds: since when all have been looked at for reversals."""
    sweep_late: list[str] = field(default_factory=list)
    """Gateways whose refunds are looked at later than promised."""

    @property
    def attention(self) -> list[str]:
        """What a person should look at, and by which command."""
        return [
            f"{each.what}: {each.command}" if each.command else each.what for each in self.concerns
        ]

    @property
    def concerns(self) -> list[Concern]:
        """What a person should look at."""
        wrong = []
        if self.paused_at:
            wrong.append(Concern("paused by a person"))
        if self.breaker != BreakerState.CLOSED:
            wrong.append(Concern(f"the breaker is {self.breaker}"))
        wrong += [Concern(f"the gateway {name} is down") for name in self.gateways_down]
        wrong += [Concern(f"requests for {name} are paused") for name in self.gateways_paused]
        if self.flows != (self.mapping_state in RUNNING):
            wrong.append(Concern(f"the event source mapping is {self.mapping_state}"))
        if self.dead_letters:
            wrong.append(Concern("dead letters", "refunds dead-letters list", self.dead_letters))
        if self.balance_short:
            what = "our balance at the gateway is too low: top it up there"
            wrong.append(Concern(what, count=self.balance_short))
        counted = [
            Concern("rows of Refunds can't be read", "refunds verify", self.unreadable_refunds),
            Concern(
                "refunds that ended here are paid at the gateway",
                "refunds open",
                self.paid_though_ended,
            ),
            Concern("refunds wait for a person", "refunds review list", self.in_review),
            Concern(
                "refunds wait for approval",
                "refunds list --status AWAITING_APPROVAL",
                self.awaiting_approval,
            ),
        ]
        wrong += [each for each in counted if each.count]
        wrong += [
            Concern(f"reversals at {name} are found late: docs/runbook.md#sweepbehind")
            for name in self.sweep_late
        ]
        if self.backup_damaged:
            what = "the newest backup's digest can't be read"
            wrong.append(Concern(what, "refunds backup verify"))
        return wrong


def look(stack: Stack, at_most: int | None = None) -> Found:
    """Everything that `refunds status` shows, read at the same time.

    ``at_most``: count no more open refunds than about so many.
    """
    control = Control(stack.dynamodb, stack["LedgerTableName"])
    with ThreadPoolExecutor(READERS) as pool:
        intake_read = pool.submit(control.intake)
        queue_read = pool.submit(depth, stack, stack["RefundQueueUrl"])
        dead_read = pool.submit(depth, stack, stack["RefundDeadLetterQueueUrl"])
        mapping_read = pool.submit(switch_of(stack).mapping_state)
        backup_read = pool.submit(_last_backup, stack)
        gateways_read = pool.map(control.intake, sorted(ADAPTERS))
        now = datetime.now(UTC)
        sweeps_read = pool.map(lambda name: sweep_progress(control, name, now), sorted(ADAPTERS))
        unreadable: list[str] = []
        in_index = open_refunds(stack, at_most, pool, unreadable=unreadable)
        open_now = [refund for refund in in_index if refund["status"] in UNFINISHED]
        gateways = dict(zip(sorted(ADAPTERS), gateways_read, strict=True))
        sweeps = [sweep for sweep in sweeps_read if sweep is not None]
        intake, queue = intake_read.result(), queue_read.result()
        last_backup, damaged = backup_read.result()
        return Found(
            flows=intake.flows,
            mapping_state=mapping_read.result(),
            breaker=intake.breaker.value,
            breaker_since=intake.since,
            breaker_why=intake.why,
            paused_at=intake.paused_at,
            paused_by=intake.paused_by,
            paused_on_behalf_of=intake.paused_on_behalf_of,
            paused_why=intake.paused_why,
            history=[dict(change) for change in intake.history],
            waiting=queue.waiting,
            in_flight=queue.in_flight,
            dead_letters=dead_read.result().all,
            open_refunds=len(open_now),
            paid_though_ended=sum(map(is_seen_paid, in_index)),
            unreadable_refunds=len(unreadable),
            in_review=sum(refund["status"] == Status.IN_REVIEW for refund in open_now),
            awaiting_approval=sum(
                refund["status"] == Status.AWAITING_APPROVAL for refund in open_now
            ),
            balance_short=sum("balance_short_at" in refund for refund in open_now),
            last_backup=last_backup,
            backup_damaged=damaged,
            gateways_down={
                name: f"{state.breaker} since {state.since}: {state.why}"
                for name, state in gateways.items()
                if state.breaker is not BreakerState.CLOSED
            },
            gateways_paused={
                name: f"by {paused_by(state)} since {state.paused_at}: {state.paused_why}"
                for name, state in gateways.items()
                if state.paused
            },
            sweep={sweep.gateway: sweep.looked_at for sweep in sweeps},
            sweep_late=[sweep.gateway for sweep in sweeps if sweep.late],
        )


def _last_backup(stack: Stack) -> tuple[str | None, str | None]:
    """When the newest backup began, and why its digest can't be read, if so."""
    try:
        backup = newest(Bucket(stack.s3, stack["BackupBucketName"]))
    except (DigestError, AbsentError) as exc:
        return None, str(exc)
    return (backup.start_time if backup else None), None


def switch_of(stack: Stack) -> Switch:
    return Switch(
        control=Control(stack.dynamodb, stack["LedgerTableName"]),
        client=stack.functions,
        mapping_id=stack["RefundRequestsMappingId"],
        maximum_concurrency=int(stack["MaximumConcurrency"]),
    )


def paused_by(state: Intake | Found) -> str:
    return acting(state.paused_by, state.paused_on_behalf_of)
