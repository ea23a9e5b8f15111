"""The local stack's payment gateway: the sandbox in a background process, or the user's own."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from http import HTTPStatus

import urllib3

from refunds_devkit.local.processes import Started, is_running, start, wait_until
from refunds_devkit.local.running import last_lines
from refunds_devkit.local.workspace import Workspace, plain_environment
from refunds_ops.errors import NotReadyError

APIS = ("flair", "stripe")
DEFAULT_API_KEY = "test_key"
START_SECONDS = 30.0
ANSWER_SECONDS = 15.0

_HTTP = urllib3.PoolManager(timeout=5, retries=False)


@dataclass(frozen=True)
class External:
    """A gateway that the user runs, from GATEWAY_URL and GATEWAY_API_KEY."""

    url: str
    api_key: str


def api_key() -> str:
    return os.environ.get("GATEWAY_API_KEY") or DEFAULT_API_KEY


def external_gateway() -> External | None:
    """The gateway that the environment names instead of the sandbox."""
    url = os.environ.get("GATEWAY_URL", "").rstrip("/")
    if not url:
        return None
    if not url.startswith(("http://", "https://")):
        raise NotReadyError(
            f"GATEWAY_URL={url} is not an http or https URL.",
            "Correct it, or unset it to use the sandbox gateway.",
        )
    return External(url, api_key())


def gateway_name() -> str:
    """Whose API the gateway speaks, from GATEWAY. Raises ``NotReadyError``."""
    name = os.environ.get("GATEWAY") or APIS[0]
    if name not in APIS:
        raise NotReadyError(
            f"GATEWAY={name} is not a known gateway.", f"Choose one of: {', '.join(APIS)}."
        )
    return name


def start_sandbox(workspace: Workspace, port: int, api: str, *, reset: bool) -> Started:
    """Start the sandbox gateway without waiting; see ``wait_for_gateway``."""
    # What `refunds-dev sandbox-gateway` runs, without the rest of the command line.
    run = "from refunds_devkit.sandbox.command import sandbox_gateway; sandbox_gateway()"
    command = [sys.executable, "-c", run, "--api", api, "--port", str(port)]
    command += ["--database", str(workspace.folder / "gateway.sqlite3"), "--api-key", api_key()]
    if reset:
        command.append("--reset")
    return start(command, plain_environment({}), workspace.log("gateway"))


def gateway_problem(url: str, key: str) -> str | None:
    """What is wrong with the gateway, or None if it responds as its contract says."""
    try:
        answer = _HTTP.request(
            "GET",
            f"{url}/v1/payments/readiness-check",
            headers={"Authorization": f"Bearer {key}"},
        )
    except urllib3.exceptions.HTTPError as exc:
        return f"it cannot be reached ({type(exc).__name__})"
    if answer.status in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
        return None
    if answer.status == HTTPStatus.UNAUTHORIZED:
        return "it refuses the API key (401); GATEWAY_API_KEY is the one to use"
    return f"it responds with {answer.status} to GET /v1/payments/readiness-check"


def wait_for_sandbox(workspace: Workspace, process: Started, url: str) -> None:
    """Returns once it responds. Raises ``NotReadyError``."""
    key = api_key()
    wait_until(lambda: not gateway_problem(url, key) or not is_running(process), START_SECONDS)
    wrong = gateway_problem(url, key) if is_running(process) else "it exited immediately"
    if wrong is None:
        return
    log = workspace.log("gateway")
    raise NotReadyError(
        f"The sandbox gateway did not start: {wrong}.",
        *last_lines(log),
        "Run it again; a port may have been taken meanwhile.",
        f"Log: {log}",
    )


def wait_for_external(gateway: External) -> None:
    """Returns once it answers. Raises ``NotReadyError``."""
    if wait_until(lambda: gateway_problem(gateway.url, gateway.api_key) is None, ANSWER_SECONDS):
        return
    raise NotReadyError(
        f"The gateway at GATEWAY_URL={gateway.url} cannot be used: "
        f"{gateway_problem(gateway.url, gateway.api_key)}.",
        "Start it first, or unset GATEWAY_URL to use the sandbox gateway.",
    )
