"""`refunds console`: where it listens, and what it says when it can't."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest
from tests.support.command_line import Refunds
from tests.support.console import served
from tests.support.moto_stack import REGION, Stack
from tests.support.operators_stack import operators_stack, outputs
from tests.support.world import World

from refunds_console import server


@pytest.fixture
def refunds(
    capsys: pytest.CaptureFixture[str], stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> Refunds:
    monkeypatch.setenv("AWS_REGION", REGION)
    for name, value in outputs(stack).items():
        monkeypatch.setenv(name, value)
    return Refunds(capsys)


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Instead of serving: the address that it would serve at."""
    found: list[Any] = []

    def serve(stack: Any, listening: socket.socket, *, allow_changes: bool, on_ready: Any) -> None:
        found.append(listening.getsockname())
        on_ready("http://127.0.0.1/enter?token=t")
        listening.close()

    monkeypatch.setattr(server, "serve", serve)
    return found


def test_it_listens_on_this_machine_only(refunds: Refunds, bound: list[Any]) -> None:
    ran = refunds("console", "--port", "0")
    assert ran.status == 0
    assert "http://127.0.0.1/enter?token=t" in ran.out
    assert "Read-only" in ran.err
    assert [host for host, _ in bound] == ["127.0.0.1"]


def test_programs_can_read_the_address(refunds: Refunds, bound: list[Any]) -> None:
    ran = refunds("console", "--allow-changes", "--port", "0", "--json")
    assert ran.json == {"url": "http://127.0.0.1/enter?token=t", "changes": True}


def test_a_taken_port_is_named_or_another_is_taken(refunds: Refunds, bound: list[Any]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = refunds("console", "--port", str(port))
    assert ran.status == 3
    assert f"Port {port} can't be used" in ran.err
    assert bound == []


def test_without_its_libraries_it_says_how_to_get_them(
    refunds: Refunds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "refunds_console.server", None)
    ran = refunds("console")
    assert ran.status == 3
    assert "pip install 'refunds[console]'" in ran.err


def test_it_serves_and_names_no_server(world: World) -> None:
    with served(operators_stack(world.stack)) as url:
        base = url.split("/enter")[0]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{base}/refunds", timeout=10)
        refused.value.close()
        assert refused.value.code == 401
        assert "server" not in refused.value.headers
        assert refused.value.headers["cache-control"] == "no-store"


INTERRUPTED_TWICE = """
import asyncio, os, signal, socket, threading
from starlette.applications import Starlette
from refunds_console.server import make_server

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

def ready():
    interrupt()
    threading.Timer(0.05, interrupt).start()

with socket.socket() as listening:
    listening.bind(("127.0.0.1", 0))
    try:
        asyncio.run(make_server(Starlette(), ready).serve(sockets=[listening]))
    except KeyboardInterrupt:
        pass
"""


def test_a_second_ctrl_c_prints_no_traceback() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_TWICE], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")
