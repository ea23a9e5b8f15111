"""Makes faults in a file: cosmic-ray's operators, and three of our own.

cosmic-ray lacks: a statement left out, a result that is not returned, and a change of an attribute
or of a key left out.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random
from types import CodeType
from typing import Any

import parso
from cosmic_ray.ast import ast_nodes  # type: ignore[import-untyped]
from cosmic_ray.plugins import get_operator  # type: ignore[import-untyped]

COMPARISONS = ("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "Lt_Gt", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_Lt")
OPERATORS = (
    *(f"ReplaceComparisonOperator_{each}" for each in COMPARISONS),
    "ReplaceComparisonOperator_GtE_Gt",
    "ReplaceComparisonOperator_GtE_Lt",
    "ReplaceComparisonOperator_Is_IsNot",
    "ReplaceComparisonOperator_IsNot_Is",
    "ReplaceBinaryOperator_Add_Sub",
    "ReplaceBinaryOperator_Sub_Add",
    "ReplaceBinaryOperator_Mul_Div",
    "ReplaceUnaryOperator_Delete_Not",
    "AddNot",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "NumberReplacer",
    "ZeroIterationForLoop",
)


@dataclass(frozen=True)
class Fault:
    """``function``: the one it is in, empty for the module's own lines. ``was`` and ``instead``:
    the line before and after. ``digest`` stays the same when only comments or docstrings change."""

    path: str
    operator: str
    line: int
    function: str
    was: str
    instead: str
    code: str
    digest: str

    def key(self) -> str:
        """Names the fault without a line number, which the next edit would change."""
        return f"{self.path} {self.function}: {self.was} -> {self.instead}"


def faults_of(path: Path, dice: Random, most: int | None) -> list[Fault]:
    """Some of a file's faults, or all of them. Each changes a function, and each is made once:
    ``x is not y`` and ``not x is y`` are one fault, because Python makes the same code of both."""
    source = path.read_text()
    changes = [("ours", each) for each in _left_out(source)]
    changes += [(name, each) for name in OPERATORS for each in _by_operator(source, name)]
    functions = _functions_by_line(source)
    seen = {_digest(path, source)}
    made: list[Fault] = []
    for name, code in changes:
        before, after = source.splitlines(), code.splitlines()
        line = next(n for n, (a, b) in enumerate(zip(before, after, strict=False), 1) if a != b)
        was, instead = before[line - 1].strip(), after[line - 1].strip()
        if not (function := functions.get(line)):
            continue
        try:
            digest = _digest(path, code)
        except SyntaxError:  # cosmic-ray writes `not name := …` without parentheses
            continue
        if digest not in seen:
            seen.add(digest)
            made.append(Fault(str(path), name, line, function, was, instead, code, digest))
    dice.shuffle(made)
    return sorted(made[:most], key=lambda fault: fault.line)


def _digest(path: Path, code: str) -> str:
    tree = ast.parse(code)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            body[:1] = [] if body[1:] else [ast.copy_location(ast.Pass(), body[0])]
    instructions = _instructions(compile(tree, "", "exec"))
    return sha256(f"{path}\n{instructions}".encode()).hexdigest()[:20]


def _is_text(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _instructions(code: CodeType) -> tuple[Any, ...]:
    """What Python runs, without the lines and columns it is from."""
    constants = [
        _instructions(each)
        if isinstance(each, CodeType)
        else sorted(map(repr, each))
        if isinstance(each, frozenset)
        else (type(each).__name__, repr(each))
        for each in code.co_consts
    ]
    names = (code.co_qualname, code.co_names, code.co_varnames, code.co_freevars)
    return (*names, code.co_code, code.co_exceptiontable, *constants)


def _by_operator(source: str, name: str) -> Iterator[str]:
    """The source with one of the operator's changes, in each place where it can make one."""
    operator = get_operator(f"core/{name}")()
    lines = source.splitlines(keepends=True)
    starts = [0, *itertools.accumulate(map(len, lines))]
    for node in _tree(source):
        for index in range(len(list(operator.mutation_positions(node)))):
            if _marks_keyword_only(node):
                continue
            (first, column), (last, last_column) = node.get_start_pos_of_prefix(), node.end_pos
            changed = _changed(operator, node, index)
            before, after = starts[first - 1] + column, starts[last - 1] + last_column
            yield source[:before] + changed + source[after:]


def _changed(operator: Any, node: Any, index: int) -> str:
    """The node's new code. An operator changes the node itself, its children, or a value."""
    children = list(getattr(node, "children", ()))
    values = [(each, each.value) for each in (node, *children) if hasattr(each, "value")]
    code: str = operator.mutate(node, index).get_code()
    if children:
        node.children = children
    for each, value in values:
        each.value = value
    return code


@cache
def _tree(source: str) -> list[Any]:
    return list(ast_nodes(parso.parse(source)))  # type: ignore[no-untyped-call]


def _marks_keyword_only(node: Any) -> bool:
    """A lone ``*`` among parameters, which cosmic-ray takes for a product."""
    parents = (node.parent, getattr(node.parent, "parent", None))
    return node.type == "operator" and any(
        each is not None and each.type in ("param", "parameters", "lambdef") for each in parents
    )


def _left_out(source: str) -> Iterator[str]:
    """The source without one of its statements, or with one result that is not returned."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if _has_an_effect(node):
            assert isinstance(node, ast.stmt)
            yield _replaced(lines, node, "pass")
        elif isinstance(node, ast.Return) and not (
            node.value is None or (isinstance(node.value, ast.Constant) and not node.value.value)
        ):
            yield _replaced(lines, node, "return None")


def _has_an_effect(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    if isinstance(node, ast.Assign):
        return all(isinstance(each, ast.Attribute | ast.Subscript) for each in node.targets)
    return isinstance(node, ast.AugAssign | ast.Raise)


def _replaced(lines: list[str], node: ast.stmt, instead: str) -> str:
    assert node.end_lineno is not None
    if any("super()" in line for line in lines[node.lineno - 1 : node.end_lineno]):
        instead += "; super"  # without it the code has no cell for the class, and can't be swapped
    first = lines[node.lineno - 1][: node.col_offset] + instead + "\n"
    blank = ["\n"] * (node.end_lineno - node.lineno)
    return "".join([*lines[: node.lineno - 1], first, *blank, *lines[node.end_lineno :]])


def _functions_by_line(source: str) -> dict[int, str]:
    """The innermost function's name of each line in a function's body."""
    found: dict[int, str] = {}

    def walk(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{name}.{child.name}".lstrip(".")
                if not isinstance(child, ast.ClassDef):
                    assert child.end_lineno is not None
                    for line in range(child.body[0].lineno, child.end_lineno + 1):
                        found[line] = inner
                walk(child, inner)
            else:
                walk(child, name)

    walk(ast.parse(source), "")
    return found
