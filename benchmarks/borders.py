"""How many harmless values are refused as card numbers, and how many card numbers get through."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime

from benchmarks.results import Result
from refunds.domain.card_numbers import has_card_number, has_printed_card_number

SEED = 20261127
MOST_NUMBERS_PERCENT = 5.0

# A prefix and a length of each big scheme: Visa, Mastercard, American Express, Diners Club,
# Discover, JCB, UnionPay.
_SCHEMES = (
    ("4", 16),
    ("51", 16),
    ("2221", 16),
    ("34", 15),
    ("36", 14),
    ("6011", 16),
    ("3528", 16),
    ("62", 16),
)
_SEPARATORS = ("", " ", "-", ".", "\N{NO-BREAK SPACE}", "\N{EN DASH}")

_Values = Callable[[random.Random], str]


def borders_results(values: int) -> list[Result]:
    """``values``: how many of each kind are tried."""
    identifiers: dict[str, tuple[_Values, float]] = {
        "random UUIDs as ids": (_uuid, 0.0),
        "random numbers of 13 to 19 digits as ids": (_number, 0.0),
        "order numbers (3-7-7) as ids": (_order_number, 0.0),
    }
    texts: dict[str, tuple[_Values, float]] = {
        "random UUIDs in text": (_uuid, 0.0),
        "telephone numbers (E.164) in text": (_telephone, 0.0),
        "timestamps in text": (_timestamp, 0.0),
        "order numbers (3-7-7) in text": (_order_number, 0.0),
        # The price of finding cards that are written without separators.
        "random numbers of 16 digits in text": (_sixteen_digits, MOST_NUMBERS_PERCENT),
    }
    return [
        *(
            _refused(f"false refusals: {name}", made, values, has_printed_card_number, most)
            for name, (made, most) in identifiers.items()
        ),
        *(
            _refused(f"false refusals: {name}", made, values, has_card_number, most)
            for name, (made, most) in texts.items()
        ),
        _missed(values // 10),
    ]


def _refused(
    name: str, made: _Values, count: int, refused: Callable[[str], bool], most_percent: float
) -> Result:
    source = random.Random(SEED)
    found = sum(refused(made(source)) for _ in range(count))
    return Result(
        name,
        100 * found / count,
        "%",
        target=most_percent,
        is_count=True,
        note=f"{found:,} of {count:,}",
    )


def _missed(count: int) -> Result:
    source = random.Random(SEED)
    missed = sum(not has_card_number(_card(source)) for _ in range(count))
    return Result(
        "card numbers in text that are not found",
        100 * missed / count,
        "%",
        target=0.0,
        is_count=True,
        note=f"{missed:,} of {count:,}",
    )


def _card(source: random.Random) -> str:
    prefix, length = source.choice(_SCHEMES)
    digits = prefix + _digits(source, length - len(prefix) - 1)
    digits += str(_check_digit(digits))
    groups, start = [], 0
    for size in {14: (4, 6, 4), 15: (4, 6, 5)}.get(length, (4, 4, 4, 4)):
        groups.append(digits[start : start + size])
        start += size
    return f"card {source.choice(_SEPARATORS).join(groups)}"


def _check_digit(digits: str) -> int:
    doubled = (int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(digits)))
    return -sum(sum(divmod(each, 10)) for each in doubled) % 10


def _digits(source: random.Random, count: int) -> str:
    return f"{source.randrange(10**count):0{count}d}"


def _uuid(source: random.Random) -> str:
    text = f"{source.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _number(source: random.Random) -> str:
    return _digits(source, source.randrange(13, 20))


def _sixteen_digits(source: random.Random) -> str:
    return _digits(source, 16)


def _order_number(source: random.Random) -> str:
    return f"{_digits(source, 3)}-{_digits(source, 7)}-{_digits(source, 7)}"


def _telephone(source: random.Random) -> str:
    digits = str(source.randrange(10**8, 10**15))
    country, rest = digits[:2], digits[2:]
    return source.choice((f"+{digits}", f"+{country} {rest}", f"+{country} {rest[:3]} {rest[3:]}"))


def _timestamp(source: random.Random) -> str:
    # To the end of 2089.
    at = datetime.fromtimestamp(source.randrange(3_786_912_000), UTC)
    at = at.replace(microsecond=source.randrange(10**6))
    milliseconds = str(int(at.timestamp()) * 1000 + at.microsecond // 1000)
    forms = (at.isoformat(), f"{at:%Y%m%d%H%M%S%f}", f"{at:%d.%m.%Y %T}", milliseconds)
    return source.choice(forms)
