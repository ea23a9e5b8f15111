"""The results as a table on the terminal and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.backup_steps import PAGE_UNIT, TABLES
from benchmarks.results import Result
from benchmarks.servers import PROJECT

SCALE_PAGE = PROJECT / "docs/scale.md"
COUNTS = "<!-- bench: counts -->\n"
INSTRUCTIONS = "<!-- bench: instructions -->\n"
TIMES = "<!-- bench: times -->\n"
BACKUPS = "<!-- bench: backups -->\n"
END = "<!-- bench: end -->\n"
HELD = PROJECT / "benchmarks/instructions.json"
"""Committed ratios of instructions, by version of Python."""

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
    return _markdown(
        each
        for each in results
        if each.is_count and each.unit in SAME_EVERYWHERE and each.target is not None
    )


def instructions_table(results: Sequence[Result]) -> str:
    """What callgrind has counted, as a Markdown table."""
    return _markdown(each for each in results if each.tolerance is not None)


def times_table(results: Sequence[Result], *, run: str) -> str:
    """What depends on the machine, as a Markdown table. ``run``: when and where it was measured."""
    table = _markdown(
        each
        for each in results
        if each.tolerance is None and each.unit not in SAME_EVERYWHERE and not _of_backups(each)
    )
    return f"{run}\n\n{table}"


def backups_table(results: Sequence[Result], *, run: str) -> str:
    """Backups compared with their limit, and the CPU of each step, as a Markdown table."""
    return f"{run}\n\n{_markdown(filter(_of_backups, results))}"


def _of_backups(result: Result) -> bool:
    return result.unit == PAGE_UNIT or result.name.startswith(
        tuple(table.ratio_name for table in TABLES)
    )


def _markdown(results: Iterable[Result]) -> str:
    lines = [
        "| what | measured | ± | baseline | target | |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for each in results:
        target, verdict = "", ""
        if each.target is not None:
            target = f"{'≤' if each.better == 'lower' else '≥'} {shown(each.target)}"
            verdict = "**missed**" if each.miss else "met"
        cells = (
            each.name,
            shown(each.value, each.unit),
            "" if each.spread is None else shown(each.spread),
            shown(each.baseline),
            target,
            verdict,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_table(begin: str, table: str, page: Path = SCALE_PAGE) -> None:
    """Replace one of the tables in docs/scale.md: the one that follows ``begin``."""
    before, found, rest = page.read_text().partition(begin)
    if not found:
        raise ValueError(f"{page.name} has no line {begin.strip()}")
    _, _, after = rest.partition(END)
    page.write_text(before + begin + table + END + after)


def stale_counts(table: str, page: Path = SCALE_PAGE) -> Result:
    """Whether docs/scale.md has other counts than this run."""
    _, _, rest = page.read_text().partition(COUNTS)
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


def write_held(results: Sequence[Result], python: str, path: Path = HELD) -> None:
    """Commit this run's ratios of instructions for a version of Python."""
    held = json.loads(path.read_text()) if path.exists() else {}
    counted = {each.name: round(each.value, 4) for each in results if each.tolerance is not None}
    held[python] = held.get(python, {}) | counted
    path.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")


def changed_instructions(results: Sequence[Result], python: str, path: Path = HELD) -> Result:
    """Whether ratios of instructions differ from the committed ones by more than they may."""
    held = json.loads(path.read_text()).get(python, {}) if path.exists() else {}
    changed, unknown = [], []
    for each in results:
        if each.tolerance is None:
            continue
        if (committed := held.get(each.name)) is None:
            unknown.append(each.name)
        elif not math.isclose(each.value, committed, rel_tol=each.tolerance):
            changed.append(f"{each.name}: {each.value:.3f}, committed are {committed:.3f}")
    notes = changed or [f"not compared on Python {python}: {name}" for name in unknown]
    return Result(
        "instructions that differ by more than 2 % from what is committed",
        len(changed),
        "counts",
        target=0,
        is_count=True,
        note="; ".join([*notes, "make bench WRITE=1 commits them"] if notes else []),
    )
