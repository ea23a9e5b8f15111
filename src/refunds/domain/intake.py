"""Whether requests flow: the rules of the circuit breakers, and of a person's pause.

Plain rules over one state. There is one state for the queue and, with several gateways, one for
each gateway. ``tables/state.py`` stores them, ``breaker/breaker.py`` opens a breaker, and
``breaker/queue_mapping.py`` makes the event source mapping follow and closes the breakers again. A
breaker opens and closes by itself. A person pauses; so does the automatic stop, when a day's total
is above ``StopAboveMinor``. Only a person resumes. Requests flow when nothing stops them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from refunds.domain.clock import from_rfc3339, rfc3339
from refunds.domain.money import Money
from refunds.domain.refund import Item, short_text

FAILURE_WINDOW = timedelta(minutes=10)
"""Failed calls are counted together for this long, unless one succeeds in between."""

PROBE_AFTER_FAILED_PAYMENTS = 5
"""After failed calls for this many payments we ask the gateway whether it is there, and again at
each doubling. Payments count, not calls: a payment that always fails says nothing about the
others."""

OPEN_AFTER_FAILED_PAYMENTS = 100
"""After this many, without a success in between, the gateway counts as down, whatever it answers to
a probe."""

OPEN_AT_LEAST = timedelta(minutes=1)
STEP_AT_LEAST = timedelta(minutes=1)

FIRST_CONCURRENCY = 2
"""The least that an event source mapping takes."""
STEP_FACTOR = 4

FULL_SHARE_AT = 16
"""From this ``concurrency`` on, a recovering gateway among several gets all of its requests."""

MAX_HISTORY = 20


class BreakerState(StrEnum):
    CLOSED = "closed"
    """All is well: requests flow."""
    OPEN = "open"
    """The gateway is down: requests wait in the queue."""
    RECOVERING = "recovering"
    """The gateway answers again: a few batches at once, then more."""


@dataclass(frozen=True, kw_only=True)
class Intake:
    """The state of breaker and pause; instants are ``clock.rfc3339`` text."""

    version: int = 0
    """Raised by one at each change, so that racing functions can't overwrite each other's
    changes."""
    breaker: BreakerState = BreakerState.CLOSED
    since: str | None = None
    """When the breaker last changed; each step of the recovery is a change."""
    why: str | None = None
    concurrency: int | None = None
    """How many batches run at once during the recovery. With several gateways, it sets the
    gateway's share of requests."""
    failing: tuple[str, ...] = ()
    """Payments whose last call failed, since ``failing_since``."""
    failing_since: str | None = None
    paused_at: str | None = None
    paused_by: str | None = None
    paused_on_behalf_of: str | None = None
    paused_why: str | None = None
    stops: Mapping[str, Mapping[str, str | int]] = field(default_factory=dict)
    """The last automatic stop of each currency: ``day``, ``total_minor`` as last seen,
    ``level_minor`` above which requests stop, and ``step_minor``. A resume raises the level to
    ``step_minor`` above the total."""
    history: tuple[Mapping[str, str], ...] = ()
    """The last changes, oldest first: ``at``, ``by``, ``what``, ``why``, and ``on_behalf_of``."""

    @property
    def paused(self) -> bool:
        return self.paused_at is not None

    @property
    def flows(self) -> bool:
        return not self.paused and self.breaker is not BreakerState.OPEN

    def item(self) -> Item:
        """The stored form: attributes that are None are left out."""
        item: Item = {field.name: getattr(self, field.name) for field in fields(self)}
        item["breaker"] = self.breaker.value
        item["failing"] = list(self.failing)
        item["history"] = [dict(change) for change in self.history]
        item["stops"] = {currency: dict(stop) for currency, stop in self.stops.items()} or None
        return {name: value for name, value in item.items() if value is not None}

    @classmethod
    def from_item(cls, item: Item) -> Intake:
        """Read a stored item; an empty one is the state of a new stack."""
        known = {field.name: item[field.name] for field in fields(cls) if field.name in item}
        if "breaker" in known:
            known["breaker"] = BreakerState(known["breaker"])
        for name in ("failing", "history"):
            known[name] = tuple(known.get(name, ()))
        return cls(**known)


class DesiredMapping(NamedTuple):
    """How the event source mapping should be."""

    enabled: bool
    concurrency: int


