"""A person restores the tables, with the rules and the code of `refunds restore`.

What is left out is the way of the rows: a backup here is a copy of the items.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from botocore.exceptions import ClientError
from tests.simulator.dynamodb import Item
from tests.simulator.functions import TABLES, Environment
from tests.simulator.kernel import TaskPool
from tests.simulator.world import World

from refunds.domain.clock import Deadline
from refunds.domain.refund import Refund
from refunds.tables.state import MESSAGES_RETURN_WITHIN
from refunds.tables.wire import condition_failed, item_from_wire
from refunds_ops.backup.audit_chains import AuditChains, Restorer
from refunds_ops.backup.ledger_rebuild import LedgerRebuild, open_unfinished
from refunds_ops.backup.progress import Progress

AGAIN_SECONDS = 120.0
"""After which a person repeats a restore that did not come to its end."""

Backup = list[Item]
"""The rows of the Refunds table."""


def back_up(world: World) -> Backup:
    return list(world.refunds.items.values())


def quietly(world: World, action: Any) -> None:
    """Do something while requests are held and nothing is under way, as the runbook has it."""
    world.source.switch(enabled=False, concurrency=world.tap.most)

    def attempt() -> None:
        if world.functions.running or not world.stream.drained():
            if world.stream.given_up:
                given_up, world.stream.given_up = world.stream.given_up, []
                world.stream.replay(given_up)
            world.kernel.after(5.0, attempt)
            return
        action()

    attempt()


def requests_flow(world: World) -> None:
    world.source.switch(enabled=True, concurrency=world.tap.most)


def restore(world: World, backup: Backup) -> None:
    """Put the rows of ``backup`` back, and what only the trail has; then requests flow again."""
    done: list[Any] = []

    def put_back(env: Environment, deadline: Deadline) -> None:
        _put_back(world, env, backup)
        done.append(True)

    def over() -> None:
        if done:
            world.kernel.counts["wall restored"] += 1
            requests_flow(world)
        else:
            world.kernel.after(AGAIN_SECONDS, lambda: restore(world, backup))

    world.functions.invoke("operator", put_back, lambda result: None, over)


def _put_back(world: World, env: Environment, backup: Backup) -> None:
    protocol = env.protocol
    restorer = Restorer("operator:jo", "the tables were lost", "backup 1")
    chains = AuditChains(protocol.audit, env.clock, restorer)
    protocol.control.set_look_up_first(env.clock.now() + MESSAGES_RETURN_WITHIN)
    for row in backup:
        continued = chains.continued(row)
        _put(
            world, continued or row, newest=_version(continued) - 1 if continued else _version(row)
        )
    for refund_id, entry in _latest_entries(world).items():
        if (refund_id,) not in world.refunds.items:
            _put(world, chains.from_trail(entry), newest=entry["version"])
    refunds = [
        Refund.from_item(item_from_wire(item)) for item in list(world.refunds.items.values())
    ]
    LedgerRebuild(
        ledger=protocol.ledger,
        gateways=protocol.gateways,
        clock=env.clock,
        pool=cast(Any, TaskPool(world.kernel)),
        sleep=world.kernel.pause,
    ).run(refunds, _Unsaved(Path()), lambda what, done, total: None)
    open_unfinished(protocol.refunds, refunds, env.clock)


def _version(row: Item) -> int:
    return int(row["version"]["N"])


def _put(world: World, row: Item, newest: int) -> None:
    """As ``RowRestore`` does: what is missing, or older."""
    try:
        world.services.dynamodb.put_item(
            TableName=TABLES.refunds,
            Item=row,
            ConditionExpression="attribute_not_exists(refund_id) OR #version < :newest",
            ExpressionAttributeNames={"#version": "version"},
            ExpressionAttributeValues={":newest": {"N": str(newest)}},
        )
    except ClientError as exc:
        if not condition_failed(exc):
            raise


def _latest_entries(world: World) -> dict[str, Item]:
    latest: dict[str, Item] = {}
    for wire in list(world.audit.items.values()):
        entry = item_from_wire(wire)
        there = latest.get(entry["refund_id"])
        if there is None or there["version"] < entry["version"]:
            latest[entry["refund_id"]] = entry
    return latest


class _Unsaved(Progress):
    """A restore that begins again from the start each time."""

    def save(self) -> None:
        """Nowhere."""
