"""``python -m tests.simulator.mutate``: faults made by a tool, against a fast suite.

cosmic-ray's operators make the faults (comparisons, booleans, numbers, conditions), and two of our
own that it lacks: a statement left out, and a result not returned. Each fault lives in a process of
its own, forked after the tests are collected: the functions' code is swapped, then the tests run
until one fails. The unit tests of the module come first, the scripted histories after them.

A fault that no test notices has survived. ``survivors.txt`` lists those that do no harm, each with
its reason; any other one makes the command fail.
"""

from __future__ import annotations
import __future__

import argparse
import ast
import contextlib
import importlib
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import CodeType, FunctionType
from typing import Any

import parso
import pytest
from cosmic_ray.ast import ast_nodes  # type: ignore[import-untyped]
from cosmic_ray.mutating import mutate_code  # type: ignore[import-untyped]
from cosmic_ray.plugins import get_operator  # type: ignore[import-untyped]

SOURCE = Path("src/refunds")
FOLDERS = ("processing", "tables", "gateways", "domain")
MORE_FILES = ("audit/writer.py",)
SCRIPTED = ("tests/simulator/scripted",)
MORE_TESTS = {"domain/intake.py": "tests/unit/breaker", "domain/limits.py": "tests/unit/processing"}
"""Folders that have tests of a file, beside its own package's."""

SURVIVORS = Path(__file__).with_name("survivors.txt")
UNUSED = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:terminal")
"""Plugins that a forked test has no use for."""

LEAST_CAUGHT = 0.95
MAX_CPU_SECONDS = 240
"""For the tests of one fault: several times what they need. One that makes them loop is caught."""

MAX_SECONDS = 1800
"""The same for one that makes them wait, on a machine that is busy."""

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
    """``line``: its number. ``was`` and ``instead``: the line before and after."""

    path: str
    operator: str
    line: int
    was: str
    instead: str
    code: str

    def key(self) -> str:
        return f"{self.path}: {self.was} -> {self.instead}"


# --- making faults --------------------------------------------------------------------------------


def faults_of(path: Path, dice: Random, most: int | None) -> list[Fault]:
    """Some of a file's faults, or all of them."""
    source = path.read_text()
    places: list[tuple[str, Any]] = [("ours", each) for each in _left_out(source)]
    tree = list(ast_nodes(parso.parse(source)))  # type: ignore[no-untyped-call]
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        count = sum(len(list(operator.mutation_positions(node))) for node in tree)
        places += [(name, number) for number in range(count)]
    if most is not None and len(places) > most:
        places = dice.sample(places, most)
    made = [_fault(path, source, name, what) for name, what in places]
    return [each for each in made if each is not None]


def _left_out(source: str) -> Iterator[str]:
    """The source without one of its statements, or with one result that is not returned."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        if call or isinstance(node, ast.AugAssign | ast.Raise):
            assert isinstance(node, ast.stmt)
            yield _replaced(lines, node, "pass")
        elif isinstance(node, ast.Return) and not (
            node.value is None or (isinstance(node.value, ast.Constant) and not node.value.value)
        ):
            yield _replaced(lines, node, "return None")


def _replaced(lines: list[str], node: ast.stmt, instead: str) -> str:
    assert node.end_lineno is not None
    first = lines[node.lineno - 1][: node.col_offset] + instead + "\n"
    blank = ["\n"] * (node.end_lineno - node.lineno)
    return "".join([*lines[: node.lineno - 1], first, *blank, *lines[node.end_lineno :]])


def _fault(path: Path, source: str, name: str, what: Any) -> Fault | None:
    code = what if name == "ours" else mutate_code(source, get_operator(f"core/{name}")(), what)
    if code is None or ast.dump(ast.parse(source)) == ast.dump(ast.parse(code)):
        return None
    if ast.unparse(ast.parse(code)).replace("/,", "*,") == ast.unparse(ast.parse(source)):
        return None  # the mark of keyword arguments, taken for a product
    before, after = source.splitlines(), code.splitlines()
    line = next(n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b)
    return Fault(str(path), name, line + 1, before[line].strip(), after[line].strip(), code)


# --- having them live -----------------------------------------------------------------------------


def infect(fault: Fault) -> bool:
    """Swap the code of the functions that the fault changes; False when it changes none."""
    name = ".".join(Path(fault.path).relative_to("src").with_suffix("").parts)
    module = importlib.import_module(name)
    flags = __future__.annotations.compiler_flag
    changed = compile(fault.code, fault.path, "exec", flags, dont_inherit=True)
    original = compile(Path(fault.path).read_text(), fault.path, "exec", flags, dont_inherit=True)
    before, after = dict(_codes(original)), dict(_codes(changed))
    swapped = False
    for function in _functions(module):
        place = (function.__code__.co_qualname, function.__code__.co_firstlineno)
        if place in after and place in before and before[place] != after[place]:
            function.__code__ = after[place]
            swapped = True
    return swapped


def _codes(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield (constant.co_qualname, constant.co_firstlineno), constant
            yield from _codes(constant)


def _functions(module: Any) -> Iterator[FunctionType]:
    for value in vars(module).values():
        for found in (value, *(vars(value).values() if isinstance(value, type) else ())):
            function = getattr(found, "fget", None) or getattr(found, "__func__", found)
            function = getattr(function, "__wrapped__", function)
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                yield function


# --- hunting them ---------------------------------------------------------------------------------


class Hunt:
    """A pytest plugin: the collected tests run once for each fault, in a fork.

    ``check``: first without any fault, since tests that fail anyway would catch all.
    """

    def __init__(self, path: Path, faults: Sequence[Fault], ends: float, *, check: bool) -> None:
        self.path = path
        self.check = check
        self.faults = faults
        self.ends = ends
        self.caught = 0
        self.unchanged = 0
        self.survived: list[Fault] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """The module's own tests first: they notice most faults at once."""
        own = self.path.stem
        items.sort(key=lambda item: (own not in item.path.stem, "simulator" in item.path.parts))

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if self.faults and self.check and self._fails(session, None):
            raise pytest.UsageError("the tests fail without any fault")
        for fault in self.faults:
            if time.monotonic() > self.ends:
                break
            match self._fails(session, fault):
                case None:
                    self.unchanged += 1
                case True:
                    self.caught += 1
                case False:
                    self.survived.append(fault)
        return True

    def _fails(self, session: pytest.Session, fault: Fault | None) -> bool | None:
        """Whether a test fails; None when the fault is in no function."""
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))
            os._exit(_verdict(session, fault))
        ends = time.monotonic() + MAX_SECONDS
        while time.monotonic() < ends:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return {0: False, 2: None}.get(os.waitstatus_to_exitcode(status), True)
            time.sleep(0.01)  # for another process
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return True


