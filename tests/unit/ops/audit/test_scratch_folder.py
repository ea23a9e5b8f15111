"""`verify`'s temporary folder goes away however the command ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from refunds_ops.audit.row_store import RowStore
from refunds_ops.audit.scratch_folder import scratch_folder
from refunds_ops.audit.suspects import suspect_refunds

HOLDER = (
    "import sys\n"
    "from refunds_ops.audit.row_store import RowStore\n"
    "with RowStore() as store:\n"
    "    print(store.path, flush=True)\n"
    "    sys.stdin.read()\n"
)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, with a name that SQL has to quote."""
    folder = tmp_path / "o'neill"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@contextmanager
def other_process() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process that has its rows stored, and where."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip()).parent
        process.kill()


def test_any_name_of_the_temporary_folder_will_do(temporary: Path) -> None:
    with RowStore() as store:
        store.index()
        assert store.path.is_relative_to(temporary)
        assert suspect_refunds(store.path, None, None).count == 0
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_deleted_by_the_next(temporary: Path) -> None:
    with other_process() as (process, left):
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        assert (left / "rows.db").exists()
    with RowStore() as store:
        assert list(temporary.iterdir()) == [store.path.parent]


def test_the_folder_of_a_process_that_still_runs_stays(temporary: Path) -> None:
    with other_process() as (_, folder):
        with RowStore() as store:
            assert {*temporary.iterdir()} == {store.path.parent, folder}
        assert (folder / "rows.db").exists()


def test_only_folders_with_the_prefix_are_deleted(temporary: Path) -> None:
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (temporary / "refunds-rows-link").symlink_to(elsewhere)
    (temporary / "refunds-rows-abandoned").mkdir()
    with scratch_folder("refunds-rows-"):
        pass
    assert {each.name for each in temporary.iterdir()} == {"elsewhere", "refunds-rows-link"}
