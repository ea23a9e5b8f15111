"""Flair: its ledger of what really happened, its API, and the network between it and us.

The server's part of a call happens whether or not the caller still lives. What it answers may be
lost, late or a lie; its ledger never lies, and the invariants are checked against that.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.simulator.aws import Secret
from tests.simulator.gateway_records import Moved, Paid, same_account
from tests.simulator.kernel import Kernel

from refunds.domain.clock import from_rfc3339
from refunds.gateways.http import HttpResponse

KEY_LIFETIME_SECONDS = 24 * 3600.0


@dataclass
class KeyUse:
    first_at: float
    body: bytes
    response: HttpResponse | None = None


@dataclass
class Flair:
    """The server. ``later``: how many changes it has still to make by itself."""

    kernel: Kernel
    secret: Secret
    enforces_balance: bool = True
    page_size: int = 100
    payments: dict[str, Paid] = field(default_factory=dict)
    refunds: list[Moved] = field(default_factory=list)
    keys: dict[str, KeyUse] = field(default_factory=dict)
    on_movement: list[Callable[[Moved], None]] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    """What a look-up has failed to show once."""
    later: int = 0
    forgets_declines: bool = False
    """A key whose call was declined can be used again, as if it had never been."""
    archived: set[str] = field(default_factory=set)
    """Payments that it no longer knows. Their refunds stay in its lists."""
    stubborn: dict[str, str] = field(default_factory=dict)
    """By reference, an outcome that this refund is bound for: scripted histories use it."""

    _by: dict[tuple[str, str], list[Moved]] = field(default_factory=dict)
    """``refunds`` by transaction, by reference and by refund id: a long list is searched often."""

    # --- what others do there -------------------------------------------------------------------

    def live(self, transaction_id: str) -> int:
        """Pending and succeeded refunds of a payment together."""
        return sum(
            each.amount for each in self._by.get(("transaction", transaction_id), ()) if each.live
        )

    def live_of_others(self, transaction_id: str) -> int:
        """The part of it that nobody asked for through us: other systems' refunds, and what the
        gateway moved for ours beyond what was asked."""
        others, asked, moved = 0, dict[str, int](), Counter[str]()
        for each in self._by.get(("transaction", transaction_id), ()):
            if not each.live:
                continue
            if each.ours or each.gateways_own:
                asked[each.reference] = each.asked
                moved[each.reference] += each.amount
            else:
                others += each.amount
        return others + sum(max(0, moved[each] - asked[each]) for each in moved)

    def of(self, refund_id: str) -> list[Moved]:
        """The refunds of a refund id, whatever stage they began in."""
        return list(self._by.get(("refund", refund_id), ()))

    def refund_by_others(self, transaction_id: str, amount: int) -> None:
        """Somebody uses the gateway's own dashboard, which keeps the balance."""
        paid = self.payments[transaction_id]
        if amount <= paid.captured - self.live(transaction_id):
            self._create(transaction_id, f"other-{len(self.refunds)}", amount, ours=False)

    def refund_by_others_in_vain(self, transaction_id: str, amount: int) -> None:
        """The same, but the bank refuses it after a while."""
        paid = self.payments[transaction_id]
        if amount <= paid.captured - self.live(transaction_id):
            reference = f"other-{len(self.refunds)}"
            self.stubborn[reference] = "pending"
            moved = self._create(transaction_id, reference, amount, ours=False)
            self._later(20_000, lambda: self.fail(moved, "bank_refused"))

    def _create(self, transaction_id: str, reference: str, amount: int, *, ours: bool) -> Moved:
        dice = self.kernel.random
        as_asked = not (ours and self.kernel.fault("gateway pays another amount"))
        bound = self.stubborn.get(reference, "")
        status = bound or ("pending" if self.kernel.fault("gateway pending") else "succeeded")
        if not bound and self.kernel.fault("gateway failed at once"):
            status = "failed"
        moved = Moved(
            len(self.refunds) + 1,
            transaction_id,
            reference,
            amount if as_asked else amount + dice.choice((1, 5)),
            self.payments[transaction_id].currency,
            "failed" if status == "failed" else "pending" if "pending" in status else "succeeded",
            ours,
            self.kernel.now,
            "bank_refused" if status == "failed" else None,
            as_asked=as_asked,
            asked=amount,
            host=self.payments[transaction_id].host,
        )
        self.refunds.append(moved)
        for key in (
            ("transaction", transaction_id),
            ("reference", reference),
            ("refund", moved.refund_id),
        ):
            self._by.setdefault(key, []).append(moved)
        self.kernel.log(
            "MONEY", f"{moved.id} {moved.status} {moved.amount} of {transaction_id} for {reference}"
        )
        if moved.status == "pending" and bound != "pending":
            self._later(dice.choice((5, 300, 3600, 30 * 3600)), lambda: self._settle(moved))
        elif moved.status == "succeeded":
            self._succeeded(moved)
        for listener in self.on_movement:
            listener(moved)
        return moved

    def _later(self, about_seconds: float, change: Callable[[], None]) -> None:
        self.later += 1

        def happen() -> None:
            self.later -= 1
            change()

        self.kernel.after(about_seconds * (0.5 + self.kernel.random.random()), happen)

    def _settle(self, moved: Moved) -> None:
        if self.kernel.random.random() < 0.3:
            self.fail(moved, "bank_refused")
        else:
            moved.status = "succeeded"
            self.kernel.log("MONEY", f"{moved.id} succeeded")
            self._succeeded(moved)

    def _succeeded(self, moved: Moved) -> None:
        moved.ever_succeeded = True
        if self.kernel.fault("gateway reversal"):
            days = self.kernel.random.choice((0.01, 0.2, 3))
            self._later(days * 86400, lambda: self.fail(moved, "account_closed"))

    def fail(self, moved: Moved, code: str) -> None:
        """The bank sends the money back, or never takes it."""
        moved.status, moved.failure_code = "failed", code
        self.kernel.log("MONEY", f"{moved.id} failed: {code}")

    # --- its API --------------------------------------------------------------------------------

    def answer(  # noqa: PLR0911 - an answer for each kind of request
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        reply: Callable[[HttpResponse], None],
    ) -> None:
        """Handle a request that has arrived; ``reply`` is called now or when it is done."""
        if self.kernel.fault("gateway says 429"):
            return reply(_error(429, "rate_limited", {"retry-after": "20"}))
        if self.kernel.fault("gateway says 503"):
            return reply(_error(503, "unavailable"))
        if headers["Authorization"] != f"Bearer {self.secret.value}":
            return reply(_error(401, "unauthorized"))
        parts = urlsplit(url)
        if method == "POST":
            assert body is not None
            if self.kernel.fault("gateway takes no orders"):
                return reply(_error(503, "maintenance"))
            return self._post(parts.netloc, headers["Idempotency-Key"], body, reply)
        if parts.path == "/v1/refunds":
            return reply(self._list(parts.netloc, dict(parse_qsl(parts.query))))
        return reply(self._payment(parts.netloc, unquote(parts.path.rpartition("/")[2])))

    def _known(self, host: str, transaction_id: str) -> Paid | None:
        paid = self.payments.get(transaction_id)
        if paid is None or transaction_id in self.archived or not same_account(paid.host, host):
            return None
        return paid

    def _payment(self, host: str, transaction_id: str) -> HttpResponse:
        paid = self._known(host, transaction_id)
        if paid is None:
            return _error(404, "payment_not_found")
        return _json(
            200,
            {
                "id": paid.id,
                "status": paid.status,
                "currency": paid.currency,
                "amount_captured": paid.captured,
                "amount_refunded": self.live(transaction_id),
                "created_at": "2026-02-01T00:00:00Z",
            },
        )

    def _candidates(self, query: dict[str, str]) -> list[Moved]:
        for kind, name in (("reference", "reference"), ("transaction", "transaction_id")):
            if name in query:
                return self._by.get((kind, query[name]), [])
        return self.refunds

    def _list(self, host: str, query: dict[str, str]) -> HttpResponse:
        since = from_rfc3339(query.get("created_from", "2000-01-01T00:00:00Z")).timestamp()
        before = int(query.get("cursor", len(self.refunds) + 1))
        found = [
            each
            for each in reversed(self._candidates(query))
            if each.number < before
            and same_account(each.host, host)
            and each.created_at >= since
            and query.get("reference", each.reference) == each.reference
            and query.get("transaction_id", each.transaction_id) == each.transaction_id
        ]
        if "reference" in query and found:
            reference = query["reference"]
            if self.kernel.fault("gateway hides refunds"):
                found = []
            elif reference not in self.hidden and self.kernel.fault("gateway hides a refund once"):
                self.hidden.add(reference)
                found = []
        if "transaction_id" in query and self.kernel.fault("gateway hides a payment's refunds"):
            found = []  # scripted only: with "gateway hides refunds", nothing but the sweep's list
        if "reference" not in query and self.kernel.fault("gateway's list lags"):
            shown_until = self.kernel.now - self.kernel.random.choice((10, 100, 4000))
            found = [each for each in found if each.created_at < shown_until]
        if found and self.kernel.fault("gateway's page is empty"):
            return _json(200, {"data": [], "next_cursor": str(found[0].number + 1)})
        page = found[: self.page_size]
        shown = [self._shown(each) for each in page]
        if "reference" in query:
            shown = [self._lie(each) for each in shown]
        if shown and self.kernel.fault("gateway's row can't be read"):
            self.kernel.random.choice(shown)["amount"] = "much"
        more = len(found) > len(page)
        return _json(200, {"data": shown, "next_cursor": str(page[-1].number) if more else None})

    def _post(
        self, host: str, key: str, body: bytes, reply: Callable[[HttpResponse], None]
    ) -> None:
        now = self.kernel.now
        if host != "flair":
            key = f"{key} at {host}"
        use = self.keys.get(key)
        if use is not None and now - use.first_at < KEY_LIFETIME_SECONDS:
            self.kernel.counts["gateway key replays"] += 1
            if use.response is None:
                return reply(_error(409, "idempotency_key_in_use"))
            if use.body != body:
                return reply(_error(409, "idempotency_key_reused"))
            if use.response.status == 201 and self.kernel.fault("gateway declines a replay"):
                # It checks the order before the key, and the balance is used up: by that key. From
                # here on it shows what it has: else no evidence would be left (``keep_apart``).
                self.hidden.add(json.loads(body)["reference"])
                return reply(_error(422, "amount_exceeds_balance"))
            return reply(use.response)
        self.keys[key] = use = KeyUse(now, body)
        seconds = 0.1
        if self.kernel.fault("gateway slow"):
            seconds = self.kernel.random.uniform(1, 40)

        def done() -> None:
            response = use.response = self._commit(host, json.loads(body))
            if self.forgets_declines and 400 <= response.status < 500:
                self.keys.pop(key, None)
            reply(response)

        self.kernel.after(seconds, done)
        return None

    def _commit(self, host: str, order: dict[str, Any]) -> HttpResponse:  # noqa: PLR0911 - as above
        """Carry an order out; the answer is remembered for its key."""
        if self.kernel.fault("gateway 500 without commit"):
            return _error(500, "internal")
        paid = self._known(host, order["transaction_id"])
        if paid is None:
            return _error(404, "payment_not_found")
        if self.stubborn.get(order["reference"]) == "declined" or self.kernel.fault(
            "gateway declines"
        ):
            return _error(402, "refund_declined")
        if paid.status == "disputed":
            return _error(422, "payment_disputed")
        if order["currency"] != paid.currency:
            return _error(422, "currency_mismatch")
        if self.enforces_balance and order["amount"] > paid.captured - self.live(paid.id):
            return _error(422, "amount_exceeds_balance")
        moved = self._create(paid.id, order["reference"], order["amount"], ours=True)
        if self.kernel.fault("gateway doubles a refund"):
            double = self._create(paid.id, order["reference"], order["amount"], ours=False)
            double.gateways_own = True
        if self.kernel.fault("gateway 500 after commit"):
            return _error(500, "internal")
        return _json(201, self._lie(self._shown(moved)))

    def _shown(self, moved: Moved) -> dict[str, Any]:
        return {
            "id": moved.id,
            "transaction_id": moved.transaction_id,
            "reference": moved.reference,
            "amount": moved.amount,
            "currency": moved.currency,
            "status": moved.status,
            "failure_code": moved.failure_code,
            "failure_message": None,
            "created_at": datetime.fromtimestamp(moved.created_at, UTC).isoformat(),
        }

    def _lie(self, shown: dict[str, Any]) -> dict[str, Any]:
        if self.kernel.fault("gateway lies"):
            name, lie = self.kernel.random.choice(
                [
                    ("amount", shown["amount"] + 1),
                    ("transaction_id", "tx-of-another"),
                    ("reference", "of-another"),
                    ("currency", "CHF"),
                ]
            )
            return shown | {name: lie}
        return shown


def _json(status: int, content: Any) -> HttpResponse:
    return HttpResponse(status, {"content-type": "application/json"}, json.dumps(content).encode())


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> HttpResponse:
    told = _json(status, {"error": {"code": code, "message": f"this is {code}"}})
    return HttpResponse(status, {**told.headers, **(headers or {})}, told.body)
