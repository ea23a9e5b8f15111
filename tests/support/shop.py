"""Two weeks of a shop in moto: mostly paid refunds, some of everything else, and hostile names."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import boto3
from moto import mock_aws
from tests.support.audit_backups import Backups, Signer
from tests.support.builders import refund
from tests.support.moto_stack import REGION, Clients, Stack
from tests.support.operators_stack import NAME
from tests.support.world import World

from refunds.domain.audit_entry import audit_entry
from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status, change_status
from refunds.gateways.routing import Gateways
from refunds_console import state
from refunds_ops import dead_letters
from refunds_ops.audit import sources

HOSTILE = "<script>alert(1)</script>"
HOSTILE_USER = f"\"'><img src=x onerror=alert(2)>{HOSTILE}\u202egnp.eb"
PROCESSED_BY = f"{NAME}-ProcessRefund-Ab12Cd:7"
PATHS = {
    Status.PROCESSING: (Status.PROCESSING,),
    Status.REJECTED: (Status.REJECTED,),
    Status.REVERSED: (Status.PROCESSING, Status.SUCCEEDED, Status.REVERSED),
}


@dataclass
class Lived:
    """Refunds with their ledger and trail, as the protocol would have left them."""

    world: World
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def add(self, refund_id: str, ago: timedelta = timedelta(hours=1), **changes: Any) -> Refund:
        """``became``: the status it ended with; ``failure_code`` and the like go with that."""
        began = self.now - ago
        became = changes.pop("became", Status.SUCCEEDED)
        ended = {
            name: changes.pop(name)
            for name in (
                "failure_code",
                "failure_message",
                "gateway_trace",
                "open_since",
                "open_shard",
                "check_at",
                "gateway_refund_id",
            )
            if name in changes
        }
        took = timedelta(seconds=changes.pop("took", 1.4))
        changes.setdefault("transaction_id", f"pay_{refund_id.removeprefix('rf_')}")
        steps = PATHS.get(became, (Status.PROCESSING, became))
        last = refund(
            refund_id=refund_id,
            status=steps[0],
            requested_at=rfc3339(began - timedelta(seconds=1.1)),
            created_at=rfc3339(began),
            updated_at=rfc3339(began),
            key_used_at=rfc3339(began + timedelta(milliseconds=60)),
            processed_by=PROCESSED_BY,
            **changes,
            **(ended if len(steps) == 1 else {}),
        )
        self._audit(last, began)
        for number, status in enumerate(steps[1:], 1):
            at = began + took * number
            last = change_status(
                last,
                status,
                at=rfc3339(at),
                by=PROCESSED_BY,
                previous_hash=audit_entry(last.item())["entry_hash"],
                attempt_token=None,
                lease_until=None,
                **ended,
            )
            self._audit(last, at)
        assert self.world.refunds.put_new(last) is None
        self._hold(last)
        return last

    def _audit(self, made: Refund, at: datetime) -> None:
        entry = audit_entry(made.item())
        self.world.audit.put_new({**entry, "recorded_at": rfc3339(at + timedelta(seconds=1))})

    def _hold(self, made: Refund) -> None:
        amount = made.amount_minor or 0
        if not amount or made.status in (Status.REJECTED, Status.FAILED):
            return
        ledger = self.world.ledger
        if not ledger.reserve(made.transaction_id, made.refund_id, amount):
            captured = max(amount * 4, 10_000)
            assert ledger.open(
                made.transaction_id,
                captured_minor=captured,
                remaining_minor=captured,
                currency=made.currency,
                refund_id=made.refund_id,
                amount_minor=amount,
            )

    def waits_for_approval(self, refund_id: str, **changes: Any) -> Refund:
        """A refund over a limit, asked for by one who can't approve it."""
        now = rfc3339(self.now - timedelta(minutes=40))
        made = refund(
            refund_id=refund_id,
            status=Status.AWAITING_APPROVAL,
            requested_by="agent:bot",
            sent_by="AROASHOP:checkout",
            awaiting={
                "over": "per_refund",
                "limit": "20000",
                "approvers": "1",
                "expires_at": rfc3339(self.now + timedelta(days=6)),
            },
            attempt_token=None,
            lease_until=None,
            key_used_at=None,
            created_at=now,
            updated_at=now,
            open_since=now,
            open_shard="0",
            check_at=now,
            **{"transaction_id": f"pay_{refund_id}", **changes},
        )
        self._audit(made, self.now)
        assert self.world.refunds.put_new(made) is None
        self._hold(made)
        return made

    def dead_letter(self, body: str, **attributes: str) -> str:
        sent = self.world.stack.clients.sqs.send_message(
            QueueUrl=self.world.stack.dead_letter_queue_url,
            MessageBody=body,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value}
                for name, value in attributes.items()
            },
        )
        return str(sent["MessageId"])

    def backups(self, count: int, signer: Signer) -> None:
        """So many daily backups, the newest some hours old."""
        stack = self.world.stack
        clock = SimpleNamespace(at=self.now)
        trail = SimpleNamespace(
            stack=stack,
            clock=SimpleNamespace(now=lambda: clock.at),
            all_items=lambda: {
                table: stack.clients.dynamodb.scan(TableName=table)["Items"]
                for table in (stack.refunds_table, stack.ledger_table, stack.audit_table)
            },
        )
        made: Any = trail
        backups = Backups(made, signer)
        for number in reversed(range(count)):
            clock.at = self.now - timedelta(days=number, hours=5)
            backups.publish()


