"""``python -m tests.simulator``: many histories, or one again (``--seed``), or the mutants.

Beside each 500 histories one day of outage is played; ``--outages`` plays nothing else.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from tests.simulator.histories import Outcome
from tests.simulator.mutants import MUTANTS
from tests.simulator.mutation import MAX_SEEDS, hunt
from tests.simulator.outages import run_outage
from tests.simulator.report import show_history, show_mutants, show_summary
from tests.simulator.volume import Volume, play_volume
from tests.simulator.walls import play, run_walls
from tests.simulator.watch import bounds_table

CHUNK = 25


def main() -> int:
    """Returns 0 when all held (all mutants were caught), else 1."""
    parser = argparse.ArgumentParser(prog="simulate", description=__doc__)
    parser.add_argument("--histories", type=int, help="how many (20000; with --seed, 1)")
    parser.add_argument("--seed", type=int, help="of the first history (1)")
    parser.add_argument("--mutants", action="store_true", help="hunt the deliberate faults")
    parser.add_argument("--walls", action="store_true", help="all of them at the edges")
    parser.add_argument("--outages", action="store_true", help="days of outage, in their stead")
    parser.add_argument("--full", action="store_true", help="show every step of a history")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--bounds", action="store_true", help="print the runbook's table of bounds")
    parser.add_argument("--volume", type=int, help="so many open refunds at once, in their stead")
    asked = parser.parse_args()
    if asked.bounds:
        print(bounds_table())
        return 0
    if asked.volume:
        return _volume(Console(), asked.volume)
    first = 1 if asked.seed is None else asked.seed
    histories = asked.histories or (20_000 if asked.seed is None else 1)
    console = Console()
    if asked.mutants:
        return _mutants(console, first, asked.processes)
    if histories == 1:
        kind = run_outage if asked.outages else run_walls if asked.walls else play
        outcome = kind(first, trace=True)
        show_history(console, outcome, full=asked.full)
        return int(outcome.violation is not None)
    if asked.outages:
        return _outages(console, first, histories, asked.processes)
    violated = _histories(console, first, histories, asked.processes, walls=asked.walls)
    return violated or _outages(console, first, max(1, histories // 500), asked.processes)


def _volume(console: Console, refunds: int) -> int:
    """With the threads of Lambda, a page of the gateway's list, and a slow gateway."""
    volume = Volume(refunds, 3.0, threads=50, page_size=100, dead_letters=refunds // 10, hours=3.0)
    began = time.monotonic()
    with console.status(f"{volume.hours:.0f} hours with {refunds:,} open refunds …"):
        waits = play_volume(volume)
    console.print(
        f"{refunds:,} open refunds, a gateway of {volume.gateway_seconds:.0f} s, "
        f"{volume.dead_letters:,} dead letters: "
        f"{sum(map(len, waits.looks.values())):,} looks in {volume.hours:.0f} hours "
        f"({time.monotonic() - began:.0f} s)"
    )
    for what, waited, bound in waits.rows():
        console.print(f"  longest wait of {what}: {waited:,.0f} s; the bound is {bound:,.0f} s")
    for fault in waits.faults():
        console.print(fault, style="red")
    return int(any(waits.faults()))


def _outages(console: Console, first: int, days: int, processes: int) -> int:
    """Days of outage, each a history of its own kind."""
    began = time.monotonic()
    counts: Counter[str] = Counter()
    with multiprocessing.Pool(processes) as pool:
        for seed, counted, violated in pool.imap_unordered(_day, range(first, first + days)):
            counts.update(counted)
            if violated:
                show_history(console, run_outage(seed, trace=True), full=False)
                console.print(f"again: --outages --seed {seed}")
                return 1
    console.print(
        f"{days} days of outage, {counts['messages']} requests, {counts['movements of money']} "
        f"movements of money, {counts['messages to the DLQ']} messages to the DLQ: no violation "
        f"({time.monotonic() - began:.0f} s)",
        style="green",
    )
    return 0


def _day(seed: int) -> tuple[int, Counter[str], bool]:
    outcome = run_outage(seed)
    return seed, outcome.counts, outcome.violation is not None


def _histories(console: Console, first: int, histories: int, processes: int, *, walls: bool) -> int:
    began, done = time.monotonic(), 0
    counts: Counter[str] = Counter()
    failed: list[int] = []
    starts = [
        (start, min(CHUNK, first + histories - start), walls)
        for start in range(first, first + histories, CHUNK)
    ]
    with _progress(console) as bar, multiprocessing.Pool(processes) as pool:
        task = bar.add_task("histories", total=histories)
        for size, counted, violated in pool.imap_unordered(_chunk, starts):
            counts.update(counted)
            failed += violated
            done += size
            bar.advance(task, size)
            if failed:
                break
    show_summary(console, done, time.monotonic() - began, counts)
    if not failed:
        console.print("no violation", style="green")
        return 0
    show_history(console, (run_walls if walls else play)(min(failed), trace=True), full=False)
    if walls:
        console.print("at the edges: add WALLS=1")
    return 1


def _chunk(seeds: tuple[int, int, bool]) -> tuple[int, Counter[str], list[int]]:
    """A few histories; which of them failed."""
    first, size, walls = seeds
    counts: Counter[str] = Counter()
    failed = []
    for seed in range(first, first + size):
        outcome = run_walls(seed) if walls else play(seed)
        counts.update(outcome.counts)
        if outcome.violation is not None:
            failed.append(seed)
    return size, counts, failed


def _mutants(console: Console, first: int, processes: int) -> int:
    def caught() -> Iterator[tuple[str, Outcome | None, int]]:
        places = [(place, first) for place in range(len(MUTANTS))]
        with _progress(console) as bar, multiprocessing.Pool(processes) as pool:
            for name, outcome in bar.track(
                pool.imap(_hunt, places), total=len(places), description="mutants"
            ):
                yield name, outcome, first

    survivors = show_mutants(console, caught())
    if survivors:
        console.print(f"{survivors} of {len(MUTANTS)} lived through {MAX_SEEDS:,} histories")
        return 1
    console.print(f"all {len(MUTANTS)} caught", style="green")
    return 0


def _hunt(place: tuple[int, int]) -> tuple[str, Outcome | None]:
    mutant = MUTANTS[place[0]]
    return mutant.name, hunt(mutant, place[1])


def _progress(console: Console) -> Progress:
    return Progress(
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


if __name__ == "__main__":
    sys.exit(main())
