"""Where backups are read from: the bucket, or a folder with files that were downloaded from it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from botocore.exceptions import ClientError

from refunds.backup.digest import PREFIX, DigestError
from refunds_ops.errors import NotReadyError
from refunds_ops.stack.stack import Stack

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

EVERYTHING = f"{PREFIX}/"
MAX_DIGEST_BYTES = 64 * 1024 * 1024
"""The largest digest, with about 190,000 data files of 32 MiB each."""

_ABSENT = frozenset({"NoSuchKey", "404", "MethodNotAllowed"})


class AbsentError(Exception):
    """There is no such object."""


@dataclass(frozen=True)
class Stored:
    """An existing object: its key, and its size in bytes."""

    key: str
    size: int


@dataclass(frozen=True)
class Version:
    """One version of an object; a delete marker hides those before it."""

    key: str
    version_id: str
    is_latest: bool
    is_delete_marker: bool


class BackupStorage(Protocol):
    @property
    def bucket(self) -> str | None:
        """The bucket's name; None for a folder, which may come from any bucket."""
        ...

    def list(self, prefix: str = EVERYTHING) -> Iterator[Stored]:
        """The objects below ``refund-backups/``: all of them, or those that begin with
        ``prefix``."""
        ...

    def open(self, key: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Raises ``AbsentError``."""
        ...

    def signature(self, key: str) -> str | None:
        """The signature in an object's metadata, in hex; None without one."""
        ...

    def versions(self) -> Iterator[Version]:
        """All versions below ``refund-backups/``; a folder has none."""
        ...


def read(storage: BackupStorage, key: str) -> bytes | None:
    """A digest's or a signature's bytes; None when there is none. Raises ``DigestError`` for an
    object that is larger than either can be, because anything may be stored under its key."""
    try:
        with storage.open(key) as body:
            content = body.read(MAX_DIGEST_BYTES + 1)
    except AbsentError:
        return None
    if len(content) > MAX_DIGEST_BYTES:
        raise DigestError(f"{key} is larger than a digest of {MAX_DIGEST_BYTES // 1024**2} MiB")
    return content


class Bucket:
    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    @property
    def bucket(self) -> str | None:
        return self._bucket

    def list(self, prefix: str = EVERYTHING) -> Iterator[Stored]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix
        )
        for page in pages:
            for found in page.get("Contents", []):
                yield Stored(found["Key"], found["Size"])

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[IO[bytes]]:
        try:
            body = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"]
        except ClientError as exc:
            if exc.response["Error"]["Code"] in _ABSENT:
                raise AbsentError(key) from exc
            raise
        with contextlib.closing(body):
            yield body  # type: ignore[misc]  # it reads like a file

    def signature(self, key: str) -> str | None:
        try:
            head = self._s3.head_object(Bucket=self._bucket, Key=key)
        except ClientError as exc:
            if exc.response["Error"]["Code"] in _ABSENT:
                return None
            raise
        return head["Metadata"].get("signature")

    def versions(self) -> Iterator[Version]:
        pages = self._s3.get_paginator("list_object_versions").paginate(
            Bucket=self._bucket, Prefix=EVERYTHING
        )
        for page in pages:
            for found in page.get("Versions", []):
                yield Version(found["Key"], found["VersionId"], found["IsLatest"], False)
            for marker in page.get("DeleteMarkers", []):
                yield Version(marker["Key"], marker["VersionId"], marker["IsLatest"], True)


class Folder:
    """Made by ``aws s3 sync s3://<bucket>/refund-backups FOLDER`` or one level higher."""

    def __init__(self, path: Path) -> None:
        """Raises ``NotADirectoryError`` when there are no digests in it."""
        self._root = path
        self._prefix = ""
        if not (path / PREFIX).is_dir():
            self._prefix = f"{PREFIX}/"
            if not (path / "digests").is_dir():
                raise NotADirectoryError(f"{path} has neither {PREFIX}/ nor digests/")

    @property
    def bucket(self) -> str | None:
        return None

    def list(self, prefix: str = EVERYTHING) -> Iterator[Stored]:
        start = self._root if self._prefix else self._root / PREFIX
        for path in sorted(start.rglob("*")):
            key = self._prefix + path.relative_to(self._root).as_posix()
            if key.startswith(prefix) and path.is_file():
                yield Stored(key, path.stat().st_size)

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[IO[bytes]]:
        path = self._root / key.removeprefix(self._prefix)
        # A digest's keys come from outside, so none may lead out of the folder.
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise AbsentError(key)
        try:
            with path.open("rb") as body:
                yield body
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as exc:
            raise AbsentError(key) from exc

    def signature(self, key: str) -> str | None:
        return None

    def versions(self) -> Iterator[Version]:
        return iter(())


def backup_storage(stack: Stack, folder: Path | None) -> BackupStorage:
    """The stack's bucket, or a folder with downloaded backups. Raises ``NotReadyError``."""
    if folder is None:
        return Bucket(stack.s3, stack["BackupBucketName"])
    try:
        return Folder(folder)
    except NotADirectoryError as exc:
        raise NotReadyError(f"{exc}.", "aws s3 sync s3://BUCKET/refund-backups FOLDER") from exc
