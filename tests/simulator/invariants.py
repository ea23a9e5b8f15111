"""What must hold after every step, of refunds, movements of money, messages and audit entries.

The checker hears of every change in the tables, the queues and the gateway's ledger as it happens.
`ledger_rules.py` has what must hold of the payments' ledgers.
It has its own copy of the rules; from production code it takes only the audit entry's format and
the reading of a message.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.simulator.aws import S3, EventBridge
from tests.simulator.dynamodb import Item, Key, Table
from tests.simulator.gateway import Flair
from tests.simulator.gateway_records import Moved
from tests.simulator.kernel import Kernel, Violation
from tests.simulator.network import Network
from tests.simulator.rules import HOLDS_MONEY, INTERNAL, MAY_FOLLOW, NEVER_CHANGES, UNFINISHED
from tests.simulator.sources import StreamSource
from tests.simulator.sqs import SQS, Message, Queue

from refunds.domain.audit_entry import audit_entry
from refunds.domain.clock import from_rfc3339
from refunds.domain.request import RefusedError, parse_message
from refunds.tables.wire import item_from_wire

LARGEST_SKEW_SECONDS = 100.0


@dataclass
class Asked:
    """A message's request: its refund id and fingerprint, or None when it can't be one."""

    refund_id: str | None
    fingerprint: str | None


@dataclass
class Checker:
    kernel: Kernel
    refunds: Table
    ledger: Table
    audit: Table
    sqs: SQS
    queue: Queue
    dlq: Queue
    flair: Flair
    network: Network
    bus: EventBridge
    s3: S3
    stream: StreamSource
    asked: dict[str, Asked] = field(default_factory=dict)
    images: dict[tuple[str, str, int], Item] = field(default_factory=dict)
    former: dict[tuple[str, str, int], Item] = field(default_factory=dict)
    """Images of chains whose trail was lost: a record of theirs may still be on its way."""
    trail_lost: bool = False
    lost: bool = False
    """Whether tables have lost items: chains may go on where their records do not."""
    tampered: set[str] = field(default_factory=set)
    """Refunds that a scripted history has changed by hand."""
    careless: set[str] = field(default_factory=set)
    """Decided by a person without waiting, or without looking."""
    rowless: set[tuple[str, str]] = field(default_factory=set)
    """Payment and id of refunds whose record was lost, until it is there again. A record of that
    id that is another payment's is not theirs."""
    unheld: set[str] = field(default_factory=set)
    """Refunds whose reservation was lost, until it is held again."""
    lost_amounts: set[tuple[str, int]] = field(default_factory=set)
    """Refund ids and amounts of records that were lost together with the trail."""
    given_back: set[str] = field(default_factory=set)
    """Refunds whose record was lost after their money was given back, and claimed again since. They
    hold nothing: ``money_moved`` sees to it that they are never called for."""
    unknowable: set[str] = field(default_factory=set)
    """Refunds that were rejected when tables and trail had forgotten them, their payment was
    archived and the gateway hid them. The gateway's list brings them back into sight."""
    gateway_hides: bool = False
    """Whether this history's gateway may hide refunds: a person who looks may then be misled."""
    _wanted: dict[tuple[str, str, int], Item] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.refunds.on_write.append(self.refund_written)
        self.audit.on_write.append(self.entry_written)
        self.sqs.on_gone.append(self.message_gone)
        self.flair.on_movement.append(self.money_moved)

    def forget(self) -> None:
        """Tables have lost items: what is written from here on may continue older chains."""
        self.lost = True
        if not self.audit.items:
            self.trail_lost = True
            self.lost_amounts |= {
                (refund_id, image["amount_minor"])
                for (_, refund_id, _), image in self.images.items()
                if "amount_minor" in image  # a REJECTED request for all that was left has none
            }
            self.former |= self.images
            self.images.clear()
            self._wanted.clear()
            self.bus.taken.clear()

    def lose(self, table: Table) -> None:
        """The table is about to lose every item."""
        if table is self.refunds:
            self.rowless |= {
                (item["transaction_id"]["S"], refund_id)
                for (refund_id,), item in table.items.items()
            }
        if table is self.ledger:
            for item in table.items.values():
                self.unheld |= {name[2:] for name in item if name.startswith("r#")}

    def refund_written(self, key: Key, old_wire: Item | None, new_wire: Item | None) -> None:
        refund_id = key[0]
        if refund_id in self.tampered:
            return
        if new_wire is None:
            raise Violation("rule 12", f"refund {refund_id} was deleted", refund_id)
        new = item_from_wire(new_wire)
        mine = (new["transaction_id"], refund_id)
        # Its money, or that of a request with its id for another payment, was given back before.
        if self._has_tombstone(new_wire) and any(lost == refund_id for _, lost in self.rowless):
            self.given_back.add(refund_id)
        self.rowless.discard(mine)
        old = item_from_wire(old_wire) if old_wire else None
        was: str | None = old["status"] if old else None
        status: str = new["status"]
        if was != status:
            self.kernel.counts[f"status {status}"] += 1
            self.kernel.log("status", f"{refund_id} {was or 'new'} to {status}")
            if status not in MAY_FOLLOW[was] and not (was is None and self.lost):
                raise Violation("I5", f"{refund_id} went from {was} to {status}", refund_id)
        if old is not None:
            self._changed(refund_id, old, new)
        elif new["version"] != 1 and not self.lost:
            raise Violation("I4", f"{refund_id} begins at version {new['version']}", refund_id)
        self.images.setdefault((new["transaction_id"], refund_id, new["version"]), new)
        self._evidence(refund_id, old, new)
        if (was, status) not in (("FAILED", "SUCCEEDED"), ("REJECTED", "SUCCEEDED")):
            # A correction holds its money again right after this. Until then, and after a crash,
            # a count finds it at the gateway as another's.
            self.reserved(refund_id)
        self._findable(refund_id)

    def _has_tombstone(self, wire: Item) -> bool:
        ledger = self.ledger.items.get((wire["transaction_id"]["S"],), {})
        return ledger.get("r#" + wire["refund_id"]["S"]) == {"N": "0"}

    def _changed(self, refund_id: str, old: Item, new: Item) -> None:
        for name in NEVER_CHANGES:
            begins = name == "key_used_at" and old["status"] == "AWAITING_APPROVAL"
            if old.get(name) != new.get(name) and not (begins and name not in old):
                raise Violation("rule 5", f"{refund_id}: {name} changed", refund_id)
        audited = any(
            old.get(name) != new.get(name) for name in (old.keys() | new.keys()) - INTERNAL
        )
        if new["version"] != old["version"] + audited:
            raise Violation(
                "I4",
                f"{refund_id} went from version {old['version']} to {new['version']},"
                f" audited attributes {'' if audited else 'un'}changed",
                refund_id,
            )
        if old.get("attempt_token") != new.get("attempt_token"):
            self.kernel.counts["takeovers"] += 1
            self.kernel.log("take over", f"{refund_id} was {old['status']}")

    def _evidence(self, refund_id: str, old: Item | None, new: Item) -> None:
        """An end needs evidence: the gateway's ledger must agree at the moment of writing."""
        was = old["status"] if old else None
        if was == new["status"]:
            return
        there = self.moved_for(new)
        live = [each for each in there if each.live]
        if was == "IN_REVIEW" and refund_id in self.careless and "review" in new:
            self._decided(refund_id, new, live)
            return
        if was is None and "review" in new:
            return  # put back as a person had decided it
        if was is None and new["status"] == "REJECTED" and self.trail_lost and self.gateway_hides:
            self.unknowable.add(refund_id)
            return
        match new["status"]:
            case "SUCCEEDED" if not any(each.ever_succeeded for each in there):
                raise Violation("I6", f"{refund_id} SUCCEEDED and no money moved", refund_id)
            case "SUCCEEDED" if not _is_for_a_person(old) and not as_recorded(new, live or there):
                raise Violation("rule 7", f"{refund_id} is not what was paid", refund_id)
            case "FAILED" | "REVERSED" | "REJECTED" if any(each.ours for each in live):
                raise Violation(
                    "I6", f"{refund_id} {new['status']} and the gateway has the money", refund_id
                )

    def moved_for(self, refund: Item) -> list[Moved]:
        """What the gateway has moved for a refund, as far as its own attempts can know of it."""
        host = urlsplit(refund["gateway_account"]).hostname or ""
        reference = refund.get("gateway_reference") or refund["refund_id"]
        return self._known(refund["refund_id"], refund["transaction_id"], host, reference)

    def _known(self, refund_id: str, transaction_id: str, host: str, reference: str) -> list[Moved]:
        """What the gateway has moved for an id, without what is lost of another payment.

        An id may have been used for two payments, of two accounts or under two stages, and the
        record of one been lost. Nothing that the other's attempt can read knows of the lost one:
        neither its payment's trail, nor the account that is configured, asked by today's reference.
        What was moved for the lost one says nothing about the other. Its record stays lost:
        ``rowless``.
        """
        return [
            each
            for each in self.flair.of(refund_id)
            if each.transaction_id == transaction_id
            or (each.host == host and each.reference == reference)
            or (each.transaction_id, each.refund_id) not in self.rowless
        ]

    def _decided(self, refund_id: str, new: Item, live: list[Moved]) -> None:
        """A careless decision stands, and its evidence says that it is against the gateway."""
        wrong = bool(live) if new["status"] == "FAILED" else not live
        if not wrong:
            return
        self.kernel.counts["decisions against the gateway"] += 1
        if not self.gateway_hides and new["review"].get("against_gateway") != "true":
            raise Violation(
                "rule 9", f"{refund_id}: a decision against the gateway without a word", refund_id
            )

    def reserved(self, refund_id: str) -> None:
        """I6: whatever may have moved money, or may yet, keeps its reservation. One that was lost
        with its table is held again before money moves (``money_moved``), not before."""
        wire = self.refunds.items.get((refund_id,))
        if wire is None or wire["status"]["S"] not in HOLDS_MONEY or refund_id in self.tampered:
            return
        if refund_id in self.unheld or refund_id in self.given_back:
            return
        ledger = self.ledger.items.get((wire["transaction_id"]["S"],), {})
        held = int(ledger.get("r#" + refund_id, {"N": "0"})["N"])
        wanted = int(wire["amount_minor"]["N"])
        if held != wanted:
            raise Violation(
                "I6",
                f"{refund_id} is {wire['status']['S']} over {wanted} and holds {held}",
                refund_id,
            )

    def _findable(self, refund_id: str) -> None:
        """Rule 10: unfinished means in the index, under a running lease, or with a message."""
        wire = self.refunds.items.get((refund_id,))
        if wire is None or wire["status"]["S"] not in UNFINISHED or refund_id in self.tampered:
            return
        if "open_shard" in wire and "check_at" in wire:
            return
        fingerprint = wire["fingerprint"]["S"]
        for queue in (self.queue, self.dlq):
            for message in queue.messages.values():
                asked = self.request_of(message)
                if (asked.refund_id, asked.fingerprint) == (refund_id, fingerprint):
                    return
        if "lease_until" in wire:
            ends = from_rfc3339(wire["lease_until"]["S"]).timestamp() + LARGEST_SKEW_SECONDS
            if ends > self.kernel.now:
                self.kernel.after(ends - self.kernel.now, lambda: self._findable(refund_id))
                return
        raise Violation(
            "rule 10",
            f"{refund_id} is {wire['status']['S']}, in no index, with no lease and no message",
            refund_id,
        )

    def money_moved(self, moved: Moved) -> None:
        if not moved.ours or moved.gateways_own:
            return  # nobody asked for it: LedgerChecker sees to it that it counts
        self.kernel.counts["movements of money"] += 1
        reference = moved.refund_id
        known = self._known(reference, moved.transaction_id, moved.host, moved.reference)
        if sum(each.ours for each in known) > 1:
            raise Violation("I1", f"{reference} was paid twice", reference)
        wire = self.refunds.items.get((reference,))
        if reference in self.careless and wire is not None and "review" in wire:
            self.kernel.counts["money moved after a careless decision"] += 1
            return  # its call was under way when a person decided; AtRest looks for it
        ledger = self.ledger.items.get((moved.transaction_id,), {})
        held = int(ledger.get("r#" + reference, {"N": "0"})["N"])
        # Its call was under way when the ledger was lost. Whoever begins it again counts this.
        lost = reference in self.unheld and "captured" not in ledger
        given_back = ledger.get("r#" + reference) == {"N": "0"}
        if held != moved.asked and not given_back and (reference, moved.asked) in self.lost_amounts:
            # Its call was under way when tables and trail were lost. The ledger was begun again
            # for another refund, or its request for all that was left was claimed again for what is
            # left now. Nothing knows of the first amount until the next look-up.
            lost = True
        if moved.live and held != moved.amount and moved.as_asked and not lost:
            raise Violation(
                "I2", f"{moved.amount} moved for {reference}, which holds {held}", reference
            )
        if (moved.transaction_id, reference) in self.rowless:
            return  # the same of its record: its request, or a backup, finds it at the gateway
        if wire is None or wire["status"]["S"] not in UNFINISHED:
            status = wire and wire["status"]["S"]
            raise Violation("rule 5", f"money moved for {reference}, which is {status}", reference)

    def message_gone(self, message: Message) -> None:
        """I3: a message may go once its request is recorded, refused or archived."""
        asked = self.request_of(message)
        told = f"{message.id} ({asked.refund_id})"
        if message.gone == "expired" and not self._settled(message, asked):
            raise Violation(
                "I3", f"message {told} grew too old and vanished", asked.refund_id or ""
            )
        if message.gone == "archived":
            self.kernel.counts["messages archived"] += 1
            kept = [json.loads(body).get("body") for body in self.s3.objects.values()]
            if message.body not in kept:
                raise Violation("I3", f"message {told} is not in S3", asked.refund_id or "")
        elif not self._settled(message, asked):
            raise Violation(
                "I3", f"message {told} was deleted and is not settled", asked.refund_id or ""
            )
        if asked.refund_id is not None:
            self._findable(asked.refund_id)

    def _settled(self, message: Message, asked: Asked) -> bool:
        wire = self.refunds.items.get((asked.refund_id,)) if asked.refund_id else None
        if wire is not None and wire["fingerprint"]["S"] == asked.fingerprint:
            # A PROCESSING one is looked for by rule 10.
            return True
        copies = [each for each in self.sqs.all.values() if each.body == message.body]
        return any(
            # Refused, or sent again because its gateway is down.
            "error_code" in each.attributes or (each is not message and each.queue is not None)
            for each in copies
        )

    def request_of(self, message: Message) -> Asked:
        asked = self.asked.get(message.body)
        if asked is None:
            try:
                request = parse_message(message.body)
                asked = Asked(request.refund_id, request.fingerprint())
            except RefusedError:
                asked = Asked(None, None)
            self.asked[message.body] = asked
        return asked

    def entry_written(self, key: Key, old: Item | None, new: Item | None) -> None:
        """I4: an entry appears once, as its version's image has it, and then never changes."""
        if old is not None or new is None:
            raise Violation("I4", f"entry {key[1]} was changed", key[1].split("#")[1])
        entry = item_from_wire(new)
        refund_id = entry["refund_id"]
        image = self.images.get((key[0], refund_id, entry["version"]))
        if refund_id in self.tampered:
            return
        if image is None:
            image = self.former.get((key[0], refund_id, entry["version"]))
        if image is None:
            raise Violation("I4", f"entry {key[1]} is of no version that was", refund_id)
        self.compare(entry, image)

    def compare(self, entry: Item, image: Item) -> None:
        key = (entry["transaction_id"], entry["refund_id"], entry["version"])
        wanted = self._wanted.get(key)
        if wanted is None:
            wanted = self._wanted[key] = audit_entry(image)
        found = {name: value for name, value in entry.items() if name != "recorded_at"}
        if found != wanted:
            raise Violation(
                "I4", f"entry {entry['entry_id']} is not what happened", entry["refund_id"]
            )


def _is_for_a_person(old: Item | None) -> bool:
    """Whether a person decides what became of the refund, or corrects a decision against the
    gateway. The amounts may differ then."""
    if old is None:
        return False
    return bool(
        old["status"] == "IN_REVIEW"
        or (old["status"] == "FAILED" and old.get("review", {}).get("against_gateway") == "true")
    )


def as_recorded(refund: Item, there: list[Moved]) -> bool:
    wanted = (refund["amount_minor"], refund["currency"], refund["transaction_id"])
    return any((each.amount, each.currency, each.transaction_id) == wanted for each in there)
