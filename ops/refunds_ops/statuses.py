"""Statuses and names in words and colours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from refunds.domain.identity import person_of
from refunds.domain.refund import OUTCOMES, Item, Status
from refunds_ops.stack.outputs import FUNCTIONS
from refunds_ops.terminal import safe_text

COLOURS: Mapping[str, str] = {
    Status.PROCESSING: "cyan",
    Status.PENDING: "yellow",
    Status.IN_REVIEW: "bold magenta",
    Status.AWAITING_APPROVAL: "bold magenta",
    Status.SUCCEEDED: "green",
    Status.FAILED: "red",
    Status.REJECTED: "red",
    Status.REVERSED: "magenta",
}


def colour_of(status: str) -> str:
    return COLOURS.get(status, "default")


def outcome_of(status: str) -> str:
    try:
        return OUTCOMES[Status(status)]
    except (ValueError, KeyError):  # of a newer version, or damaged
        return safe_text(status)


def why(refund: Item) -> str:
    """Why a refund has its status, in a few words."""
    if code := refund.get("failure_code"):
        message = refund.get("failure_message")
        return f"{code}: {message}" if message else str(code)
    return ""


def short_name(processed_by: str) -> str:
    """A function's generated name without its stack and suffix: "ProcessRefund:3"."""
    for function in FUNCTIONS:
        if match := re.fullmatch(rf".*-{function}-\w+:(.+)", processed_by):
            return f"{function}:{match[1]}"
    if processed_by.startswith("arn:"):
        return person_of(processed_by)
    return processed_by


def acting(by: str | None, on_behalf_of: str | None = None) -> str:
    """Who acted: the person's name and role, and their note on whom they act for."""
    if by is None:
        return "nobody"
    who = short_name(by)
    if match := re.fullmatch(r"arn:[^:]+:sts::\d+:assumed-role/([^/]+)/.+", by):
        who += f" as {match[1]}"
    return who + (f", on behalf of {on_behalf_of}" if on_behalf_of else "")
