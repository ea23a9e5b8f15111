"""A person's decision on a refund that no automatic step can settle safely.

Above ``ApproveAboveMinor`` two people decide: the first one's decision is recorded as proposed, and
takes effect when another person decides the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from refunds.domain.card_numbers import has_card_number
from refunds.domain.clock import Deadline
from refunds.domain.identity import Identity
from refunds.domain.money import Money
from refunds.domain.refund import Refund, Status, short_text
from refunds.domain.text import is_blank
from refunds.gateways.contract import GatewayRefund, GatewayStatus, GatewayUnavailableError
from refunds.processing.balance import BalanceContendedError
from refunds.processing.evidence import mismatch
from refunds.processing.recorder import Later
from refunds.processing.settler import Settler
from refunds.tables.ledger import LedgerTable
from refunds.tables.refunds import RefundsTable


class ReviewError(Exception):
    """The decision can't be taken; the text says why."""


class AgainstGatewayError(ReviewError):
    """The decision contradicts what the gateway shows."""


@dataclass(frozen=True)
class Reasons:
    """Who decides, why, and by what evidence. The audit trail keeps all three.

    Raises ``ReviewError`` when one is empty or holds a card number.
    """

    who: Identity
    why: str
    evidence: str

    def __post_init__(self) -> None:
        given = {"why": self.why, "evidence": self.evidence}
        if empty := [name for name, value in given.items() if is_blank(value)]:
            raise ReviewError(f"say {' and '.join(empty)}: the audit trail keeps it")
        if any(has_card_number(value) for value in given.values()):
            raise ReviewError("leave card numbers out: the audit trail is kept for years")

    def recorded(self, shown: str, balance: str) -> dict[str, str]:
        """``shown`` and ``balance``: what the gateway and the ledger showed at that moment."""
        given = {"why": self.why, "evidence": self.evidence, "gateway": shown, "balance": balance}
        return self.who.recorded() | {n: short_text(value) or "" for n, value in given.items()}


class Reviewer:
    """``settler`` asks the gateway before a person's decision counts.

    ``approve_above``: by currency, the amount above which two people decide. None: one decides. A
    currency that it does not name counts as 0.
    """

    def __init__(
        self,
        refunds: RefundsTable,
        settler: Settler,
        ledger: LedgerTable,
        approve_above: Mapping[str, int] | None = None,
    ) -> None:
        self._refunds = refunds
        self._settler = settler
        self._ledger = ledger
        self._approve_above = approve_above

    def decide(
        self,
        refund_id: str,
        to: Status,
        reasons: Reasons,
        deadline: Deadline,
        *,
        against_gateway: bool = False,
    ) -> Refund:
        """Record that the refund was paid (``SUCCEEDED``) or not (``FAILED``, which frees its
        money). Above ``approve_above`` the first person's decision is only proposed, and the
        refund stays ``IN_REVIEW``.

        ``against_gateway``: also when the gateway shows otherwise, or can't be asked. Raises
        ``AgainstGatewayError`` without it, ``ReviewError`` for what can't be decided.
        """
        if to not in (Status.SUCCEEDED, Status.FAILED):
            raise ReviewError("a review ends as SUCCEEDED or FAILED")
        refund = self._get(refund_id)
        if refund.status is not Status.IN_REVIEW:
            raise ReviewError(f"{refund_id} is {refund.status}; only refunds IN_REVIEW are decided")
        shown, found = self._ask(refund, deadline)
        live = live_refunds(found or ())
        own = [each for each in live if _of_its_payment(refund, each)]
        agrees = found is not None and _agrees(refund, live, to)
        if not agrees and not against_gateway:
            raise AgainstGatewayError(f"the gateway says otherwise: {shown}")
        review = reasons.recorded(shown, describe_balance(self._ledger, refund))
        if not agrees:
            review["against_gateway"] = "true"
        if self._needs_two(refund):
            proposal = review | {"decision": "paid" if to is Status.SUCCEEDED else "not_paid"}
            if not _same_decision(refund.proposal, proposal):
                return self._propose(refund, proposal)
            assert refund.proposal is not None
            self._check_another(refund.proposal, reasons.who)
            review["proposed_by"] = refund.proposal["by"]
        if to is Status.FAILED:
            # What the gateway moved of this payment stays counted.
            kept_minor = sum(each.amount_minor for each in own) or None
            return self._finish(refund, to, review=review, kept_minor=kept_minor)
        # A later reversal by the bank is recognized by this id. It is left out when there are
        # several refunds, or none: then the refund is reversed only when all of them have failed.
        return self._finish(refund, to, review=review, gateway_refund_id=_single_id(own))

    def correct(self, refund_id: str, reasons: Reasons, deadline: Deadline) -> Refund:
        """Record as paid a refund that ended here as FAILED or REJECTED, and that the gateway
        itself shows as paid. Its money counts against the payment again.

        If a person ended it against the gateway, the gateway's refunds may have other amounts, as
        in a review: only a correction ends the alarm about them. Safe to repeat after a crash.
        Raises ``ReviewError``.
        """
        refund = self._get(refund_id)
        if refund.status in (Status.FAILED, Status.REJECTED):
            shown, found = self._ask(refund, deadline)
            if found is None:
                raise ReviewError(f"the gateway can't be asked: {shown}")
            live = live_refunds(found)
            if not _undoes_a_decision(refund, live):
                _check_paid_as_asked(refund, live, shown)
            refund = self._finish(
                refund,
                Status.SUCCEEDED,
                review=reasons.recorded(shown, describe_balance(self._ledger, refund)),
                amount_minor=refund.amount_minor or sum(each.amount_minor for each in live),
                gateway_refund_id=_single_id(live),
                kept_minor=None,
            )
        elif refund.status is not Status.SUCCEEDED or refund.review is None:
            raise ReviewError(
                f"{refund_id} is {refund.status}; only refunds FAILED or REJECTED are corrected"
            )
        refund = self._settler.recorder.hold_corrected(refund)
        try:
            self._settler.evidence.count_balance(refund, deadline)
        except (GatewayUnavailableError, BalanceContendedError) as exc:
            raise ReviewError(f"corrected; its payment could not be counted: {exc}") from exc
        return refund

    def _needs_two(self, refund: Refund) -> bool:
        if self._approve_above is None:
            return False
        above_minor = self._approve_above.get(refund.currency, 0)
        return refund.amount_minor is None or refund.amount_minor > above_minor

    def _check_another(self, proposal: Mapping[str, str], who: Identity) -> None:
        if who.is_any_of(proposal["by"]):
            raise ReviewError(
                f"{who.name} has proposed this decision; another person must confirm it"
            )

    def _propose(self, refund: Refund, proposal: Mapping[str, str]) -> Refund:
        proposed = self._settler.recorder.propose(refund, proposal)
        if proposed is None:
            raise ReviewError(f"{refund.refund_id} was changed meanwhile; look at it again")
        return proposed

    def _get(self, refund_id: str) -> Refund:
        if (refund := self._refunds.get(refund_id)) is None:
            raise ReviewError(f"there is no refund {refund_id}")
        return refund

    def _ask(
        self, refund: Refund, deadline: Deadline
    ) -> tuple[str, Sequence[GatewayRefund] | None]:
        """What the gateway shows, as text and as refunds; None for the refunds when it can't be
        asked."""
        try:
            found = self._settler.evidence.search(refund, deadline)
        except GatewayUnavailableError as exc:
            return f"{refund.gateway} can't be asked: {exc}", None
        text = describe_shown(refund.gateway, found)
        if other := next((each for each in found if not _of_its_payment(refund, each)), None):
            text += f"; {other.gateway_refund_id} is of another payment, {other.transaction_id}"
        return text, found

    def _finish(self, refund: Refund, to: Status, **changes: object) -> Refund:
        result = self._settler.recorder.finish(refund, to, **changes)
        if isinstance(result, Later):
            raise ReviewError(f"{refund.refund_id} was changed meanwhile; look at it again")
        return result.refund


