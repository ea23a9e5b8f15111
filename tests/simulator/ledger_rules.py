"""What must hold after every change of a payment's ledger (I2, I6, rules 2, 3 and 12).

Like ``invariants.py`` it has its own copy of the rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulator.dynamodb import Item, Key
from tests.simulator.invariants import Checker
from tests.simulator.kernel import Violation
from tests.simulator.rules import HOLDS_MONEY

from refunds.tables.wire import item_from_wire


@dataclass
class LedgerChecker:
    """``checker``: what it knows of the refunds that the ledgers hold money for."""

    checker: Checker

    def __post_init__(self) -> None:
        self.checker.ledger.on_write.append(self.ledger_written)

    def ledger_written(self, key: Key, old_wire: Item | None, new_wire: Item | None) -> None:
        transaction_id = key[0]
        if transaction_id.startswith("#"):
            return
        if new_wire is None:
            raise Violation("rule 12", f"ledger {transaction_id} was deleted", transaction_id)
        old = item_from_wire(old_wire) if old_wire else {}
        new = item_from_wire(new_wire)
        before = {name[2:]: value for name, value in old.items() if name.startswith("r#")}
        after = {name[2:]: value for name, value in new.items() if name.startswith("r#")}
        for refund_id in before.keys() | after.keys():
            held, holds = before.get(refund_id), after.get(refund_id)
            if held != holds:
                self._reservation_changed(transaction_id, refund_id, held, holds, new)
        if "captured" not in new:
            return
        sum_before, sum_after = sum(before.values()), sum(after.values())
        kept = (
            old.get("captured") == new["captured"]
            and old["remaining"] + sum_before == new["remaining"] + sum_after
        )
        if not kept and not self._kept_back(old, new, before, after):
            self._recounted(transaction_id, new["captured"] - new["remaining"] - sum_after, after)
        raised = [name for name in after if after[name] > before.get(name, 0)]
        if raised and new["remaining"] < 0 and kept and not all(map(self._moved_before, raised)):
            raise Violation("I2", f"{transaction_id}: more reserved than remained", transaction_id)

    def _reservation_changed(
        self, transaction_id: str, refund_id: str, held: int | None, holds: int | None, new: Item
    ) -> None:
        if holds:
            self.checker.unheld.discard(refund_id)
        if holds is None:
            raise Violation("rule 3", f"r#{refund_id} was removed", refund_id)
        if held == 0 and not self._corrected(refund_id) and not self._paid_after_all(refund_id):
            raise Violation("rule 3", f"{refund_id} reserved again after its release", refund_id)
        self.checker.kernel.log(
            "ledger", f"r#{refund_id} {held} to {holds}, remaining {new.get('remaining')}"
        )
        if not held:
            return
        if holds != 0:
            raise Violation("rule 2", f"r#{refund_id} went from {held} to {holds}", refund_id)
        self._released(transaction_id, refund_id)

    def _released(self, transaction_id: str, refund_id: str) -> None:
        wire = self.checker.refunds.items.get((refund_id,))
        if wire is None:
            raise Violation("I6", f"{refund_id} was released and has no outcome", refund_id)
        paid = any(each.live and each.ours for each in self.checker.flair.of(refund_id))
        if wire["transaction_id"]["S"] != transaction_id:
            # What a refund holds whose record was lost is not released for another payment's.
            if paid and (transaction_id, refund_id) in self.checker.rowless:
                raise Violation("I6", f"{refund_id} was released, its record is lost", refund_id)
            return
        self.checker.reserved(refund_id)
        paid = any(each.live and each.ours for each in self.checker.moved_for(item_from_wire(wire)))
        if paid and refund_id not in self.checker.careless:
            raise Violation("I6", f"{refund_id} was released, its money is gone", refund_id)

    def _kept_back(
        self, old: Item, new: Item, before: dict[str, int], after: dict[str, int]
    ) -> bool:
        """Whether this is a release of what a person ended as not paid against the gateway's word:
        what the gateway moved is not given back."""
        released = [name for name in before if before[name] > 0 and after.get(name) == 0]
        return (
            len(released) == 1
            and released[0] in self.checker.careless
            and old.get("captured") == new["captured"]
            and 0 <= new["remaining"] - old["remaining"] < before[released[0]]
        )

    def _moved_before(self, refund_id: str) -> bool:
        """Whether its money has moved already: to hold that again, or for the first time after a
        loss, takes nothing more from the payment."""
        return self._corrected(refund_id) or any(
            each.live for each in self.checker.flair.of(refund_id)
        )

    def _paid_after_all(self, refund_id: str) -> bool:
        """Whether it had ended, lost its record, and goes on because the gateway has moved it."""
        wire = self.checker.refunds.items.get((refund_id,))
        goes_on = wire is not None and wire["status"]["S"] in HOLDS_MONEY
        return goes_on and any(each.live for each in self.checker.flair.of(refund_id))

    def _corrected(self, refund_id: str) -> bool:
        """Whether a person has put right what ended here and is paid at the gateway."""
        wire = self.checker.refunds.items.get((refund_id,))
        return wire is not None and wire["status"]["S"] == "SUCCEEDED" and "review" in wire

    def _recounted(self, transaction_id: str, foreign: int, after: dict[str, int]) -> None:
        """I2: what the ledger leaves for others is no less than what was last read of them."""
        task = self.checker.kernel.task()
        read = self.checker.network.foreign_read.get((id(task), transaction_id))
        if read is None:
            raise Violation(
                "I2", f"{transaction_id}: the balance changed without a look", transaction_id
            )
        # What was moved beyond what a call asked for is another's, unless it is reserved by now.
        for moved in self.checker.flair.refunds:
            if moved.ours and moved.transaction_id == transaction_id and moved.live:
                read -= max(0, after.get(moved.refund_id, 0) - moved.asked)
        self.checker.kernel.log("recount", f"{transaction_id}: {foreign} refunded by others")
        if foreign < read:
            raise Violation(
                "I2",
                f"{transaction_id}: others had {read} when last read, the ledger says {foreign}",
                transaction_id,
            )
