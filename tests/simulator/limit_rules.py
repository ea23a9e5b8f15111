"""What must hold of limits and approval, after every write and when all has settled.

Like ``invariants.py`` it has its own copy of the rules.

- Never over a limit: what was counted on a day, and did not end without money, is within it.
- Exact: after every write a counter comes to exactly what its refunds say, each once.
- Nothing is claimed without its count or its approval; nobody approves what they requested, sent or
  approved before; nothing is approved after its time, and none ends before it as expired.
- No share is held for ever: at the end whatever ended without money has given its share back.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.simulator.dynamodb import Item, Key, Table
from tests.simulator.gateway import Flair
from tests.simulator.gateway_records import Moved
from tests.simulator.kernel import Kernel, Violation

from refunds.domain.limits import Limits
from refunds.tables.wire import item_from_wire

PAID_NOTHING = {"REJECTED", "FAILED", "REVERSED"}
LARGEST_SKEW_SECONDS = 100.0


@dataclass
class LimitChecker:
    kernel: Kernel
    limits: Limits
    refunds: Table
    ledger: Table
    flair: Flair
    highest: dict[str, int] = field(default_factory=dict)
    """The highest that an exception ever made of a limit: ``per_refund``, ``user_day``,
    ``user_count``."""

    def __post_init__(self) -> None:
        if not self.limits.on:
            return
        self.refunds.on_write.append(self.refund_written)
        self.ledger.on_write.append(self.counter_written)
        self.flair.on_movement.append(self.money_moved)

    # --- after every step -----------------------------------------------------------------------

    def refund_written(self, key: Key, old_wire: Item | None, new_wire: Item | None) -> None:
        if new_wire is None:
            return
        new = item_from_wire(new_wire)
        old = item_from_wire(old_wire) if old_wire else None
        was = old["status"] if old else None
        if was is None and new["status"] == "PROCESSING":
            self._claimed(new)
        if was is None and new["status"] == "AWAITING_APPROVAL":
            self.kernel.counts[f"over {new['awaiting']['over']}"] += 1
        if was == "AWAITING_APPROVAL":
            self._decided(old or {}, new)
        if new.get("uncounted") and not (old or {}).get("uncounted"):
            self.kernel.counts["shares given back"] += 1
            if new["status"] not in PAID_NOTHING:
                raise _violation(new, f"gives its share back as {new['status']}")
        for which, counter in self._counters_of(new):
            self._within(which, new, new["counted"][which].split()[0])
            self._exact(which, counter)

    def counter_written(self, key: Key, old: Item | None, new: Item | None) -> None:
        if not key[0].startswith("#limits#") or new is None:
            return
        self.kernel.counts["writes of counters"] += 1
        before = item_from_wire(old) if old else {}
        after = item_from_wire(new)
        if after["day"] < before.get("day", ""):
            raise Violation("limits", f"{key[0]} went back to {after['day']}", key[0])
        if after["day"] != before.get("day"):
            self.kernel.counts["counters that began a day"] += 1
            # The attributes that left with the day are those of the day before.
            now = self.kernel.now
            days = {_day(now - LARGEST_SKEW_SECONDS), _day(now + LARGEST_SKEW_SECONDS)}
            if after["day"] not in days:
                raise Violation("limits", f"{key[0]} began {after['day']} on {_day(now)}", key[0])
        self._exact("user" if key[0].startswith("#limits#user#") else "all", key[0])

    def money_moved(self, moved: Moved) -> None:
        wire = self.refunds.items.get((moved.refund_id,))
        if moved.ours and wire is not None and wire["status"]["S"] == "AWAITING_APPROVAL":
            raise Violation("limits", f"{moved.refund_id} was paid unapproved", moved.refund_id)

    def _claimed(self, new: Item) -> None:
        """A refund that goes out without a person is within the limits of one refund, and counted
        in every counter that is on."""
        if any(each.live for each in self.flair.of(new["refund_id"])):
            return  # paid before; there is nothing left to approve
        amount = new["amount_minor"]
        if self.limits.per_refund is not None:
            most = self.limits.per_refund.get(new["currency"], 0)
            if amount > max(most, self.highest.get("per_refund", 0)):
                raise _violation(new, f"claimed {amount} unapproved, over the limit of one refund")
        above = self.limits.approve_above
        if above is not None and amount > above.get(new["currency"], 0):
            raise _violation(new, f"claimed {amount} unapproved, and needs approval")
        wanted = set()
        if self.limits.user_day is not None or self.limits.user_count is not None:
            wanted.add("user")
        if self.limits.day is not None or self.limits.stop_above is not None:
            wanted.add("all")
        if set(new.get("counted", {})) != wanted:
            raise _violation(new, f"claimed, and counted in {sorted(new.get('counted', {}))}")

    def _decided(self, old: Item, new: Item) -> None:
        awaiting, approvals = old["awaiting"], new.get("approvals", [])
        if new["status"] == "PROCESSING":
            if approvals and approvals[-1]["decision"] == "already_paid":
                if not any(each.live for each in self.flair.of(new["refund_id"])):
                    raise _violation(new, "goes on as paid before, and was not")
                return
            people = [each["by"].rpartition("/")[2] for each in approvals]
            self.kernel.counts["approved"] += 1
            asked = {new["requested_by"].rpartition(":")[2], new["sent_by"].rpartition(":")[2]}
            if set(people) & asked:
                raise _violation(new, f"approved by {people}, asked for by {asked}")
            if len(set(people)) < self._approvers(new):
                raise _violation(new, f"goes on with the approval of {people}")
            if new["updated_at"] >= awaiting["expires_at"]:
                raise _violation(new, "approved after its approval expired")
        if new["status"] == "REJECTED" and new["failure_code"] == "approval_expired":
            self.kernel.counts["approval expired"] += 1
            if new["updated_at"] < awaiting["expires_at"]:
                raise _violation(new, "expired before its time")

    def _approvers(self, refund: Item) -> int:
        second = self.limits.second_approval_above
        if second is None:
            return 1
        return 2 if refund["amount_minor"] > second.get(refund["currency"], 0) else 1

    def _within(self, which: str, refund: Item, day: str) -> None:
        """What is counted beside this refund, on its day, is within the limit."""
        there = [
            each
            for each in self._rows()
            if each.get("counted", {}).get(which, "").startswith(day)
            and each["status"] not in PAID_NOTHING
            and (which == "all" or each["user_id"] == refund["user_id"])
        ]
        same = [each for each in there if each["currency"] == refund["currency"]]
        total = sum(each["amount_minor"] for each in same)
        amounts = self.limits.user_day if which == "user" else self.limits.day
        if amounts is not None:
            most = amounts.get(refund["currency"], 0)
            if which == "user":
                most = max(most, self.highest.get("user_day", 0))
            if total > most:
                raise _violation(refund, f"{which} {day} comes to {total}, the limit is {most}")
        if which == "user" and self.limits.user_count is not None:
            most = max(self.limits.user_count, self.highest.get("user_count", 0))
            if len(there) > most:
                raise _violation(refund, f"{len(there)} refunds on {day}, the limit is {most}")

    def _exact(self, which: str, key: str) -> None:
        """A counter, less what its entries are void for, comes to what its refunds say."""
        wire = self.ledger.items.get((key,))
        if wire is None:
            return
        item = item_from_wire(wire)
        says: Counter[str] = Counter({"count": item["count"]})
        says.update({name[4:]: value for name, value in item.items() if name.startswith("sum#")})
        is_so: Counter[str] = Counter()
        for row in self._rows():
            counted = row.get("counted", {}).get(which, "")
            mine = any(each == (which, key) for each in self._counters_of(row))
            if mine and counted.startswith(item["day"]) and "uncounted" not in row:
                is_so.update({"count": 1, row["currency"]: row["amount_minor"]})
        for name, value in item.items():
            if name[:2] not in ("s#", "b#"):
                continue
            token, amount, currency = value.split()
            worth = Counter({"count": 1, currency: int(amount)})
            row_wire = self.refunds.items.get((name.split("#")[1],))
            row = item_from_wire(row_wire) if row_wire else {}
            surplus = row.get("counted", {}).get(which) != f"{item['day']}/{item['began']} {token}"
            void = row.get("uncounted", {}).get(which) == token
            if name.startswith("s#") and not row:
                is_so.update(worth)
            elif surplus if name.startswith("s#") else void:
                says.subtract(worth)
        if +says != +is_so:
            raise Violation("limits", f"{key} says {dict(+says)}, it is {dict(+is_so)}", key)

    def _counters_of(self, refund: Item) -> Iterator[tuple[str, str]]:
        keys: dict[str, Callable[[], str]] = {
            "user": lambda: (
                "#limits#user#" + hashlib.sha256(refund["user_id"].encode()).hexdigest()[:32]
            ),
            "all": lambda: "#limits#all#" + refund["currency"],
        }
        for which in refund.get("counted", {}):
            yield which, keys[which]()

    def _rows(self) -> Iterator[Item]:
        return (item_from_wire(wire) for wire in self.refunds.items.values())

    # --- when all has settled -------------------------------------------------------------------

    def settled(self) -> None:
        if not self.limits.on:
            return
        for row in self._rows():
            kept = "counted" in row and "uncounted" not in row and "seen_paid_at" not in row
            if kept and row["status"] in PAID_NOTHING:
                raise _violation(row, f"is {row['status']} and keeps its share for ever")
        for (key,), wire in self.ledger.items.items():
            if key.startswith("#limits#"):
                for name in wire:
                    if name.startswith("s#") and (name.split("#")[1],) not in self.refunds.items:
                        raise Violation("limits", f"{key} holds {name} for ever", key)


def _violation(refund: Item, what: str) -> Violation:
    return Violation("limits", f"{refund['refund_id']} {what}", refund["refund_id"])


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
