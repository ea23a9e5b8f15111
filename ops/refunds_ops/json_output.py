"""`--json`: the same flag, with documented fields, on every command that shows something."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

FIELDS_ATTRIBUTE = "__json_output__"


@dataclass(frozen=True)
class JsonOutput:
    """What ``--json`` prints: ``fields`` by name; ``lines`` when it is one document per line."""

    fields: Mapping[str, str]
    lines: bool = False


def json_option(fields: Mapping[str, str], *, lines: bool = False) -> Callable[[F], F]:
    """Add ``--json`` to a command, as the parameter ``as_json``.

    docs/cli.md lists ``fields``; a test compares them with what the command prints.
    """

    def decorate(function: F) -> F:
        how = "JSON lines" if lines else "JSON"
        decorated = click.option("--json", "as_json", is_flag=True, help=f"Print {how}.")(function)
        setattr(decorated, FIELDS_ATTRIBUTE, JsonOutput(fields, lines))
        return decorated

    return decorate


def one_format(*, as_json: bool, as_csv: bool) -> None:
    """Raises ``UsageError`` when both were asked for: one would be ignored."""
    if as_json and as_csv:
        raise click.UsageError("Give --csv or --json, not both.")


def json_output_of(command: click.Command) -> JsonOutput | None:
    """What ``--json`` prints, for a command that has it."""
    found: JsonOutput | None = getattr(command.callback, FIELDS_ATTRIBUTE, None)
    return found


REFUND_FIELDS: Mapping[str, str] = {
    "refund_id": "the idempotency key, end to end",
    "transaction_id": "the payment",
    "user_id": "whose money it is",
    "amount_minor": "integer minor units (2500 with USD is $25.00); absent when none was reserved",
    "currency": "ISO 4217",
    "status": "such as SUCCEEDED; `refunds list --help` names all",
    "reason": "",
    "requested_by": "who asked, as the sender wrote it",
    "sent_by": "who sent the request, as SQS reports it",
    "requested_at": "as the request said it",
    "processed_by": "function and version, or a person's ARN",
    "gateway": "",
    "gateway_refund_id": "",
    "failure_code": "",
    "failure_message": "",
    "awaiting": "which limit the refund is over, and until when it waits",
    "approvals": "each decision: by, why, and the evidence shown",
    "proposal": "a review decision that a second person must confirm",
    "review": "a person's decision: by, why, and the evidence shown",
    "created_at": "RFC 3339, UTC, microseconds",
    "updated_at": "RFC 3339, UTC, microseconds",
    "version": "1; each change raises it by one",
    "…": "and every other attribute of the refund that is set",
}
"""Of a refund as it is stored."""
