"""`refunds list` and `refunds open`: refunds found by what people know of them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from refunds.domain.clock import rfc3339
from refunds.domain.refund import Item
from refunds_ops.amounts import amount_text, check_currency, minor_units
from refunds_ops.dates import Zone, age, utc_now, zone_of
from refunds_ops.errors import REFUSED
from refunds_ops.finding import (
    STATUSES,
    Wanted,
    find,
    last_days,
    position_of,
    skip_until,
    span_after,
    span_of,
    span_options,
)
from refunds_ops.json_output import REFUND_FIELDS, json_option, one_format
from refunds_ops.open_refunds import is_seen_paid, note_unreadable, open_refunds, open_since
from refunds_ops.stack.stack import find_stack
from refunds_ops.story import NEXT, PAID_THERE_NEXT, because
from refunds_ops.terminal import print_json_lines, print_line, print_note, safe_text

if TYPE_CHECKING:
    from _csv import Writer

CSV_COLUMNS = (
    "refund_id",
    "transaction_id",
    "user_id",
    "amount",
    "amount_minor",
    "currency",
    "status",
    "reason",
    "requested_by",
    "gateway",
    "gateway_refund_id",
    "failure_code",
    "created_at",
    "updated_at",
)
MAX_SORTED = 100_000
"""The most refunds that are read to sort by something other than their creation."""


@click.command("list")
@click.option("--transaction", "transaction_id", metavar="ID", help="Of this payment.")
@click.option("--user", "user_id", metavar="ID", help="Of this user.")
@span_options
@click.option(
    "--status",
    "statuses",
    type=click.Choice(STATUSES, case_sensitive=False),
    multiple=True,
    help="With this status; may be given many times.",
)
@click.option(
    "--amount", metavar="DECIMAL", help="Of this amount, such as 25.00. Needs --currency."
)
@click.option("--currency", metavar="CODE", help="In this currency.")
@click.option("--requested-by", metavar="WHO", help="Requested by this person or system.")
@click.option("--gateway-name", metavar="NAME", help="Through this gateway.")
@click.option(
    "--sort",
    type=click.Choice(["created", "updated", "amount"]),
    default="created",
    show_default=True,
    help="What to sort by, highest first.",
)
@click.option("--oldest-first", is_flag=True, help="Sort in the reverse order.")
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_SORTED),
    default=50,
    show_default=True,
    help="Show at most this many.",
)
@click.option(
    "--after",
    metavar="REFUND_ID@CREATED",
    help="Show the next page. The previous page prints this value.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@json_option(REFUND_FIELDS, lines=True)
@click.pass_obj
def list_refunds(stack_name: str | None, /, *, as_json: bool, as_csv: bool, **options: Any) -> None:
    """List refunds by payment, user, day and more.

    Newest first. Without a payment, a user or a time, lists the refunds of the last seven days, or
    all open refunds if you ask only for open statuses.

    \b
    refunds list --user u-1042
    refunds list --day 2026-11-27 --status FAILED --status IN_REVIEW
    refunds list --since 24h --amount 25.00 --currency USD --csv
    """
    one_format(as_json=as_json, as_csv=as_csv)
    wanted = _filters(options)
    stack = find_stack(stack_name)
    zone, now = zone_of(stack), utc_now()
    span = span_of(zone, now, day=options["day"], since=options["since"], until=options["until"])
    if span is None and not (wanted.transaction_id or wanted.user_id or wanted.only_unfinished):
        print_note("These are of the last seven days. For another time: --day, --since, --until.")
        span = last_days(now)
    newest_first, limit = not options["oldest_first"], options["limit"]
    if (after := options["after"]) is not None:
        span = span_after(after, span, now, newest_first=newest_first)
    found = find(stack, wanted, span, now, newest_first=newest_first)
    if after is not None:
        found = skip_until(found, after, newest_first=newest_first)
    if options["sort"] != "created":
        found = iter(_sorted(found, options["sort"], newest_first=newest_first))
    page = list(islice(found, limit))
    more = next(found, None) is not None
    if as_json:
        print_json_lines(page)
    elif as_csv:
        write_csv(page)
    elif not page:
        print_line("No refunds.")
    else:
        print_refunds(page, zone)
    if more:
        _say_next(page[-1], by_creation=options["sort"] == "created")


def _filters(options: dict[str, Any]) -> Wanted:
    if options["amount"] is not None and options["currency"] is None:
        raise click.UsageError("--amount needs --currency, such as USD.")
    if options["currency"] is not None:
        check_currency(options["currency"])
    wanted = Wanted(
        transaction_id=options["transaction_id"],
        user_id=options["user_id"],
        statuses=frozenset(options["statuses"]),
        currency=options["currency"],
        requested_by=options["requested_by"],
        gateway=options["gateway_name"],
    )
    if options["amount"] is None:
        return wanted
    return replace(wanted, amount_minor=minor_units(options["amount"], str(options["currency"])))


def _sorted(found: Iterator[Item], by: str, *, newest_first: bool) -> list[Item]:
    rows = list(islice(found, MAX_SORTED))
    if next(found, None) is not None:
        print_note(f"Only the first {MAX_SORTED:,} are sorted: choose a shorter time.")
    if by == "updated":
        return sorted(rows, key=lambda each: str(each["updated_at"]), reverse=newest_first)
    return sorted(rows, key=lambda each: each.get("amount_minor") or 0, reverse=newest_first)


def _say_next(last: Item, *, by_creation: bool) -> None:
    if by_creation:
        print_note(f"There are more: --after {position_of(last)}")
    else:
        print_note("There are more: --limit NUMBER")


def print_refunds(refunds: Iterable[Item], zone: Zone) -> None:
    """A table for people, which explains what failed or waits."""
    from refunds_ops.layout import Column, print_table
    from refunds_ops.looks import status_text

    columns = [
        Column("refund"),
        Column("status"),
        Column("amount", right=True),
        Column("payment"),
        Column("user"),
        Column(f"created ({zone.name})"),
        Column("why", fold=True),
    ]
    print_table(
        columns,
        [
            (
                refund["refund_id"],
                status_text(refund["status"]),
                amount_text(refund.get("amount_minor"), refund["currency"]),
                refund["transaction_id"],
                refund["user_id"],
                zone.short(refund["created_at"]),
                because(refund) if refund.get("failure_code") else "",
            )
            for refund in refunds
        ],
    )


class SafeLines:
    """Takes csv's output and writes it line by line to standard output, with hostile characters
    written out."""

    def write(self, line: str) -> int:
        print_line(safe_text(line.rstrip("\r\n"), lines=True))
        return len(line)


def write_csv(refunds: Iterable[Item]) -> None:
    writer: Writer = csv.writer(SafeLines())
    writer.writerow(CSV_COLUMNS)
    for refund in refunds:
        writer.writerow([cell(value) for value in csv_row(refund)])


def csv_row(refund: Item) -> Iterator[object]:
    minor = refund.get("amount_minor")
    amount = "" if minor is None else amount_text(minor, refund["currency"]).split(" ")[0]
    for name in CSV_COLUMNS:
        yield amount if name == "amount" else refund.get(name, "")


def cell(value: object) -> object:
    """A spreadsheet would run text that begins like a formula."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


