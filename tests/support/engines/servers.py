"""Starts each engine on a free port of the loopback interface, and stops it again."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import urllib3
from tests.support.engines import tools

from refunds_devkit.local.ports import LOOPBACK, free_port

START_SECONDS = 120
STOP_SECONDS = 30
REGION = "us-east-1"
EMULATOR_PYTHON = Path(os.environ.get("EMULATOR_PYTHON", tools.ROOT / ".venv-emulator/bin/python"))


@contextmanager
def running(
    command: list[str], folder: Path, health: str, environment: Mapping[str, str]
) -> Iterator[None]:
    """A process, from when ``health`` responds until the end of the block."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
            # Ctrl-C is for the run, which still needs its engines to end well.
            process_group=0,
        )
        try:
            _wait_for(health, process, folder / "log")
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    http = urllib3.PoolManager(timeout=2, retries=False)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            http.request("GET", address)
            return
        except urllib3.exceptions.HTTPError:
            time.sleep(0.1)
    raise AssertionError(f"{address} does not respond. Its log:\n{log.read_text()[-2000:]}")


@contextmanager
def dynoxide(folder: Path, database: Path | None = None) -> Iterator[str]:
    """DynamoDB and its streams: in memory, or in a SQLite file."""
    port = free_port()
    command = [str(tools.dynoxide()), "serve", "--host", LOOPBACK, "--port", str(port)]
    if database:
        command += ["--db-path", str(database)]
    url = f"http://{LOOPBACK}:{port}"
    with running(command, folder, url, os.environ):
        if database:
            _index_streams(database)
        yield url


def _index_streams(database: Path) -> None:
    """Without it, dynoxide reads all of a stream at each write to it (docs/engines.md)."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(
            "CREATE INDEX stream_position"
            " ON _stream_records (table_name, CAST(sequence_number AS INTEGER))"
        )


@contextmanager
def elasticmq(folder: Path) -> Iterator[str]:
    """SQS, in memory."""
    port = free_port()
    # In a folder of its own: the JVM compiles the launcher beside nothing else.
    launcher = Path(shutil.copy(Path(__file__).parent / "ElasticMq.java", folder))
    command = [
        *(tools.java(), "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
        *("-cp", f"{tools.elasticmq()}/*", str(launcher), str(port), REGION),
    ]
    url = f"http://{LOOPBACK}:{port}"
    with running(command, folder, f"{url}/health", os.environ):
        yield url


@contextmanager
def dynalite(folder: Path) -> Iterator[str]:
    """DynamoDB without streams, its tables on disk."""
    node = tools.require("node", "dynalite", "apt-get install nodejs, or https://nodejs.org")
    port = free_port()
    command = [
        *(node, str(tools.dynalite()), "--host", LOOPBACK, "--port", str(port)),
        *("--path", str(folder / "tables"), "--createTableMs", "0", "--deleteTableMs", "0"),
    ]
    url = f"http://{LOOPBACK}:{port}"
    with running(command, folder, url, os.environ):
        yield url


@contextmanager
def versitygw(folder: Path, access: str = "test", secret: str = "test") -> Iterator[str]:
    """S3 with versioning, its buckets as folders."""
    port = free_port()
    for name in ("buckets", "versions"):
        (folder / name).mkdir()
    command = [
        *(str(tools.versitygw()), "--port", f"{LOOPBACK}:{port}", "--region", REGION),
        *("--access", access, "--secret", secret, "--quiet"),
        *("posix", "--sidecar", str(folder / "sidecar"), "--versioning-dir"),
        *(str(folder / "versions"), str(folder / "buckets")),
    ]
    (folder / "sidecar").mkdir()
    url = f"http://{LOOPBACK}:{port}"
    with running(command, folder, url, os.environ):
        yield url


@contextmanager
def local_kms(folder: Path) -> Iterator[str]:
    """KMS, its keys in a folder."""
    port = free_port()
    command = [str(tools.local_kms()), f"{LOOPBACK}:{port}", REGION, str(folder / "keys")]
    url = f"http://{LOOPBACK}:{port}"
    with running(command, folder, url, os.environ):
        yield url


@contextmanager
def toxiproxy(folder: Path) -> Iterator[str]:
    """A TCP proxy that breaks connections on request. Yields its API's URL."""
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    command = [str(tools.toxiproxy()), "-host", LOOPBACK, "-port", str(port)]
    with running(command, folder, f"{url}/version", os.environ):
        yield url


@contextmanager
def stripe_mock(folder: Path) -> Iterator[str]:
    """Stripe's own mock of its API."""
    port = free_port()
    # Otherwise it serves HTTPS as well, on a port of its own choice.
    command = [str(tools.stripe_mock()), "-http-addr", f"{LOOPBACK}:{port}"]
    url = f"http://{LOOPBACK}:{port}"
    with running(command, folder, url, os.environ):
        yield url


@contextmanager
def sandbox_gateway(folder: Path) -> Iterator[str]:
    """The sandbox gateway in a process of its own, so that it shares no interpreter lock."""
    port = free_port()
    command = [
        *(str(Path(sys.executable).parent / "refunds-dev"), "sandbox-gateway", "--no-seed"),
        *("--host", LOOPBACK, "--port", str(port), "--database", ":memory:"),
    ]
    url = f"http://{LOOPBACK}:{port}"
    with running(command, folder, f"{url}/_sandbox/health", os.environ):
        yield url


@contextmanager
def ministack(folder: Path) -> Iterator[str]:
    """An emulator of the rest of AWS, that keeps nothing."""
    if not EMULATOR_PYTHON.exists():
        raise tools.MissingToolchainError("MiniStack needs .venv-emulator: make emulator")
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if "PYTHON" not in name} | {
        "BIND_HOST": LOOPBACK,
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "PERSIST_STATE": "0",
        "TMPDIR": str(folder),
        "STATE_DIR": str(folder / "state"),
        "S3_DATA_DIR": str(folder / "s3"),
        # Its log would cost more than the requests.
        "LOG_LEVEL": "WARNING",
    }
    url = f"http://{LOOPBACK}:{port}"
    with running(
        [str(EMULATOR_PYTHON), "-m", "ministack"], folder, f"{url}/_ministack/health", environment
    ):
        yield url
