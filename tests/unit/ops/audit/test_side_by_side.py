"""`verify` with worker processes finds what it finds alone, or says that it could not."""

from __future__ import annotations

import json
import os
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support import worker_tasks
from tests.support.audit_rows import Trail
from tests.support.tampering import change

from refunds_ops.audit import side_by_side, verify
from refunds_ops.audit.side_by_side import (
    WORKERS_FROM_ITEMS,
    WorkerDiedError,
    WorkerHungError,
    Workers,
    WorkerTaskError,
    readers,
    worker_count,
)
from refunds_ops.errors import ENVIRONMENT


def tamper(trail: Trail) -> None:
    """In every way that a different part of `verify` finds, and some of them often."""
    for number in range(12):
        trail.paid(f"many-{number:02d}", f"p-{number % 3}", 1 + number)
    trail.deliver()
    trail.clock.advance(hours=3)
    for number in (1, 3, 4, 8):
        trail.drop_entry(f"many-{number:02d}", 1)
    change(trail, "r1", 2, processed_by="operator:mallory")
    change(trail, "many-05", 2, entry_id="REFUND#many-05#x")
    trail.edit_refund("many-09", amount_minor=2**70)
    trail.edit_refund("many-10", transaction_id="p-0")
    trail.edit_ledger("p-1", remaining=10**9)
    trail.edit_ledger("p-2", **{"r#nobody": 5, "r#nobody-2": 6})


def found(trail: Trail, **more: Any) -> str:
    return json.dumps(trail.verify(**more).as_json())


def test_any_number_of_workers_finds_the_same(
    trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    tamper(trail)
    alone = found(trail)
    assert len(json.loads(alone)["findings"]) > 10
    assert found(trail, workers=3) == alone
    few = found(trail, max_findings=3)
    assert found(trail, workers=2, max_findings=3) == few

    monkeypatch.setattr(verify, "STORIES_AT_ONCE", 2)
    monkeypatch.setattr(verify, "LEDGERS_AT_ONCE", 1)
    assert found(trail, workers=2) == alone


def test_a_worker_that_dies_ends_verify_with_an_error(
    trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "page_rows", worker_tasks.die_at_the_audit_trail)
    with pytest.raises(WorkerDiedError, match="exit status 9 before its work was done") as died:
        trail.verify(workers=2)
    assert died.value.status == ENVIRONMENT
    assert "--workers 1" in died.value.to_do[0]


def test_a_worker_that_dies_over_the_suspects_ends_verify_with_an_error(
    trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "suspect_refunds", worker_tasks.die)
    with pytest.raises(WorkerDiedError):
        trail.verify(workers=2)


def test_a_worker_that_hangs_ends_verify_with_an_error(
    trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "page_rows", worker_tasks.hang_at_the_audit_trail)
    monkeypatch.setattr(verify, "Workers", partial(Workers, task_seconds=3))
    with pytest.raises(WorkerHungError, match="did not answer within 3 seconds") as hung:
        trail.verify(workers=2)
    assert hung.value.status == ENVIRONMENT
    assert "--workers 1" in hung.value.to_do[0]


def test_an_item_that_nobody_checked_is_an_error(
    trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "page_rows", worker_tasks.lose_an_item)
    with pytest.raises(RuntimeError, match="audit: 9 items were scanned, and 8 were checked"):
        trail.verify()


def test_results_come_in_order() -> None:
    tasks = [(0.3, "first"), (0.0, "second"), (0.0, "third")]
    with Workers(3) as workers:
        assert list(workers.map(worker_tasks.same_after, tasks)) == ["first", "second", "third"]


def test_an_error_in_a_worker_is_raised_with_its_traceback() -> None:
    with Workers(2) as workers:
        with pytest.raises(WorkerTaskError, match="ValueError: no such thing"):
            list(workers.map(worker_tasks.print_and_raise, [("no such thing",)]))
        [other] = workers.map(worker_tasks.process_id, [()])
    assert other != os.getpid()


def test_one_worker_is_this_process() -> None:
    with Workers(1) as workers:
        assert list(workers.map(worker_tasks.process_id, [()])) == [os.getpid()]


def test_no_process_is_left_behind() -> None:
    with Workers(2) as workers:
        [process] = set(workers.map(worker_tasks.process_id, [()]))
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_suspects_are_read_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=10)

    def read(number: int) -> int:
        both.wait()
        return number

    with readers(2) as read_all:
        assert list(read_all(read, [1, 2])) == [1, 2]


def test_few_items_need_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "_processors", lambda: 8)
    assert worker_count(None, WORKERS_FROM_ITEMS - 1) == 1
    assert worker_count(None, WORKERS_FROM_ITEMS) == side_by_side.DEFAULT_WORKERS
    assert worker_count(6, 10) == 6
    monkeypatch.setattr(side_by_side, "_processors", lambda: 2)
    assert worker_count(None, 10**9) == 2


def test_a_worker_imports_nothing_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit(7)\n")
    monkeypatch.chdir(tmp_path)
    with Workers(2) as workers:
        assert len(list(workers.map(worker_tasks.process_id, [()]))) == 1
