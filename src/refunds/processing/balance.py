"""What is left of a payment: updates the ledger to what the gateway shows.

The gateway also shows refunds that the ledger does not know: other systems' refunds, and our own
whose tables were lost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from refunds.domain.clock import Deadline
from refunds.domain.refund import ENDED_WITHOUT_MONEY, UNFINISHED
from refunds.gateways.contract import (
    Gateway,
    GatewayRefund,
    GatewayStatus,
    GatewayUnavailableError,
    Payment,
)
from refunds.tables.audit_trail import AuditTable
from refunds.tables.ledger import Ledger, LedgerTable
from refunds.tables.refunds import RefundsTable

MAX_REFUND_PAGES = 50
"""The number of pages of one payment's refunds to read before giving up."""

COUNT_TRIES = 4

MOST_ASKED = 10
"""The most refunds that a count asks for one by one. The others count as not paid yet: a request
that needs their money waits until the list shows them."""

MAX_HELD_AGAIN = 50
"""The most unfinished refunds that one write can reserve again for a payment whose ledger was lost.
If there are more, the payment's requests wait until some refunds have ended."""


class PaymentGoneError(Exception):
    """The gateway does not know the payment, or does not know it any more."""


class BalanceContendedError(Exception):
    """The ledger kept changing during the count. Try again later."""


class Counted(NamedTuple):
    """``payment`` as the gateway shows it, and ``remaining_minor`` as the ledger now has it.

    ``unclear_minor``: how much more may remain. This amount has moved but is in no list yet. It may
    be a reserved refund of ours or another system's refund, so it counts as both. ``adopted``: the
    gateway already had a refund under the refund id that was counted for, and the ledger did not
    know it. ``adopted_minor`` is now reserved for it. ``listed``: the gateway has a refund of this
    id, in whatever status and of whatever stage. ``listed_live``: one that is paid or pending.
    """

    payment: Payment
    remaining_minor: int
    unclear_minor: int = 0
    adopted: GatewayRefund | None = None
    adopted_minor: int = 0
    listed: bool = False
    listed_live: bool = False


