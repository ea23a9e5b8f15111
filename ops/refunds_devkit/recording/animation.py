"""Draws scenes as one SVG file that plays by itself: CSS only, no script, nothing loaded.

Where a reader prefers reduced motion, or animations don't run, it shows the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import pairwise

from refunds_devkit.recording.scenes import Scenes
from refunds_devkit.recording.terminal import THEME, Line, Segment, Style

CELL_WIDTH = 8.4
LINE_HEIGHT = 19
FONT_SIZE = 14
PADDING = 18
TITLE_BAR = 38
_STYLE = """\
text{{font:{size}px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;\
fill:{foreground};white-space:pre}}
.b{{font-weight:700;fill:#f0f6fc}}.d{{fill:#8b949e}}
{colours}
.h{{visibility:hidden}}
@media (prefers-reduced-motion:no-preference){{
.s,.v{{animation:{seconds:.2f}s step-end infinite}}
{frames}}}"""


def svg(scenes: Scenes, *, columns: int, rows: int, title: str, description: str) -> str:
    width = columns * CELL_WIDTH + 2 * PADDING
    height = TITLE_BAR + rows * LINE_HEIGHT + PADDING
    frames = _Frames(scenes.seconds)
    drawn = "\n".join(_lines(scenes, frames))
    offset, scroll = _scrolled(scenes, rows, frames)
    style = _STYLE.format(
        size=FONT_SIZE,
        foreground=THEME.foreground_color.hex,
        colours="".join(
            f".{_colour_class(colour)}{{fill:{colour}}}" for colour in _colours(scenes)
        ),
        seconds=scenes.seconds,
        frames=frames.css(),
    )
    view = f'width="{width:.0f}" height="{rows * LINE_HEIGHT}"'
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" \
aria-labelledby="title description">
<title id="title">{escape(title)}</title>
<desc id="description">{escape(description)}</desc>
<style>
{style}
</style>
<rect width="100%" height="100%" rx="10" fill="{THEME.background_color.hex}"/>
<g fill="#30363d"><circle cx="22" cy="19" r="6"/><circle cx="42" cy="19" r="6"/>\
<circle cx="62" cy="19" r="6"/></g>
<text class="d" x="{width / 2:.0f}" y="24" text-anchor="middle">{escape(title)}</text>
<clipPath id="screen"><rect y="{TITLE_BAR}" {view}/></clipPath>
<g clip-path="url(#screen)"><g class="{scroll}" transform="translate(0 {-offset})">
{drawn}
</g></g>
</svg>
"""


class _Frames:
    """Keyframes, one rule for each different span of time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._names: dict[str, str] = {}

    def visible(self, start: float, end: float | None) -> str:
        """The class of what is visible from ``start`` to ``end``, or to the end of all."""
        if start == 0 and end is None:
            return ""
        rule = "0%{visibility:hidden}" if start else ""
        rule += f"{self._percent(start)}{{visibility:visible}}"
        if end is not None:
            rule += f"{self._percent(end)}{{visibility:hidden}}"
        return f"v {self._name(rule)}" + ("" if end is None else " h")

    def moved(self, offsets: list[tuple[float, int]]) -> str:
        """The class of what is moved up by each of ``offsets`` from its instant on."""
        rule = "".join(
            f"{self._percent(at)}{{transform:translateY({-offset}px)}}" for at, offset in offsets
        )
        return f"s {self._name(rule)}"

    def css(self) -> str:
        return "".join(
            f".{name}{{animation-name:{name}}}@keyframes {name}{{{rule}}}\n"
            for rule, name in self._names.items()
        )

    def _name(self, rule: str) -> str:
        return self._names.setdefault(rule, f"k{len(self._names)}")

    def _percent(self, at: float) -> str:
        return f"{100 * at / self._seconds:.2f}%"


def _lines(scenes: Scenes, frames: _Frames) -> Iterator[str]:
    for number, shown in enumerate(scenes.lines):
        y = TITLE_BAR + number * LINE_HEIGHT + FONT_SIZE
        for index, (start, line) in enumerate(shown.versions):
            after = shown.versions[index + 1 : index + 2]
            if line:
                yield _drawn(line, y, frames.visible(start, after[0][0] if after else None))


def _drawn(line: Line, y: int, classes: str) -> str:
    kind = f' class="{classes}"' if classes else ""
    return f'<text y="{y}"{kind}>{"".join(map(_span, line))}</text>'


def _span(segment: Segment) -> str:
    text = segment.text.strip()
    column = segment.column + len(segment.text) - len(segment.text.lstrip())
    classes = " ".join(_classes(segment.style))
    kind = f' class="{classes}"' if classes else ""
    # The length keeps columns straight whatever font the reader has.
    length = f' textLength="{len(text) * CELL_WIDTH:.1f}"' if len(text) > 1 else ""
    x = PADDING + column * CELL_WIDTH
    return f'<tspan x="{x:.1f}"{length}{kind}>{escape(text, quote=False)}</tspan>'


def _classes(style: Style) -> Iterator[str]:
    if style.bold:
        yield "b"
    if style.colour:
        yield _colour_class(style.colour)
    elif style.dim:
        yield "d"


def _colours(scenes: Scenes) -> list[str]:
    segments = (segment for shown in scenes.lines for _, line in shown.versions for segment in line)
    return sorted({segment.style.colour for segment in segments if segment.style.colour})


def _colour_class(colour: str) -> str:
    return f"c{colour[1:]}"


def _scrolled(scenes: Scenes, rows: int, frames: _Frames) -> tuple[int, str]:
    """How far up the end is, and the class that scrolls there."""
    offsets = [(at, max(0, height - rows) * LINE_HEIGHT) for at, height in scenes.heights]
    moves = [offsets[0]]
    for before, after in pairwise(offsets):
        if before[1] != after[1]:
            moves.append(after)
    return offsets[-1][1], frames.moved(moves)
