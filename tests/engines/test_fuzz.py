"""`make fuzz` notices a reader that raises what it doesn't document, and repeats its inputs."""

from __future__ import annotations

import json
from random import Random

from tests.fuzz.__main__ import MESSAGE, Reader, crash, damaged, readers


def test_an_undocumented_error_is_a_crash_and_a_refusal_is_not() -> None:
    reader = Reader("x", {}, lambda content: json.loads(content)["id"], (KeyError,))
    assert crash(reader, b"{}") is None
    assert crash(reader, b'{"id": 1}') is None
    assert isinstance(crash(reader, b"["), json.JSONDecodeError)


def test_the_same_seed_gives_the_same_input() -> None:
    assert damaged(MESSAGE, Random("7")) == damaged(MESSAGE, Random("7"))
    assert len({damaged(MESSAGE, Random(seed)) for seed in range(50)}) > 40


def test_every_reader_accepts_its_undamaged_input() -> None:
    for reader in readers():
        reader.read(json.dumps(reader.valid).encode())


def test_readers_survive_damaged_input() -> None:
    for reader in readers():
        for number in range(300):
            assert crash(reader, damaged(reader.valid, Random(number))) is None
