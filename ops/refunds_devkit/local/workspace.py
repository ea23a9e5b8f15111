"""The folder a local stack lives in (.local), and the record of what was started there."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from refunds_devkit.local.processes import Started
from refunds_ops.errors import NotReadyError

PROJECT = Path(__file__).resolve().parents[3]
"""The repository: this package is always installed in place."""


@dataclass(frozen=True)
class Record:
    """What `up` has started so far, and its addresses: enough to stop it or to use it again."""

    emulator: Started | None = None
    emulator_port: int = 0
    gateway: Started | None = None
    gateway_name: str = "flair"
    gateway_url: str = ""
    relay: Started | None = None
    container_host: str = ""
    """The name or address under which a container reaches this machine."""
    ready: bool = False

    @property
    def started(self) -> dict[str, Started]:
        parts = {"emulator": self.emulator, "gateway": self.gateway, "relay": self.relay}
        return {name: process for name, process in parts.items() if process}


@dataclass(frozen=True)
class Workspace:
    folder: Path

    @property
    def stack_env(self) -> Path:
        return self.folder / "stack.env"

    @property
    def sam_env(self) -> Path:
        return self.folder / "sam-env.json"

    @property
    def build(self) -> Path:
        return self.folder / "build"

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    @property
    def scratch(self) -> Path:
        """Temporary files of the emulator and of the functions that run in it."""
        return self.folder / "tmp"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lets only one command at a time start or stop the stack. Raises ``NotReadyError``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise NotReadyError(
                    f"Another command is starting or stopping the stack in {self.folder}.",
                    "Wait until it has finished.",
                ) from None
            yield

    def record(self) -> Record | None:
        """The record of what was started, or None."""
        try:
            values = json.loads(self._record.read_text())
            for part in ("emulator", "gateway", "relay"):
                values[part] = Started(**values[part]) if values.get(part) else None
            return Record(**values)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as exc:
            raise NotReadyError(
                f"{self._record} cannot be read: {exc}",
                "Find what still runs (ps aux | grep -e ministack -e sandbox-gateway), stop it, "
                f"and delete {self.folder}.",
            ) from exc

    def save(self, record: Record) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._record, json.dumps(asdict(record), indent=1) + "\n")

    def forget(self) -> None:
        for file in (self.stack_env, self.sam_env, self._record):
            file.unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        return self.folder / "stack.json"


def write_whole(path: Path, text: str) -> None:
    """Replaces the file at once: no reader sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(text)
    part.replace(path)


def plain_environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without the user's AWS account, plus ``more``.

    A local stack must never reach AWS, whatever profile or endpoint is configured.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    loopback = {"127.0.0.1", "localhost"}
    unproxied = {name for name in os.environ.get("NO_PROXY", "").split(",") if name}
    return (
        kept
        | {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": ",".join(sorted(unproxied | loopback)),
            "no_proxy": ",".join(sorted(unproxied | loopback)),
        }
        | dict(more)
    )
