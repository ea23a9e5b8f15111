"""Where MiniStack and moto differ from AWS (docs/engines.md). A test that fails here is good news:
the difference is gone, and so may be what works around it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

TABLE: Any = {
    "TableName": "Refunds",
    "KeySchema": [{"AttributeName": "refund_id", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "refund_id", "AttributeType": "S"}],
    "BillingMode": "PAY_PER_REQUEST",
}


def test_ministacks_export_completes_and_writes_nothing(ministack: str, credentials: None) -> None:
    dynamodb = boto3.client("dynamodb", endpoint_url=ministack)
    s3 = boto3.client("s3", endpoint_url=ministack)
    arn = dynamodb.create_table(**TABLE)["TableDescription"]["TableArn"]
    dynamodb.update_continuous_backups(
        TableName="Refunds",
        PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
    )
    dynamodb.put_item(TableName="Refunds", Item={"refund_id": {"S": "r"}})
    s3.create_bucket(Bucket="exports")
    export = dynamodb.export_table_to_point_in_time(TableArn=arn, S3Bucket="exports")
    export_arn = export["ExportDescription"]["ExportArn"]
    dynamodb.get_waiter("export_completed").wait(
        ExportArn=export_arn, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    assert s3.list_objects_v2(Bucket="exports")["KeyCount"] == 0


def test_ministack_cannot_move_dead_letters(ministack: str, credentials: None) -> None:
    sqs = boto3.client("sqs", endpoint_url=ministack)
    with pytest.raises(ClientError, match="StartMessageMoveTask is not valid"):
        sqs.start_message_move_task(SourceArn="arn:aws:sqs:us-east-1:000000000000:dead")


MOTO_INSERT = f"""
import boto3
from moto import mock_aws
with mock_aws():
    dynamodb = boto3.client("dynamodb")
    dynamodb.create_table(**{TABLE!r})
    dynamodb.put_item(TableName="Refunds", Item={{"refund_id": {{"S": "r"}}, "v": {{"S": "old"}}}})
    statement = '''INSERT INTO "Refunds" VALUE {{'refund_id': 'r', 'v': 'new'}}'''
    dynamodb.batch_execute_statement(Statements=[{{"Statement": statement}}])
    print(dynamodb.scan(TableName="Refunds")["Items"][0]["v"]["S"])
"""


def test_motos_insert_overwrites_what_is_there(credentials: None) -> None:
    """In a process of its own: here tests.support.moto_partiql has corrected it."""
    done = subprocess.run(
        [sys.executable, "-c", MOTO_INSERT], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "new\n"
