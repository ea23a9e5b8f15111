"""Finds card numbers in text from outside, so that they are neither stored nor shown.

A card number has an issuer's prefix, a length that this issuer uses, and a valid Luhn digit. One
random 16-digit number in 25 meets all of that. So text that is known to be something else is
skipped: parts of words and hashes, UUIDs, IBANs, telephone numbers with a ``+``, article numbers.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

# Issuer prefixes and the lengths of their numbers: ISO/IEC 7812 and the schemes' own lists.
_ISSUERS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("4", (13, 16, 19)),  # Visa
    (r"5[1-5]|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720", (16,)),  # Mastercard
    ("3[47]", (15,)),  # American Express
    ("30[0-5]|3095|3[689]", (14, 16, 19)),  # Diners Club
    ("6011|64[4-9]|65", (16, 19)),  # Discover
    (r"35(?:2[89]|[3-8]\d)", (16, 19)),  # JCB
    ("62|81", (16, 17, 18, 19)),  # UnionPay
    ("5018|5020|5038|5893|6304|6390|6759|676[1-3]", (13, 14, 15, 16, 17, 18, 19)),  # Maestro
    ("50|5[6-8]|6", (16, 18, 19)),  # Maestro, Elo, Verve, Hipercard and other domestic schemes
    ("220[0-4]", (16, 17, 18, 19)),  # Mir
    ("82|353|356|9792|8600|9860", (16,)),  # RuPay, Troy, Uzcard, Humo
)
_PREFIX_BY_LENGTH = {
    length: re.compile("|".join(prefix for prefix, lengths in _ISSUERS if length in lengths))
    for length in range(13, 20)
}

# The groups in which cards print their numbers and forms ask for them.
_LAYOUTS = frozenset(
    {
        (4, 4, 4, 4),
        *((4, 4, 4, last) for last in (1, 2, 3)),
        *((4, 4, 4, 4, last) for last in (1, 2, 3)),
        (4, 6, 5),
        (4, 6, 4),
        (4, 3, 3, 3),
        *((1,) * length for length in range(13, 20)),
    }
)

_DIGITS = re.compile(r"[0-9]+")
_MAX_PHONE_DIGITS = 15  # E.164
_EAN_DIGITS = 13
# Any number below has 13 digits in a row, or three groups. This check ends most searches at once.
_CANDIDATE = re.compile(r"[0-9]{13}|[0-9][^0-9A-Za-z]{1,3}[0-9]{1,10}[^0-9A-Za-z]{1,3}[0-9]")
_SEPARATOR = re.compile(r"[^0-9A-Za-z]{1,3}")
_SKIPPED = re.compile(
    # A UUID.
    r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])"
    # A telephone number: E.164 has at most 15 digits.
    r"|(?<![0-9A-Za-z])\+(?:[ ().\-/]{0,2}[0-9]){7,15}(?![ ().\-/]{0,2}[0-9])"
)
_IBAN = re.compile(
    r"(?<![0-9A-Za-z])[A-Z]{2}[0-9]{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?(?![0-9A-Za-z])"
)
# Day, month, year, hour, minute and second in a row; the other orders have no issuer's prefix.
_TIMESTAMP = re.compile(
    r"(?:0[1-9]|[12][0-9]|3[01])(?:0[1-9]|1[0-2])(?:19|20)[0-9]{2}"
    r"(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9][0-9]{0,5}"
)


def has_card_number(text: str) -> bool:
    """Whether free text contains something that looks like a card number: with any grouping that
    cards use, any separators, and dashes, spaces and digits of any script."""
    plain = _without_known_numbers(text)
    return plain is not None and (_has_printed_number(plain) or _has_bare_number(plain))


def has_printed_card_number(identifier: str) -> bool:
    """Whether an identifier is a card number as cards print it: in groups, with separators.

    An identifier of 13 to 19 digits without separators is only a number: one random 16-digit
    number in 25 looks like a card's.
    """
    plain = _without_known_numbers(identifier)
    return plain is not None and _has_printed_number(plain)


def redacted(text: str) -> str:
    """``text``, or a note instead of it if it contains something that looks like a card number."""
    return "[redacted: looks like a card number]" if has_card_number(text) else text


def masked(text: str) -> str:
    """``text`` with an asterisk for every digit, of any script."""
    return "".join("*" if character.isnumeric() else character for character in text)


def _without_known_numbers(text: str) -> str | None:
    """The text in ASCII digits, dashes and spaces, with a ``#`` in place of each known number.

    None when it can't hold a card number.
    """
    plain = text if text.isascii() else _ascii(text)
    if not _CANDIDATE.search(plain):
        return None
    plain = _IBAN.sub(lambda found: "#" if _is_iban(found[0]) else found[0], plain)
    return _SKIPPED.sub("#", plain)


def _has_bare_number(plain: str) -> bool:
    for found in _DIGITS.finditer(plain):
        digits, before = found[0], plain[max(0, found.start() - 2) : found.start()]
        is_phone = before.endswith("+") and len(digits) <= _MAX_PHONE_DIGITS
        is_fraction = before[1:] == "." and before[0].isdigit()
        is_article = len(digits) == _EAN_DIGITS and _is_ean(digits)
        if (
            _is_card(digits)
            and not (is_phone or is_fraction or is_article)
            and not _joined_to_letters(plain, found.start(), found.end())
        ):
            return True
    return False


def _has_printed_number(plain: str) -> bool:
    groups = list(_DIGITS.finditer(plain))
    separators = [plain[one.end() : two.start()] for one, two in pairwise(groups)]
    for first, last in _printed_groups([len(group[0]) for group in groups], separators):
        digits = "".join(group[0] for group in groups[first : last + 1])
        if _is_card(digits) and not _joined_to_letters(
            plain, groups[first].start(), groups[last].end()
        ):
            return True
    return False


def _printed_groups(sizes: list[int], separators: list[str]) -> Iterator[tuple[int, int]]:
    """The first and last group of each row of groups that has the layout of a card number."""
    first = 0
    while first < len(separators):
        # A row is a sequence of groups with the same separator between them.
        last = first + 1
        separator = separators[first]
        while last < len(separators) and separators[last] == separator:
            last += 1
        if _SEPARATOR.fullmatch(separator):
            yield from _windows(sizes, first, last, whole=not separator.isspace())
        first = last


def _windows(sizes: list[int], first: int, last: int, *, whole: bool) -> Iterator[tuple[int, int]]:
    """``whole``: only the whole row counts. 1234-5678-9012-3456-7890-1234 is a voucher's code, but
    a card number may be followed by a space and an expiry date or a security code."""
    if whole:
        if tuple(sizes[first : last + 1]) in _LAYOUTS:
            yield first, last
        return
    for start in range(first, last):
        for end in range(start + 2, min(start + 19, last + 1)):
            if tuple(sizes[start : end + 1]) in _LAYOUTS:
                yield start, end


def _joined_to_letters(plain: str, start: int, end: int) -> bool:
    """Whether the digits are part of a word, such as a hash. Only Latin letters count: other
    scripts write numbers without a space."""
    return _is_letter(plain[start - 1 : start]) or _is_letter(plain[end : end + 1])


def _is_letter(character: str) -> bool:
    return character.isascii() and character.isalpha()


def _is_card(digits: str) -> bool:
    prefixes = _PREFIX_BY_LENGTH.get(len(digits))
    return (
        prefixes is not None
        and bool(prefixes.match(digits))
        and _passes_luhn(digits)
        and not _TIMESTAMP.fullmatch(digits)
    )


def _passes_luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        total += sum(divmod(int(digit) * (1 + place % 2), 10))
    return total % 10 == 0


def _is_ean(digits: str) -> bool:
    """Whether 13 digits have the check digit of an article number (EAN, ISBN)."""
    return sum(int(digit) * (1 + 2 * (place % 2)) for place, digit in enumerate(digits)) % 10 == 0


def _is_iban(text: str) -> bool:
    compact = text.replace(" ", "")
    return int("".join(str(int(each, 36)) for each in compact[4:] + compact[:4])) % 97 == 1


def _ascii(text: str) -> str:
    return "".join(_plain(character) for character in text)


def _plain(character: str) -> str:
    """The ASCII digit, dash or space for one of another script; nothing for an invisible mark."""
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
