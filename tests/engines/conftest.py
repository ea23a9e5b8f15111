"""Real engines and emulators, each started once for a module's tests, on a port of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3

from refunds_devkit.local.ports import free_port

ROOT = Path(__file__).parents[2]
EMULATOR_PYTHON = os.environ.get("EMULATOR_PYTHON", str(ROOT / ".venv-emulator/bin/python"))
DYNAMODB_LOCAL = ROOT / ".local" / "tools" / "dynamodb-local-2.5.4"
DYNALITE = ROOT / ".local" / "tools" / "dynalite-4.0.0"
REGION = "eu-central-1"
START_SECONDS = 60
DOWNLOAD_SECONDS = 600


@pytest.fixture(scope="module")
def credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        yield


@pytest.fixture(scope="module")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an emulator that keeps nothing."""
    if not Path(EMULATOR_PYTHON).exists():
        pytest.skip("no .venv-emulator: run it through make test-engines")
    folder, port = tmp_path_factory.mktemp("ministack"), free_port()
    environment = {name: value for name, value in os.environ.items() if "PYTHON" not in name} | {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "PERSIST_STATE": "0",
        "TMPDIR": str(folder),
        "STATE_DIR": str(folder / "state"),
        "S3_DATA_DIR": str(folder / "s3"),
        # So many requests: its log would be most of its work.
        "LOG_LEVEL": "WARNING",
    }
    url = f"http://127.0.0.1:{port}"
    with running(
        [EMULATOR_PYTHON, "-m", "ministack"], folder, f"{url}/_ministack/health", environment
    ):
        yield url


@pytest.fixture(scope="module")
def dynamodb_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of AWS's own DynamoDB Local, in memory; fetched once with Maven."""
    java, maven = shutil.which("java"), shutil.which("mvn")
    if java is None or (maven is None and not DYNAMODB_LOCAL.exists()):
        pytest.skip("DynamoDB Local needs Java 17, and Maven to fetch it")
    if not DYNAMODB_LOCAL.exists():
        fetched = DYNAMODB_LOCAL.with_suffix(".new")
        subprocess.run(
            [
                str(maven),
                "--quiet",
                "--batch-mode",
                f"--file={Path(__file__).parent / 'dynamodb-local.xml'}",
                "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
                f"-DoutputDirectory={fetched}",
            ],
            check=True,
            timeout=DOWNLOAD_SECONDS,
        )
        fetched.rename(DYNAMODB_LOCAL)
    folder, port = tmp_path_factory.mktemp("dynamodb-local"), free_port()
    command = [
        java,
        "-Xmx3g",
        f"-Djava.library.path={DYNAMODB_LOCAL}",
        "-cp",
        f"{DYNAMODB_LOCAL}/*",
        "com.amazonaws.services.dynamodbv2.local.main.ServerRunner",
        "-inMemory",
        "-port",
        str(port),
    ]
    url = f"http://127.0.0.1:{port}"
    with running(command, folder, url, dict(os.environ)):
        yield url


@pytest.fixture(scope="module")
def dynalite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of dynalite, which keeps its tables on disk in LevelDB; fetched once with npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or (npm is None and not DYNALITE.exists()):
        pytest.skip("dynalite needs Node.js, and npm to fetch it")
    if not DYNALITE.exists():
        fetched = DYNALITE.with_suffix(".new")
        subprocess.run(
            [str(npm), "install", "--silent", "--prefix", str(fetched), "dynalite@4.0.0"],
            check=True,
            timeout=DOWNLOAD_SECONDS,
        )
        fetched.rename(DYNALITE)
    folder, port = tmp_path_factory.mktemp("dynalite"), free_port()
    command = [
        str(node),
        str(DYNALITE / "node_modules/dynalite/cli.js"),
        *("--host", "127.0.0.1", "--port", str(port), "--path", str(folder / "tables")),
        *("--createTableMs", "0", "--deleteTableMs", "0"),
    ]
    url = f"http://127.0.0.1:{port}"
    with running(command, folder, url, dict(os.environ)):
        yield url


@contextmanager
def running(
    command: list[str], folder: Path, health: str, environment: dict[str, str]
) -> Iterator[None]:
    """A process, from when ``health`` answers anything until the end of the block."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        try:
            _wait_for(health, process)
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    http = urllib3.PoolManager(timeout=2, retries=False)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            http.request("GET", address)
            return
        except urllib3.exceptions.HTTPError:
            time.sleep(0.1)
    raise AssertionError(f"{address} does not answer")
