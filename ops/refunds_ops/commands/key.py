"""`refunds key check`: whether each gateway accepts the stack's key."""

from __future__ import annotations

from typing import Any

import click

from refunds.domain.clock import Deadline, SystemClock
from refunds.gateways.contract import (
    Gateway,
    GatewayMisconfiguredError,
    GatewayUnavailableError,
)
from refunds_ops.errors import ENVIRONMENT, REFUSED
from refunds_ops.json_output import json_option
from refunds_ops.lazy import CommandGroup
from refunds_ops.stack.stack import find_stack
from refunds_ops.terminal import print_json_lines, print_line, print_note


@click.group(cls=CommandGroup)
def key() -> None:
    """Check the gateways' keys."""


@key.command("check")
@json_option(
    {
        "gateway": "its name",
        "result": "accepted, refused or unreachable",
        "why": "what the gateway answered; null when it accepted the key",
    },
    lines=True,
)
@click.pass_obj
def check(stack_name: str | None, as_json: bool) -> None:
    """Ask each gateway whether it accepts the stack's key.

    Reads one page of refunds; moves no money. Use it after a rotation. Exit status 1 when a key is
    refused, 3 when a gateway can't be reached.
    """
    from refunds_ops.audit import sources

    stack = find_stack(stack_name)
    found = [_check(gateway) for gateway in sources.gateways(stack)]
    if as_json:
        print_json_lines(found)
    else:
        for each in found:
            mark = "✓" if each["result"] == "accepted" else "✗"
            why = f": {each['why']}" if each["why"] else ""
            print_line(f"{mark} {each['gateway']}: the key is {each['result']}{why}")
    results = {each["result"] for each in found}
    if "refused" in results:
        print_note("Store the right key: refunds stack set-key")
        print_note("The functions read it again within five minutes.")
        raise click.exceptions.Exit(REFUSED)
    if "unreachable" in results:
        raise click.exceptions.Exit(ENVIRONMENT)


def _check(gateway: Gateway) -> dict[str, Any]:
    result, why = "accepted", None
    try:
        gateway.list_refunds(Deadline.after(SystemClock(), gateway.timeout_seconds))
    except GatewayMisconfiguredError as exc:
        result, why = "refused", str(exc)
    except GatewayUnavailableError as exc:
        result, why = "unreachable", str(exc)
    return {"gateway": gateway.name, "result": result, "why": why}
