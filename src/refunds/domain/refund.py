"""A refund: its statuses, the transitions that are legal, and what each change records.

Pure rules: no AWS, no clock, no environment. Instants are text in the form of ``clock.rfc3339``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any

from refunds.domain.text import visible

Item = dict[str, Any]
"""A table item as plain JSON values: str, int, None, list and dict; never a float."""

MAX_FAILURE_TEXT_BYTES = 256


class Status(StrEnum):
    AWAITING_APPROVAL = "AWAITING_APPROVAL"
    PROCESSING = "PROCESSING"
    PENDING = "PENDING"
    IN_REVIEW = "IN_REVIEW"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    REVERSED = "REVERSED"


TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.AWAITING_APPROVAL: frozenset({Status.PROCESSING, Status.REJECTED}),
    Status.PROCESSING: frozenset(
        {Status.SUCCEEDED, Status.FAILED, Status.PENDING, Status.IN_REVIEW}
    ),
    Status.PENDING: frozenset({Status.SUCCEEDED, Status.FAILED, Status.IN_REVIEW}),
    Status.IN_REVIEW: frozenset({Status.SUCCEEDED, Status.FAILED}),
    Status.SUCCEEDED: frozenset({Status.REVERSED}),
    Status.FAILED: frozenset({Status.SUCCEEDED}),
    Status.REJECTED: frozenset({Status.SUCCEEDED}),
    Status.REVERSED: frozenset(),
}

ONLY_BY_A_PERSON = frozenset(
    {(Status.FAILED, Status.SUCCEEDED), (Status.REJECTED, Status.SUCCEEDED)}
)
"""Corrections: the gateway itself shows a refund as paid that ended here without money."""

ENDED_WITHOUT_MONEY = frozenset({Status.REJECTED, Status.FAILED, Status.REVERSED})
"""Final statuses that release the reserved money."""

UNFINISHED = frozenset(
    {Status.AWAITING_APPROVAL, Status.PROCESSING, Status.PENDING, Status.IN_REVIEW}
)

SWEEP_BACK = timedelta(days=180)
"""How long after its creation the customer's bank may still send a refund back. The sweep reads the
gateway's list that far back."""

OUTCOMES: Mapping[Status, str] = {
    Status.SUCCEEDED: "Refund Successful",
    Status.FAILED: "Refund Failed",
    Status.REJECTED: "Refund Failed",
    Status.REVERSED: "Refund Failed",
    Status.AWAITING_APPROVAL: "Refund Pending",
    Status.PROCESSING: "Refund Pending",
    Status.PENDING: "Refund Pending",
    Status.IN_REVIEW: "Refund Pending",
}


class IllegalTransitionError(Exception):
    """A change of status that is not in ``TRANSITIONS``."""


