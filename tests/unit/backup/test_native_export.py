"""DynamoDB's own export, started and followed; by a script, since no engine here exports for real.

The manifests are those of AWS's documentation, with the full keys that recorded ones have.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.backup_parts import BackedUp, latest, refund, rows
from tests.support.builders import FakeClock

from refunds.backup.export_format import ExportFormatError
from refunds.backup.native_export import POLL_SECONDS, ExportFailedError, NativeExport
from refunds.domain.clock import Deadline
from refunds.tables.wire import item_to_wire

EXPORT_ID = "01693685827463-2d8752fd"


class Script:
    """The two calls of DynamoDB's export: as it answers them, and what it stores at the end."""

    def __init__(self, stack: BackedUp, minutes: float, status: str = "COMPLETED") -> None:
        self.stack = stack
        self.clock = FakeClock()
        self.seconds = minutes * 60
        self.status = status
        self.asked: dict[str, Any] = {}
        self.polls = 0

    def export_table_to_point_in_time(self, **asked: Any) -> dict[str, Any]:
        self.asked = asked
        self.ready_at = self.clock.monotonic() + self.seconds
        return {
            "ExportDescription": {
                "ExportArn": f"{asked['TableArn']}/export/{EXPORT_ID}",
                "ExportStatus": "IN_PROGRESS",
            }
        }

    def describe_export(self, *, ExportArn: str) -> dict[str, Any]:  # noqa: N803 - boto3's name
        self.polls += 1
        if self.clock.monotonic() < self.ready_at:
            return {"ExportDescription": {"ExportStatus": "IN_PROGRESS"}}
        told: dict[str, Any] = {"ExportArn": ExportArn, "ExportStatus": self.status}
        if self.status == "FAILED":
            told["FailureCode"] = "S3AccessDenied"
        return {"ExportDescription": told}

    @property
    def root(self) -> str:
        return f"{self.asked['S3Prefix']}/AWSDynamoDB/{EXPORT_ID}"

    def store(self, change: Callable[[dict[str, bytes]], None] = lambda files: None) -> None:
        """What DynamoDB would have stored when it is done; ``change`` may damage it."""
        listed, files = [], {f"{self.root}/_started": b""}
        for number, numbers in enumerate((range(3), range(3, 5), range(0))):
            items = (item_to_wire(refund(each).item()) for each in numbers)
            lines = "".join(json.dumps({"Item": item}) + "\n" for item in items)
            key = f"{self.root}/data/part{number}a5gqn2mu3ogtq.json.gz"
            files[key] = gzip.compress(lines.encode())
            listed.append(
                {
                    "itemCount": len(numbers),
                    "md5Checksum": md5(files[key]),
                    "etag": f"{hashlib.md5(files[key]).hexdigest()}-1",
                    "dataFileS3Key": key,
                }
            )
        summary = {
            "version": "2020-06-30",
            "exportArn": f"{self.asked['TableArn']}/export/{EXPORT_ID}",
            "startTime": "2026-11-23T07:10:01.028Z",
            "endTime": "2026-11-23T07:15:43.897Z",
            "tableArn": self.asked["TableArn"],
            "tableId": "12345a12-abcd-123a-ab12-1234abc12345",
            "exportTime": "2026-11-23T07:10:00.500Z",
            "s3Bucket": self.asked["S3Bucket"],
            "s3Prefix": self.asked["S3Prefix"],
            "s3SseAlgorithm": "KMS",
            "s3SseKmsKeyId": None,
            "manifestFilesS3Key": f"{self.root}/manifest-files.json",
            "billedSizeBytes": 4096,
            "itemCount": 5,
            "outputFormat": "DYNAMODB_JSON",
            "exportType": "FULL_EXPORT",
        }
        for stem, content in (
            ("manifest-files", "".join(json.dumps(each) + "\n" for each in listed)),
            ("manifest-summary", json.dumps(summary)),
        ):
            files[f"{self.root}/{stem}.json"] = content.encode()
            files[f"{self.root}/{stem}.md5"] = md5(content.encode()).encode()
        change(files)
        for key, content_ in files.items():
            self.stack.s3.put_object(Bucket=self.stack.bucket, Key=key, Body=content_)


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


@pytest.fixture
def exported(stack: BackedUp) -> BackedUp:
    stack.add(*(refund(number) for number in range(5)))
    # moto's tables have no size.
    stack.dynamodb.meta.events.register(
        "after-call.dynamodb.DescribeTable",
        lambda parsed, **_: parsed["Table"].update(TableSizeBytes=10**9),
    )
    return stack


