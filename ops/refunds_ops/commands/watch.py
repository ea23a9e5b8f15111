"""`refunds watch`: what flows, waits and fails, or one refund until it is finished."""

from __future__ import annotations

import time
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from refunds.domain.clock import rfc3339
from refunds.tables.refund_indexes import Span
from refunds_ops.amounts import amount_text
from refunds_ops.dates import Zone, utc_now, zone_of
from refunds_ops.errors import REFUSED
from refunds_ops.json_output import json_option
from refunds_ops.open_refunds import UNFINISHED
from refunds_ops.queue_state import depth, why_not_processed
from refunds_ops.stack.records import audit_entries, refund_item
from refunds_ops.stack.stack import Stack, find_stack
from refunds_ops.terminal import print_json_lines, print_line, print_note

if TYPE_CHECKING:
    from refunds.domain.refund import Item

RECENT = timedelta(minutes=10)
MAX_RECENT = 10


@click.command()
@click.argument("refund_id", required=False)
@click.option(
    "--every",
    type=click.FloatRange(0.1, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 604_800),
    metavar="SECONDS",
    help="How long.  [default: until Ctrl-C, or until the refund is finished]",
)
@json_option(
    {
        "at": "RFC 3339, UTC",
        "waiting": "messages in the queue",
        "in_flight": "messages being processed or waiting for a retry",
        "dead_letters": "messages in the dead-letter queue",
        "refunds": "with REFUND_ID: the refund, when it changed; without: those of ten minutes",
    },
    lines=True,
)
@click.pass_obj
def watch(
    stack_name: str | None,
    *,
    refund_id: str | None,
    every: float,
    seconds: float | None,
    as_json: bool,
) -> None:
    """Watch refunds flow, or one refund to its end.

    Prints a line whenever something has changed. Exit status with REFUND_ID: 0 when it succeeded, 1
    when it ended otherwise or not in time.
    """
    stack = find_stack(stack_name)
    zone = zone_of(stack)
    end = None if seconds is None else time.monotonic() + seconds
    last: Any = None
    while True:
        seen = _look(stack, refund_id)
        if (changed := {name: seen[name] for name in seen if name != "at"}) != last:
            last = changed
            if as_json:
                print_json_lines([seen])
            else:
                _print(seen, zone)
        refund = seen["refunds"][0] if refund_id and seen["refunds"] else None
        if refund and refund["status"] not in UNFINISHED:
            raise click.exceptions.Exit(0 if refund["status"] == "SUCCEEDED" else REFUSED)
        if end is not None and time.monotonic() >= end:
            break
        time.sleep(every)
    if refund_id:
        _say_why(stack, refund_id)
        raise click.exceptions.Exit(REFUSED)


def _look(stack: Stack, refund_id: str | None) -> dict[str, Any]:
    queue = depth(stack, stack["RefundQueueUrl"])
    dead = depth(stack, stack["RefundDeadLetterQueueUrl"])
    if refund_id is not None:
        found = refund_item(stack, refund_id)
        refunds = [found] if found else []
    else:
        refunds = _recent(stack)
    return {
        "at": rfc3339(utc_now()),
        "waiting": queue.waiting,
        "in_flight": queue.in_flight,
        "dead_letters": dead.all,
        "refunds": refunds,
    }


def _recent(stack: Stack) -> list[Item]:
    from refunds_ops.finding import Wanted, find

    now = utc_now()
    span = Span(rfc3339(now - RECENT), rfc3339(now + RECENT))
    return list(islice(find(stack, Wanted(), span, now, newest_first=True), MAX_RECENT))


def _print(seen: dict[str, Any], zone: Zone) -> None:
    print_line(
        f"{zone.local(seen['at']):%H:%M:%S}  {seen['waiting']} waiting, {seen['in_flight']} in "
        f"flight, {seen['dead_letters']} dead letters"
    )
    for refund in seen["refunds"]:
        amount = amount_text(refund.get("amount_minor"), refund["currency"])
        why = f"  {refund['failure_code']}" if refund.get("failure_code") else ""
        print_line(f"          {refund['refund_id']}  {refund['status']}  {amount}{why}")


def _say_why(stack: Stack, refund_id: str) -> None:
    refund = refund_item(stack, refund_id)
    if refund is None:
        print_note(f"There is no refund {refund_id} yet.")
        for line in why_not_processed(stack):
            print_note(line)
        return
    entries, _ = audit_entries(stack, refund["transaction_id"], refund_id)
    print_note(f"{refund_id} is still {refund['status']}, after {len(entries)} changes.")
    print_note(f"More: refunds show {refund_id} --gateway")