@dataclass(frozen=True, kw_only=True)
class Refund:
    """A stored refund: first the audited attributes, then the protocol's own."""

    refund_id: str
    transaction_id: str
    user_id: str
    amount_minor: int | None = None
    currency: str
    status: Status
    reason: str
    requested_by: str
    requested_at: str | None = None
    sent_by: str | None = None
    """Who put the request into the queue, according to SQS (``SenderId``)."""
    processed_by: str
    gateway: str
    gateway_account: str | None = None
    """The account that the refund began with. No other account is asked, whatever is configured
    later."""
    gateway_reference: str | None = None
    """Idempotency key and reference at the gateway, fixed when the refund began; None: its id."""
    order_format: int | None = None
    """The format of what is sent to the gateway, fixed when the refund began; None: format 1."""
    gateway_refund_id: str | None = None
    gateway_trace: str | None = None
    """The bank's own number for the transfer."""
    failure_code: str | None = None
    failure_message: str | None = None
    metadata: Mapping[str, str] | None = None
    reason_code: str | None = None
    note: str | None = None
    line_items: tuple[Mapping[str, str | int], ...] | None = None
    expected_refundable_minor: int | None = None
    review: Mapping[str, str] | None = None
    """A person's decision: ``by``, ``on_behalf_of``, ``why``, ``evidence``, what ``gateway`` and
    ``balance`` showed, and ``proposed_by`` when two people decided."""
    proposal: Mapping[str, str] | None = None
    """The decision that one person proposed, and that another must confirm: the same, ``decision``
    and ``at``."""
    awaiting: Mapping[str, str] | None = None
    """Why the refund needs approval, fixed when it began: the rule (``over``), its ``limit``, how
    many ``approvers``, and ``expires_at``."""
    approvals: tuple[Mapping[str, str], ...] | None = None
    """Decisions on it, in order: ``decision``, ``by``, ``on_behalf_of``, ``why``, ``evidence`` and
    ``at``."""
    kept_minor: int | None = None
    """The amount that the gateway has moved for a refund that a person ended as failed. It is not
    given back to the payment."""
    restored: Mapping[str, str] | None = None
    """The latest restore of this record from a backup: ``at``, ``by``, ``why``, ``source``."""
    created_at: str
    updated_at: str
    version: int
    previous_status: Status | None = None
    changed_fields: tuple[str, ...] | None = None
    previous_hash: str | None = None

    fingerprint: str
    attempt_token: str | None = None
    """The token of the latest attempt. Only that attempt may finish the refund."""
    lease_until: str | None = None
    """Until when that attempt may still be running."""
    key_used_at: str | None = None
    """When the gateway's idempotency key may first have been sent."""
    called_at: str | None = None
    """When the last attempt without a known response began. None: at ``key_used_at``."""
    counted: Mapping[str, str] | None = None
    """By counter, the day and the token with which the refund was counted against its limit."""
    uncounted: Mapping[str, str] | None = None
    """By counter, the token with which its share was given back, once and for all."""
    shown_at: str | None = None
    """When the gateway last showed the pending refund."""
    asked_at: str | None = None
    """When the reconciler last asked the gateway about the refund in review."""
    balance_short_at: str | None = None
    """When the gateway last said that our balance there is too low for this refund."""
    seen_paid_at: str | None = None
    """When the gateway showed a refund as paid that had ended here without money. It stays in the
    open index until a person corrects it, or until the gateway no longer shows it."""
    open_since: str | None = None
    """Since when the refund has been unfinished without a message that will be delivered again."""
    open_shard: str | None = None
    """Hash key of the index of open refunds; absent in finished ones."""
    check_at: str | None = None
    """When the reconciler should next look; range key of that index."""

    @property
    def reference(self) -> str:
        """Idempotency key and reference at the gateway."""
        return self.gateway_reference or self.refund_id

    def item(self) -> Item:
        """The item to store. Attributes that are None are left out."""
        item: Item = {}
        for name in REFUND_ATTRIBUTES:
            value = getattr(self, name)
            if value is not None:
                item[name] = value if type(value) in _STORED_AS_THEY_ARE else stored_form(value)
        return item

    @classmethod
    def from_item(cls, item: Item) -> Refund:
        """Read a stored item. Attributes that are not a refund's are ignored."""
        known = {name: item[name] for name in REFUND_ATTRIBUTES if name in item}
        for name in ("status", "previous_status"):
            if name in known:
                known[name] = Status(known[name])
        for name in ("changed_fields", "line_items", "approvals"):
            if name in known:
                known[name] = tuple(known[name])
        return cls(**known)


def stored_form(value: Any) -> Any:
    """An attribute as the item has it."""
    if isinstance(value, Status):
        return value.value
    if isinstance(value, tuple):
        return [dict(each) if isinstance(each, Mapping) else each for each in value]
    return dict(value) if isinstance(value, Mapping) else value


_STORED_AS_THEY_ARE = frozenset({str, int})
"""Types that need no conversion. Asking whether a value is a ``Mapping`` costs more than the rest
of ``item``."""

REFUND_ATTRIBUTES = tuple(field.name for field in fields(Refund))

