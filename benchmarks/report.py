"""The results as a table on the terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.results import Result
from benchmarks.servers import PROJECT

SCALE_PAGE = PROJECT / "docs/scale.md"
BEGIN, END = "<!-- bench: counts -->\n", "<!-- bench: end -->\n"
SAME_EVERYWHERE = ("units", "requests", "bytes", "modules")
"""The units of counts that are the same on every machine, in CI's short runs too."""

DECIMALS = ((1000, 0), (10, 2), (0, 3))
"""From which size on a number is shown with how many decimals."""


def shown(value: float | None, unit: str = "") -> str:
    """Whole numbers and thousands without decimals, the rest with at least three digits."""
    if value is None:
        return ""
    size = abs(value)
    decimals = 0 if value == int(value) else next(d for above, d in DECIMALS if size >= above)
    return f"{value:,.{decimals}f} {unit}".strip()


def print_table(console: Console, results: Sequence[Result]) -> None:
    """Print every result with its target and whether it is met."""
    table = Table(title="Benchmarks: medians; ± is the interquartile range", title_justify="left")
    table.add_column("what", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("±", justify="right", style="dim", no_wrap=True)
    table.add_column("baseline", justify="right", no_wrap=True)
    table.add_column("target", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for each in results:
        sign = "≤" if each.better == "lower" else "≥"
        target = f"{sign} {shown(each.target)}" if each.target is not None else ""
        verdict = Text("")
        if each.target is not None:
            verdict = Text("MISS", "bold red") if each.miss else Text("met", "green")
        what = Text(each.name)
        if each.note:
            what.append(f"\n{each.note}", style="dim")
        table.add_row(
            what,
            shown(each.value, each.unit),
            shown(each.spread) if each.spread is not None else "",
            shown(each.baseline),
            target,
            verdict,
        )
    console.print(table)
    with_target = [each for each in results if each.target is not None]
    missed = [each.name for each in with_target if each.miss]
    console.print(f"{len(with_target) - len(missed)} of {len(with_target)} targets met.")
    for name in missed:
        console.print(f"  [red]missed:[/] {name}", highlight=False)


def write_json(path: Path, results: Sequence[Result]) -> None:
    """Write the results for programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([each.to_json() for each in results], indent=1) + "\n")


def counts_table(results: Sequence[Result]) -> str:
    """The counts that are the same on every machine, as a Markdown table."""
    lines = ["| what | measured | baseline | target | |", "| --- | ---: | ---: | ---: | --- |"]
    for each in results:
        if each.is_count and each.unit in SAME_EVERYWHERE and each.target is not None:
            verdict = "**missed**" if each.miss else "met"
            lines.append(
                f"| {each.name} | {shown(each.value, each.unit)} | {shown(each.baseline)} "
                f"| {'≤' if each.better == 'lower' else '≥'} {shown(each.target)} | {verdict} |"
            )
    return "\n".join(lines) + "\n"


def write_counts(table: str, page: Path = SCALE_PAGE) -> None:
    """Replace the table of counts in docs/scale.md."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(before + BEGIN + table + END + after)


def stale_counts(table: str, page: Path = SCALE_PAGE) -> Result:
    """Whether docs/scale.md has other counts than this run."""
    _, _, rest = page.read_text().partition(BEGIN)
    committed, _, _ = rest.partition(END)
    wrong = set(table.splitlines()) ^ set(committed.splitlines())
    return Result(
        "counts of docs/scale.md that this run has not found",
        len(wrong),
        "lines",
        target=0,
        is_count=True,
        note="make bench WRITE=1 writes them" if wrong else "",
    )