# --- Open -----------------------------------------------------------------------------------------


@click.command("open")
@json_option(
    {
        **REFUND_FIELDS,
        "open_since": "since when it has been unfinished",
        "check_at": "when ReconcileRefunds checks it next",
        "next": "what happens next",
    },
    lines=True,
)
@click.pass_obj
def open_(stack_name: str | None, as_json: bool) -> None:
    """List the refunds that are not finished.

    Says why each is open, since when, and what happens next. Longest open first. Also lists those
    that ended here without money and that the gateway shows as paid. Exit status 1 when one of them
    waits for a person.
    """
    stack = find_stack(stack_name)
    zone, now = zone_of(stack), utc_now()
    unreadable: list[str] = []
    found = open_refunds(stack, unreadable=unreadable)
    if as_json:
        print_json_lines({**refund, "next": next_step(refund, zone, now)} for refund in found)
    elif not found:
        print_line("Every refund is finished.")
    else:
        _print_open(found, zone, now)
    waiting = {refund["status"] for refund in found} & {"IN_REVIEW", "AWAITING_APPROVAL"}
    to_correct = any(map(is_seen_paid, found))
    if "IN_REVIEW" in waiting:
        print_note("Some wait for a person: refunds review list")
    if "AWAITING_APPROVAL" in waiting:
        print_note("Some wait for approval: refunds approve REFUND_ID, refunds deny REFUND_ID")
    if to_correct:
        print_note("Some ended here, and the gateway shows them as paid: refunds correct REFUND_ID")
    note_unreadable(unreadable)
    if waiting or to_correct or unreadable:
        raise click.exceptions.Exit(REFUSED)


def _print_open(found: list[Item], zone: Zone, now: datetime) -> None:
    from refunds_ops.layout import Column, print_table
    from refunds_ops.looks import status_text

    columns = [
        Column("refund"),
        Column("status"),
        Column("amount", right=True),
        Column("open for", right=True),
        Column("why", fold=True),
        Column("what happens next", fold=True),
    ]
    print_table(
        columns,
        [
            (
                refund["refund_id"],
                status_text(refund["status"]),
                amount_text(refund.get("amount_minor"), refund["currency"]),
                age(open_since(refund), now),
                because(refund) if refund.get("failure_code") else "",
                next_step(refund, zone, now),
            )
            for refund in found
        ],
    )


def next_step(refund: Item, zone: Zone, now: datetime) -> str:
    """What happens next to an open refund, and by when."""
    if is_seen_paid(refund):
        return PAID_THERE_NEXT.replace("REFUND_ID", str(refund["refund_id"]))
    if refund["status"] in ("IN_REVIEW", "AWAITING_APPROVAL"):
        return NEXT[refund["status"]].replace("REFUND_ID", str(refund["refund_id"]))
    due = refund.get("check_at")
    if due is None:
        return "its message comes back"
    if due <= rfc3339(now):
        return "the gateway is asked at ReconcileRefunds' next run"
    return f"the gateway is asked after {zone.short(due)}"
