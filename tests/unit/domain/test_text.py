"""Text from outside: what can be seen stays, what acts on a screen goes."""

from __future__ import annotations

import pytest

from refunds.domain.refund import short_text
from refunds.domain.text import is_blank, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("declined", "declined"),
        ("Größe 尺寸 😀", "Größe 尺寸 😀"),
        ("\x1b[31mpaid\x1b[0m", " [31mpaid [0m"),
        ("one\r\ntwo\tthree", "one two three"),
        ("FAILED\u202eDIAP", "FAILED DIAP"),
        ("a\u2066b\u2069c\u200e\u200fd", "a b c d"),
        ("a\u2028b\x85c\x00", "a b c "),
        (
            "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
    ],
)
def test_control_characters_and_bidi_marks_become_spaces(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert short_text(text) == shown


@pytest.mark.parametrize("text", ["", " \t\n", "\x1b", "\u200b\u202e", "\u3000", "\udcff"])
def test_what_shows_nothing_is_blank(text: str) -> None:
    assert is_blank(text)
    assert not is_blank(f"{text}x{text}")