def describe_shown(gateway: str, found: Sequence[GatewayRefund]) -> str:
    """The gateway's refunds in a line."""
    if not found:
        return f"{gateway} shows no such refund"
    each = "; ".join(
        f"{one.gateway_refund_id} {Money(one.amount_minor, one.currency)} {one.status}"
        for one in found[:3]
    )
    return f"{gateway} shows {each}"


def describe_balance(ledgers: LedgerTable, refund: Refund) -> str:
    """What the ledger has for the refund's payment, as text."""
    ledger = ledgers.get(refund.transaction_id)
    if ledger is None or ledger.captured is None or ledger.remaining is None:
        return "the ledger has no balance of the payment"
    held = ledger.reservations.get(refund.refund_id, 0)
    captured, left, mine = (
        Money(minor, refund.currency) for minor in (ledger.captured, ledger.remaining, held)
    )
    return f"{captured} captured, {left} still refundable, {mine} reserved for this refund"


def _same_decision(proposal: Mapping[str, str] | None, decided: Mapping[str, str]) -> bool:
    names = ("decision", "against_gateway")
    return proposal is not None and all(proposal.get(n) == decided.get(n) for n in names)


def _agrees(refund: Refund, live: Sequence[GatewayRefund], to: Status) -> bool:
    """Whether the gateway's refunds say the same. Their amounts may differ from what was asked for:
    that is often why the refund is in review."""
    if to is Status.FAILED:
        return not live
    return bool(live) and all(
        each.status is GatewayStatus.SUCCEEDED and _of_its_payment(refund, each) for each in live
    )


def _undoes_a_decision(refund: Refund, live: Sequence[GatewayRefund]) -> bool:
    """Whether a person ended the refund as not paid against the gateway, which shows it as paid."""
    decided = (refund.review or {}).get("against_gateway") == "true"
    in_its_currency = all(each.currency == refund.currency for each in live)
    return decided and in_its_currency and _agrees(refund, live, Status.SUCCEEDED)


def _check_paid_as_asked(refund: Refund, live: Sequence[GatewayRefund], shown: str) -> None:
    """Raises ``ReviewError`` unless the gateway has paid it once, and as it was asked to."""
    if [each.status for each in live] != [GatewayStatus.SUCCEEDED]:
        raise ReviewError(f"the gateway does not show it as paid once: {shown}")
    (paid,) = live
    asked = replace(refund, amount_minor=refund.amount_minor or paid.amount_minor)
    if different := mismatch(asked, paid):
        raise ReviewError(f"the gateway's refund has another {different}: {shown}")


def _single_id(shown: Sequence[GatewayRefund]) -> str | None:
    """The gateway's id if it shows exactly one refund."""
    ids = [each.gateway_refund_id for each in shown]
    return ids.pop() if len(ids) == 1 else None


def _of_its_payment(refund: Refund, shown: GatewayRefund) -> bool:
    return shown.transaction_id == refund.transaction_id


def live_refunds(found: Sequence[GatewayRefund]) -> list[GatewayRefund]:
    return [each for each in found if each.status is not GatewayStatus.FAILED]
