"""A run stores what ImportTable takes, with a digest of all of it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.backup_parts import BackedUp, latest, refund, rows, small_pages

import refunds.backup.export_format
import refunds.backup.run

MILLISECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


# --- Layout ---------------------------------------------------------------------------------------


def test_the_layout_is_that_of_a_native_export(stack: BackedUp) -> None:
    stack.add(*(refund(number) for number in range(5)))
    started = datetime.now(UTC)
    told = stack.back_up()
    prefix = told["prefix"]
    assert re.fullmatch(r"refund-backups/\d{4}/\d\d/\d\d/\d{8}T\d{6}Z", prefix)
    name = prefix.rpartition("/")[2]
    begun = datetime.strptime(name, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs(begun - started) < timedelta(seconds=5)
    assert prefix.split("/")[1:4] == [name[:4], name[4:6], name[6:8]]
    for table in ("refunds", "ledger", "audit"):
        keys = stack.listed(f"{prefix}/{table}/")
        root = keys[0].rpartition("/")[0]
        assert re.fullmatch(rf"{prefix}/{table}/AWSDynamoDB/\d{{13,14}}-[0-9a-f]{{8}}", root)
        assert sorted(key.removeprefix(f"{root}/") for key in keys if "/data/" not in key) == [
            "_started",
            "manifest-files.json",
            "manifest-files.md5",
            "manifest-summary.json",
            "manifest-summary.md5",
        ]
        (data,) = [key for key in keys if "/data/" in key]
        assert re.fullmatch(rf"{root}/data/[^/]+\.json\.gz", data)
        assert told["tables"][table] == {"prefix": root, "item_count": 5, "files": 1}


def test_manifests_say_what_a_native_exports_say(stack: BackedUp) -> None:
    stack.add(refund(1), refund(2))
    told = stack.back_up()
    root = told["tables"]["refunds"]["prefix"]
    summary = json.loads(stack.object(f"{root}/manifest-summary.json"))
    export_id = root.rpartition("/")[2]
    table_arn = stack.dynamodb.describe_table(TableName=stack.refunds)["Table"]["TableArn"]
    assert set(summary) == {
        "version",
        "exportArn",
        "startTime",
        "endTime",
        "tableArn",
        "tableId",
        "exportTime",
        "s3Bucket",
        "s3Prefix",
        "s3SseAlgorithm",
        "s3SseKmsKeyId",
        "manifestFilesS3Key",
        "billedSizeBytes",
        "itemCount",
        "outputFormat",
    }
    assert summary["version"] == "2020-06-30"
    assert summary["exportArn"] == f"{table_arn}/export/{export_id}"
    assert summary["tableArn"] == table_arn
    assert summary["s3Bucket"] == stack.bucket
    assert summary["s3Prefix"] == f"{told['prefix']}/refunds"
    assert summary["manifestFilesS3Key"] == f"{root}/manifest-files.json"
    assert (summary["itemCount"], summary["outputFormat"]) == (2, "DYNAMODB_JSON")
    assert all(MILLISECONDS.fullmatch(summary[n]) for n in ("startTime", "endTime", "exportTime"))
    (listed,) = map(json.loads, stack.object(f"{root}/manifest-files.json").splitlines())
    assert set(listed) == {"itemCount", "md5Checksum", "etag", "dataFileS3Key"}
    stored = stack.s3.get_object(Bucket=stack.bucket, Key=listed["dataFileS3Key"])
    packed = stored["Body"].read()
    assert listed["itemCount"] == 2
    assert listed["md5Checksum"] == base64.b64encode(hashlib.md5(packed).digest()).decode()
    assert listed["etag"] == stored["ETag"].strip('"')
    assert {
        json.loads(line)["Item"]["refund_id"]["S"] for line in gzip.decompress(packed).splitlines()
    }
    for stem in ("manifest-summary", "manifest-files"):
        content = stack.object(f"{root}/{stem}.json")
        md5 = stack.object(f"{root}/{stem}.md5").decode()
        assert md5 == base64.b64encode(hashlib.md5(content).digest()).decode()


def test_the_digest_names_every_file_and_its_hash(stack: BackedUp) -> None:
    stack.add(refund(1))
    told = stack.back_up()
    digest = latest(stack)
    assert told["digest"]["key"] == digest.key
    assert {file.key for file in digest.files()} == set(stack.listed(told["prefix"]))
    for file in digest.files():
        assert hashlib.sha256(stack.object(file.key)).hexdigest() == file.sha256
    roots = {export.table: [file.merkle_root for file in export.files] for export in digest.exports}
    assert roots["refunds"] == roots["ledger"] == [None]
    assert all(roots["audit"])
    assert digest.start_time < digest.end_time


# --- What is in it --------------------------------------------------------------------------------


def test_payments_and_the_functions_own_notes_are_left_out(stack: BackedUp) -> None:
    stack.add(refund(1))
    payment = {"transaction_id": "tx-000001", "entry_id": "PAYMENT#1", "record_type": "PAYMENT"}
    stack.put(stack.audit, payment)
    stack.put(stack.ledger, {"transaction_id": "#sweep#flair", "cursor": "x"})
    stack.back_up()
    assert [row["record_type"]["S"] for row in rows(stack, latest(stack), "audit")] == ["REFUND"]
    (ledger,) = rows(stack, latest(stack), "ledger")
    assert ledger["transaction_id"]["S"] == "tx-000001"


def test_a_backup_of_nothing_is_one(stack: BackedUp) -> None:
    told = stack.back_up()
    assert [table["item_count"] for table in told["tables"].values()] == [0, 0, 0]
    assert [table["files"] for table in told["tables"].values()] == [1, 1, 1]
    assert not stack.verify().findings


def test_a_run_with_nothing_new_still_writes_a_digest(stack: BackedUp) -> None:
    stack.add(refund(1))
    assert stack.back_up()["digest"]["sequence"] == 1
    assert stack.back_up()["digest"]["sequence"] == 2
    assert not stack.verify().findings


def test_big_tables_are_read_side_by_side(stack: BackedUp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refunds.backup.run, "ONE_SEGMENT_ITEMS", 20)
    stack.add(*(refund(number) for number in range(40)))
    scanned: set[tuple[str, Any]] = set()
    stack.dynamodb.meta.events.register(
        "provide-client-params.dynamodb.Scan",
        lambda params, **_: scanned.add((params["TableName"], params.get("Segment"))),
    )
    stack.back_up()
    assert {segment for table, segment in scanned if table == stack.refunds} == {0, 1, 2, 3}
    found = rows(stack, latest(stack), "refunds")
    assert len({row["refund_id"]["S"] for row in found}) == len(found) == 40
    assert not stack.verify().findings


def test_zstd_by_parameter(stack: BackedUp) -> None:
    if sys.version_info < (3, 14):
        pytest.importorskip("backports.zstd")
    stack.add(refund(1))
    told = stack.back_up(compression="zstd")
    assert all(key.endswith(".json.zst") for key in stack.listed(told["prefix"]) if "/data/" in key)
    assert len(rows(stack, latest(stack), "audit")) == 1
    assert not stack.verify().findings


def test_data_files_are_ended_at_their_size(
    stack: BackedUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refunds.backup.export_format, "MAX_FILE_BYTES", 1)
    stack.add(*(refund(number) for number in range(9)))
    small_pages(stack, 2)
    assert stack.back_up()["tables"]["refunds"]["files"] >= 4
    assert not stack.verify().findings