AUDITED = REFUND_ATTRIBUTES[: REFUND_ATTRIBUTES.index("fingerprint")]
"""A change of one of these raises ``version`` and makes an audit entry. Other changes don't."""


def check_transition(old: Refund, new: Refund) -> None:
    """Raises ``IllegalTransitionError`` for a change of status that is not legal, or that only a
    person may make and no person has."""
    if new.status not in TRANSITIONS[old.status]:
        raise IllegalTransitionError(f"{old.refund_id}: {old.status} to {new.status}")
    if (old.status, new.status) in ONLY_BY_A_PERSON and not new.review:
        raise IllegalTransitionError(
            f"{old.refund_id}: {old.status} to {new.status} needs a person"
        )


def change_status(
    refund: Refund, to: Status, *, at: str, by: str, previous_hash: str, **changes: Any
) -> Refund:
    """The refund's next version.

    ``at`` is when, ``by`` who (a function and its version, or an operator), ``previous_hash`` the
    hash of the audit entry of the version that is replaced. Raises ``IllegalTransitionError``.
    """
    changes = {"status": to, "processed_by": by, **changes}
    changed = _next_version(refund, changes, at=at, previous_hash=previous_hash)
    check_transition(refund, changed)
    return changed


def _next_version(
    refund: Refund,
    changes: Mapping[str, Any],
    *,
    at: str,
    previous_hash: str,
    follows: int | None = None,
) -> Refund:
    return replace(
        refund,
        **changes,
        updated_at=at,
        version=(refund.version if follows is None else follows) + 1,
        previous_status=refund.status,
        changed_fields=tuple(
            name for name in AUDITED if name in changes and changes[name] != getattr(refund, name)
        ),
        previous_hash=previous_hash,
    )


def proposed_version(
    refund: Refund, proposal: Mapping[str, str], *, at: str, by: str, previous_hash: str
) -> Refund:
    """The version that records a proposed decision: the refund stays in review."""
    if refund.status is not Status.IN_REVIEW:
        raise IllegalTransitionError(f"{refund.refund_id} is {refund.status}: nothing to decide")
    changes = {"processed_by": by, "proposal": {**proposal, "at": at}}
    return _next_version(refund, changes, at=at, previous_hash=previous_hash)


def approved_version(
    refund: Refund,
    approvals: tuple[Mapping[str, str], ...],
    *,
    at: str,
    by: str,
    previous_hash: str,
) -> Refund:
    """The version that records an approval when the refund needs more of them: it still waits."""
    if refund.status is not Status.AWAITING_APPROVAL:
        raise IllegalTransitionError(f"{refund.refund_id} is {refund.status}: nothing to approve")
    changes = {"processed_by": by, "approvals": approvals}
    return _next_version(refund, changes, at=at, previous_hash=previous_hash)


def restored_version(  # noqa: PLR0913 - a version's facts, each by keyword
    refund: Refund,
    *,
    follows: int,
    previous_hash: str,
    at: str,
    by: str,
    why: str,
    source: str,
    on_behalf_of: str | None = None,
) -> Refund:
    """The version that puts a lost or damaged record back: same status, same money.

    ``follows`` is the latest version in the audit trail, and ``previous_hash`` its entry's hash. No
    attempt that began before the restore may finish it, so its token and lease are removed.
    """
    how = {"at": at, "by": by, "why": why, "source": source}
    if on_behalf_of is not None:
        how["on_behalf_of"] = on_behalf_of
    changes = {
        "processed_by": by,
        "restored": how,
        "attempt_token": None,
        "lease_until": None,
    }
    return _next_version(refund, changes, at=at, previous_hash=previous_hash, follows=follows)


def short_text(text: str | None) -> str | None:
    """Free text from outside, cut to 256 bytes of UTF-8 so that items stay small, and without
    control characters and bidi marks, so that it can be shown anywhere."""
    if text is None:
        return None
    return visible(text).encode(errors="replace")[:MAX_FAILURE_TEXT_BYTES].decode(errors="ignore")
