"""Swaps the code of a module's functions: for a fault, and to see which test runs which statement.

Everything is imported already when a fault comes to life, so functions keep their identity, and
whoever imported one has the changed one.
"""

from __future__ import annotations
import __future__

import ast
import importlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from tests.simulator.fault_making import Fault

RAN = "__statement_ran__"


def infect(fault: Fault) -> bool:
    """Swap the code of the functions that the fault changes; False when it changes none."""
    changed = compile(fault.code, fault.path, "exec", _flags(), dont_inherit=True)
    return _swap(fault.path, changed) > 0


def observe(path: str, ran: Callable[[str], object]) -> None:
    """Have each statement of the module's functions call ``ran`` with its name."""
    tree = ast.parse(Path(path).read_text())
    _mark(tree, path)
    changed = compile(ast.fix_missing_locations(tree), path, "exec", _flags(), dont_inherit=True)
    vars(_module(path))[RAN] = ran
    _swap(path, changed)


def statement_at(path: str, line: int) -> str:
    """The name of the innermost statement at a line, as ``observe`` tells it."""
    innermost = max((first, -last) for first, last in _statements(path) if first <= line <= last)
    return f"{path}:{innermost[0]}"


@cache
def _statements(path: str) -> list[tuple[int, int]]:
    """The first and the last line of each."""
    return [
        (node.lineno, node.end_lineno or 0)
        for node in ast.walk(ast.parse(Path(path).read_text()))
        if isinstance(node, ast.stmt)
    ]


def _mark(node: ast.AST, path: str, *, in_function: bool = False) -> None:
    inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for child in ast.iter_child_nodes(node):
        _mark(child, path, in_function=inside)
    if not inside or isinstance(node, ast.ClassDef):
        return
    for name in ("body", "orelse", "finalbody"):
        statements = getattr(node, name, None)
        if isinstance(statements, list) and statements:
            marked = [part for each in statements for part in (_mark_of(each, path), each)]
            setattr(node, name, _docstring_first(marked))


def _mark_of(statement: ast.stmt, path: str) -> ast.stmt:
    mark: ast.stmt = ast.parse(f"{RAN}({f'{path}:{statement.lineno}'!r})").body[0]
    for node in ast.walk(mark):
        ast.copy_location(node, statement)
    return mark


def _docstring_first(marked: list[ast.stmt]) -> list[ast.stmt]:
    second = marked[1]
    is_text = isinstance(second, ast.Expr) and isinstance(second.value, ast.Constant)
    return marked[1:] if is_text else marked


def _flags() -> int:
    return __future__.annotations.compiler_flag


def _module(path: str) -> Any:
    return importlib.import_module(".".join(Path(path).relative_to("src").with_suffix("").parts))


def _swap(path: str, changed: CodeType) -> int:
    before, after = original_code(path), dict(codes_in(changed))
    module, swapped = _module(path), 0
    for function in _functions(vars(module).values(), module.__name__):
        place = (function.__code__.co_qualname, function.__code__.co_firstlineno)
        if place in after and place in before and before[place] != after[place]:
            function.__code__ = after[place]
            swapped += 1
    return swapped


@cache
def original_code(path: str) -> dict[tuple[str, int], CodeType]:
    """By name and line. A process that calls this before it forks spares its forks the work."""
    original = compile(Path(path).read_text(), path, "exec", _flags(), dont_inherit=True)
    return dict(codes_in(original))


def codes_in(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield (constant.co_qualname, constant.co_firstlineno), constant
            yield from codes_in(constant)


def _functions(values: Any, module: str) -> Iterator[FunctionType]:
    for value in values:
        if isinstance(value, type):
            if value.__module__ == module:
                yield from _functions(vars(value).values(), module)
            continue
        function = value
        for name in ("fget", "func", "__func__", "__wrapped__"):
            function = getattr(function, name, None) or function
        if isinstance(function, FunctionType) and function.__module__ == module:
            yield function
