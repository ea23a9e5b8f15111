"""`refunds show`: one refund, what became of it and why, and whether its records are intact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from refunds.domain.clock import from_rfc3339
from refunds.domain.refund import Item
from refunds_ops.amounts import amount_text
from refunds_ops.audit.chain import broken_links, changed_fields_of
from refunds_ops.dates import Zone, age, utc_now, zone_of
from refunds_ops.errors import REFUSED, RefusedError
from refunds_ops.json_output import json_option
from refunds_ops.plain import print_facts, print_paragraph, print_styled
from refunds_ops.queue_state import why_not_processed
from refunds_ops.stack.records import audit_entries, refund_item
from refunds_ops.stack.stack import Stack, find_stack
from refunds_ops.statuses import colour_of, outcome_of
from refunds_ops.story import (
    because,
    decision,
    sentence,
    tell_customer,
    waits_because,
    what_follows,
)
from refunds_ops.terminal import print_error, print_json, print_line

if TYPE_CHECKING:
    from refunds_ops.gateway_view import GatewayView

TRAIL_DELAY = timedelta(minutes=2)
"""After this time, an audit entry that does not exist counts as missing, not as late."""

_ROWS = (
    ("payment", "transaction_id"),
    ("user", "user_id"),
    ("reason", "reason"),
    ("reason code", "reason_code"),
    ("note", "note"),
    ("requested by", "requested_by"),
    ("sent by", "sent_by"),
    ("processed by", "processed_by"),
    ("gateway", "gateway"),
    ("account", "gateway_account"),
    ("gateway's id", "gateway_refund_id"),
    ("reference", "gateway_reference"),
    ("trace number", "gateway_trace"),
)
_INSTANTS = (
    ("requested", "requested_at"),
    ("created", "created_at"),
    ("last change", "updated_at"),
    ("open since", "open_since"),
    ("next look", "check_at"),
)

FIELDS = {
    "refund": "as stored",
    "audit_entries": "oldest first",
    "outcome": "the words for the customer's order: Refund Successful, Pending or Failed",
    "tell_customer": "what to tell the customer",
    "next": "what happens next; empty for a final status",
    "intact": "whether the trail is whole and the refund is what its last entry says",
    "problems": "what is wrong with the records",
    "gateway": "with --gateway: the refund and its payment as the gateway shows them",
}


@click.command()
@click.argument("refund_id")
@click.option("--gateway", "with_gateway", is_flag=True, help="Also show what the gateway has.")
@json_option(FIELDS)
@click.pass_obj
def show(stack_name: str | None, refund_id: str, with_gateway: bool, as_json: bool) -> None:
    """Show a refund, what became of it and why.

    Checks its audit trail, and that the refund is what its last entry says. Exit status 1 when
    there is no such refund, when its records were changed, or when --gateway shows it otherwise.
    """
    stack = find_stack(stack_name)
    found = look_up(stack, refund_id, with_gateway=with_gateway)
    if as_json:
        print_json(found.as_json())
    else:
        _print(stack, found)
    if found.problems or (found.gateway and found.gateway.differs):
        raise click.exceptions.Exit(REFUSED)


@dataclass
class Shown:
    """A refund with its trail, what is wrong with them, and the gateway's view if asked for."""

    refund: Item
    entries: list[Item]
    problems: list[str]
    gateway: GatewayView | None = None

    def as_json(self) -> dict[str, Any]:
        status = self.refund["status"]
        return {
            "refund": self.refund,
            "audit_entries": self.entries,
            "outcome": outcome_of(status),
            "tell_customer": tell_customer(self.refund),
            "next": what_follows(self.refund),
            "intact": not self.problems,
            "problems": self.problems,
            "gateway": self.gateway.as_json() if self.gateway else None,
        }


