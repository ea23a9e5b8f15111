"""Starts and stops the local stack: emulator, gateway, template, and the files with its addresses.

Each process is recorded immediately after its start, so `down` always finds it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from botocore.exceptions import BotoCoreError, ClientError

from refunds_devkit.local import containers
from refunds_devkit.local.deployment import build, build_parameters, deploy
from refunds_devkit.local.emulator import (
    aws_settings,
    is_healthy,
    start_emulator,
    wait_for_emulator,
)
from refunds_devkit.local.gateway import (
    api_key,
    external_gateway,
    gateway_name,
    start_sandbox,
    wait_for_external,
    wait_for_sandbox,
)
from refunds_devkit.local.ports import LOOPBACK, chosen_port
from refunds_devkit.local.processes import is_running, stop, undisturbed
from refunds_devkit.local.readiness import wait_until_ready
from refunds_devkit.local.workspace import Record, Workspace, write_whole
from refunds_devkit.precompile import precompile
from refunds_ops.errors import NotReadyError
from refunds_ops.stack.stack import OUTPUTS, Stack, read_stack_env


class Progress(Protocol):
    """Shows the steps of a long command."""

    @contextmanager
    def step(self, doing: str, done: str) -> Iterator[None]: ...

    def note(self, text: str) -> None: ...


def up(
    workspace: Workspace,
    progress: Progress,
    *,
    for_containers: bool = True,
    parameters: Mapping[str, str] = {},
) -> Stack:
    """Start the stack, or the missing parts of it. Returns once the stack can process a message.

    ``for_containers``: also let `sam local invoke`'s containers reach it. ``parameters``: further
    ones of a stack that is deployed now. Raises ``NotReadyError``.
    """
    with workspace.locked():
        record = workspace.record()
        if record and record.ready and (stack := _use_again(workspace, record, progress)):
            return stack
        if record:
            progress.note("Removing what an earlier start left.")
            _clear(workspace, record)
        try:
            return _start(workspace, progress, for_containers=for_containers, parameters=parameters)
        except BaseException:
            # Half a stack is of no use. Its logs stay.
            _stop_all(workspace)
            raise


def down(workspace: Workspace) -> list[str]:
    """Stop what `up` started, and only that, and remove its data. Returns the names of what ran."""
    if not workspace.folder.exists():
        return []
    with workspace.locked():
        stopped = _stop_all(workspace)
        # The build stays; the next build overwrites it.
        shutil.rmtree(workspace.scratch, ignore_errors=True)
        for file in workspace.folder.glob("gateway.sqlite3*"):
            file.unlink(missing_ok=True)
        return stopped


def stack_of(workspace: Workspace) -> Stack:
    """The running stack. Raises ``NotReadyError``."""
    if not workspace.stack_env.is_file():
        raise NotReadyError(f"No stack is running in {workspace.folder}.", "Start it: make up")
    return read_stack_env(workspace.stack_env)


def _start(
    workspace: Workspace,
    progress: Progress,
    *,
    for_containers: bool,
    parameters: Mapping[str, str],
) -> Stack:
    external = external_gateway()
    record = Record(emulator_port=chosen_port("EMULATOR_PORT"), gateway_name=gateway_name())
    if external:
        record = replace(record, gateway_url=external.url)
    else:
        port = chosen_port("SANDBOX_PORT")
        record = replace(record, gateway_url=f"http://{LOOPBACK}:{port}")

    with progress.step("Starting the emulator and the gateway", "Emulator and gateway run"):
        with undisturbed():
            emulator = start_emulator(workspace, record.emulator_port)
            record = _saved(workspace, replace(record, emulator=emulator))
        if external:
            wait_for_external(external)
        else:
            with undisturbed():
                gateway = start_sandbox(workspace, port, record.gateway_name, reset=True)
                record = _saved(workspace, replace(record, gateway=gateway))
            wait_for_sandbox(workspace, gateway, record.gateway_url)
        wait_for_emulator(workspace, emulator, record.emulator_port)

    with progress.step("sam build", "template.yaml built"):
        build(workspace, build_parameters(), workspace.build)
        precompile(workspace.build)
    with progress.step("sam deploy to the emulator", "template.yaml deployed"):
        stack = deploy(
            workspace, record.emulator_port, record.gateway_name, record.gateway_url, parameters
        )
        _put_key(stack)
    with progress.step("Sending a probe through the queue", "Messages are processed"):
        wait_until_ready(stack, workspace, record.gateway_url)

    if for_containers:
        record = _open_to_containers(workspace, record)
    write_files(workspace, record, stack)
    _saved(workspace, replace(record, ready=True))
    return read_stack_env(workspace.stack_env)


def _use_again(workspace: Workspace, record: Record, progress: Progress) -> Stack | None:
    """The running stack, or None. Restarts the gateway and the relay if only these have exited."""
    assert record.emulator is not None
    if not (is_running(record.emulator) and is_healthy(record.emulator_port)):
        progress.note("The emulator has exited, and the stack with it.")
        return None
    if os.environ.get("GATEWAY") and (name := gateway_name()) != record.gateway_name:
        raise NotReadyError(
            f"The stack runs with the gateway {record.gateway_name}, not {name}.",
            "Restart it: make down up   (or unset GATEWAY to keep it)",
        )
    if (external := external_gateway()) and external.url != record.gateway_url:
        raise NotReadyError(
            f"The stack runs with the gateway {record.gateway_url}, not {external.url}.",
            "Restart it: make down up   (or unset GATEWAY_URL to keep it)",
        )
    if record.gateway and not is_running(record.gateway):
        with progress.step("Starting the gateway again", "The gateway runs again"):
            port = containers.loopback_port(record.gateway_url)
            assert port is not None
            with undisturbed():
                gateway = start_sandbox(workspace, port, record.gateway_name, reset=False)
                record = _saved(workspace, replace(record, gateway=gateway))
            wait_for_sandbox(workspace, gateway, record.gateway_url)
    stack = read_stack_env(workspace.stack_env)
    record = _open_to_containers(workspace, record)
    write_files(workspace, record, stack)
    wait_until_ready(stack, workspace, record.gateway_url)
    progress.note("The stack is already running. After a change of code or template: make down up")
    return stack


def _open_to_containers(workspace: Workspace, record: Record) -> Record:
    host = containers.container_host()
    if record.relay and is_running(record.relay) and host == record.container_host:
        return record
    if record.relay:
        stop(record.relay)
    ports = [record.emulator_port]
    if gateway_port := containers.loopback_port(record.gateway_url):
        ports.append(gateway_port)
    with undisturbed():
        relay = containers.start_relay(workspace, host, ports)
        return _saved(workspace, replace(record, relay=relay, container_host=host))


def write_files(workspace: Workspace, record: Record, stack: Stack) -> None:
    """`.local/stack.env` for shells, `.local/sam-env.json` for `sam local invoke --env-vars`."""
    values = {
        **aws_settings(record.emulator_port),
        "GATEWAY_URL": record.gateway_url,
        **{name: stack[name] for name in OUTPUTS},
        **{name: value for name, value in stack.outputs.items() if name[:1].isupper()},
    }
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in values.items()]
    write_whole(workspace.stack_env, "".join(lines))
    host = record.container_host or containers.DESKTOP_HOST
    variables = containers.container_variables(stack, host)
    write_whole(workspace.sam_env, json.dumps(variables, indent=2) + "\n")


def _put_key(stack: Stack) -> None:
    try:
        stack.secrets.put_secret_value(SecretId=stack["GatewaySecretArn"], SecretString=api_key())
    except (ClientError, BotoCoreError) as exc:
        raise NotReadyError(f"The gateway's key could not be stored: {exc}") from exc


def _saved(workspace: Workspace, record: Record) -> Record:
    workspace.save(record)
    return record


def _stop_all(workspace: Workspace) -> list[str]:
    record = workspace.record()
    if record is None:
        return []
    return _clear(workspace, record)


def _clear(workspace: Workspace, record: Record) -> list[str]:
    # The emulator first: its functions call the gateway.
    with undisturbed():
        stopped = [name for name, process in record.started.items() if stop(process)]
        workspace.forget()
    return stopped
