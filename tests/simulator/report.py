"""What is shown of a run: a summary, the mutants' table, and of a failing history what matters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from tests.simulator.histories import Outcome

MAX_LINES = 60


def show_summary(console: Console, histories: int, seconds: float, counts: Counter[str]) -> None:
    """Everything that was tried, by kind."""
    table = Table(title=f"{histories:,} histories in {seconds:.0f} s")
    for name in ("what", "how often"):
        table.add_column(name, justify="right" if name == "how often" else "left")
    for name in (
        "messages",
        "deliveries",
        "gateway POSTs",
        "gateway GETs",
        "gateway key replays",
        "movements of money",
        "takeovers",
        "conflicts refused",
        "reviews",
        "messages to the DLQ",
        "messages redriven",
        "messages archived",
        "stream records given up",
    ):
        table.add_row(name, f"{counts[name]:,}")
    for prefix in ("invocations", "timeouts", "status ", "wall ", "fault ", "crash "):
        table.add_section()
        for name, count in sorted(counts.items(), key=lambda pair: -pair[1]):
            if name.startswith(prefix):
                table.add_row(name, f"{count:,}")
    console.print(table)


def show_mutants(console: Console, caught: Iterable[tuple[str, Outcome | None, int]]) -> int:
    """One line a mutant; returns how many survived. The last number is where the seeds began."""
    table = Table(title="Mutants")
    for name in ("mutant", "caught by", "what was seen"):
        table.add_column(name)
    table.add_column("histories", justify="right")
    survivors = 0
    for name, outcome, first in caught:
        if outcome is None or outcome.violation is None:
            survivors += 1
            table.add_row(name, "[red]SURVIVED", "", "")
        else:
            found = outcome.violation
            table.add_row(name, found.invariant, found.what, f"{outcome.seed - first + 1:,}")
    console.print(table)
    return survivors


def show_history(console: Console, outcome: Outcome, *, full: bool) -> None:
    """A history, one line a step: all of it, or what has to do with the violation."""
    lines = outcome.trace
    if outcome.violation is not None and not full:
        lines = about(outcome.violation.subject, outcome.trace)
    console.print(f"seed {outcome.seed}: {len(lines)} of {len(outcome.trace)} steps", style="bold")
    for line in lines:
        style = "red" if "VIOLATION" in line else None
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
    if outcome.violation is None:
        console.print("all held", style="green")
    else:
        console.print(f"VIOLATION {outcome.violation}", style="bold red", markup=False)
        console.print(f"again: make simulate SEED={outcome.seed} (all steps: --full)", markup=False)


def about(subject: str, trace: list[str]) -> list[str]:
    """The lines about one refund or payment, and how the processes in them ended."""
    if not subject:
        return trace[-MAX_LINES:]
    names = {subject}
    for line in trace:
        if sent := re.search(rf' (m\d+) .*"refund_id": "{re.escape(subject)}"', line):
            names.add(sent[1])
        if moved := re.search(rf" (re_\d+) .* for {re.escape(subject)}$", line):
            names.add(moved[1])
    pattern = re.compile(r"(?<![\w-])(" + "|".join(map(re.escape, names)) + r")(?![\w-])")
    kept = [bool(pattern.search(line)) for line in trace]
    processes = {line.split()[2] for line, keep in zip(trace, kept, strict=True) if keep} - {
        "world"
    }
    lines = [
        line
        for line, keep in zip(trace, kept, strict=True)
        if keep
        or " storm " in line
        or " faults off " in line
        or (line.split()[2] in processes and line.split()[3] in ("crash", "error"))
        or any(process in line for process in processes if " time out " in line)
    ]
    if len(lines) <= MAX_LINES:
        return lines
    half = MAX_LINES // 2
    return [*lines[:half], f"{'…':>14}  ({len(lines) - 2 * half} more)", *lines[-half:]]
