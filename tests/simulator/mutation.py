"""Puts a deliberate fault into production code while a history plays.

A mutant is a snippet of a function and what stands there instead. The snippet must be there exactly
once, so a mutant can't rot unnoticed. The function's code is swapped while the mutant lives.
"""

from __future__ import annotations
import __future__

import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any

from tests.simulator.histories import Outcome, run_history
from tests.simulator.scripts import run_scripted


@dataclass(frozen=True)
class Patch:
    """``where``: module and qualified name, as in ``processing.settler:Settler.call``. A module of
    the operators' commands has its whole name."""

    where: str
    snippet: str
    instead: str


@dataclass(frozen=True)
class Mutant:
    """``play``: the kind of history that has to catch it. ``caught_by``: the scripted history that
    does; the others are played only when it doesn't."""

    name: str
    patches: tuple[Patch, ...]
    play: Callable[[int], Outcome] = run_history
    caught_by: str | None = None


def mutant(
    name: str,
    *patches: tuple[str, str, str],
    play: Callable[[int], Outcome] = run_history,
    caught_by: str | None = None,
) -> Mutant:
    if caught_by is not None:
        play = partial(run_scripted, first=caught_by)
    return Mutant(name, tuple(Patch(*patch) for patch in patches), play, caught_by)


MAX_SEEDS = 3000
"""A mutant that lives through so many histories has survived."""


@contextmanager
def alive(mutant: Mutant) -> Iterator[None]:
    """Production code with this mutant in it. Raises ``ValueError`` when a snippet has gone."""
    swapped: list[tuple[FunctionType, Any]] = []
    try:
        for patch in mutant.patches:
            function = _function(patch.where)
            swapped.append((function, function.__code__))
            function.__code__ = _mutated(function, patch)
        yield
    finally:
        for function, code in reversed(swapped):
            function.__code__ = code


def hunt(mutant: Mutant, first_seed: int, most: int = MAX_SEEDS) -> Outcome | None:
    """The first history that catches the mutant, or None."""
    if mutant.caught_by is not None:
        most = 1  # always the same histories
    with alive(mutant):
        for seed in range(first_seed, first_seed + most):
            outcome = mutant.play(seed)
            if outcome.violation is not None:
                return outcome
    return None


def _function(where: str) -> FunctionType:
    module, _, path = where.partition(":")
    whole = module if module.startswith("refunds_ops.") else f"refunds.{module}"
    found: Any = importlib.import_module(whole)
    for name in path.split("."):
        found = inspect.getattr_static(found, name)
    return _plain(found)


def _plain(function: Any) -> FunctionType:
    """The function itself, also of a property."""
    return function.fget if isinstance(function, property) else function  # type: ignore[return-value]


def _mutated(function: FunctionType, patch: Patch) -> Any:
    source = inspect.getsource(function)
    if source.count(patch.snippet) != 1:
        raise ValueError(f"{patch.where} has {source.count(patch.snippet)} x {patch.snippet!r}")
    source = textwrap.dedent(source.replace(patch.snippet, patch.instead))
    flags = __future__.annotations.compiler_flag
    code = compile(source, f"<mutant of {patch.where}>", "exec", flags, dont_inherit=True)
    scope: dict[str, Any] = {}
    exec(code, dict(function.__globals__), scope)
    return _plain(scope[function.__name__]).__code__
