"""Plays the scripted histories of the edges one after the other, to hunt mutants with them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from tests.simulator import scripted
from tests.simulator.histories import Outcome
from tests.simulator.kernel import Violation


def run_scripted(seed: int, first: str) -> Outcome:
    """Every scripted history until one notices, ``first`` before the others. They are the same for
    every ``seed``."""
    violation = None
    for name, play in sorted(histories(), key=lambda each: each[0] != first):
        try:
            play()
        except Violation as found:
            violation = found
        except (AssertionError, KeyError) as found:
            violation = Violation(name, str(found).partition("\n")[0] or "it ends otherwise")
        if violation is not None:
            break
    return Outcome(seed, Counter(), [], violation)


def histories() -> Iterator[tuple[str, Callable[[], None]]]:
    for module in pkgutil.iter_modules(scripted.__path__):
        for name, test in vars(
            importlib.import_module(f"{scripted.__name__}.{module.name}")
        ).items():
            if name.startswith("test_") and callable(test):
                for arguments in _cases(test):
                    yield name, _bound(test, arguments)


def _bound(test: Callable[..., None], arguments: dict[str, Any]) -> Callable[[], None]:
    if "monkeypatch" not in inspect.signature(test).parameters:
        return lambda: test(**arguments)

    def play() -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            test(monkeypatch=monkeypatch, **arguments)

    return play


def _cases(test: Any) -> Iterator[dict[str, Any]]:
    """The arguments that ``pytest.mark.parametrize`` gives a test."""
    marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
    choices: list[list[dict[str, Any]]] = []
    for mark in marks:
        names = mark.args[0] if isinstance(mark.args[0], tuple) else (mark.args[0],)
        choices.append(
            [
                dict(zip(names, value if len(names) > 1 else (value,), strict=True))
                for value in mark.args[1]
            ]
        )
    for chosen in product(*choices):
        yield {name: value for each in chosen for name, value in each.items()}