def desired_mapping(intake: Intake, maximum_concurrency: int) -> DesiredMapping:
    """What the state asks of the mapping; ``maximum_concurrency`` is the stack's own setting."""
    most = intake.concurrency or maximum_concurrency
    return DesiredMapping(intake.flows, min(most, maximum_concurrency))


# --- The breaker ----------------------------------------------------------------------------------


def record_failures(intake: Intake, failed: Iterable[str], now: datetime) -> Intake:
    """Add payments whose last call failed."""
    if intake.breaker is BreakerState.OPEN:
        return intake
    before = _recently_failing(intake, now)
    return replace(
        intake,
        failing=tuple(sorted({*before, *failed}))[:OPEN_AFTER_FAILED_PAYMENTS],
        failing_since=intake.failing_since if before else rfc3339(now),
    )


def should_probe(before: Intake, after: Intake, now: datetime) -> bool:
    """Whether to ask the gateway if it is there: at 5 failed payments, at 10, at 20, …"""
    had = len(_recently_failing(before, now)) // PROBE_AFTER_FAILED_PAYMENTS
    return (len(after.failing) // PROBE_AFTER_FAILED_PAYMENTS).bit_length() > had.bit_length()


def forget_failures(intake: Intake) -> Intake:
    """A call was answered, so earlier failures no longer count."""
    return replace(intake, failing=(), failing_since=None)


def open_breaker(intake: Intake, by: str, why: str, now: datetime) -> Intake:
    """Open the breaker: the gateway is down."""
    if intake.breaker is BreakerState.OPEN:
        return intake
    return _move_breaker(intake, BreakerState.OPEN, None, by, why, now)


def close_breaker(intake: Intake, by: str, why: str, now: datetime) -> Intake:
    """Close the breaker at once, without the steps of a recovery."""
    if intake.breaker is BreakerState.CLOSED:
        return intake
    return _move_breaker(intake, BreakerState.CLOSED, None, by, why, now)


def recovering_share(intake: Intake) -> float:
    """The share of its requests that a gateway among several gets: 1.0 unless it is recovering."""
    if intake.breaker is not BreakerState.RECOVERING:
        return 1.0
    return min(1.0, (intake.concurrency or FIRST_CONCURRENCY) / FULL_SHARE_AT)


def may_probe(intake: Intake, now: datetime) -> bool:
    """Whether it is time to ask the gateway if it is back."""
    if intake.breaker is BreakerState.CLOSED:
        return False
    return _age(intake.since, now) >= (
        OPEN_AT_LEAST if intake.breaker is BreakerState.OPEN else STEP_AT_LEAST
    )


def after_probe(
    intake: Intake, trouble: str | None, maximum_concurrency: int, by: str, now: datetime
) -> Intake:
    """The state after a probe; ``trouble`` is why it failed, None when the gateway answered.

    An open breaker goes to two batches at once, then four times as many at each step, then it
    closes.
    """
    if not may_probe(intake, now):
        return intake
    if trouble is not None:
        return open_breaker(intake, by, trouble, now)
    answers = "the gateway answers"
    if intake.breaker is BreakerState.OPEN:
        first = min(FIRST_CONCURRENCY, maximum_concurrency)
        return _move_breaker(intake, BreakerState.RECOVERING, first, by, answers, now)
    if _recently_failing(intake, now):
        return intake  # It answers reads, but makes no refunds yet.
    more = (intake.concurrency or FIRST_CONCURRENCY) * STEP_FACTOR
    if more >= maximum_concurrency:
        return _move_breaker(intake, BreakerState.CLOSED, None, by, answers, now)
    return _move_breaker(intake, BreakerState.RECOVERING, more, by, answers, now)


def _recently_failing(intake: Intake, now: datetime) -> tuple[str, ...]:
    return intake.failing if _age(intake.failing_since, now) < FAILURE_WINDOW else ()


def _age(since: str | None, now: datetime) -> timedelta:
    return now - from_rfc3339(since) if since else timedelta.max


def _move_breaker(  # noqa: PLR0913, PLR0917 - who, why and when, as in every change of an intake
    intake: Intake, to: BreakerState, concurrency: int | None, by: str, why: str, now: datetime
) -> Intake:
    moved = replace(
        forget_failures(intake),
        breaker=to,
        since=rfc3339(now),
        why=short_text(why),
        concurrency=concurrency,
    )
    what = f"breaker {to}" + (f", {concurrency} batches at once" if concurrency else "")
    return _with_history(moved, what, by, why, now)


# --- A person's switch, and the automatic stop ----------------------------------------------------


def pause_intake(
    intake: Intake, by: str, why: str, now: datetime, *, on_behalf_of: str | None = None
) -> Intake:
    """Stop requests until a person resumes them. Keeps the name of the first who paused."""
    if intake.paused:
        return intake
    held = replace(
        intake,
        paused_at=rfc3339(now),
        paused_by=short_text(by),
        paused_on_behalf_of=short_text(on_behalf_of),
        paused_why=short_text(why),
    )
    return _with_history(held, "paused", by, why, now, on_behalf_of)


def resume_intake(
    intake: Intake, by: str, why: str, now: datetime, *, on_behalf_of: str | None = None
) -> Intake:
    """End a person's pause or an automatic stop. An open breaker still stops requests.

    If a currency's total was above its level, requests stop again one step above that total.
    """
    if not intake.paused:
        return intake
    free = replace(
        intake,
        paused_at=None,
        paused_by=None,
        paused_on_behalf_of=None,
        paused_why=None,
        stops={currency: _raise_level(stop) for currency, stop in intake.stops.items()},
    )
    return _with_history(free, "resumed", by, why, now, on_behalf_of)


def stop_intake(  # noqa: PLR0913 - who, why and when, as in every change of an intake
    intake: Intake, currency: str, total_minor: int, *, above_minor: int, by: str, now: datetime
) -> Intake:
    """Stop requests if the day's total in a currency is above its level.

    Not while a person has paused them: the resume would raise a level that nobody was told of. The
    request waits all the same, and the first one after the resume stops the others.
    """
    if intake.paused and not _is_stopped(intake):
        return intake
    day = rfc3339(now)[:10]
    known = _stop_of(intake, currency, day)
    level_minor = stop_level_minor(intake, currency, above_minor=above_minor, now=now)
    if total_minor <= level_minor:
        return intake
    stop: dict[str, str | int] = {
        "day": day,
        "total_minor": max(total_minor, int(known.get("total_minor", 0))),
        "level_minor": level_minor,
        "step_minor": above_minor,
    }
    why = (
        f"StopAboveMinor: refunds of {day} come to {Money(total_minor, currency)}, "
        f"above {Money(level_minor, currency)}"
    )
    return pause_intake(replace(intake, stops={**intake.stops, currency: stop}), by, why, now)


def stop_level_minor(intake: Intake, currency: str, *, above_minor: int, now: datetime) -> int:
    """The total of the day above which requests stop: ``above_minor``, or the level to which the
    last resume of this day has raised it."""
    known = _stop_of(intake, currency, rfc3339(now)[:10])
    return int(known.get("level_minor", above_minor))


def _stop_of(intake: Intake, currency: str, day: str) -> Mapping[str, str | int]:
    known = intake.stops.get(currency, {})
    return known if known.get("day") == day else {}


def _raise_level(stop: Mapping[str, str | int]) -> Mapping[str, str | int]:
    if not _is_above(stop):
        return stop
    return {**stop, "level_minor": int(stop["total_minor"]) + int(stop["step_minor"])}


def _is_stopped(intake: Intake) -> bool:
    """Whether an automatic stop is in force, and not only a person's pause."""
    return any(map(_is_above, intake.stops.values()))


def _is_above(stop: Mapping[str, str | int]) -> bool:
    return int(stop["total_minor"]) > int(stop["level_minor"])


def _with_history(  # noqa: PLR0913, PLR0917 - who, why and when, as in every change of an intake
    intake: Intake,
    what: str,
    by: str,
    why: str,
    now: datetime,
    on_behalf_of: str | None = None,
) -> Intake:
    change = {
        "at": rfc3339(now),
        "by": short_text(by) or "",
        "what": what,
        "why": short_text(why) or "",
    }
    if note := short_text(on_behalf_of):
        change["on_behalf_of"] = note
    return replace(intake, history=(*intake.history, change)[-MAX_HISTORY:])
