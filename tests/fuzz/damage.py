"""Random damage to a valid input, to its values or to its bytes."""

from __future__ import annotations

import json
from random import Random
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1 << 80, 0.5, float("nan"), "", "\u2028\ud800", "4111111111111111"),
    *([], {}, [[[[]]]], {"S": 1}, {"N": "NaN"}, {"N": "1e999"}, {"B": "%"}, "9" * 5000),
)
MOST_DAMAGES = 4


def damaged(valid: Any, random: Random) -> bytes:
    """``valid`` as JSON with some of its values, or some of its bytes, replaced."""
    value = json.loads(json.dumps(valid))
    for _ in range(random.randint(1, MOST_DAMAGES)):
        value = _with_damage(value, random)
    content = json.dumps(value, ensure_ascii=random.random() < 0.5).encode(errors="surrogatepass")
    if random.random() < 0.3:
        broken = bytearray(content)
        for _ in range(random.randint(1, MOST_DAMAGES)):
            broken[random.randrange(len(broken))] = random.randrange(256)
        content = bytes(broken[: random.randint(0, len(broken))])
    return content


def _with_damage(value: Any, random: Random) -> Any:
    if isinstance(value, dict) and value and random.random() < 0.9:
        name = random.choice(list(value))
        kind = random.random()
        if kind < 0.15:
            return {each: value[each] for each in value if each != name}
        if kind < 0.25:
            return {**value, f"{name}x": value[name]}
        return {**value, name: _with_damage(value[name], random)}
    if isinstance(value, list) and value and random.random() < 0.7:
        at = random.randrange(len(value))
        return [*value[:at], _with_damage(value[at], random), *value[at + 1 :]]
    return random.choice(ODD_VALUES)
