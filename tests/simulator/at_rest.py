"""What must be true at the end: after the last fault, with time and reconciler runs enough."""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulator.dynamodb import Item
from tests.simulator.gateway_records import Moved
from tests.simulator.invariants import Checker, as_recorded
from tests.simulator.kernel import Violation
from tests.simulator.rules import HOLDS_MONEY, UNFINISHED

from refunds.domain.audit_entry import SAME_STATUS_EVENTS
from refunds.domain.identifiers import entry_id
from refunds.tables.wire import item_from_wire

SWEPT_SECONDS = 179 * 86_400
"""How far back the sweep looks at the gateway's refunds, with a day's margin."""


@dataclass
class AtRest:
    checker: Checker

    def check(self) -> None:
        for queue in (self.checker.queue, self.checker.dlq):
            for message in queue.messages.values():
                told = self.checker.request_of(message).refund_id or ""
                raise Violation(
                    "I3", f"message {message.id} ({told}) is still in {queue.name}", told
                )
        for (refund_id,), wire in self.checker.refunds.items.items():
            if refund_id not in self.checker.tampered:
                self._agrees(refund_id, item_from_wire(wire))
                self._audited(refund_id, wire)
        for (transaction_id,), wire in self.checker.ledger.items.items():
            if not transaction_id.startswith("#"):
                self._nothing_stuck(transaction_id, item_from_wire(wire))
        self._all_known()
        assert self.checker.refunds.index is not None
        for (refund_id,) in self.checker.refunds.index.entries:
            if "seen_paid_at" in self.checker.refunds.items.get((refund_id,), {}):
                continue  # in sight until a person corrects it
            raise Violation("rule 10", f"{refund_id} is finished and still open", refund_id)

    def _all_known(self) -> None:
        for moved in self.checker.flair.refunds:
            wire = self.checker.refunds.items.get((moved.refund_id,))
            known = wire is not None and wire["transaction_id"]["S"] == moved.transaction_id
            # Of a lost record nobody can know before its request, or a backup, comes back.
            lost = (moved.transaction_id, moved.refund_id) in self.checker.rowless
            if moved.ours and not known and not lost:
                raise Violation(
                    "I3", f"{moved.reference} was paid and is not known", moved.refund_id
                )

    def _agrees(self, refund_id: str, refund: Item) -> None:
        status = refund["status"]
        live = [each for each in self.checker.moved_for(refund) if each.live]
        if status in UNFINISHED:
            raise Violation("I3", f"{refund_id} is {status} for ever", refund_id)
        decided = refund_id in self.checker.careless and "review" in refund
        if decided or refund_id in self.checker.unknowable:
            self._in_sight(refund_id, refund, live)
            return
        # Of a double of the gateway's own making either one is the customer's money.
        wrong = not live if status == "SUCCEEDED" else any(each.ours for each in live)
        if wrong:
            raise Violation(
                "I6", f"{refund_id} ends {status}, the gateway has {live or 'nothing'}", refund_id
            )
        # What a person decided is as the trail says: by whom, and on what evidence.
        if live and "review" not in refund and not as_recorded(refund, live):
            raise Violation("I6", f"{refund_id} differs from what was paid", refund_id)

    def _in_sight(self, refund_id: str, refund: Item, live: list[Moved]) -> None:
        """What ended here without money, and is paid at the gateway, is in front of a person."""
        swept = self.checker.kernel.now - SWEPT_SECONDS
        paid = [each for each in live if each.created_at > swept]
        status = refund["status"]
        if status in ("FAILED", "REJECTED") and paid and "seen_paid_at" not in refund:
            raise Violation(
                "I9", f"{refund_id} is {status}, paid, and in nobody's sight", refund_id
            )

    def _nothing_stuck(self, transaction_id: str, ledger: Item) -> None:
        for name, held in ledger.items():
            if not name.startswith("r#") or held == 0:
                continue
            wire = self.checker.refunds.items.get((name[2:],))
            if (transaction_id, name[2:]) in self.checker.rowless:
                continue  # as long as nobody knows what became of it, its money stays held (I6)
            if wire is None:
                raise Violation("I3", f"{held} reserved for {name[2:]}, unknown", name[2:])
            of_other = wire["transaction_id"]["S"] != transaction_id
            if of_other and self._has_moved(transaction_id, name[2:]):
                # The record of what was paid was lost, and its id came again for another payment.
                # The money has left this one.
                continue
            if of_other or wire["status"]["S"] not in HOLDS_MONEY:
                raise Violation(
                    "I3", f"{held} stays reserved for {name[2:]}, which has ended", name[2:]
                )

    def _has_moved(self, transaction_id: str, refund_id: str) -> bool:
        return any(
            each.live and each.transaction_id == transaction_id
            for each in self.checker.flair.of(refund_id)
        )

    def _has_namesake(self, place: tuple[str, str, int]) -> bool:
        """Whether the same version of the same refund id was of another payment, before its record
        was lost."""
        transaction_id, *version = place
        known = self.checker.images.keys() | self.checker.former.keys()
        return any(key[0] != transaction_id and [*key[1:]] == version for key in known)

    def _first_kept(self, transaction_id: str, refund_id: str) -> int:
        """The first version that a trail still has which was emptied: a late record of the stream
        may have come after that."""
        versions = [
            int(entry["version"]["N"])
            for key, entry in self.checker.audit.items.items()
            if key[0] == transaction_id and entry["refund_id"]["S"] == refund_id
        ]
        return min(versions, default=1)

    def _audited(self, refund_id: str, wire: Item) -> None:
        checker = self.checker
        previous: str | None = None
        last = int(wire["version"]["N"])
        transaction_id = wire["transaction_id"]["S"]
        first = self._first_kept(transaction_id, refund_id) if checker.trail_lost else 1
        for version in range(first, last + 1):
            key = (transaction_id, entry_id(refund_id, version))
            there = checker.audit.items.get(key)
            if there is None:
                raise Violation("I4", f"{refund_id} has no entry of version {version}", refund_id)
            entry = item_from_wire(there)
            place = (transaction_id, refund_id, version)
            checker.compare(entry, checker.images.get(place) or checker.former[place])
            cut = checker.trail_lost and version == first
            if entry["previous_hash"] != previous and not cut:
                raise Violation("I4", f"{refund_id}: the chain breaks at {version}", refund_id)
            previous = entry["entry_hash"]
            told = (refund_id, version) in checker.bus.taken
            if self._has_namesake(place):
                continue  # whose event it was can't be told: both have the id and the version
            if entry["event"] in SAME_STATUS_EVENTS:
                continue  # nobody outside needs to hear of it
            if told == (entry["status"] == "PROCESSING"):
                raise Violation("events", f"{refund_id} version {version}: told {told}", refund_id)
        count = sum(
            key[0] == transaction_id and entry["refund_id"]["S"] == refund_id
            for key, entry in checker.audit.items.items()
        )
        if count != last - first + 1:
            raise Violation("I4", f"{refund_id} has {count} entries of {last} versions", refund_id)
