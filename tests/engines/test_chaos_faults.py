"""The faults of a chaos run do what they say, and end."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from tests.chaos import invariants as checks
from tests.chaos.invariants import full_disk
from tests.chaos.toxics import Proxies
from tests.support.engines import servers
from tests.support.engines.disk import can_mount, small_disk
from tests.support.engines.fixtures import started
from tests.support.engines.pollers import InvocationError

from refunds_devkit.local.ports import LOOPBACK


@pytest.fixture
def two_servers() -> Iterator[list[str]]:
    """Their URLs. Each answers with its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(str(self.connection.getsockname()[1]).encode())

        def log_message(self, *_: object) -> None:
            pass

    running = [ThreadingHTTPServer((LOOPBACK, 0), Handler) for _ in range(2)]
    for server in running:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield [f"http://{LOOPBACK}:{server.server_port}" for server in running]
    for server in running:
        server.shutdown()
        server.server_close()


def test_a_redirected_proxy_goes_elsewhere_until_it_is_mended(
    two_servers: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    own, other = two_servers
    with started(servers.toxiproxy, tmp_path_factory) as api:
        proxies = Proxies(api, {"DYNAMODB": own})

        def reached() -> str:
            port = urllib3.request("GET", proxies.urls["DYNAMODB"]).data.decode()
            return f"http://{LOOPBACK}:{port}"

        assert reached() == own
        proxies.redirect("DYNAMODB", other)
        assert reached() == other
        proxies.mend()
        assert reached() == own


@pytest.mark.skipif(not can_mount(), reason="only root on Linux may mount a disk")
def test_a_full_disk_takes_no_byte_until_it_is_freed(tmp_path: Path) -> None:
    with small_disk(tmp_path, mib=3) as disk:
        before = tmp_path / "before"
        before.write_bytes(b"kept")
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "more").write_bytes(b"x")
        disk.free()
        (tmp_path / "more").write_bytes(b"x" * 1_000_000)
        assert before.read_bytes() == b"kept"
    assert not list(tmp_path.iterdir())


class Backups:
    """A stack whose backup works or fails, and a disk."""

    def __init__(self, *, fails: bool, publishes: bool) -> None:
        self._fails = fails
        self._publishes = publishes
        self.published: list[str] = []
        self.is_full = False
        self.functions = {"BackupRefunds": self}
        pages = SimpleNamespace(paginate=self._pages)
        s3 = SimpleNamespace(get_paginator=lambda name: pages)
        self.stack = _Outputs(s3)

    def _pages(self, **_: str) -> list[Any]:
        return [{"Contents": [{"Key": key} for key in self.published]}]

    def invoke(self, event: Any) -> None:
        assert self.is_full
        if self._publishes:
            self.published.append("digest")
        if self._fails:
            raise InvocationError

    def fill(self) -> None:
        self.is_full = True

    def free(self) -> None:
        self.is_full = False


class _Outputs(dict[str, str]):
    def __init__(self, s3: Any) -> None:
        super().__init__(BackupBucketName="bucket", FailuresBucketName="failures")
        self.s3 = s3


@pytest.mark.parametrize(
    ("fails", "publishes", "invariants"),
    [
        (True, False, []),
        (True, True, ["I7"]),
        (False, False, ["I9"]),
        (False, True, ["I7", "I9"]),
    ],
)
def test_a_backup_that_ignores_a_full_disk_is_named(
    *, fails: bool, publishes: bool, invariants: list[str]
) -> None:
    running: Any = Backups(fails=fails, publishes=publishes)
    assert [each.split()[0] for each in full_disk(running, running)] == invariants
    assert not running.is_full


@pytest.mark.parametrize(
    ("kept", "alarm", "status", "invariants"),
    [
        (0, False, 1, []),
        (4, True, 0, []),
        (4, False, 0, ["I9"]),
        (4, True, 1, ["I4"]),
    ],
)
def test_records_that_are_kept_need_an_alarm_and_a_replay_that_works(
    *,
    kept: int,
    alarm: bool,
    status: int,
    invariants: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics = {"KeptAuditRecords": [float(kept)]} if alarm else {"ReconcilerRuns": [1.0]}
    monkeypatch.setattr(checks, "_reconciler_metrics", lambda running: metrics)
    done = SimpleNamespace(returncode=status, stderr="")
    monkeypatch.setattr(checks, "_operate", lambda running, *arguments: done)
    s3 = SimpleNamespace(list_objects_v2=lambda **_: {"KeyCount": kept})
    running: Any = SimpleNamespace(stack=_Outputs(s3))
    assert [each.split()[0] for each in checks.replay_kept_records(running)] == invariants
