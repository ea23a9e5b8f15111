"""Geometry of the plots: integers in the units of an SVG's viewBox. Templates draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refunds.domain.money import EXPONENTS

TICKS = 4
_SHORT = ((10**9, "bn"), (10**6, "M"), (10**3, "k"))


@dataclass(frozen=True)
class Tick:
    y: int
    label: str


@dataclass(frozen=True)
class Segment:
    group: str
    y: int
    height: int


@dataclass(frozen=True)
class Bar:
    label: str
    x: int
    width: int
    segments: Sequence[Segment]
    title: str


@dataclass(frozen=True)
class Bars:
    width: int
    height: int
    bars: Sequence[Bar]
    ticks: Sequence[Tick]


@dataclass(frozen=True)
class Lines:
    """``lines``: the ``points`` of a polyline, by name; ``area`` lies below the first."""

    width: int
    height: int
    lines: Mapping[str, str]
    area: str
    ticks: Sequence[Tick]
    labels: Sequence[tuple[int, str]]


@dataclass(frozen=True)
class Share:
    group: str
    x: int
    width: int


def stacked_bars(
    rows: Sequence[tuple[str, Mapping[str, int], str]],
    currency: str,
    *,
    width: int,
    height: int,
) -> Bars:
    """One bar for each row, with stacked parts. ``rows``: label, amount by group, and a title."""
    highest = max((sum(parts.values()) for _, parts, _ in rows), default=0)
    top = _round_up(highest)
    step = width // max(1, len(rows))
    bars = []
    for number, (label, parts, title) in enumerate(rows):
        y, segments = height, []
        for group, amount in parts.items():
            tall = _scaled(amount, top, height)
            y -= tall
            if tall:
                segments.append(Segment(group, y, tall))
        bars.append(Bar(label, number * step + step // 5, step - 2 * (step // 5), segments, title))
    return Bars(width, height, bars, _ticks(top, currency, height))


def lines(
    series: Mapping[str, Sequence[int]],
    labels: Sequence[str],
    currency: str,
    *,
    width: int,
    height: int,
) -> Lines:
    """One line for each series, over the same places. A line may end early. Every sixth place has a
    label."""
    places = max(1, len(labels) - 1)
    top = _round_up(max((max(values, default=0) for values in series.values()), default=0))
    drawn, area = {}, ""
    for name, values in series.items():
        points = [
            (place * width // places, height - _scaled(value, top, height))
            for place, value in enumerate(values)
        ]
        drawn[name] = " ".join(f"{x},{y}" for x, y in points)
        if not area and points:
            area = f"0,{height} {drawn[name]} {points[-1][0]},{height}"
    marks = [
        (place * width // places, label) for place, label in enumerate(labels) if place % 6 == 0
    ]
    return Lines(width, height, drawn, area, _ticks(top, currency, height), marks)


def shares(parts: Mapping[str, int], width: int) -> list[Share]:
    """One bar, divided in proportion. A part that is not zero is always visible."""
    total = sum(parts.values())
    found, x = [], 0
    for group, amount in parts.items():
        if amount > 0:
            wide = max(4, _scaled(amount, total, width))
            wide = min(wide, width - x)
            found.append(Share(group, x, wide))
            x += wide
    return found


def short_amount(amount_minor: int, currency: str) -> str:
    """A number for an axis, such as 1.5k or 20M, in whole units of the currency."""
    whole = amount_minor // 10 ** EXPONENTS.get(currency, 0)
    for size, name in _SHORT:
        if whole >= size:
            tenths = whole * 10 // size
            return (
                f"{tenths // 10}{name}"
                if tenths % 10 == 0
                else f"{tenths // 10}.{tenths % 10}{name}"
            )
    return str(whole)


def _scaled(amount: int, of: int, length: int) -> int:
    return amount * length // of if of else 0


def _round_up(amount: int) -> int:
    """The next number that four lines divide well: 4, 8, 20, 40, 80, 200 …"""
    size = 1
    while True:
        for step in (4, 8, 20):
            if amount <= step * size:
                return step * size
        size *= 10


def _ticks(top: int, currency: str, height: int) -> list[Tick]:
    return [
        Tick(height - height * number // TICKS, short_amount(top * number // TICKS, currency))
        for number in range(TICKS + 1)
    ]
