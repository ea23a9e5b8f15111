"""Card numbers in text from outside: found, so that they are neither stored nor shown."""

from __future__ import annotations

import re
import unicodedata

# Where a card number may begin: issuers' ranges, from ISO/IEC 7812 and the schemes' own lists.
_ISSUERS = re.compile(
    r"4|5[0-8]|2(?:20[0-5]|2[2-9]|[3-6]|7[01]|720)|3(?:[47]|0[0-5]|095|[689]|5[2-8])|6"
    r"|8(?:[12]|600)|9(?:792|860)",
    re.ASCII,
)
_DIGIT_GROUPS = re.compile(r"\d+(?:[ \-._/]{1,3}\d+)*", re.ASCII)
# Any other separator counts between groups as they stand on cards; between just any numbers it
# would make a card of one list of short numbers in ten.
_CARD_GROUPS = re.compile(
    r"(?<!\d)(?:\d{4}(\W{1,3})\d{4}\1\d{4}\1\d{1,4}(?:\1\d{1,3})?|\d{4}(\W{1,3})\d{6}\2\d{4,5})(?!\d)",
    re.ASCII,
)


def has_card_number(text: str) -> bool:
    """Whether whole groups of digits, 13 to 19 in all, pass Luhn and start as card numbers do.

    Groups may be parted by up to three separators; dashes, spaces and digits of any script count
    as such. Only whole groups count: inside a longer number, one in two would look like a card by
    chance.
    """
    plain = "".join(_plain(character) for character in unicodedata.normalize("NFKC", text))
    for found in _CARD_GROUPS.finditer(plain):
        if _is_card(re.sub(r"\D", "", found[0])):
            return True
    for run in _DIGIT_GROUPS.findall(plain):
        groups = re.findall(r"\d+", run)
        for first in range(len(groups)):
            digits = ""
            for group in groups[first:]:
                digits += group
                if len(digits) > 19:
                    break
                if _is_card(digits):
                    return True
    return False


def _plain(character: str) -> str:
    """One character with its script's digit, dash or space made ASCII; nothing for a mark that
    can't be seen."""
    if character.isascii():
        return " " if character.isspace() else character
    if character.isdigit():
        return str(unicodedata.digit(character))
    match unicodedata.category(character):
        case "Cf":
            return ""
        case "Pd":
            return "-"
        case "Zs" | "Zl" | "Zp":
            return " "
    return "-" if character == "\N{MINUS SIGN}" else character


def _is_card(digits: str) -> bool:
    return 13 <= len(digits) <= 19 and bool(_ISSUERS.match(digits)) and _passes_luhn(digits)


def _passes_luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def redacted(text: str) -> str:
    """``text``, or a note in its place when it holds what looks like a card number."""
    return "[redacted: looks like a card number]" if has_card_number(text) else text
