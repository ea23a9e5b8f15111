"""A benchmark's result: a number, its baseline, its target, and whether the target is met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Result:
    """One line of the table.

    ``baseline``: the same number for the baseline design. ``target``: an upper bound if ``better``
    is ``lower``, else a lower bound. ``spread``: the interquartile range of the runs.
    ``is_count``: the number is the same on every machine, so a miss fails CI. ``tolerance``: it is
    the same within this share of it, so CI fails when it differs more from what is committed.
    """

    name: str
    value: float
    unit: str
    better: Better = "lower"
    baseline: float | None = None
    target: float | None = None
    spread: float | None = None
    is_count: bool = False
    tolerance: float | None = None
    note: str = ""

    @property
    def miss(self) -> bool:
        if self.target is None:
            return False
        if self.better == "lower":
            return self.value > self.target
        return self.value < self.target

    def to_json(self) -> dict[str, Any]:
        """The form of ``.local/bench.json``."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "better": self.better,
            "baseline": self.baseline,
            "target": self.target,
            "miss": self.miss,
        }


def spread(values: Sequence[float]) -> float:
    """The interquartile range; 0 for a single value, and for none."""
    if not values[1:]:
        return 0.0
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return third - first


def pair_ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Ratios run by run: a machine that slows down for a while slows both runs of a pair."""
    return [one / other for one, other in zip(above, below, strict=True)]


def ratio_result(  # noqa: PLR0913 - one row of a table of results
    name: str,
    above: Sequence[float],
    below: Sequence[float],
    *,
    better: Better,
    target: float | None = None,
    note: str = "",
) -> Result:
    """The median of the pairs' ratios, as one line."""
    ratios = pair_ratios(above, below)
    return Result(
        name,
        statistics.median(ratios),
        "×",
        better,
        baseline=1.0,
        target=target,
        spread=spread(ratios),
        note=note,
    )


def median_result(  # noqa: PLR0913 - one row of a table of results
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    better: Better = "lower",
    baseline: Sequence[float] | None = None,
    note: str = "",
) -> Result:
    """The median of several runs, with the baseline's."""
    return Result(
        name,
        statistics.median(values),
        unit,
        better,
        baseline=statistics.median(baseline) if baseline else None,
        spread=spread(values),
        note=note,
    )


def exit_status(results: Sequence[Result], *, quick: bool) -> int:
    """0, or in CI (``quick``) 1 if a count missed its target. Times on CI machines say nothing."""
    return int(quick and any(each.miss and each.is_count for each in results))
