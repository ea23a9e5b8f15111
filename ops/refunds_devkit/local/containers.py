"""How containers of `sam local invoke` reach the local stack.

A container cannot reach this machine's 127.0.0.1. With Docker Desktop it reaches the same ports
under host.docker.internal. On Linux, a relay listens for it on the engine's bridge address.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
import socket
import subprocess
import sys
from urllib.parse import urlsplit

from refunds_devkit.local.processes import Started, start, wait_until
from refunds_devkit.local.workspace import Workspace, plain_environment
from refunds_ops.stack.outputs import FUNCTIONS
from refunds_ops.stack.stack import Stack

DESKTOP_HOST = "host.docker.internal"
ENGINE_SECONDS = 20.0
RELAY_SECONDS = 10.0

_LOOPBACK_NAMES = {"127.0.0.1", "localhost", "::1"}


def engine_runs() -> bool:
    """Whether Docker, or an engine with the same commands, is running."""
    return _docker("version", "--format", "{{.Server.Version}}") is not None


def container_host() -> str:
    """The name or address under which a container reaches this machine."""
    if sys.platform != "linux":
        return DESKTOP_HOST
    found = _docker("network", "inspect", "bridge", "--format", "{{json .IPAM.Config}}")
    for network in json.loads(found or "[]"):
        # Some versions do not report their own address. It is then the network's first.
        subnet = ipaddress.ip_network(network["Subnet"])
        address = network.get("Gateway") or str(subnet[1])
        if isinstance(subnet, ipaddress.IPv4Network) and _is_here(address):
            return str(address)
    return DESKTOP_HOST


def start_relay(workspace: Workspace, host: str, ports: list[int]) -> Started | None:
    """Start the relay if one is needed. Returns None if there is no bridge to listen on."""
    if host == DESKTOP_HOST:
        return None
    command = [sys.executable, "-m", "refunds_devkit.local.relay", host, *map(str, ports)]
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
    """``url`` as it works inside a container."""
    if loopback_port(url) is None:
        return url
    parts = urlsplit(url)
    return parts._replace(netloc=f"{host}:{loopback_port(url)}").geturl()


def container_variables(stack: Stack, host: str) -> dict[str, dict[str, str]]:
    """The environment of each function's container, by the function's logical id."""
    found = {}
    for logical_id in FUNCTIONS:
        configuration = stack.functions.get_function_configuration(
            FunctionName=stack[f"{logical_id}FunctionName"]
        )
        # AWS does not set this variable. template.yaml declares it so that it can be set here.
        variables = {"AWS_ENDPOINT_URL": stack.settings["AWS_ENDPOINT_URL"]}
        variables |= configuration.get("Environment", {}).get("Variables", {})
        found[logical_id] = {
            name: from_container(value, host) if "://" in value else value
            for name, value in variables.items()
        }
    return found


def _docker(*arguments: str) -> str | None:
    """A command's output, or None if there is no engine or the command fails."""
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