def look_up(stack: Stack, refund_id: str, *, with_gateway: bool = False) -> Shown:
    """What `refunds show` shows. Raises ``RefusedError`` when there is no such refund."""
    refund = refund_item(stack, refund_id)
    if refund is None:
        raise RefusedError(f"There is no refund {refund_id}.", *why_not_processed(stack))
    entries, complete = audit_entries(stack, refund["transaction_id"], refund_id)
    found = Shown(refund, entries, problems_of(refund, entries) if complete else [])
    if with_gateway:
        from refunds_ops.gateway_view import gateway_view

        found.gateway = gateway_view(stack, refund)
    return found


def problems_of(refund: Item, entries: Sequence[Item]) -> list[str]:
    """What is wrong with a refund's records. For a moment, its last entry may be on its way."""
    version = refund["version"]
    late = utc_now() - from_rfc3339(refund["updated_at"]) < TRAIL_DELAY
    if not entries:
        return [] if late else ["its audit entries are missing"]
    found = [f"entry {number}: {what}" for number, what in broken_links(entries).items()]
    last = entries[-1]
    if last["version"] > version:
        found.append(f"the refund is at version {version}, its trail at {last['version']}")
    elif last["version"] < version and not (late and last["version"] == version - 1):
        found.append(f"the audit entries after version {last['version']} are missing")
    if changed := changed_fields_of(refund, last):
        found.append(f"the refund differs from its last audit entry in {', '.join(changed)}")
    return found


def _print(stack: Stack, found: Shown) -> None:
    zone, refund = zone_of(stack), found.refund
    status = refund["status"]
    print_styled(
        (f"{refund['refund_id']}  ", "bold"),
        (f"● {status}", colour_of(status)),
        (f"  {outcome_of(status)}", ""),
    )
    print_line()
    print_facts(facts(refund, zone))
    print_line()
    for entry in found.entries:
        print_paragraph(f"{zone.show(entry['occurred_at'])}  {sentence(entry)}")
    if found.gateway:
        print_line()
        for line in found.gateway.lines():
            print_paragraph(line)
    print_line()
    missing = refund["version"] - len(found.entries)
    if found.problems:
        for problem in found.problems:
            print_error(f"{problem[0].upper()}{problem[1:]}.")
        print_line("The records of this refund can't be relied on. Look further: refunds verify")
    elif missing > 0:
        print_line(f"The last {missing} of {refund['version']} audit entries are on their way.")
    else:
        print_line(f"✓ The audit trail is whole: {len(found.entries)} of {refund['version']}.")
    if words := tell_customer(refund):
        print_paragraph(f"Tell the customer: {words}")
    if following := what_follows(refund):
        print_paragraph(f"Next: {following.replace('REFUND_ID', str(refund['refund_id']))}")


def facts(refund: Item, zone: Zone) -> Iterator[tuple[str, str]]:
    """The lines about a refund: a label and a value, which may be empty."""
    yield "amount", amount_text(refund.get("amount_minor"), refund["currency"])
    if refund.get("failure_code"):
        yield "why", because(refund)
    for label, name in _ROWS:
        yield label, str(refund.get(name) or "")
    for key, value in (refund.get("metadata") or {}).items():
        yield f"· {key}", str(value)
    for line in refund.get("line_items") or ():
        yield "· item", ", ".join(f"{name} {value}" for name, value in line.items())
    yield from _decisions(refund)
    for label, name in _INSTANTS:
        if name in refund:
            yield label, _instant(refund[name], zone)


def _decisions(refund: Item) -> Iterator[tuple[str, str]]:
    """What waits for a person, and what people have decided."""
    if refund["status"] == "AWAITING_APPROVAL":
        yield "waits", waits_because(refund)
    for approval in refund.get("approvals") or ():
        yield str(approval.get("decision")), f"by {decision(approval)}"
    if review := refund.get("review"):
        yield "reviewed", f"by {decision(review)}"
    elif proposal := refund.get("proposal"):
        yield "proposed", f"as {proposal.get('decision')} by {decision(proposal)}"


def _instant(text: str, zone: Zone) -> str:
    now = utc_now()
    try:
        shown = zone.show(text)
        return shown if from_rfc3339(text) > now else f"{shown}, {age(text, now)} ago"
    except (ValueError, OverflowError):  # damaged: shown unchanged
        return text
