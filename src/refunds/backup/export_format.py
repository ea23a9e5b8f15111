"""The layout of a DynamoDB export to S3: data files and the manifests that list them.

``AWSDynamoDB/<ExportId>/`` holds ``_started``, ``data/…``, ``manifest-files.json`` and
``manifest-summary.json``, each manifest with an ``.md5``: what ImportTable restores.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from refunds.backup.digest import DataFile, StoredFile, audit_leaves, sha256_hex
from refunds.backup.merkle import MerkleTree
from refunds.backup.write_once import put_new, put_new_file

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

VERSION = "2020-06-30"
MAX_FILE_BYTES = 32 * 1024 * 1024
"""A data file ends at this compressed size, since it is on disk until it is uploaded."""
MAX_PLAIN_BYTES = 512 * 1024 * 1024
SUFFIXES = {"gzip": ".json.gz", "zstd": ".json.zst"}


class ExportFormatError(Exception):
    """Something is not in the layout of an export, or can't be written in it."""


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


def compressor(compression: str) -> Compressor:
    """Compresses at the fastest level, since backups are rarely read. Raises
    ``ExportFormatError``."""
    if compression == "gzip":
        return zlib.compressobj(level=1, wbits=16 + zlib.MAX_WBITS)
    if compression == "zstd":
        made: Compressor = zstd().ZstdCompressor(level=1)
        return made
    raise ExportFormatError(f"{compression} is neither gzip nor zstd")


