"""MiniStack, the AWS emulator, as a background process on the loopback interface."""

from __future__ import annotations

import platform
import re
from http import HTTPStatus

import urllib3

from refunds_devkit.local.ports import LOOPBACK
from refunds_devkit.local.processes import Started, is_running, start, wait_until
from refunds_devkit.local.running import last_lines
from refunds_devkit.local.workspace import PROJECT, Workspace, plain_environment
from refunds_ops.errors import NotReadyError

PYTHON = PROJECT / ".venv-emulator/bin/python"
REGION = "us-east-1"
START_SECONDS = 60.0

_HTTP = urllib3.PoolManager(timeout=2, retries=False)


def endpoint(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"


def aws_settings(port: int) -> dict[str, str]:
    """What an AWS client needs to reach the emulator instead of AWS."""
    return {
        "AWS_ENDPOINT_URL": endpoint(port),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
    }


def start_emulator(workspace: Workspace, port: int) -> Started:
    """Start without waiting; see ``wait_for_emulator``. Raises ``NotReadyError``."""
    if not PYTHON.exists():
        raise NotReadyError("There is no .venv-emulator.", "Create it and start the stack: make up")
    workspace.scratch.mkdir(parents=True, exist_ok=True)
    environment = plain_environment(
        {
            # By default it listens on every interface, without a password.
            "BIND_HOST": LOOPBACK,
            "MINISTACK_HOST": LOOPBACK,
            "GATEWAY_PORT": str(port),
            # Otherwise it also listens on port 8883.
            "IOT_MTLS_ENABLED": "0",
            "MINISTACK_REGION": REGION,
            # Never in containers, even with Docker: they cannot reach the loopback interface.
            "LAMBDA_EXECUTOR": "local",
            "PERSIST_STATE": "0",
            "TMPDIR": str(workspace.scratch),
            "STATE_DIR": str(workspace.folder / "state"),
            "S3_DATA_DIR": str(workspace.folder / "s3"),
            "PYTHONUNBUFFERED": "1",
            # Each worker has its own copy of the package, so nobody would read its compiled files.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
    )
    for name in ("PYTHONPATH", "SERVICES", "EDGE_PORT", "USE_SSL"):
        environment.pop(name, None)
    return start([PYTHON, "-m", "ministack"], environment, workspace.log("emulator"))


def is_healthy(port: int) -> bool:
    try:
        return _HTTP.request("GET", f"{endpoint(port)}/_ministack/health").status == HTTPStatus.OK
    except urllib3.exceptions.HTTPError:
        return False


def wait_for_emulator(workspace: Workspace, process: Started, port: int) -> None:
    """Returns once it responds. Raises ``NotReadyError`` if it exits or takes too long."""
    wait_until(lambda: is_healthy(port) or not is_running(process), START_SECONDS)
    if is_running(process) and is_healthy(port):
        return
    log = workspace.log("emulator")
    ended = "ended at once" if not is_running(process) else f"did not respond on port {port}"
    raise NotReadyError(
        f"The emulator {ended}.",
        *last_lines(log),
        "Run it again; a port may have been taken meanwhile. If it fails again, recreate it:",
        "  rm -rf .venv-emulator && make up",
        f"Log: {log}",
    )


def runtime() -> str:
    """The Lambda runtime of the emulator's own interpreter, on which the functions run."""
    config = (PROJECT / ".venv-emulator/pyvenv.cfg").read_text()
    version = re.search(r"^version(?:_info)?\s*=\s*(3\.\d+)", config, re.MULTILINE)
    if version is None:
        raise NotReadyError(
            ".venv-emulator does not say which Python it has.", "rm -rf .venv-emulator && make up"
        )
    return f"python{version.group(1)}"


def architecture() -> str:
    """This machine's architecture by Lambda's name. Raises ``NotReadyError`` if Lambda lacks it."""
    known = {"x86_64": "x86_64", "amd64": "x86_64", "arm64": "arm64", "aarch64": "arm64"}
    machine = platform.machine().lower()
    if machine not in known:
        raise NotReadyError(
            f"Lambda has no {machine} processors, so the functions cannot run here.",
            "Use a machine with an x86-64 or a 64-bit ARM processor.",
        )
    return known[machine]
