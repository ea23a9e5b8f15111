"""`refunds limits`: how much is refunded without a person, and who has other limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from refunds.domain.clock import rfc3339
from refunds.domain.currencies import EXPONENTS
from refunds.domain.limits import (
    SENT_AGAIN,
    Amounts,
    Exceptions,
    LimitException,
    Limits,
    parse_amounts,
)
from refunds.domain.refund import short_text
from refunds.domain.request_fields import Name
from refunds.tables.limit_counters import LimitCounters, day_counter
from refunds.tables.state import Control
from refunds_ops.amounts import amount_text
from refunds_ops.dates import utc_now
from refunds_ops.deciding import limits_of, sentence
from refunds_ops.errors import RefusedError
from refunds_ops.identity import ON_BEHALF_OF, check_kept, identify, why_option
from refunds_ops.json_output import json_option
from refunds_ops.lazy import CommandGroup
from refunds_ops.plain import print_facts
from refunds_ops.stack.stack import Stack, find_stack
from refunds_ops.statuses import acting
from refunds_ops.terminal import print_json, print_line

_NAMES = {
    "per_refund": "one refund",
    "user_day": "one user and day",
    "user_count": "refunds of one user and day",
    "day": "all of a day",
    "approve_above": "needs approval above",
    "second_approval_above": "needs two people above",
    "stop_above": "requests stop above",
}

SHOW_FIELDS = {
    "limits": "the stack's parameters, in minor units by currency; null is off",
    "approval_days": "how long a refund waits for approval",
    "exceptions": "by subject: its other limits, who set them, why and when",
    "version": "of the exceptions; each change raises it by one",
    "changes": "the last changes of the exceptions: who, why, when, before and after",
    "today": "what counts against the day's limit so far (UTC), in minor units by currency",
}


@click.group(cls=CommandGroup)
def limits() -> None:
    """Show the limits and make exceptions from them.

    The limits themselves are parameters of the stack.
    """


@limits.command("show")
@json_option(SHOW_FIELDS)
@click.pass_obj
def show(stack_name: str | None, as_json: bool) -> None:
    """Show the limits, the exceptions from them, and the day's total so far."""
    stack = find_stack(stack_name)
    found, exceptions = limits_of(stack), _control(stack).read_exceptions()
    today = _today(stack, found)
    if as_json:
        print_json(
            {
                "limits": {name: getattr(found, name) for name in _NAMES},
                "approval_days": found.approval_days,
                "exceptions": {name: each.item() for name, each in exceptions.entries.items()},
                "version": exceptions.version,
                "changes": [dict(change) for change in exceptions.changes],
                "today": today,
            }
        )
        return
    print_facts((label, _limit(getattr(found, name))) for name, label in _NAMES.items())
    print_facts([("today", _amounts(today))])
    for subject, each in exceptions.entries.items():
        made = f"by {acting(each.by)} {each.at[:10]}: {each.why}"
        print_line(f"{subject}: {_exception(each)}; {made}")