REASONS = ("requested_by_customer", "order_cancelled", "duplicate", "payment_error")


def shop(world: World, *, refunds: int = 160, seed: int = 7) -> Lived:
    lived, dice = Lived(world), random.Random(seed)
    midnight = lived.now.replace(hour=0, minute=0, second=0, microsecond=0)
    for number in range(refunds):
        # Customers ask in the evening more than at night.
        hours = timedelta(hours=dice.triangular(6, 22, 17))
        at = midnight - timedelta(days=number % 14) + hours
        if at > lived.now - timedelta(minutes=3):
            at -= timedelta(days=14 - dice.randrange(1, 13))
        ago = lived.now - at
        became = dice.choices(
            (Status.SUCCEEDED, Status.FAILED, Status.REJECTED, Status.REVERSED),
            (88, 6, 4, 2),
        )[0]
        code = {Status.FAILED: "card_declined", Status.REJECTED: "amount_exceeds_balance"}
        currency = dice.choices(("EUR", "USD", "JPY"), (70, 22, 8))[0]
        amount = dice.choice((990, 1499, 2500, 3995, 5990, 12_900, 24_000))
        lived.add(
            f"rf_{number:05d}{dice.randrange(16**6):06x}",
            ago,
            user_id=f"u-{1000 + dice.randrange(90)}",
            amount_minor=amount,
            currency=currency,
            reason=dice.choice(REASONS),
            became=became,
            gateway_refund_id=f"re_{dice.randrange(16**12):012x}",
            gateway_trace=f"ARN{dice.randrange(10**11):011d}",
            failure_code=code.get(became),
        )
    waits = {"open_shard": "3", "check_at": rfc3339(lived.now + timedelta(minutes=4))}
    lived.add(
        "rf_pending",
        timedelta(hours=3),
        became=Status.PENDING,
        user_id="u-1042",
        currency="EUR",
        amount_minor=4200,
        gateway_refund_id="re_pending",
        open_since=rfc3339(lived.now - timedelta(hours=3)),
        **waits,
    )
    lived.add(
        "rf_review",
        timedelta(hours=9),
        became=Status.IN_REVIEW,
        user_id="u-1007",
        currency="EUR",
        amount_minor=12_900,
        failure_code="outcome_unknown",
        failure_message="the gateway shows no refund, and its key has expired",
        open_since=rfc3339(lived.now - timedelta(hours=9)),
        **waits,
    )
    lived.waits_for_approval("rf_large", amount_minor=49_000, currency="EUR", user_id="u-1019")
    lived.add(
        "rf_hostile",
        timedelta(minutes=20),
        user_id=HOSTILE_USER,
        requested_by=HOSTILE,
        currency="EUR",
        metadata={HOSTILE[:40]: HOSTILE},
        note=HOSTILE,
        became=Status.FAILED,
        failure_code="card_declined",
        failure_message=HOSTILE,
    )
    lived.dead_letter(
        '{"refund_id":"rf_malformed","amount_minor":"25.00"}',
        error_code="invalid_field",
        error_message="amount_minor: must be an integer of minor units",
    )
    return lived


@contextmanager
def shop_in_moto(**options: Any) -> Iterator[Lived]:
    """A shop in a moto of its own, whose backups the stack's key has signed."""
    signer = Signer()
    with (
        mock_aws(),
        patch.object(sources, "public_key", lambda stack, file: signer.public),
        patch.object(dead_letters, "WAIT_SECONDS", 0),
        # Moto takes longer than AWS.
        patch.object(state, "PATIENCE_SECONDS", 30.0),
    ):
        world = World(
            Stack.create(
                Clients(
                    boto3.client("dynamodb", region_name=REGION),
                    boto3.client("sqs", region_name=REGION),
                    boto3.client("s3", region_name=REGION),
                    boto3.client("events", region_name=REGION),
                )
            )
        )
        with patch.object(sources, "gateways", lambda stack: Gateways([world.gateway])):
            lived = shop(world, **options)
            lived.backups(6, signer)
            yield lived