class Balance:
    def __init__(self, ledger: LedgerTable, refunds: RefundsTable, audit: AuditTable) -> None:
        self._ledger = ledger
        self._refunds = refunds
        self._audit = audit

    def count(  # noqa: PLR0913 - what is counted, and for which refund
        self,
        transaction_id: str,
        refund_id: str,
        gateway: Gateway,
        deadline: Deadline,
        *,
        payment: Payment | None = None,
        forgotten_minor: Callable[[], int | None] = lambda: None,
        ended: bool = False,
    ) -> Counted:
        """Count the payment again at ``gateway`` for the refund ``refund_id``.

        ``payment``: as it was just read, which saves a call. ``forgotten_minor`` gives the amount
        that was requested of an adopted refund, if that is known. ``ended``: the refund has ended
        without money, so it holds nothing, whatever the gateway has moved for it. Raises
        ``GatewayUnavailableError``, ``PaymentGoneError``, ``BalanceContendedError``.
        """
        for _ in range(COUNT_TRIES):
            payment = payment or read_payment(gateway, transaction_id, deadline)
            if counted := self._count(
                payment, refund_id, gateway, deadline, forgotten_minor, ended=ended
            ):
                return counted
            payment = None
        raise BalanceContendedError(transaction_id)

    def _count(  # noqa: PLR0913 - what is counted, and for which refund
        self,
        payment: Payment,
        refund_id: str,
        gateway: Gateway,
        deadline: Deadline,
        forgotten_minor: Callable[[], int | None],
        *,
        ended: bool,
    ) -> Counted | None:
        # The payment was read first, then its refunds, then the ledger. In this order a refund of
        # ours that begins meanwhile counts as reserved, never as missing.
        transaction_id = payment.transaction_id
        every, unreadable = _list_refunds(gateway, transaction_id, deadline)
        shown = [each for each in every if each.status is not GatewayStatus.FAILED]
        ledger = self._ledger.get(transaction_id) or Ledger(transaction_id)
        # The ledger as it will be: a lost ledger reserves the unfinished refunds again.
        held_again = self._held_before(ledger) if ledger.captured is None else {}
        ledger_after = replace(ledger, reservations={**ledger.reservations, **held_again})
        adopted = None
        if refund_id not in ledger_after.reservations:
            adopted = next((each for each in shown if each.refund_id == refund_id), None)
        held_minor = 0
        if adopted and not ended:
            held_minor = forgotten_minor() or adopted.amount_minor
        # The amount that an adopted refund has moved is already subtracted from what remains, like
        # another system's refund. Its reservation is the amount that was asked for. If it moved
        # more, the excess stays subtracted; if it moved less, the difference is subtracted as well.
        beyond_moved = max(0, held_minor - adopted.amount_minor) if adopted else 0
        unlisted_minor = max(0, payment.refunded_minor - sum(each.amount_minor for each in shown))
        moved_minor, unclear_minor = self._moved_unreserved(
            unlisted_minor, every, ledger_after, gateway, deadline
        )
        # Only the payment's sum shows what the list leaves out, and only if it stayed the same: a
        # refund of ours that was paid meanwhile would hide the same amount of another system's.
        if unreadable or unlisted_minor:
            after = read_payment(gateway, transaction_id, deadline)
            if after.refunded_minor != payment.refunded_minor:
                return None
        remaining_minor = (
            payment.captured_minor
            - payment.disputed_minor
            - moved_minor
            - sum(ledger_after.reservations.values())
            - beyond_moved
        )
        stored = self._ledger.recount(
            ledger,
            captured_minor=payment.captured_minor,
            remaining_minor=remaining_minor,
            currency=payment.currency,
            hold={**held_again, refund_id: held_minor} if adopted else held_again,
        )
        if not stored:
            return None
        return Counted(
            payment,
            remaining_minor,
            unclear_minor,
            adopted,
            held_minor,
            listed=any(is_named(each, refund_id) for each in every),
            listed_live=any(is_named(each, refund_id) for each in shown),
        )

    def _held_before(self, ledger: Ledger) -> dict[str, int]:
        """The amounts that unfinished refunds of the payment held in a ledger that was lost.

        The trail shows which refunds there are, and a refund's record shows how far it has come.
        """
        held: dict[str, int] = {}
        unfinished = {
            refund_id: entry
            for refund_id, entry in self._audit.latest_of_payment(ledger.transaction_id).items()
            if refund_id not in ledger.reservations and entry["status"] in UNFINISHED
        }
        for refund_id, refund in self._refunds.get_each(list(unfinished)):
            # If the record of this id is another payment's, it says nothing about this payment's
            # refund.
            if refund is None or refund.transaction_id != ledger.transaction_id:
                amount_minor = unfinished[refund_id]["details"].get("amount_minor")
            elif refund.status in ENDED_WITHOUT_MONEY:
                continue
            else:
                amount_minor = refund.amount_minor
            if amount_minor:
                held[refund_id] = amount_minor
            if len(held) > MAX_HELD_AGAIN:
                raise BalanceContendedError(ledger.transaction_id)
        return held

    def _moved_unreserved(
        self,
        unlisted_minor: int,
        every: Sequence[GatewayRefund],
        ledger: Ledger,
        gateway: Gateway,
        deadline: Deadline,
    ) -> tuple[int, int]:
        """The amount that the gateway has moved, or is about to move, beyond our reservations, and
        how much of it is unclear."""
        shown = [each for each in every if each.status is not GatewayStatus.FAILED]
        moved_for: dict[str | None, int] = defaultdict(int)
        in_other_stages = self._of_other_stages(shown, ledger)
        for each in shown:
            covered = _holds(ledger, each.refund_id)
            refund_id = each.refund_id if covered else in_other_stages.get(each.gateway_refund_id)
            moved_for[refund_id] += each.amount_minor
        others = moved_for.pop(None, 0)
        # For a second refund, or a larger one than was asked for, the money has left the payment,
        # too.
        excess = sum(
            max(0, moved - ledger.reservations[refund_id])
            for refund_id, moved in moved_for.items()
            if refund_id is not None
        )
        moved_minor = others + excess
        # The list may lag behind the payment. Money that it does not show yet belongs first to
        # refunds of ours that are paid and that it does not show either. Anything beyond them may
        # belong to a call of ours under way, or to another system.
        if not unlisted_minor:
            return moved_minor, 0
        # What the list shows as failed is not part of the payment's sum.
        failed = {_refund_id_of(each) for each in every if each.status is GatewayStatus.FAILED}
        unshown = {
            refund_id: held - moved_for.get(refund_id, 0)
            for refund_id, held in ledger.reservations.items()
            if held > moved_for.get(refund_id, 0) and refund_id not in failed
        }
        ours = sum(unshown[name] for name in self._shown_alone(list(unshown), gateway, deadline))
        unlisted_minor = max(0, unlisted_minor - ours)
        return moved_minor + unlisted_minor, min(unlisted_minor, sum(unshown.values()) - ours)

    def _shown_alone(
        self, refund_ids: Sequence[str], gateway: Gateway, deadline: Deadline
    ) -> list[str]:
        """Those that the gateway shows as paid or pending when it is asked for each. Our record
        proves nothing: the bank may have sent one back since."""
        found = []
        for refund_id, refund in self._refunds.get_each(refund_ids[:MOST_ASKED]):
            if refund is None:
                continue
            within = deadline.within(gateway.timeout_seconds)
            with suppress(GatewayUnavailableError):  # It may be the row that can't be read.
                shown = gateway.find_refunds(refund.reference, refund.transaction_id, within)
                if any(each.status is not GatewayStatus.FAILED for each in shown):
                    found.append(refund_id)
        return found

    def _of_other_stages(self, shown: Sequence[GatewayRefund], ledger: Ledger) -> dict[str, str]:
        """The refund ids of refunds that another of our stages began, by the gateway's id.

        The refund's own record has the reference that it began with.
        """
        references = {
            each.gateway_refund_id: each.gateway_reference
            for each in shown
            if not _holds(ledger, each.refund_id)
            and each.gateway_reference
            and _holds(ledger, _refund_id_in(each.gateway_reference))
        }
        ids = sorted({_refund_id_in(reference) for reference in references.values()})
        refunds = dict(self._refunds.get_each(ids))
        return {
            gateway_refund_id: refund.refund_id
            for gateway_refund_id, reference in references.items()
            if (refund := refunds[_refund_id_in(reference)]) is not None
            and refund.reference == reference
        }


