"""How far a backup run has come: stored in S3 between two invocations of the function."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

from refunds.backup.digest import PREFIX, DataFile, StoredFile

if TYPE_CHECKING:
    from refunds.tables.wire import Wire

RUNS_PREFIX = f"{PREFIX}/runs/"

_PROGRESS_KEY = re.compile(
    re.escape(RUNS_PREFIX) + r"(\d{8}T\d{6}Z)/(\d{4})-progress\.json", re.ASCII
)


@dataclass
class Segment:
    """One segment of a parallel scan. ``last_key`` is the last key in an uploaded file."""

    number: int
    last_key: Wire | None = None
    done: bool = False


@dataclass
class TableProgress:
    """What is stored of one table's export."""

    source: str
    table_arn: str
    table_id: str | None
    export_id: str
    root: str
    started_at: str
    """In the format of ``export_format.milliseconds``."""
    plain_size: int = 0
    segments: list[Segment] = field(default_factory=list)
    files: list[DataFile] = field(default_factory=list)
    manifest_lines: list[dict[str, Any]] = field(default_factory=list)
    manifests: list[StoredFile] = field(default_factory=list)
    native_arn: str | None = None
    finished: bool = False

    @property
    def item_count(self) -> int:
        return sum(file.item_count for file in self.files)


@dataclass
class RunProgress:
    """A run, and the number of the invocation (``step``) that works on it."""

    name: str
    """``YYYYMMDDTHHMMSSZ``"""
    started_at: str
    step: int = 0
    tables: list[TableProgress] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        day = f"{self.name[:4]}/{self.name[4:6]}/{self.name[6:8]}"
        return f"{PREFIX}/{day}/{self.name}"

    @property
    def claim_key(self) -> str:
        return f"{RUNS_PREFIX}{self.name}/{self.step:04d}.json"

    @property
    def progress_key(self) -> str:
        return f"{RUNS_PREFIX}{self.name}/{self.step:04d}-progress.json"

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> RunProgress:
        """Raises ``ValueError``, ``KeyError`` or ``TypeError`` for anything else."""
        payload = json.loads(content)
        tables = [
            TableProgress(
                **table
                | {
                    "segments": [Segment(**each) for each in table["segments"]],
                    "files": [DataFile(**each) for each in table["files"]],
                    "manifests": [StoredFile(**each) for each in table["manifests"]],
                }
            )
            for table in payload["tables"]
        ]
        return cls(**payload | {"tables": tables})


def is_progress_key(key: object) -> TypeGuard[str]:
    """Whether a key has the format of ``RunProgress.progress_key``."""
    return isinstance(key, str) and _PROGRESS_KEY.fullmatch(key) is not None