def run(script: Script, event: dict[str, Any] | None = None) -> dict[str, Any]:
    """One invocation of fifteen minutes."""
    stack = script.stack

    def sleep(seconds: float) -> None:
        script.clock.advance(seconds=seconds)

    native = NativeExport(
        dynamodb=script,  # type: ignore[arg-type]
        s3=stack.s3,
        bucket=stack.bucket,
        key_arn="arn:key",
        sleep=sleep,
    )
    return stack.make_run(native=native, native_above_bytes=1, clock=script.clock).run(
        event or {}, Deadline.after(script.clock, 900)
    )


def through(script: Script, **damage: Any) -> int:
    """The whole run, from invocation to invocation; how many there were."""
    steps, event = 0, None
    while True:
        steps += 1
        if script.asked and script.clock.monotonic() + 900 >= script.ready_at:
            script.store(**damage)
        told = run(script, event)
        if "continued" not in told:
            return steps
        (event,) = script.stack.continuations
        event = json.loads(json.dumps(event))
        script.stack.continuations.clear()


def test_a_big_table_is_exported_by_dynamodb_and_followed_to_its_end(exported: BackedUp) -> None:
    script = Script(exported, minutes=45)
    assert through(script) == 4  # an invocation waits for 14 of the 45 minutes
    assert script.polls < 4 * 900 / POLL_SECONDS
    assert script.asked["ExportFormat"] == "DYNAMODB_JSON"
    assert script.asked["S3SseKmsKeyId"] == "arn:key"
    digest = latest(exported)
    tables = {export.table: export for export in digest.exports}
    assert tables["refunds"].root == script.root
    assert tables["refunds"].export_time == "2026-11-23T07:10:00.500Z"
    assert tables["refunds"].item_count == 5
    assert script.asked["S3Prefix"] == f"{digest.backup_prefix}/refunds"
    assert len(rows(exported, digest, "refunds")) == 5
    # The others are scanned meanwhile: an export can't leave the payment side's records out.
    assert tables["audit"].files[0].merkle_root
    assert not exported.verify().findings


def test_a_small_table_is_scanned(exported: BackedUp) -> None:
    script = Script(exported, minutes=1)
    native = NativeExport(dynamodb=script, s3=exported.s3, bucket="", key_arn=None)  # type: ignore[arg-type]
    exported.back_up(native=native, native_above_bytes=10**12)
    assert not script.asked


def test_a_failed_export_publishes_nothing(exported: BackedUp) -> None:
    script = Script(exported, minutes=1, status="FAILED")
    with pytest.raises(ExportFailedError, match="S3AccessDenied"):
        run(script)
    assert not exported.listed("refund-backups/digests/")


def a_changed_file(files: dict[str, bytes]) -> None:
    (key, *_) = [key for key in files if "/data/" in key]
    files[key] += b"x"


def a_missing_manifest(files: dict[str, bytes]) -> None:
    del files[next(key for key in files if key.endswith("manifest-files.json"))]


def a_wrong_checksum(files: dict[str, bytes]) -> None:
    files[next(key for key in files if key.endswith("manifest-summary.md5"))] = b"AAAA"


def a_wrong_count(files: dict[str, bytes]) -> None:
    json_key = next(key for key in files if key.endswith("manifest-summary.json"))
    files[json_key] = files[json_key].replace(b'"itemCount": 5', b'"itemCount": 6')
    files[json_key.replace(".json", ".md5")] = md5(files[json_key]).encode()


def a_file_elsewhere(files: dict[str, bytes]) -> None:
    json_key = next(key for key in files if key.endswith("manifest-files.json"))
    files[json_key] = files[json_key].replace(b"/data/part0", b"/../part0")
    files[json_key.replace(".json", ".md5")] = md5(files[json_key]).encode()


def ion(files: dict[str, bytes]) -> None:
    json_key = next(key for key in files if key.endswith("manifest-summary.json"))
    files[json_key] = files[json_key].replace(b"DYNAMODB_JSON", b"ION")
    files[json_key.replace(".json", ".md5")] = md5(files[json_key]).encode()


@pytest.mark.parametrize(
    "damage",
    [a_changed_file, a_missing_manifest, a_wrong_checksum, a_wrong_count, a_file_elsewhere, ion],
)
def test_an_export_that_is_not_what_its_manifests_say_publishes_nothing(
    exported: BackedUp, damage: Callable[[dict[str, bytes]], None]
) -> None:
    with pytest.raises(ExportFormatError):
        through(Script(exported, minutes=20), change=damage)
    assert not exported.listed("refund-backups/digests/")
