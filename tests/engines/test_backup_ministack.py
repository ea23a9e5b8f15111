"""A round trip of many rows of every attribute type on the emulator: backed up, verified, restored
by the AWS API alone, and equal in every row."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import boto3
import pytest
from tests.engines.rows import Timed, entry, every_type, fill
from tests.support.backup_parts import BackedUp, latest

from refunds.backup.digest_chain import KmsSigner
from refunds.backup.table_scan import ReadLimit, Source
from refunds.domain.clock import Deadline
from refunds_ops.backup.signatures import PublicKey
from refunds_ops.backup.storage import Bucket
from refunds_ops.backup.tables import TableReader, compare, creation_parameters
from refunds_ops.backup.verification import BackupVerification

ROWS = 20_000
IMPORT_SECONDS = 600


@pytest.mark.usefixtures("credentials")
def test_a_round_trip_of_every_attribute_type(
    ministack: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = ministack
    stack = BackedUp.create(url)
    # MiniStack keeps the regions apart.
    monkeypatch.setenv("AWS_DEFAULT_REGION", stack.dynamodb.meta.region_name)
    audit_rows = ROWS // 10
    kms = boto3.client("kms", endpoint_url=url)
    key = kms.create_key(KeySpec="RSA_3072", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    timed = Timed()
    fill(url, stack.refunds, every_type, ROWS)
    fill(url, stack.audit, entry, audit_rows)
    timed.step("written, to begin with", ROWS + audit_rows)

    run = stack.make_run(signer=KmsSigner(kms, key))  # type: ignore[arg-type]
    told = run.run({}, Deadline.after(stack.clock, 3600))
    timed.step("backed up", ROWS + audit_rows)
    assert told["tables"]["refunds"]["item_count"] == ROWS
    assert told["tables"]["audit"]["item_count"] == audit_rows

    public_key = PublicKey(kms.get_public_key(KeyId=key)["PublicKey"])
    report = BackupVerification(Bucket(stack.s3, stack.bucket), [public_key]).run()
    timed.step("verified", ROWS + audit_rows)
    assert not report.findings
    assert report.items == ROWS + audit_rows

    source = latest(stack)
    reader = TableReader(boto3.client("dynamodb", endpoint_url=url), ReadLimit(0))
    for export in source.exports:
        if not export.item_count:
            continue
        name = f"Restored-{export.table}"
        import_by_the_api_alone(url, stack.bucket, export.data_prefix, export.table, name)
        timed.step(f"{export.table} restored", export.item_count)
        table = {"refunds": stack.refunds, "audit": stack.audit}[export.table]
        found = compare(
            export.table,
            lambda table=table: reader.items(Source("any", table)),  # type: ignore[misc]
            lambda name=name: reader.items(Source("any", name)),  # type: ignore[misc]
        )
        timed.step(f"{export.table} compared", 2 * export.item_count)
        assert found.none
        assert found.rows == export.item_count
        check_one_by_hand(stack, table, name, export.table)
    with capsys.disabled():
        print(f"\n{timed.show()}")


def import_by_the_api_alone(url: str, bucket: str, prefix: str, kind: str, name: str) -> None:
    """What `aws dynamodb import-table` does; nothing of ours but the prefix."""
    dynamodb = boto3.client("dynamodb", endpoint_url=url)
    arn = dynamodb.import_table(
        S3BucketSource={"S3Bucket": bucket, "S3KeyPrefix": prefix},
        InputFormat="DYNAMODB_JSON",
        InputCompressionType="GZIP",
        TableCreationParameters=creation_parameters(kind, name),  # type: ignore[arg-type]
    )["ImportTableDescription"]["ImportArn"]
    deadline = time.monotonic() + IMPORT_SECONDS
    while time.monotonic() < deadline:
        told = dynamodb.describe_import(ImportArn=arn)["ImportTableDescription"]
        if told["ImportStatus"] != "IN_PROGRESS":
            assert told["ImportStatus"] == "COMPLETED", told
            assert told["ErrorCount"] == 0
            return
        time.sleep(0.2)
    raise AssertionError("the import did not end")


def check_one_by_hand(stack: BackedUp, one: str, other: str, kind: str) -> None:
    """The hashes' own check: a row read the usual way, through botocore's parser."""
    key = {"refund_id": {"S": "rf-0000007"}}
    if kind == "audit":
        key = {
            "transaction_id": {"S": "tx-000007"},
            "entry_id": {"S": "REFUND#rf-000007#000001"},
        }
    found = [stack.dynamodb.get_item(TableName=table, Key=key)["Item"] for table in (one, other)]
    assert plain(found[0]) == plain(found[1])
    if kind == "refunds":
        assert found[1]["bytes"] == {"B": (7).to_bytes(8) + b"\xff"}
        assert found[1]["text"] == every_type(7)["text"]


def plain(item: Any) -> Any:
    """Sets in order, bytes as text."""
    return json.loads(
        json.dumps(item, sort_keys=True, default=lambda value: base64.b64encode(value).decode()),
        object_hook=lambda each: {
            name: sorted(value) if name in ("SS", "NS", "BS") else value
            for name, value in each.items()
        },
    )
