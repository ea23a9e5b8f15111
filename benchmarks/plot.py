"""Draws the results: each ratio with its target, and how the stack scales."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.results import Result
from benchmarks.scale import ScaleRun

MET, MISSED = "#2a7f62", "#c1432e"


def draw(path: Path, results: Sequence[Result], runs: Sequence[ScaleRun]) -> None:
    """Write a PNG."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    ratios = [each for each in results if each.unit == "×" and each.target]
    panels = 2 if runs else 1
    figure, axes = plt.subplots(
        1, panels, figsize=(7.5 * panels, 1.6 + 0.42 * len(ratios)), squeeze=False
    )
    _draw_ratios(axes[0][0], ratios)
    if runs:
        _draw_scale(axes[0][1], runs)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_ratios(axis: Any, ratios: Sequence[Result]) -> None:
    # The bars show how much of each target is reached, so that all ratios share one axis.
    reached = [_reached(each) for each in ratios]
    places = range(len(ratios))
    colours = [MISSED if each.miss else MET for each in ratios]
    axis.barh(places, reached, color=colours, height=0.6)
    axis.axvline(1, color="black", linewidth=1)
    for place, each, length in zip(places, ratios, reached, strict=True):
        sign = "≤" if each.better == "lower" else "≥"
        axis.text(
            length + 0.03,
            place,
            f"{each.value:.2f} × ({sign} {each.target:g})",
            va="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},  # covers the line at 1
        )
    axis.set_yticks(list(places), [each.name for each in ratios], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, max([*reached, 1.0]) * 1.35)
    axis.set_xlabel("how much of the target is reached (1 = met); green met, red missed")
    axis.set_title("Ratios against their targets")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _reached(each: Result) -> float:
    assert each.target
    return each.target / each.value if each.better == "lower" else each.value / each.target


def _draw_scale(axis: Any, runs: Sequence[ScaleRun]) -> None:
    refunds = [run.refunds for run in runs]
    axis.plot(refunds, [run.seconds for run in runs], "o-", color=MET, label="measured")
    first = runs[0]
    axis.plot(
        refunds,
        [first.seconds * number / first.refunds for number in refunds],
        "--",
        color="grey",
        label=f"linear from {first.refunds:,}",
    )
    for run in runs:
        axis.annotate(
            f"{run.refunds / run.seconds:.0f}/s\np50 {run.p50_seconds:.1f} s, "
            f"p99 {run.p99_seconds:.1f} s",
            (run.refunds, run.seconds),
            textcoords="offset points",
            xytext=(8, -18),
            fontsize=8,
        )
    axis.set_xlabel("refunds")
    axis.set_ylabel("seconds until the last audit entry")
    axis.set_xlim(0, max(refunds) * 1.3)
    axis.set_ylim(0, max(run.seconds for run in runs) * 1.2)
    axis.set_title("Local stack, end to end (the emulator is the limit)")
    axis.legend(loc="upper left", frameon=False)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
