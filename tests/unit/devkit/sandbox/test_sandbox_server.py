"""The server as a process: persistence, keep-alive, the command line, stopping."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import refunds_ops
from refunds_devkit.sandbox.command import sandbox_gateway
from refunds_devkit.sandbox.ledger import Ledger, NotOurDatabaseError
from refunds_devkit.sandbox.seeds import SEEDS
from refunds_devkit.sandbox.server import PortTakenError, SandboxGateway

if TYPE_CHECKING:
    from tests.support.flair_client import Flair

DEADLINE_SECONDS = 20
AUTHORIZED = {"Authorization": "Bearer test_key"}
OPS = str(Path(next(iter(refunds_ops.__path__))).parent)


@contextmanager
def command(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`refunds-dev sandbox-gateway` as a process, and the URL it prints."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from refunds_devkit.sandbox.command import sandbox_gateway; sandbox_gateway()",
            "--port",
            "0",
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": OPS, "COLUMNS": "80", "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found, process.communicate(timeout=DEADLINE_SECONDS)
        yield process, found[0]
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_SECONDS)


def get(url: str, path: str) -> int:
    with closing(
        http.client.HTTPConnection(url.removeprefix("http://"), timeout=DEADLINE_SECONDS)
    ) as line:
        line.request("GET", path, headers=AUTHORIZED)
        return line.getresponse().status


def hold(url: str) -> socket.socket:
    """A connection that the gateway holds after the money moved."""
    host, port = url.removeprefix("http://").split(":")
    line = socket.create_connection((host, int(port)), timeout=DEADLINE_SECONDS)
    body = b'{"transaction_id":"pay_timeout","amount":1,"currency":"USD","reference":"h"}'
    line.sendall(
        b"POST /v1/refunds HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test_key\r\n"
        b"Idempotency-Key: h\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    return line


def until_called(gateway: SandboxGateway) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not gateway.client.calls(reference="h"):
        assert time.monotonic() < deadline, "the call did not arrive"


def test_everything_survives_a_restart(own_flair: Flair) -> None:
    flair = own_flair
    payment = flair.new_payment(1000)
    flair.gateway.client.add_fault("declined", reference="later")
    flair.gateway.client.advance(3600)
    made = flair.refund(payment, 100, reference="kept", key="kept").body
    pending = flair.refund("pay_pending", 100).body
    for _ in range(2):
        assert flair.refund("pay_503").status == 503
    flair.gateway.stop()
    flair.gateway.start()
    assert flair.get_refund(made["id"]) == made
    again = flair.refund(payment, 100, reference="kept", key="kept")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert flair.refund(payment, 100, reference="later").status == 402
    assert flair.refund("pay_503").status == 201, "used up before the restart"
    assert flair.gateway.client.health()["offset_seconds"] == 3600
    flair.gateway.client.advance(10)
    assert flair.get_refund(pending["id"])["status"] == "succeeded"
    assert flair.money(payment) == [("out", 100)]


def test_nothing_committed_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    database = tmp_path / "new" / "ledger.sqlite3"
    with command("--database", str(database)) as (process, url), hold(url) as line:
        deadline = time.monotonic() + DEADLINE_SECONDS
        moved: list[tuple[str, int]] = []
        while ("h", 1) not in moved:
            assert time.monotonic() < deadline, "no money moved"
            with closing(sqlite3.connect(database)) as books:
                moved = books.execute("SELECT reference, amount FROM movements").fetchall()
        process.kill()
        assert line.recv(1) == b""
    with SandboxGateway(database) as gateway:
        assert len(gateway.client.movements(reference="h")) == 1


def test_a_call_that_ran_when_the_process_died_leaves_its_key_free(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    with ledger.transaction():
        ledger.keys.start("running", b"fingerprint")
    ledger.close()
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    assert ledger.keys.find("running") is None
    ledger.close()


def test_keep_alive_serves_many_requests_on_one_connection(flair: Flair) -> None:
    ports = set()
    address = flair.gateway.host, flair.gateway.port
    with closing(http.client.HTTPConnection(*address, timeout=DEADLINE_SECONDS)) as line:
        for path in ("/v1/payments/pay_full", "/v1/payments/nothing", "/v1/refunds?limit=0"):
            line.request("GET", path, headers=AUTHORIZED)
            line.getresponse().read()
            assert line.sock is not None
            ports.add(line.sock.getsockname())
    assert len(ports) == 1


def test_answers_do_not_wait_for_delayed_acknowledgements(flair: Flair) -> None:
    address = flair.gateway.host, flair.gateway.port
    started = time.monotonic()
    with closing(http.client.HTTPConnection(*address, timeout=DEADLINE_SECONDS)) as line:
        for _ in range(100):
            line.request("GET", "/v1/payments/pay_full", headers=AUTHORIZED)
            line.getresponse().read()
    # 40 ms each, four seconds in all, without TCP_NODELAY; a tenth of a second with it.
    assert time.monotonic() - started < 3


def test_stopping_does_not_wait_for_held_connections(tmp_path: Path) -> None:
    gateway = SandboxGateway(tmp_path / "ledger.sqlite3")
    gateway.start()
    with hold(gateway.url) as held:
        until_called(gateway)
        started = time.monotonic()
        gateway.stop()
        assert time.monotonic() - started < 2
        assert held.recv(1) == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_cleanly_with_a_held_connection(number: signal.Signals) -> None:
    with command("--database", ":memory:") as (process, url), hold(url) as line:
        assert get(url, "/v1/payments/pay_full") == 200
        started = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=DEADLINE_SECONDS)
        # A second is what is wanted; two leave room for a busy machine.
        assert time.monotonic() - started < 2
        assert (process.returncode, errors) == (0, "")
        assert line.recv(1) == b""


def test_the_command_shows_what_to_try(tmp_path: Path) -> None:
    with command("--database", str(tmp_path / "l.sqlite3"), "--reset") as (process, url):
        process.send_signal(signal.SIGINT)
        shown, _ = process.communicate(timeout=DEADLINE_SECONDS)
    for seed in SEEDS:
        assert seed.id in shown
    assert f"curl -X POST {url}/_sandbox/faults -d" in shown


def test_a_taken_port_is_told_and_exits_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SystemExit) as ended:
            sandbox_gateway.main(["--port", str(port), "--database", str(tmp_path / "l")])
        with pytest.raises(PortTakenError):
            SandboxGateway(port=port).start()
    assert ended.value.code == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert f"port {port}" in told.err
    assert "--port" in told.err
    assert not (tmp_path / "l").exists()


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite3"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE precious (x)")
    before = path.read_bytes()
    result = CliRunner().invoke(
        sandbox_gateway, ["--port", "0", "--database", str(path), "--reset"]
    )
    assert result.exit_code == 3
    assert path.read_bytes() == before
    (tmp_path / "text").write_text("not a database, but some text " * 100)
    with pytest.raises(NotOurDatabaseError):
        Ledger(tmp_path / "text")


def test_reset_forgets_everything(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with SandboxGateway(path) as gateway:
        gateway.client.add_payment("mine", 10)
        gateway.client.add_fault("declined")
        gateway.client.advance(3600)
    with command("--database", str(path), "--reset", "--no-seed") as (_, url):
        assert get(url, "/v1/payments/mine") == 404
        assert get(url, "/v1/payments/pay_full") == 404
    with SandboxGateway(path, seed=False) as gateway:
        assert gateway.client.health()["offset_seconds"] == 0
        assert gateway.client.faults() == []


def test_it_listens_on_the_loopback_interface_only(flair: Flair) -> None:
    assert flair.gateway.host == "127.0.0.1"
    listening = Path("/proc/net/tcp")
    if not listening.exists():
        pytest.skip("no /proc/net/tcp")
    port = f":{flair.gateway.port:04X}"
    addresses = [line.split()[1] for line in listening.read_text().splitlines()[1:]]
    local = [address for address in addresses if address.endswith(port)]
    assert local
    assert {address.split(":")[0] for address in local} == {"0100007F"}


def test_a_hundred_connections_at_once(flair: Flair) -> None:
    lines = [
        http.client.HTTPConnection(flair.gateway.host, flair.gateway.port, timeout=10)
        for _ in range(100)
    ]
    for line in lines:
        line.request("GET", "/v1/payments/pay_full", headers=AUTHORIZED)
    assert {line.getresponse().status for line in lines} == {200}
    for line in lines:
        line.close()


def test_stopping_gives_up_a_delayed_call_and_nothing_of_it_is_done(tmp_path: Path) -> None:
    gateway = SandboxGateway(tmp_path / "ledger.sqlite3")
    gateway.start()
    gateway.client.add_fault("delay", transaction_id="pay_timeout", seconds=60)
    with hold(gateway.url) as held:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while gateway.client.faults()[-1]["remaining"]:
            assert time.monotonic() < deadline, "the call did not arrive"
        gateway.stop()
        assert held.recv(1) == b""
    with gateway:
        assert gateway.client.movements(transaction_id="pay_timeout") == []
        with hold(gateway.url):
            until_called(gateway)
        assert len(gateway.client.movements(transaction_id="pay_timeout")) == 1