def _verdict(session: pytest.Session, fault: Fault | None) -> int:
    """0: all tests pass; 1: one fails; 2: nothing was changed."""
    with Path(os.devnull).open("w") as silence:
        os.dup2(silence.fileno(), 1)
        os.dup2(silence.fileno(), 2)
    with contextlib.suppress(BaseException):
        if fault is not None and not infect(fault):
            return 2
        items = session.items
        for number, item in enumerate(items):
            following = items[number + 1] if number + 1 < len(items) else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                return 1
        return 0
    return 1


def hunt(path: Path, faults: Sequence[Fault], ends: float, *, check: bool) -> Hunt:
    plugin = Hunt(path, faults, ends, check=check)
    unit = Path("tests/unit") / path.relative_to(SOURCE).parent
    more = MORE_TESTS.get(path.relative_to(SOURCE).as_posix())
    tests = [*([str(unit)] if unit.is_dir() else []), *([more] if more else []), *SCRIPTED]
    options = [*("-o", "addopts=", "-m", "not long"), *UNUSED]
    with contextlib.redirect_stdout(sys.stderr):
        code = pytest.main([*options, *tests], plugins=[plugin])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise SystemExit(f"{path}: pytest ended with {code!s}; run these tests by themselves")
    return plugin


def known_survivors() -> dict[str, str]:
    """Reasons by key: in the file, a line for the key and an indented one for its reason."""
    known: dict[str, str] = {}
    key = ""
    for line in SURVIVORS.read_text().splitlines():
        if line.startswith("    ") and key:
            known[key] = (known.get(key, "") + " " + line.strip()).strip()
        elif line and not line.startswith("#"):
            key = line
    return known


def main() -> int:
    """Returns 0 when at least 95 % were caught and each survivor is listed, else 1."""
    parser = argparse.ArgumentParser(prog="mutate", description=__doc__)
    parser.add_argument("--files", nargs="*", help="such as processing/settler.py; default: all")
    parser.add_argument("--each", type=int, default=5, help="faults of each file; 0 for all (5)")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument("--seconds", type=float, default=3600)
    asked = parser.parse_args()
    files = [SOURCE / each for each in asked.files or ()] or _all_files()
    known, ends = known_survivors(), time.monotonic() + asked.seconds
    caught, survived, checked = 0, list[Fault](), set[Path]()
    for path in files:
        if time.monotonic() > ends:
            print(f"{path}: not run, the time is up")
            continue
        faults = faults_of(path, Random(asked.seed), asked.each or None)
        found = hunt(path, faults, ends, check=path.parent not in checked)
        checked.add(path.parent)
        caught += found.caught
        survived += found.survived
        print(
            f"{path}: {found.caught} caught, {len(found.survived)} survived, "
            f"{found.unchanged} in no function's code",
            flush=True,
        )
    return _judge(caught, survived, known)


def _judge(caught: int, survived: list[Fault], known: dict[str, str]) -> int:
    run = caught + len(survived)
    unlisted = sum(fault.key() not in known for fault in survived)
    for fault in survived:
        why = known.get(fault.key(), "NOT LISTED")
        print(f"survived: line {fault.line}, {fault.operator}\n  {fault.key()}\n      {why}")
    share = caught / run if run else 1.0
    print(f"{caught} of {run} faults caught ({share:.1%}); {unlisted} survivors are not listed")
    return int(share < LEAST_CAUGHT or unlisted > 0)


def _all_files() -> list[Path]:
    found = [
        path
        for folder in FOLDERS
        for path in sorted((SOURCE / folder).glob("*.py"))
        if path.name != "__init__.py"
    ]
    return [*found, *(SOURCE / each for each in MORE_FILES)]


if __name__ == "__main__":
    sys.exit(main())
