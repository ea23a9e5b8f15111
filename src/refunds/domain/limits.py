"""How much may be refunded without a person: the limits, and the exceptions from them.

Plain rules. Amounts are minor units by currency. A limit that is None is off. A limit that is on
counts as 0 for a currency that it does not name: no refund is paid unnoticed because a currency was
forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from refunds.domain.currencies import EXPONENTS

Amounts = Mapping[str, int]
"""Minor units by currency."""

PER_REFUND = "per_refund"
APPROVE_ABOVE = "approve_above"
USER_DAY = "user_day"
USER_COUNT = "user_count"
DAY = "day"
"""Names of the rules, as a waiting refund has them in ``awaiting``."""

DEFAULT_APPROVAL_DAYS = 3

MAX_EXCEPTIONS = 500
"""The most exceptions. They share one item, which each batch of requests reads."""

MAX_CHANGES_KEPT = 50

SENT_AGAIN = " via "
"""Between the first sender and the one that sent the message again, in ``sent_by``."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    per_refund: Amounts | None = None
    user_day: Amounts | None = None
    """Of one user on one UTC day."""
    day: Amounts | None = None
    """Of all users together on one UTC day."""
    user_count: int | None = None
    """Refunds of one user on one UTC day."""
    approve_above: Amounts | None = None
    """No exception raises it."""
    second_approval_above: Amounts | None = None
    """Above it two people must approve."""
    stop_above: Amounts | None = None
    """Once a day's total is above it, requests stop until a person resumes them."""
    approval_days: int = DEFAULT_APPROVAL_DAYS
    """For how long a refund waits for its approval."""

    @property
    def on(self) -> bool:
        """Whether any limit is on."""
        return any(
            limit is not None
            for limit in (
                self.per_refund,
                self.user_day,
                self.day,
                self.user_count,
                self.approve_above,
                self.stop_above,
            )
        )

    @property
    def counts_days(self) -> bool:
        return self.day is not None or self.stop_above is not None

    def needs_second(self, amount_minor: int, currency: str) -> bool:
        """Whether two people must decide about this amount."""
        return is_above(self.second_approval_above, amount_minor, currency)


NO_LIMITS = Limits()


def is_above(limit: Amounts | None, amount_minor: int, currency: str) -> bool:
    return limit is not None and amount_minor > limit.get(currency, 0)


@dataclass(frozen=True, kw_only=True)
class LimitException:
    """Other limits for one subject. A limit that is None stays as the stack has it.

    ``by``, ``why`` and ``at``: who made it, and when.
    """

    per_refund: Amounts | None = None
    user_day: Amounts | None = None
    user_count: int | None = None
    by: str
    why: str
    at: str

    def item(self) -> dict[str, Any]:
        """The stored form. What is None is left out."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Exceptions:
    """All exceptions, by subject: ``user:<user_id>``, ``requester:<requested_by>`` or
    ``sender:<principal of sent_by>``. Each change raises ``version`` by one."""

    version: int = 0
    entries: Mapping[str, LimitException] = field(default_factory=dict)
    changes: tuple[Mapping[str, Any], ...] = ()
    """The latest changes, newest last: ``version``, ``subject``, ``by``, ``why``, ``at``, and the
    exception before (``was``) and after (``now``)."""

    def changed(
        self, subject: str, exception: LimitException | None, *, by: str, why: str, at: str
    ) -> Exceptions:
        """With one exception set, or removed. Raises ``ValueError``."""
        kind, _, name = subject.partition(":")
        if kind not in ("user", "requester", "sender") or not name:
            raise ValueError("a subject is user:ID, requester:NAME or sender:ID")
        entries = {key: value for key, value in self.entries.items() if key != subject}
        if exception is not None:
            entries[subject] = exception
        if len(entries) > MAX_EXCEPTIONS:
            raise ValueError(f"at most {MAX_EXCEPTIONS} exceptions; remove some first")
        before = self.entries.get(subject)
        change = {
            "version": self.version + 1,
            "subject": subject,
            "by": by,
            "why": why,
            "at": at,
            "was": before and before.item(),
            "now": exception and exception.item(),
        }
        return Exceptions(
            version=self.version + 1,
            entries=entries,
            changes=(*self.changes, change)[-MAX_CHANGES_KEPT:],
        )

    def item(self) -> dict[str, Any]:
        """The stored form."""
        return {
            "version": self.version,
            "entries": {name: each.item() for name, each in self.entries.items()},
            "changes": [dict(each) for each in self.changes],
        }

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Exceptions:
        return cls(
            version=item.get("version", 0),
            entries={
                name: LimitException(**each) for name, each in item.get("entries", {}).items()
            },
            changes=tuple(item.get("changes", ())),
        )


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """The limits of one refund, exceptions applied. None is no limit."""

    per_refund_minor: int | None
    user_day_minor: int | None
    user_count: int | None
    day_minor: int | None
    approve_above_minor: int | None


def allowed(  # noqa: PLR0913 - who asks, and the limits
    limits: Limits,
    exceptions: Exceptions,
    *,
    currency: str,
    user_id: str,
    requested_by: str,
    sent_by: str | None,
) -> Allowed:
    """The limits of one refund. If several exceptions apply, the lowest limit counts.

    If a message was sent again, only the message itself names its first sender. Exceptions for such
    a sender lower limits, but never raise them.
    """
    fitting = _fitting(exceptions, user_id, requested_by, sent_by)
    may_raise = sent_by is None or SENT_AGAIN not in sent_by

    def lowest(stack: int | None, others: Iterable[int | None]) -> int | None:
        found = [each for each in others if each is not None]
        if stack is not None and not may_raise:
            found.append(stack)
        return min(found, default=stack)

    def amount(stack: Amounts | None, others: Iterable[Amounts | None]) -> int | None:
        # An exception applies only to the currencies that it names.
        named = [each.get(currency) for each in others if each is not None]
        return lowest(None if stack is None else stack.get(currency, 0), named)

    return Allowed(
        per_refund_minor=amount(limits.per_refund, [each.per_refund for each in fitting]),
        user_day_minor=amount(limits.user_day, [each.user_day for each in fitting]),
        user_count=lowest(limits.user_count, [each.user_count for each in fitting]),
        day_minor=None if limits.day is None else limits.day.get(currency, 0),
        approve_above_minor=(
            None if limits.approve_above is None else limits.approve_above.get(currency, 0)
        ),
    )


def _fitting(
    exceptions: Exceptions, user_id: str, requested_by: str, sent_by: str | None
) -> list[LimitException]:
    subjects = [f"user:{user_id}", f"requester:{requested_by}"]
    for sender in (sent_by or "").split(SENT_AGAIN):
        # A role's sessions come and go: an exception may name the role, or one session of it.
        subjects += [f"sender:{sender}", f"sender:{sender.partition(':')[0]}"]
    return [exceptions.entries[each] for each in subjects if each in exceptions.entries]


def parse_amounts(text: str) -> dict[str, int] | None:
    """``"EUR=50000 USD=60000"``. None for an empty text: no limit. Raises ``ValueError``."""
    amounts: dict[str, int] = {}
    for each in text.split():
        currency, _, minor = each.partition("=")
        if currency not in EXPONENTS or not (minor.isascii() and minor.isdigit()):
            raise ValueError(
                "must be amounts in minor units by currency, such as EUR=50000 USD=60000"
            )
        if currency in amounts:
            raise ValueError(f"names {currency} twice")
        amounts[currency] = int(minor)
    return amounts or None
