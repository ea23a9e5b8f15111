"""Turns a recording into scenes: what each line shows, from when to when, at a reader's pace.

A demo waits for a minute and then prints a hundred lines at once. Here a wait is short, and each
part of a report stays long enough to be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from refunds_devkit.recording.capture import Recording
from refunds_devkit.recording.terminal import Line, Segment, Style, Terminal

LONGEST_WAIT = 0.7
LINE_SECONDS = 0.05
"""Between the lines of what came at once."""
READ_SECONDS = 3.6
"""For a part of the report, before the next one comes."""
END_SECONDS = 6.0
_TOGETHER = 0.05
_BURST_LINES = 4
_SPINNER = re.compile("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]")
_RULE = re.compile(r"^\S.* ─{8,}$")


@dataclass
class Shown:
    """A line of the scrollback: what it shows from each instant on."""

    versions: list[tuple[float, Line]] = field(default_factory=list)

    def at_end(self) -> Line:
        return self.versions[-1][1] if self.versions else ()


@dataclass
class Scenes:
    lines: list[Shown] = field(default_factory=list)
    heights: list[tuple[float, int]] = field(default_factory=list)
    """From each instant on: how many lines there are, up to the last that isn't empty."""
    seconds: float = 0.0


def scenes(recording: Recording, *, prompt: str, hide: dict[str, str]) -> Scenes:
    """``prompt`` stands first. ``hide``: texts that only this machine has, and what to show."""
    made = Scenes()
    now = 0.0
    _show(made, 0.0, 0, (Segment(0, prompt, Style(bold=True)),))
    made.heights.append((0.0, 1))
    before: list[Line] = []
    last_at = 0.0
    for at, lines in _screens(recording, hide):
        changed = [
            number
            for number in range(max(len(before), len(lines)))
            if _line(before, number) != _line(lines, number)
        ]
        if not changed:
            continue
        now += min(at - last_at, LONGEST_WAIT)
        last_at = at
        burst = len(lines) - len(before) > _BURST_LINES
        for number in changed:
            line = _line(lines, number)
            if burst and number >= len(before):
                now += READ_SECONDS if _RULE.match(_text(line)) else LINE_SECONDS
                made.heights.append((now, number + 2))
            _show(made, now, number + 1, line)
        made.heights.append((now, len(lines) + 1))
        before = lines
    made.seconds = now + END_SECONDS
    return made


def _screens(recording: Recording, hide: dict[str, str]) -> Iterator[tuple[float, list[Line]]]:
    """The scrollback after each pause in the output."""
    terminal = Terminal()
    outputs = recording.outputs
    for number, output in enumerate(outputs):
        terminal.write(output.text)
        if number + 1 < len(outputs) and outputs[number + 1].at - output.at < _TOGETHER:
            continue
        lines = [_cleaned(line, hide) for line in terminal.lines()]
        while lines and not lines[-1]:
            lines.pop()
        yield output.at, lines


def _cleaned(line: Line, hide: dict[str, str]) -> Line:
    return tuple(
        Segment(segment.column, _cleaned_text(segment.text, hide), segment.style)
        for segment in line
    )


def _cleaned_text(text: str, hide: dict[str, str]) -> str:
    # A spinner that turned is no change worth a frame.
    text = _SPINNER.sub("⠿", text)
    for its, shown in hide.items():
        text = text.replace(its, shown)
    return text


def _show(made: Scenes, at: float, number: int, line: Line) -> None:
    while len(made.lines) <= number:
        made.lines.append(Shown())
    versions = made.lines[number].versions
    if versions and versions[-1][0] == at:
        versions.pop()
    versions.append((at, line))


def _line(lines: list[Line], number: int) -> Line:
    return lines[number] if number < len(lines) else ()


def _text(line: Line) -> str:
    text = ""
    for segment in line:
        text = text.ljust(segment.column) + segment.text
    return text.rstrip()
