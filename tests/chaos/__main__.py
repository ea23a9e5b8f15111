"""Chaos and soak on the engines. Exit status 1 when an invariant does not hold.

python -m tests.chaos --seconds 60 --seed 7
python -m tests.chaos --seconds 3600 --refunds 100000 --soak --plot soak.png

SIGINT or SIGTERM ends the sending: what was sent is settled, checked and reported. A second one
ends the run.
"""

from __future__ import annotations

import argparse
import json
import secrets
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType

from tests.chaos.breakable import breakable_stack
from tests.chaos.run import EVIDENCE, Load, Result, Run, Sample
from tests.support.engines.disk import can_mount
from tests.support.engines.tools import MissingToolchainError

PROGRESS_SECONDS = 30.0


def main() -> int:
    asked = _arguments()
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    try:
        result = _run(seed, asked)
    except MissingToolchainError as missing:
        print(missing, file=sys.stderr)
        return 3
    _print(result)
    if asked.plot:
        _plot(result.samples, asked.plot)
        print(f"plots: {asked.plot}")
    if result.violations:
        print(f"The tables, calls and logs: {EVIDENCE}", file=sys.stderr)
        print(f"Run the plan again: make chaos SEED={seed}", file=sys.stderr)
    return 1 if result.violations else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--refunds", type=int)
    parser.add_argument("--fault-rate", type=float, default=0.5)
    parser.add_argument(
        "--soak",
        action="store_true",
        help="send as fast as the queue is worked off, by twice as many processes",
    )
    parser.add_argument("--plot", type=Path, help="its samples are written beside it")
    parser.add_argument(
        "--emulated-dynamodb",
        action="store_true",
        help="MiniStack's tables instead of dynoxide's, where that can't be had",
    )
    return parser.parse_args()


def _run(seed: int, asked: argparse.Namespace) -> Result:
    load = Load(asked.seconds, asked.refunds, asked.fault_rate)
    if asked.soak:
        load = replace(load, pause_seconds=0.0, regular_seconds=15.0)
    if not can_mount():
        print("no full disks: only root on Linux may mount one", file=sys.stderr)
    with breakable_stack(
        emulated=asked.emulated_dynamodb,
        parameters={"MaximumConcurrency": "4"} if asked.soak else {},
    ) as breakable:
        run = Run(breakable, seed, on_sample=_Progress(asked.refunds, asked.plot).show)
        _stop_on_signal(run)
        return run.run(load)


def _stop_on_signal(run: Run) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        print("stopping: what was sent is settled and checked", file=sys.stderr, flush=True)
        run.stop()
        signal.signal(number, signal.default_int_handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


class _Progress:
    """Shows how far the run is, and keeps its samples for whoever stops it early."""

    def __init__(self, refunds: int | None, plot: Path | None) -> None:
        self._refunds = refunds
        self._samples_file = plot.with_suffix(".jsonl") if plot else None
        self._shown_at = 0.0
        if self._samples_file:
            self._samples_file.parent.mkdir(parents=True, exist_ok=True)
            self._samples_file.unlink(missing_ok=True)

    def show(self, sample: Sample) -> None:
        if self._samples_file:
            with self._samples_file.open("a") as file:
                file.write(json.dumps(asdict(sample)) + "\n")
        if sample.seconds - self._shown_at < PROGRESS_SECONDS:
            return
        self._shown_at = sample.seconds
        rate = sample.settled / sample.seconds
        left = ""
        if self._refunds and rate:
            minutes = max(0, self._refunds - sample.settled) / rate / 60
            left = f" of {self._refunds}, {minutes:.0f} min left"
        print(
            f"{sample.seconds:6.0f} s  settled {sample.settled}{left}"
            f"  {rate:.1f}/s  {sample.memory_mb:.0f} MB",
            flush=True,
        )


def _print(result: Result) -> None:
    count = len(result.requested)
    rate = count / max(result.seconds, 1)
    print(f"{count} refunds in {result.seconds:.0f} s ({rate:.1f}/s), settled included")
    print(f"open at the end: {result.open_at_end}")
    print("statuses: " + ", ".join(f"{k} {n}" for k, n in sorted(result.statuses.items())))
    print(f"faults: {sum(result.faults.values())}")
    for fault, times in sorted(result.faults.items()):
        print(f"  {times:>5} {fault}")
    if result.samples:
        peak = max(sample.memory_mb for sample in result.samples)
        print(f"memory of all workers: at most {peak:.0f} MB")
    print(f"violations: {len(result.violations)}")
    for violation in result.violations[:50]:
        print(f"  {violation}")


def _plot(samples: list[Sample], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    minutes = [sample.seconds / 60 for sample in samples]
    figure, (settled, rate, memory) = pyplot.subplots(1, 3, figsize=(15, 4))
    settled.plot(minutes, [sample.settled for sample in samples])
    settled.set(title="Refunds settled", xlabel="minutes", ylim=(0, None))
    rate.plot(*_rates(samples))
    rate.set(title="Refunds settled a second", xlabel="minutes", ylim=(0, None))
    memory.plot(minutes, [sample.memory_mb for sample in samples])
    memory.set(title="Memory of all workers, MB", xlabel="minutes", ylim=(0, None))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _rates(samples: list[Sample]) -> tuple[list[float], list[float]]:
    """Minutes, and refunds settled a second in the half minute before."""
    minutes, rates = [], []
    earlier = samples[0]
    for sample in samples:
        if (seconds := sample.seconds - earlier.seconds) >= PROGRESS_SECONDS:
            minutes.append(sample.seconds / 60)
            rates.append((sample.settled - earlier.settled) / seconds)
            earlier = sample
    return minutes, rates


if __name__ == "__main__":
    sys.exit(main())
