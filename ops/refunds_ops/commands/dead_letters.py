"""`refunds dead-letters …`: what was refused or failed, and what a person does about it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import click

from refunds.domain.card_numbers import masked, redacted
from refunds_ops.dates import age, utc_now, zone_of
from refunds_ops.dead_letters import DeadLetter, DeadLetters, StillNeededError
from refunds_ops.errors import REFUSED
from refunds_ops.identity import ON_BEHALF_OF, check_kept, identify, why_option
from refunds_ops.json_output import json_option
from refunds_ops.layout import Column, facts_table, print_table
from refunds_ops.lazy import CommandGroup
from refunds_ops.resending import Forecast
from refunds_ops.stack.stack import find_stack
from refunds_ops.terminal import console, print_json, print_json_lines, print_line, print_note

F = TypeVar("F", bound=Callable[..., Any])

MAX_INDENTED = 1024 * 1024
"""Characters of a body as it is shown, unless it is longer itself."""

FIELDS = {
    "message_id": "of SQS",
    "kind": "refused (with error_code) or failed",
    "where": "queue or archive",
    "refund_id": "if the message contains it",
    "error_code": "null when it failed",
    "reason": "",
    "sent_at": "RFC 3339, UTC",
    "first_sent_at": "the same, unless it was resent before",
    "resend": "what sending it again would do",
    "resend_helps": "whether a resend is worthwhile",
}
DONE_FIELDS = {
    **FIELDS,
    "done": "resent, dropped, skipped, or would be resent or dropped without --yes",
}


@click.group("dead-letters", cls=CommandGroup)
def dead_letters() -> None:
    """List, show, resend and drop messages that were refused or failed."""


def filters(function: F) -> F:
    """--refused, --failed, --code and --in."""
    for option in (
        click.option(
            "--in",
            "where",
            type=click.Choice(["queue", "archive", "both"]),
            default="both",
            show_default=True,
            help="Where to look.",
        ),
        click.option(
            "--code", "codes", multiple=True, metavar="CODE", help="With this error_code."
        ),
        click.option(
            "--failed", "kind", flag_value="failed", help="Only messages that failed too often."
        ),
        click.option("--refused", "kind", flag_value="refused", help="Only what was refused."),
    ):
        function = option(function)
    return function


@dead_letters.command("list")
@filters
@json_option(FIELDS, lines=True)
@click.pass_obj
def list_(stack_name: str | None, /, *, as_json: bool, **chosen: Any) -> None:
    """List messages that were refused or failed, and what a resend would do.

    Reads the dead-letter queue and the archive. Exit status 1 when there are any.
    """
    stack = find_stack(stack_name)
    with DeadLetters(stack) as letters:
        those = _choose(letters, (), chosen)
        found = list(zip(those, letters.forecasts(those), strict=True))
    if as_json:
        print_json_lines(_json(letter, forecast) for letter, forecast in found)
    elif found:
        _print(found)
        print_note("To see one: refunds dead-letters show MESSAGE_ID")
        print_note("Then: refunds dead-letters resend|drop MESSAGE_ID --why TEXT --yes")
    else:
        print_line("No dead letters.")
    if found:
        raise click.exceptions.Exit(REFUSED)


@dead_letters.command()
@click.argument("message_id")
@json_option({**FIELDS, "body": "as received, card numbers masked", "attributes": "of the message"})
@click.pass_obj
def show(stack_name: str | None, message_id: str, as_json: bool) -> None:
    """Show one dead letter, its message and its reason."""
    stack = find_stack(stack_name)
    with DeadLetters(stack) as letters:
        letter = letters.named(message_id)
        forecast = letters.forecast(letter)
    body = readable(letter.body)
    if as_json:
        attributes = {name: redacted(value) for name, value in letter.attributes.items()}
        print_json({**_json(letter, forecast), "body": body, "attributes": attributes})
        return
    zone = zone_of(stack)
    console().print(
        facts_table(
            [
                ("message", letter.message_id),
                ("kind", f"{letter.kind}, in the {letter.where}"),
                ("reason", letter.reason),
                ("sent", zone.show(letter.first_sent_at)),
                ("a resend", forecast.what),
            ]
        )
    )
    print_line()
    print_line(body)


@dead_letters.command()
@click.argument("message_ids", nargs=-1)
@click.option(
    "--all", "everything", is_flag=True, help="All messages, or all that match the filters."
)
@filters
@why_option("Why a resend helps now. Kept with the message.")
@ON_BEHALF_OF
@click.option("--yes", is_flag=True, help="Do it. Without --yes, only say what would be done.")
@json_option(DONE_FIELDS, lines=True)
@click.pass_obj
def resend(stack_name: str | None, /, **options: Any) -> None:
    """Send dead letters to the refund queue again.

    Skips messages that would be refused again or would change nothing. A resent message is never
    paid twice, however old it is: ProcessRefund looks its refund up at the gateway first. Only says
    what it would do unless --yes is given. Exit status 1 when some are skipped.
    """
    _act(stack_name, "resend", options)


@dead_letters.command()
@click.argument("message_ids", nargs=-1)
@click.option(
    "--all", "everything", is_flag=True, help="All messages, or all that match the filters."
)
@filters
@why_option("What it was, and what was done instead. Kept with the message.")
@ON_BEHALF_OF
@click.option("--yes", is_flag=True, help="Do it. Without --yes, only say what would be done.")
@json_option(DONE_FIELDS, lines=True)
@click.pass_obj
def drop(stack_name: str | None, /, **options: Any) -> None:
    """Remove dead letters for good.

    The message, who dropped it and why stay in the failures bucket. Skips the message of a refund
    that has begun, when only that message would come back to it: resend it. Only says what it would
    do unless --yes is given. Exit status 1 when some are skipped.
    """
    _act(stack_name, "drop", options)


def _act(stack_name: str | None, action: str, options: dict[str, Any]) -> None:
    if bool(options["message_ids"]) == options["everything"]:
        raise click.UsageError("Give message ids, or --all.")
    why, yes = options["why"], options["yes"]
    check_kept(why=why)
    stack = find_stack(stack_name)
    who = identify(stack, options["on_behalf_of"])
    done: list[tuple[DeadLetter, Forecast, str]] = []
    with DeadLetters(stack) as letters:
        for letter in _choose(letters, options["message_ids"], options):
            forecast = letters.forecast(letter)
            if action == "resend" and not forecast.helps:
                done.append((letter, forecast, "skipped"))
                continue
            if yes and action == "resend":
                letters.resend(letter, by=who, why=why)
            elif yes:
                try:
                    letters.drop(letter, by=who, why=why)
                except StillNeededError as exc:
                    print_note(" ".join((exc.what, *exc.to_do)))
                    done.append((letter, forecast, "skipped"))
                    continue
            past = "resent" if action == "resend" else "dropped"
            done.append((letter, forecast, past if yes else f"would be {past}"))
    if options["as_json"]:
        print_json_lines({**_json(letter, known), "done": how} for letter, known, how in done)
    else:
        _print_done(done)
    if not yes and any(how != "skipped" for *_, how in done):
        print_note("Nothing was done. To do it: --yes")
    if any(how == "skipped" for *_, how in done):
        raise click.exceptions.Exit(REFUSED)


def _choose(
    letters: DeadLetters, message_ids: tuple[str, ...], chosen: dict[str, Any]
) -> list[DeadLetter]:
    """The letters that are named, or those that match the filters. Raises ``RefusedError`` for one
    that does not exist."""
    archived = chosen.get("where") != "queue"
    if message_ids:
        return letters.chosen(message_ids, archived=archived)
    return [
        letter
        for letter in letters.all(archived=archived)
        if chosen.get("kind") in (None, letter.kind)
        and (not chosen.get("codes") or letter.error_code in chosen["codes"])
        and chosen.get("where") in (None, "both", letter.where)
    ]


def _json(letter: DeadLetter, forecast: Forecast) -> dict[str, Any]:
    return {**letter.as_json(), "resend": forecast.what, "resend_helps": forecast.helps}


def _print(found: list[tuple[DeadLetter, Forecast]]) -> None:
    now: datetime = utc_now()
    for kind, heading in (("refused", "Refused"), ("failed", "Failed too often")):
        rows = [
            (
                letter.message_id,
                letter.refund_id or "–",
                age(letter.first_sent_at, now),
                letter.where,
                letter.reason,
                # The reason is beside it.
                forecast.what.removesuffix(f": {letter.reason}"),
            )
            for letter, forecast in found
            if letter.kind == kind
        ]
        if rows:
            print_line(f"{heading}: {len(rows)}")
            print_table(
                [
                    Column("message"),
                    Column("refund"),
                    Column("age", right=True),
                    Column("in"),
                    Column("reason", fold=True),
                    Column("a resend", fold=True),
                ],
                rows,
            )


def _print_done(done: list[tuple[DeadLetter, Forecast, str]]) -> None:
    if not done:
        print_line("No dead letters.")
        return
    print_table(
        [Column("message"), Column("refund"), Column(""), Column("a resend", fold=True)],
        [
            (letter.message_id, letter.refund_id or "–", how, forecast.what)
            for letter, forecast, how in done
        ],
    )


def readable(body: str) -> str:
    """The body, indented when it is JSON, without what looks like a card number."""
    with contextlib.suppress(ValueError, RecursionError):
        body = _indented(body)
    return "\n".join(line if redacted(line) == line else masked(line) for line in body.split("\n"))


def _indented(body: str) -> str:
    """The text unchanged if indenting would make it too long: each level of nested lists indents
    every line below it, so 256 KiB could become 100 MB."""
    parts: list[str] = []
    length = 0
    for part in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(json.loads(body)):
        length += len(part)
        if length > MAX_INDENTED:
            return body
        parts.append(part)
    return "".join(parts)
