"""Makes faults in a file: cosmic-ray's operators, and three of our own.

cosmic-ray lacks: a statement left out, a result that is not returned, and a change of an attribute
or of a key left out.
"""

from __future__ import annotations

import ast
import gzip
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import parso
from cosmic_ray.ast import ast_nodes  # type: ignore[import-untyped]
from cosmic_ray.mutating import mutate_code  # type: ignore[import-untyped]
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
    the line before and after."""

    path: str
    operator: str
    line: int
    function: str
    was: str
    instead: str
    code: str

    def key(self) -> str:
        """Names the fault without a line number, which the next edit would change."""
        return f"{self.path} {self.function}: {self.was} -> {self.instead}"

    def digest(self) -> str:
        return sha256(f"{self.path}\n{self.code}".encode()).hexdigest()[:20]


KEPT = Path(".local/mutate/faults")


def faults_of(path: Path, dice: Random, most: int | None) -> list[Fault]:
    """Some of a file's faults, or all of them, which are kept until the file changes."""
    if most is not None:
        return _make(path, dice, most)
    made_by = path.read_bytes() + Path(__file__).read_bytes()
    kept = KEPT / f"{sha256(made_by).hexdigest()[:32]}.json.gz"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        made = [asdict(each) for each in _make(path, dice, None)]
        kept.write_bytes(gzip.compress(json.dumps(made).encode(), 1))
    return [Fault(**each) for each in json.loads(gzip.decompress(kept.read_bytes()))]


def _make(path: Path, dice: Random, most: int | None) -> list[Fault]:
    """Each changes a function, and each is made once."""
    source = path.read_text()
    places: list[tuple[str, Any]] = [("ours", each) for each in _left_out(source)]
    tree = list(ast_nodes(parso.parse(source)))  # type: ignore[no-untyped-call]
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        count = sum(len(list(operator.mutation_positions(node))) for node in tree)
        places += [(name, number) for number in range(count)]
    dice.shuffle(places)
    functions = _functions_by_line(source)
    made: dict[str, Fault] = {}
    for name, what in places:
        if most is not None and len(made) >= most:
            break
        fault = _fault(path, source, name, what)
        if fault is not None and (function := functions.get(fault.line)):
            fault = replace(fault, function=function)
            made.setdefault(fault.digest(), fault)
    return sorted(made.values(), key=lambda fault: fault.line)


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
    first = lines[node.lineno - 1][: node.col_offset] + instead + "\n"
    blank = ["\n"] * (node.end_lineno - node.lineno)
    return "".join([*lines[: node.lineno - 1], first, *blank, *lines[node.end_lineno :]])


def _fault(path: Path, source: str, name: str, what: Any) -> Fault | None:
    code = what if name == "ours" else mutate_code(source, get_operator(f"core/{name}")(), what)
    try:
        tree = ast.parse(code or source)
    except SyntaxError:
        return None  # cosmic-ray writes `not name := …` without parentheses
    unchanged = _dump(source)
    if ast.dump(tree) == unchanged:
        return None
    if name == "ReplaceBinaryOperator_Mul_Div" and ast.dump(_keyword_only(code)) == unchanged:
        return None  # the mark of keyword arguments, taken for a product
    before, after = source.splitlines(), code.splitlines()
    line = next(n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b)
    return Fault(
        path=str(path),
        operator=name,
        line=line + 1,
        function="",
        was=before[line].strip(),
        instead=after[line].strip(),
        code=code,
    )


@cache
def _dump(source: str) -> str:
    return ast.dump(ast.parse(source))


def _keyword_only(code: str) -> ast.AST:
    return ast.parse(ast.unparse(ast.parse(code)).replace("/,", "*,"))


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