def zstd() -> Any:
    """Python's own zstd, from 3.14 on, or its backport. Raises ``ExportFormatError``."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ExportFormatError("zstd needs Python 3.14, or the package backports.zstd")


class DataFileWriter:
    """A data file, compressed and hashed into a temporary file, then uploaded.

    A context manager: a file that was not uploaded is deleted at its end.
    """

    def __init__(self, compression: str, *, with_merkle_root: bool) -> None:
        self._compressor = compressor(compression)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed at this object's end
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self._tree = MerkleTree() if with_merkle_root else None
        self._size = 0
        self.plain_size = 0
        self.item_count = 0

    def __enter__(self) -> DataFileWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def full(self) -> bool:
        return self._size >= MAX_FILE_BYTES or self.plain_size >= MAX_PLAIN_BYTES

    def write(self, lines: bytes, count: int) -> None:
        """Append ``count`` data lines."""
        self._keep(self._compressor.compress(lines))
        if self._tree is not None:
            self._tree.extend(audit_leaves(lines, count))
        self.plain_size += len(lines)
        self.item_count += count

    def upload(self, s3: S3Client, bucket: str, key: str) -> tuple[DataFile, dict[str, Any]]:
        """Store the file, whole or not at all; returns it, and its line in the list of files."""
        self._keep(self._compressor.flush())
        self._file.seek(0)
        etag = put_new_file(s3, bucket, key, self._file, self._size, self._sha256.digest())
        stored = DataFile(
            key=key,
            sha256=self._sha256.hexdigest(),
            size=self._size,
            item_count=self.item_count,
            merkle_root=self._tree.root().hex() if self._tree else None,
        )
        return stored, {
            "itemCount": self.item_count,
            "md5Checksum": base64.b64encode(self._md5.digest()).decode(),
            "etag": etag.strip('"'),
            "dataFileS3Key": key,
        }

    def _keep(self, packed: bytes) -> None:
        self._md5.update(packed)
        self._sha256.update(packed)
        self._file.write(packed)
        self._size += len(packed)


@dataclass(frozen=True)
class ExportSummary:
    """The facts in ``manifest-summary.json``. Instants have the format of ``milliseconds``."""

    table_arn: str
    table_id: str | None
    export_id: str
    root: str
    bucket: str
    prefix: str
    key_arn: str | None
    """The KMS key that the bucket encrypts with."""
    start_time: str
    end_time: str
    plain_size: int


class ManifestWriter:
    def __init__(self, s3: S3Client, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def begin(self, root: str) -> StoredFile:
        return self._put(f"{root}/_started", b"")

    def finish(
        self, export: ExportSummary, files: Iterable[Mapping[str, Any]]
    ) -> tuple[StoredFile, ...]:
        """Store the list of files, then the summary. As in DynamoDB's own exports, an export
        without a summary is incomplete."""
        root = export.root
        listed = list(files)
        lines = "".join(json.dumps(file, separators=(",", ":")) + "\n" for file in listed)
        summary = {
            "version": VERSION,
            "exportArn": f"{export.table_arn}/export/{export.export_id}",
            "startTime": export.start_time,
            "endTime": export.end_time,
            "tableArn": export.table_arn,
            "tableId": export.table_id,
            "exportTime": export.start_time,
            "s3Bucket": export.bucket,
            "s3Prefix": export.prefix,
            "s3SseAlgorithm": "KMS",
            "s3SseKmsKeyId": export.key_arn,
            "manifestFilesS3Key": f"{root}/manifest-files.json",
            "billedSizeBytes": export.plain_size,
            "itemCount": sum(file["itemCount"] for file in listed),
            "outputFormat": "DYNAMODB_JSON",
        }
        return (
            *self._put_with_md5(f"{root}/manifest-files", lines.encode()),
            *self._put_with_md5(f"{root}/manifest-summary", json.dumps(summary).encode()),
        )

    def _put_with_md5(self, stem: str, content: bytes) -> tuple[StoredFile, StoredFile]:
        return (
            self._put(f"{stem}.json", content),
            self._put(f"{stem}.md5", md5_base64(content).encode()),
        )

    def _put(self, key: str, content: bytes) -> StoredFile:
        if not put_new(self._s3, self._bucket, key, content):
            raise ExportFormatError(f"{key} is already there")
        return StoredFile(key, sha256_hex(content))


def milliseconds(instant: datetime) -> str:
    """An instant as exports have it: ``2026-11-23T07:10:00.123Z``."""
    return instant.strftime("%Y-%m-%dT%H:%M:%S.") + f"{instant.microsecond // 1000:03d}Z"


def new_export_id(started: datetime, token: str) -> str:
    return f"{int(started.timestamp() * 1000):014d}-{token[:8]}"


def md5_base64(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


@dataclass(frozen=True)
class ListedFile:
    """A line of ``manifest-files.json``."""

    key: str
    item_count: int
    md5: str
    etag: str


@dataclass(frozen=True)
class Manifest:
    """An export as its manifests describe it, after they were checked against each other."""

    summary: Mapping[str, Any]
    files: tuple[ListedFile, ...]
    stored: tuple[StoredFile, ...]


def read_manifest(root: str, read: Callable[[str], bytes | None]) -> Manifest:
    """Read and check an export's manifests; ``read`` gives an object's bytes, or None if there is
    no such object.

    Raises ``ExportFormatError`` naming what is missing or doesn't match.
    """

    def checked(stem: str) -> bytes:
        contents = []
        for key in (f"{root}/{stem}.json", f"{root}/{stem}.md5"):
            if (content := read(key)) is None:
                raise ExportFormatError(f"{key} is missing")
            stored.append(StoredFile(key, sha256_hex(content)))
            contents.append(content)
        if md5_base64(contents[0]) != contents[1].decode(errors="replace").strip():
            raise ExportFormatError(f"{root}/{stem}.json doesn't match its .md5")
        return contents[0]

    stored: list[StoredFile] = []
    if (started := read(f"{root}/_started")) is not None:
        stored.append(StoredFile(f"{root}/_started", sha256_hex(started)))
    try:
        summary = json.loads(checked("manifest-summary"))
        files = tuple(
            ListedFile(
                _text(line["dataFileS3Key"]),
                int(line["itemCount"]),
                _text(line["md5Checksum"]),
                _text(line["etag"]),
            )
            for line in map(json.loads, checked("manifest-files").splitlines())
        )
        total = int(summary["itemCount"])
        output_format = summary["outputFormat"]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as exc:
        raise ExportFormatError(f"{root}: not a manifest: {type(exc).__name__}") from exc
    if output_format != "DYNAMODB_JSON":
        raise ExportFormatError(f"{root} is in {output_format}, not DYNAMODB_JSON")
    if total != sum(file.item_count for file in files):
        raise ExportFormatError(f"{root}: the summary's item count is not that of its files")
    if strays := [file.key for file in files if not file.key.startswith(f"{root}/data/")]:
        raise ExportFormatError(f"{root} lists {strays[0]}, which is elsewhere")
    return Manifest(summary, files, tuple(stored))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} instead of text")
    return value
