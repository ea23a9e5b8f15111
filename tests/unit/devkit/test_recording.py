"""The recording of the demo: a terminal's output as a picture that plays by itself."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from refunds_devkit.recording.animation import svg
from refunds_devkit.recording.capture import Output, Recording, RecordingError, capture
from refunds_devkit.recording.command import MAX_BYTES
from refunds_devkit.recording.scenes import LONGEST_WAIT, Scenes, scenes
from refunds_devkit.recording.terminal import Terminal

PICTURE = Path(__file__).parents[3] / "docs/images/demo.svg"
SVG = "{http://www.w3.org/2000/svg}"


def texts(terminal: Terminal) -> list[str]:
    return ["".join(segment.text for segment in line) for line in terminal.lines()]


def played(*outputs: tuple[float, str], hide: dict[str, str] | None = None) -> Scenes:
    recording = Recording(80, 24, [Output(at, text) for at, text in outputs])
    return scenes(recording, prompt="$ make demo", hide=hide or {})


def drawn(*outputs: tuple[float, str], rows: int = 10) -> str:
    return svg(played(*outputs), columns=80, rows=rows, title="a <demo>", description="what & how")


def test_a_command_is_recorded_in_a_terminal_of_its_own(tmp_path: Path) -> None:
    program = "import os, sys; print(sys.stdout.isatty(), os.get_terminal_size().columns)"
    recording = capture([sys.executable, "-c", program], columns=93, rows=20)
    assert "".join(each.text for each in recording.outputs) == "True 93\r\n"
    recording.save(tmp_path / "demo.cast")
    again = Recording.load(tmp_path / "demo.cast")
    assert (again.columns, again.rows) == (93, 20)
    assert [each.text for each in again.outputs] == [each.text for each in recording.outputs]


def test_a_command_that_fails_makes_no_picture() -> None:
    program = "import sys; print('no stack'); sys.exit(3)"
    with pytest.raises(RecordingError, match=r"(?s)ended with status 3:.*no stack"):
        capture([sys.executable, "-c", program], columns=80, rows=24)


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"version": 1}\n')
    with pytest.raises(ValueError, match="not an asciicast"):
        Recording.load(tmp_path / "x")


def test_a_line_that_is_written_again_replaces_what_it_was() -> None:
    terminal = Terminal()
    terminal.write("one\r\ntwo\r\nthree")
    terminal.write("\r\x1b[2K\x1b[1A\x1b[2K2\r\n\x1b]0;title\x07\x1b[?25l3")
    assert texts(terminal) == ["one", "2", "3"]


def test_colours_and_columns_are_kept() -> None:
    terminal = Terminal()
    terminal.write("\x1b[1mbold\x1b[0m  \x1b[32mgreen\x1b[0m")
    bold, green = terminal.lines()[0]
    assert (bold.text, bold.style.bold, bold.style.colour) == ("bold", True, None)
    assert (green.column, green.text, green.style.colour) == (6, "green", "#56d364")


def test_a_wait_is_short_and_a_report_is_read_part_by_part() -> None:
    title = f"\x1b[1mtitle\x1b[0m \x1b[36m{'─' * 20}\x1b[0m"
    part = "\r\n".join([title, *(f"line {number}" for number in range(9))])
    slow = played((0.0, "begun\r\n"), (60.0, "done\r\n"), (61.0, f"{part}\r\n{part}\r\n"))
    starts = [shown.versions[0][0] for shown in slow.lines]
    assert starts[2] - starts[1] <= LONGEST_WAIT
    assert starts[13] - starts[12] > 2
    assert starts == sorted(starts)


def test_a_turning_spinner_is_no_change() -> None:
    turning = played(
        (0.0, "⠋ in the queue"), (1.0, "\r\x1b[2K⠙ in the queue"), (2.0, "\r\x1b[2Kok")
    )
    assert len(turning.lines[1].versions) == 2


def test_what_only_this_machine_has_is_not_shown() -> None:
    shown = played(
        (0.0, "/home/anna/code/refunds/x"), hide={"/home/anna/code/refunds": "~/refunds"}
    )
    assert shown.lines[1].at_end()[0].text == "~/refunds/x"


def test_the_picture_is_one_file_without_script_that_names_itself() -> None:
    picture = drawn((0.0, "<b> & \x1b[31mred\x1b[0m"))
    root = ET.fromstring(picture)
    assert [root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc")] == ["a <demo>", "what & how"]
    assert "<b> &" in "".join(root.itertext())
    assert not re.search(r"<script|href|url\((?!#screen)|@import", picture)


def test_without_motion_the_end_is_shown() -> None:
    lines = "".join(f"line {number}\r\n" for number in range(20))
    root = ET.fromstring(drawn((0.0, "first"), (1.0, f"\r\x1b[2K{lines}"), rows=5))
    hidden = [
        "".join(text.itertext())
        for text in root.iter(f"{SVG}text")
        if "h" in text.get("class", "").split()
    ]
    assert hidden == ["first"]
    [group] = root.findall(f"{SVG}g[@clip-path]/{SVG}g")
    assert group.get("transform") == f"translate(0 -{16 * 19})"


def test_the_picture_in_the_docs_is_small_and_shows_no_machine() -> None:
    content = PICTURE.read_text(encoding="utf-8")
    assert len(content.encode()) <= MAX_BYTES
    text = "".join(ET.fromstring(content).itertext())
    assert "Everything is right" in text
    assert not re.search(r"/(home|root|tmp|Users)/", text)
