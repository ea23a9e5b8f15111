"""`refunds as-of`: a refund as it was at an instant, according to the audit trail."""

from __future__ import annotations

import click

from refunds.domain.clock import rfc3339
from refunds_ops.amounts import amount_text
from refunds_ops.audit import sources
from refunds_ops.audit.chain import broken_links
from refunds_ops.commands.audit_show import ENTRY_FIELDS, entries_of, nothing_of
from refunds_ops.dates import utc_now, zone_of
from refunds_ops.errors import REFUSED, RefusedError
from refunds_ops.json_output import json_option
from refunds_ops.stack.stack import find_stack
from refunds_ops.statuses import outcome_of
from refunds_ops.story import sentence
from refunds_ops.terminal import print_error, print_json, print_line


@click.command("as-of")
@click.argument("instant")
@click.argument("refund_id")
@click.option("--transaction", "transaction_id", metavar="ID", help="Of a refund that was removed.")
@json_option(ENTRY_FIELDS)
@click.pass_obj
def as_of(
    stack_name: str | None,
    instant: str,
    refund_id: str,
    transaction_id: str | None,
    as_json: bool,
) -> None:
    """Show a refund as it was at an instant.

    INSTANT is a day (its end), an RFC 3339 instant, or how long ago: 30m, 24h, 7d. Reads the audit
    trail and checks it. Exit status 1 when there was no such refund then, or its trail is damaged.
    """
    stack = find_stack(stack_name)
    zone = zone_of(stack)
    at = rfc3339(zone.by(instant, utc_now()))
    entries = entries_of(sources.tables(stack), refund_id, transaction_id)
    if not entries:
        raise nothing_of(refund_id)
    until = [entry for entry in entries if entry["occurred_at"] <= at]
    if not until:
        first = zone.show(entries[0]["occurred_at"])
        raise RefusedError(f"There was no refund {refund_id} then: it was requested at {first}.")
    last = until[-1]
    if as_json:
        print_json(last)
    else:
        details = last["details"]
        print_line(f"{refund_id} at {zone.show(at)}")
        print_line(f"  {last['status']}, {outcome_of(last['status'])}")
        print_line(f"  {amount_text(details.get('amount_minor'), details['currency'])}")
        for entry in until:
            print_line(f"  {zone.show(entry['occurred_at'])}  {sentence(entry)}")
        if later := len(entries) - len(until):
            times = "once" if later == 1 else f"{later} times"
            print_line(f"It changed {times} since: refunds show {refund_id}")
    if broken_links(entries):
        print_error("The audit trail is damaged.", "What is wrong: refunds verify")
        raise click.exceptions.Exit(REFUSED)