@limits.command("set")
@click.argument("subject")
@click.option("--per-refund-minor", metavar="AMOUNTS", help='Of one refund, such as "EUR=50000".')
@click.option("--user-day-minor", metavar="AMOUNTS", help="Of one user on one day.")
@click.option("--user-count", type=click.IntRange(0, 100_000), help="Refunds of one user and day.")
@click.option("--remove", is_flag=True, help="The stack's own limits apply again.")
@why_option()
@ON_BEHALF_OF
@json_option(
    {
        "subject": "",
        "exception": "the exception as it is now; null when it was removed",
        "version": "",
    }
)
@click.pass_obj
def set_(stack_name: str | None, /, *, subject: str, **options: Any) -> None:
    """Make an exception from the limits for one user, requester or sender.

    SUBJECT is user:ID, requester:NAME (the requested_by of a request) or sender:ID (its sent_by, or
    the part before the colon: all sessions of a role). Amounts are minor units by currency. A limit
    that you don't give stays as the stack has it. Replaces an earlier exception for the subject,
    and takes effect within 30 seconds. Each change is kept with a version, who made it, why, and
    the limits before and after.

    \b
    refunds limits set user:u-1042 --per-refund-minor "EUR=90000" --why "VIP, TICKET-12"
    refunds limits set requester:agent:bot --user-count 1 --why "on trial, TICKET-13"
    refunds limits set user:u-1042 --remove --why "no longer, TICKET-14"
    """
    given = [options[name] for name in ("per_refund_minor", "user_day_minor", "user_count")]
    if options["remove"] == any(value is not None for value in given):
        raise click.UsageError("Give a limit, or --remove.")
    per_refund = _parsed("--per-refund-minor", options["per_refund_minor"])
    user_day = _parsed("--user-day-minor", options["user_day_minor"])
    why = options["why"]
    check_kept(why=why)
    if not options["remove"]:
        _check_subject(subject)
    stack = find_stack(stack_name)
    who = identify(stack, options["on_behalf_of"])
    at = rfc3339(utc_now())
    by = who.recorded()["by"]
    noted = short_text(why) or ""  # all changes share one item of at most 400 KB
    if note := short_text(who.on_behalf_of):
        noted += f" (on behalf of {note})"
    exception = LimitException(
        per_refund=per_refund,
        user_day=user_day,
        user_count=options["user_count"],
        by=by,
        why=noted,
        at=at,
    )
    control = _control(stack)
    before = control.read_exceptions()
    if options["remove"] and subject not in before.entries:
        raise RefusedError(f"There is no exception for {subject}.", "refunds limits show")
    try:
        after = before.changed(
            subject, None if options["remove"] else exception, by=by, why=noted, at=at
        )
    except ValueError as exc:
        raise RefusedError(sentence(exc)) from exc
    if not control.write_exceptions(after, expected_version=before.version):
        raise RefusedError("Somebody else has changed the exceptions.", "Run the command again.")
    if options["as_json"]:
        now = after.entries.get(subject)
        item = now.item() if now else None
        print_json({"subject": subject, "exception": item, "version": after.version})
        return
    print_line(f"{subject}: {_now(after, subject)} (version {after.version}).")


def _control(stack: Stack) -> Control:
    return Control(stack.dynamodb, stack["LedgerTableName"])


def _check_subject(subject: str) -> None:
    """Refuse a subject that no request can have: its limits would never apply, unnoticed."""
    kind, _, name = subject.partition(":")
    if not name or kind not in ("user", "requester", "sender"):
        raise RefusedError(
            f"{subject} is not a subject.", "Give user:ID, requester:NAME or sender:ID."
        )
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as exc:
        reason = exc.errors()[0]["msg"]
        raise RefusedError(
            f"No request has this {kind or 'subject'}: {reason}.", "refunds limits set --help"
        ) from exc
    if SENT_AGAIN in name and kind == "sender":
        raise RefusedError("A sender is one principal.", f"Set each of them:{SENT_AGAIN}separates.")


def _parsed(option: str, text: str | None) -> dict[str, int] | None:
    if text is None:
        return None
    try:
        amounts = parse_amounts(text)
    except ValueError as exc:
        raise click.UsageError(f"{option} {exc}.") from exc
    if amounts is None:
        raise click.UsageError(f"{option} names no amount.")
    return amounts


def _today(stack: Stack, found: Limits) -> dict[str, int]:
    """The day's totals so far, for the currencies that a limit of the day names."""
    if not found.counts_days:
        return {}
    counters = LimitCounters(stack.dynamodb, stack["LedgerTableName"])
    day = rfc3339(utc_now())[:10]
    named = {*(found.day or {}), *(found.stop_above or {})} & set(EXPONENTS)
    read = {currency: counters.get(day_counter(currency)) for currency in sorted(named)}
    return {
        currency: counter.sums.get(currency, 0) if counter.day == day else 0
        for currency, counter in read.items()
    }


def _amounts(amounts: Mapping[str, int]) -> str:
    return ", ".join(amount_text(minor, currency) for currency, minor in amounts.items())


def _limit(limit: Amounts | int | None) -> str:
    if limit is None:
        return "off"
    return str(limit) if isinstance(limit, int) else _amounts(limit)


def _exception(each: LimitException) -> str:
    given = {name: getattr(each, name) for name in ("per_refund", "user_day", "user_count")}
    return ", ".join(
        f"{_NAMES[name]} {_limit(value)}" for name, value in given.items() if value is not None
    )


def _now(exceptions: Exceptions, subject: str) -> str:
    now = exceptions.entries.get(subject)
    return _exception(now) if now else "the stack's own limits apply"
