"""`refunds doctor`: what is wrong with a deployed stack, and what to do about it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import click
from rich.console import Console
from rich.markup import escape

from refunds_ops.errors import ENVIRONMENT, REFUSED
from refunds_ops.json_output import json_option
from refunds_ops.stack.checkup import Finding, Grade, check_stack
from refunds_ops.stack.stack import find_stack
from refunds_ops.terminal import console, print_json

_MARKS = {
    Grade.GOOD: "[green]✓[/]",
    Grade.WARNING: "[yellow]![/]",
    Grade.FAULT: "[bold red]✗[/]",
    Grade.UNCHECKED: "[dim]?[/]",
}


FINDING_FIELDS = {
    "findings": "a list of {grade: good, warning, fault or not checked; what; to_do}",
    "faults": "how many of them are faults",
}


@click.command()
@json_option(FINDING_FIELDS)
@click.pass_obj
def doctor(stack_name: str | None, as_json: bool) -> int:
    """Check a deployed stack, and say what to do about each fault.

    Reads outputs, the format of secrets, mappings, schedules, alarms' subscribers, permissions and
    the clock, and asks the gateway for a payment that does not exist. Changes nothing. Exit status
    1 with a fault, 3 when nothing could be checked.
    """
    stack = find_stack(stack_name)
    out = console()
    if not as_json:
        out.print(f"[bold]{escape(stack.where)}[/]")
    findings = []
    for finding in check_stack(stack):
        findings.append(finding)
        if not as_json:
            _show(out, finding)
    counts = Counter(finding.grade for finding in findings)
    if as_json:
        print_json({"findings": [asdict(each) for each in findings], "faults": counts[Grade.FAULT]})
    else:
        out.print(", ".join(f"{counts[grade]} {grade}" for grade in Grade if counts[grade]))
    if counts[Grade.FAULT]:
        return REFUSED
    return 0 if counts[Grade.GOOD] else ENVIRONMENT


def _show(out: Console, finding: Finding) -> None:
    out.print(f"{_MARKS[finding.grade]} {escape(finding.what)}")
    if finding.to_do:
        out.print(f"    {escape(finding.to_do)}")
