"""Faults made by a tool: what is made, what brings it to life, and the list of those that live."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import FunctionType

import pytest
from tests.simulator.fault_code import codes_in, infect, observe, original_code, statement_at
from tests.simulator.fault_making import Fault, faults_of
from tests.simulator.fault_memory import Memory
from tests.simulator.mutate import known_survivors

from refunds.domain import money
from refunds.domain.money import Money

SURVIVORS = known_survivors()
MONEY = Path("src/refunds/domain/money.py")


@pytest.mark.parametrize("key", SURVIVORS)
def test_a_listed_survivor_is_a_line_of_its_file_and_has_a_reason(key: str) -> None:
    place, _, change = key.partition(": ")
    path, _, function = place.partition(" ")
    was, arrow, _ = change.partition(" -> ")
    source = Path(path).read_text()
    assert arrow
    assert was in [line.strip() for line in source.splitlines()]
    assert f"def {function.rpartition('.')[2]}(" in source
    assert SURVIVORS[key]


def test_each_fault_is_another_one_and_in_a_function() -> None:
    made = faults_of(MONEY, Random(1), 100)
    assert len(made) > 10
    assert len({fault.digest for fault in made}) == len(made)
    assert all(fault.function.startswith("Money.") and fault.was != fault.instead for fault in made)


def test_a_smaller_sample_of_a_seed_is_part_of_a_larger_one() -> None:
    few, more = (faults_of(MONEY, Random(7), count) for count in (4, 8))
    assert len(few) == 4
    assert set(few) < set(more)


@pytest.fixture
def restored() -> Iterator[None]:
    """Whatever code a test gives to ``Money``, it has its own again."""
    functions = [each for each in vars(Money).values() if isinstance(each, FunctionType)]
    codes = [each.__code__ for each in functions]
    yield
    for function, code in zip(functions, codes, strict=True):
        function.__code__ = code


@pytest.mark.usefixtures("restored")
def test_a_fault_comes_to_life_in_what_was_imported_before() -> None:
    source = MONEY.read_text()
    code = source.replace('sign = "-"', 'sign = "+"')
    line = source[: source.index('sign = "-"')].count("\n") + 1
    fault = Fault(str(MONEY), "ours", line, "Money.__str__", "", "", code, "")
    assert infect(fault)
    assert str(Money(-1, "USD")).startswith("+")


@pytest.mark.usefixtures("restored")
def test_the_statements_that_a_test_runs_are_seen() -> None:
    ran: set[str] = set()
    observe(str(MONEY), ran.add)
    str(Money(-1, "USD"))
    lines = MONEY.read_text().splitlines()
    reached = next(number for number, line in enumerate(lines, 1) if 'sign = "-"' in line)
    assert statement_at(str(MONEY), reached) in ran
    vars(money).pop("__statement_ran__")


def _memory(folder: Path, **fingerprints: str) -> Memory:
    return Memory(fingerprints, folder / "faults.jsonl")


def test_a_caught_fault_stays_caught_while_its_test_is_there(tmp_path: Path) -> None:
    fault, other = faults_of(MONEY, Random(1), 2)
    _memory(tmp_path, one="1", two="2").caught(fault, "one")
    later = _memory(tmp_path, one="3")
    assert (later.caught_by(fault), later.caught_by(other)) == ("one", None)
    assert (later.was_tried(fault), later.was_tried(other)) == (True, False)
    assert _memory(tmp_path, two="2").caught_by(fault) is None


def test_a_fault_that_lives_meets_only_tests_that_are_new_or_changed(tmp_path: Path) -> None:
    fault, other = faults_of(MONEY, Random(1), 2)
    tests = ["one", "two", "three"]
    first = _memory(tmp_path, one="1", two="2", three="3")
    first.passed(fault, ["one"])
    first.passed(fault, ["two"])
    later = _memory(tmp_path, one="1", two="changed", three="3")
    assert later.not_met(fault, tests) == ["two", "three"]
    assert later.not_met(other, tests) == tests
    assert later.was_tried(fault)


@pytest.mark.parametrize("path", ["processing/queue.py", "gateways/http.py"])
def test_a_call_of_the_base_class_can_be_left_out(path: str) -> None:
    """Python refuses code that has no cell for the class where there was one."""
    source = Path("src/refunds") / path
    left_out = [each for each in faults_of(source, Random(1), None) if "super()" in each.was]
    assert left_out
    for fault in left_out:
        before = original_code(fault.path)
        changed = compile(fault.code, fault.path, "exec")
        name = fault.function
        cells = [
            code.co_freevars
            for (qualname, _), code in [*before.items(), *codes_in(changed)]
            if qualname == name
        ]
        assert len(cells) >= 2
        assert len(set(cells)) == 1


def test_comments_and_docstrings_make_no_other_fault(tmp_path: Path) -> None:
    source = tmp_path / "module.py"

    def digests(explained: str, least: int) -> set[str]:
        source.write_text(f'def f(x):\n{explained}    return x in {{"a", "b"}} and x > {least}\n')
        return {each.digest for each in faults_of(source, Random(1), None)}

    before = digests('    """Says a lot."""\n', 1)
    assert before == digests('    """Less."""\n    # why\n', 1) == digests("", 1)
    assert before != digests("", 5)
