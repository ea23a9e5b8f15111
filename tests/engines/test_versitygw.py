"""Backups in versitygw: published once, verified from it, and kept under Object Lock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from tests.support.backup_parts import BackedUp, refund
from tests.support.moto_stack import create_tables

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_numbers = count(1)


@pytest.fixture
def s3(versitygw: str, credentials: None) -> S3Client:
    return boto3.client("s3", endpoint_url=versitygw)


def bucket(s3: S3Client, *, locked: bool = False) -> str:
    name = f"bucket-{next(_numbers)}"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def test_a_key_that_is_taken_is_not_written_again(s3: S3Client) -> None:
    name = bucket(s3)
    s3.put_object(Bucket=name, Key="digests/1.json", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=name, Key="digests/1.json", Body=b"second", IfNoneMatch="*")
    assert caught.value.response["Error"]["Code"] == "PreconditionFailed"
    assert s3.get_object(Bucket=name, Key="digests/1.json")["Body"].read() == b"first"


def test_a_version_under_compliance_lock_cannot_be_deleted(s3: S3Client) -> None:
    name = bucket(s3, locked=True)
    version = s3.put_object(
        Bucket=name,
        Key="backup",
        Body=b"x",
        ObjectLockMode="COMPLIANCE",
        ObjectLockRetainUntilDate=datetime.now(UTC) + timedelta(days=1),
    )["VersionId"]
    with pytest.raises(ClientError) as caught:
        s3.delete_object(Bucket=name, Key="backup", VersionId=version)
    assert caught.value.response["Error"]["Code"] == "AccessDenied"
    assert s3.get_object(Bucket=name, Key="backup", VersionId=version)["Body"].read() == b"x"


def test_backups_are_published_verified_and_chained(s3: S3Client) -> None:
    with mock_aws():
        dynamodb = boto3.client("dynamodb")
        create_tables(dynamodb, "Refunds", "Ledger", "Audit")
        stack = BackedUp(dynamodb, s3, "Refunds", "Ledger", "Audit", bucket(s3))
        stack.add(*(refund(number) for number in range(20)))
        first = stack.back_up()
        stack.add(refund(20))
        second = stack.back_up()
        assert (first["digest"]["sequence"], second["digest"]["sequence"]) == (1, 2)
        assert not stack.verify().findings
        key = first["digest"]["key"]
        s3.put_object(Bucket=stack.bucket, Key=key, Body=stack.object(key) + b" ")
        assert stack.verify().findings


def test_a_kms_key_is_accepted_and_ignored(s3: S3Client) -> None:
    name = bucket(s3)
    s3.put_object(
        Bucket=name,
        Key="backup",
        Body=b"x",
        ServerSideEncryption="aws:kms",
        SSEKMSKeyId="arn:aws:kms:us-east-1:123456789012:key/no-such-key",
    )
    assert "ServerSideEncryption" not in s3.head_object(Bucket=name, Key="backup")
