"""How containers of `sam local invoke` reach the local stack.

A container doesn't see this machine's 127.0.0.1. With Docker Desktop it sees the same ports under
host.docker.internal; on Linux a relay has to listen on the engine's bridge address for it.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from urllib.parse import urlsplit

from refunds_ops.local.processes import Started, start, wait_until
from refunds_ops.local.workspace import Workspace, plain_environment
from refunds_ops.stack import OUTPUTS, Stack

DESKTOP_HOST = "host.docker.internal"
ENGINE_SECONDS = 20.0
RELAY_SECONDS = 10.0

_LOOPBACK_NAMES = {"127.0.0.1", "localhost", "::1"}


def engine_runs() -> bool:
    """Whether a container engine answers (Docker, or what takes its commands)."""
    return _docker("version", "--format", "{{.Server.Version}}") is not None


def container_host() -> str:
    """The name or address under which a container reaches this machine."""
    if sys.platform != "linux":
        return DESKTOP_HOST
    found = _docker("network", "inspect", "bridge", "--format", "{{json .IPAM.Config}}")
    try:
        addresses = [
            each["Gateway"] for each in json.loads(found or "[]") if "." in each["Gateway"]
        ]
    except (ValueError, TypeError, KeyError):
        addresses = []
    for address in addresses:
        if _is_here(address):
            return str(address)
    return DESKTOP_HOST


def start_relay(workspace: Workspace, host: str, ports: list[int]) -> Started | None:
    """Start the relay, where one is needed; None where there is no bridge to listen on."""
    if host == DESKTOP_HOST:
        return None
    command = [sys.executable, "-m", "refunds_ops.local.relay", host, *map(str, ports)]
    process = start(command, plain_environment({}), workspace.log("relay"))
    wait_until(lambda: all(_connects(host, port) for port in ports), RELAY_SECONDS)
    return process


def loopback_port(url: str) -> int | None:
    """The port of a URL on this machine's loopback interface; None for any other URL."""
    parts = urlsplit(url)
    if parts.hostname not in _LOOPBACK_NAMES:
        return None
    return parts.port or (443 if parts.scheme == "https" else 80)


def from_container(url: str, host: str) -> str:
    """``url`` as a container has to write it."""
    if loopback_port(url) is None:
        return url
    parts = urlsplit(url)
    return parts._replace(netloc=f"{host}:{loopback_port(url)}").geturl()


def container_variables(stack: Stack, gateway_url: str, host: str) -> dict[str, str]:
    """The functions' environment for a container, by the names that template.yaml declares."""
    names = {
        "REFUNDS_TABLE": "RefundsTableName",
        "LEDGER_TABLE": "LedgerTableName",
        "AUDIT_TABLE": "AuditTableName",
        "REFUND_QUEUE_URL": "RefundQueueUrl",
        "DEAD_LETTER_QUEUE_URL": "RefundDeadLetterQueueUrl",
        "EVENT_BUS_NAME": "EventBusName",
        "FAILURES_BUCKET": "FailuresBucketName",
        "BACKUP_BUCKET": "BackupBucketName",
        "GATEWAY_SECRET_ARN": "GatewaySecretArn",
    }
    assert set(names.values()) <= {*OUTPUTS, "GatewaySecretArn"}
    return {
        **{name: from_container(stack[output], host) for name, output in names.items()},
        "STAGE": "local",
        "GATEWAY_URL": from_container(gateway_url, host),
        "AWS_ENDPOINT_URL": from_container(stack.settings["AWS_ENDPOINT_URL"], host),
    }


def _docker(*arguments: str) -> str | None:
    """A command's output; None when there is no engine or it fails."""
    docker = shutil.which("docker")
    if docker is None:
        return None
    try:
        return subprocess.run(
            [docker, *arguments],
            capture_output=True,
            text=True,
            timeout=ENGINE_SECONDS,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _is_here(address: str) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            return False
    return True


def _connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