def is_named(shown: GatewayRefund, refund_id: str) -> bool:
    """Whether the gateway's refund may be this one, whatever stage it began in."""
    return _refund_id_of(shown) == refund_id


def _holds(ledger: Ledger, refund_id: str) -> bool:
    return ledger.reservations.get(refund_id, 0) > 0


def _refund_id_of(shown: GatewayRefund) -> str:
    return _refund_id_in(shown.gateway_reference or shown.refund_id)


def _refund_id_in(reference: str) -> str:
    return reference.rpartition(".")[2]


def read_payment(gateway: Gateway, transaction_id: str, deadline: Deadline) -> Payment:
    """Raises ``GatewayUnavailableError``, ``PaymentGoneError``."""
    payment = gateway.get_payment(transaction_id, deadline.within(gateway.timeout_seconds))
    if payment is None:
        raise PaymentGoneError(transaction_id)
    return payment


def refunds_of(gateway: Gateway, transaction_id: str, deadline: Deadline) -> list[GatewayRefund]:
    """All refunds of a payment that ``gateway`` shows. Raises ``GatewayUnavailableError``."""
    return _list_refunds(gateway, transaction_id, deadline)[0]


def listed_under(
    gateway: Gateway, transaction_id: str, reference: str, deadline: Deadline
) -> list[GatewayRefund]:
    """The refunds under a reference in the payment's list. Raises ``GatewayUnavailableError``, also
    when a row of the list can't be read: it may be one of them."""
    every, unreadable = _list_refunds(gateway, transaction_id, deadline)
    if unreadable:
        raise GatewayUnavailableError("a refund in the payment's list can't be read")
    return [each for each in every if (each.gateway_reference or each.refund_id) == reference]


def _list_refunds(
    gateway: Gateway, transaction_id: str, deadline: Deadline
) -> tuple[list[GatewayRefund], int]:
    """All refunds of a payment, and how many more rows can't be read."""
    found: list[GatewayRefund] = []
    unreadable = 0
    cursor: str | None = None
    for _ in range(MAX_REFUND_PAGES):
        page = gateway.list_refunds(
            deadline.within(gateway.timeout_seconds),
            transaction_id=transaction_id,
            cursor=cursor,
        )
        found += page.refunds
        unreadable += page.unreadable
        if (cursor := page.next_cursor) is None:
            return found, unreadable
    raise RuntimeError(f"more than {MAX_REFUND_PAGES} pages of refunds of one payment")
