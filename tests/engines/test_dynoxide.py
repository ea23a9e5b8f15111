"""dynoxide does with our writes what DynamoDB promises; its own importer reads our backups."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from tests.support.backup_parts import BackedUp, latest, refund
from tests.support.engines import servers, tools
from tests.support.engines.fixtures import started
from tests.support.engines.stack import STREAM_CLIENT
from tests.support.moto_stack import create_tables

from refunds.domain.audit_entry import audit_entry
from refunds.tables.audit_trail import AuditTable
from refunds.tables.wire import item_to_wire

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_numbers = count(1)
IMPORT_SECONDS = 120
LAST_SEQUENCE_NUMBER = (
    "SELECT MAX(CAST(sequence_number AS INTEGER)) FROM _stream_records WHERE table_name = 'T'"
)


@pytest.fixture
def dynamodb(dynoxide: str, credentials: None) -> DynamoDBClient:
    return boto3.client("dynamodb", endpoint_url=dynoxide)


@pytest.fixture
def table(dynamodb: DynamoDBClient) -> str:
    """An empty table of refunds, with its stream."""
    number = next(_numbers)
    name = f"Refunds-{number}"
    create_tables(dynamodb, name, f"Ledger-{number}", f"Audit-{number}")
    dynamodb.update_table(
        TableName=name,
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    return name


def item(**fields: Any) -> Any:
    return item_to_wire(refund(1, **fields).item())


def test_a_failed_condition_returns_the_item_that_is_there(
    dynamodb: DynamoDBClient, table: str
) -> None:
    dynamodb.put_item(TableName=table, Item=item(version=3))
    with pytest.raises(ClientError) as caught:
        dynamodb.put_item(
            TableName=table,
            Item=item(version=1),
            ConditionExpression="attribute_not_exists(refund_id)",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    answer: Any = caught.value.response
    assert answer["Error"]["Code"] == "ConditionalCheckFailedException"
    assert answer["Item"] == item(version=3)


def test_a_cancelled_transaction_changes_nothing_and_says_which_condition_failed(
    dynamodb: DynamoDBClient, table: str
) -> None:
    dynamodb.put_item(TableName=table, Item=item(version=3))
    new = item_to_wire(refund(2).item())
    with pytest.raises(ClientError) as caught:
        dynamodb.transact_write_items(
            TransactItems=[
                {"Put": {"TableName": table, "Item": new}},
                {
                    "Put": {
                        "TableName": table,
                        "Item": item(version=1),
                        "ConditionExpression": "attribute_not_exists(refund_id)",
                        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                    }
                },
            ]
        )
    answer: Any = caught.value.response
    reasons = answer["CancellationReasons"]
    assert [reason["Code"] for reason in reasons] == ["None", "ConditionalCheckFailed"]
    assert reasons[1]["Item"] == item(version=3)
    assert dynamodb.scan(TableName=table)["Items"] == [item(version=3)]


def test_a_partiql_insert_of_a_taken_key_leaves_the_item(
    dynamodb: DynamoDBClient, table: str
) -> None:
    dynamodb.put_item(TableName=table, Item=item(version=3))
    answer = dynamodb.batch_execute_statement(
        Statements=[
            {
                "Statement": f"INSERT INTO \"{table}\" VALUE {{'refund_id': ?, 'version': ?}}",
                "Parameters": [{"S": refund_id}, {"N": "1"}],
            }
            for refund_id in ("rf-000001", "rf-000002")
        ],
        ReturnConsumedCapacity="TOTAL",
    )
    errors = [response.get("Error", {}).get("Code") for response in answer["Responses"]]
    assert errors == ["DuplicateItem", None]
    assert answer["ConsumedCapacity"]
    found = {each["refund_id"]["S"]: each for each in dynamodb.scan(TableName=table)["Items"]}
    assert found["rf-000001"] == item(version=3)
    assert found["rf-000002"] == {"refund_id": {"S": "rf-000002"}, "version": {"N": "1"}}


def test_the_stream_has_each_change_in_order_with_both_images(
    dynamodb: DynamoDBClient, table: str, dynoxide: str
) -> None:
    for version in (1, 2):
        dynamodb.put_item(TableName=table, Item=item(version=version))
    dynamodb.delete_item(TableName=table, Key={"refund_id": {"S": "rf-000001"}})
    arn = dynamodb.describe_table(TableName=table)["Table"]["LatestStreamArn"]
    streams = boto3.client("dynamodbstreams", endpoint_url=dynoxide, config=STREAM_CLIENT)
    shards = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    records: list[Any] = []
    for shard in shards:
        iterator = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        records += streams.get_records(ShardIterator=iterator)["Records"]
    assert [record["eventName"] for record in records] == ["INSERT", "MODIFY", "REMOVE"]
    images = [
        (record["dynamodb"].get("OldImage"), record["dynamodb"].get("NewImage"))
        for record in records
    ]
    first, second = item(version=1), item(version=2)
    assert images == [(None, first), (first, second), (second, None)]


def test_a_shard_id_is_shorter_than_botocore_allows(
    dynamodb: DynamoDBClient, table: str, dynoxide: str
) -> None:
    """AWS's are 28 characters at least (docs/engines.md)."""
    arn = dynamodb.describe_table(TableName=table)["Table"]["LatestStreamArn"]
    streams = boto3.client("dynamodbstreams", endpoint_url=dynoxide)
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    assert len(shard["ShardId"]) < 28


def test_an_open_shard_has_an_ending_sequence_number(
    dynamodb: DynamoDBClient, table: str, dynoxide: str
) -> None:
    """At AWS a shard with one is closed. The poller reads it until there is no next iterator."""
    arn = dynamodb.describe_table(TableName=table)["Table"]["LatestStreamArn"]
    streams = boto3.client("dynamodbstreams", endpoint_url=dynoxide)

    def ending() -> Any:
        (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        return shard["SequenceNumberRange"].get("EndingSequenceNumber")

    dynamodb.put_item(TableName=table, Item=item(version=1))
    first = ending()
    dynamodb.put_item(TableName=table, Item=item(version=2))
    assert first
    assert first != ending()


def test_only_our_index_keeps_its_streams_fast(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each write to a stream asks for the last sequence number (docs/engines.md)."""
    database = tmp_path / "tables.db"

    def with_file(own: Path) -> Any:
        return servers.dynoxide(own, database)

    with started(with_file, tmp_path_factory), _connected(database) as connection:
        explain = f"EXPLAIN QUERY PLAN {LAST_SEQUENCE_NUMBER}"
        assert "USING INDEX stream_position" in str(connection.execute(explain).fetchall())
        connection.execute("DROP INDEX stream_position")
        assert "USING INDEX" not in str(connection.execute(explain).fetchall())


def _connected(database: Path) -> closing[sqlite3.Connection]:
    # A statement that is kept would be explained as it was planned.
    return closing(sqlite3.connect(database, cached_statements=0))


def test_its_importer_restores_our_backup(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, dynoxide: str, credentials: None
) -> None:
    with mock_aws():
        stack = BackedUp.create()
        stack.add(*(refund(number) for number in range(30)))
        before = stack.dynamodb.scan(TableName=stack.refunds)["Items"]
        stack.back_up()
        export = latest(stack).exports[0]
        folder = tmp_path / "export" / "Refunds" / "data"
        folder.mkdir(parents=True)
        for key in stack.listed(export.data_prefix):
            (folder / Path(key).name).write_bytes(stack.object(key))
        described = stack.dynamodb.describe_table(TableName=stack.refunds)
        described["Table"]["TableName"] = "Refunds"
        # moto lists none where AWS leaves the field out, and dynoxide refuses an empty list.
        del described["Table"]["LocalSecondaryIndexes"]
        (tmp_path / "schema.json").write_text(json.dumps(described, default=str))
    database = tmp_path / "restored.db"
    command = [
        *(str(tools.dynoxide()), "import", "--source", str(tmp_path / "export")),
        *("--schema", str(tmp_path / "schema.json"), "--output", str(database)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_SECONDS)
    assert done.returncode == 0, done.stderr

    def restored(own: Path) -> Any:
        return servers.dynoxide(own, database)

    with started(restored, tmp_path_factory) as url:
        client = boto3.client("dynamodb", endpoint_url=url)
        after = client.scan(TableName="Refunds")["Items"]
    assert by_id(after) == by_id(before)
    assert len(after) == 30


def by_id(items: list[Any]) -> dict[str, Any]:
    return {item["refund_id"]["S"]: item for item in items}


def test_an_audit_entry_is_inserted_once_and_never_written_over(
    dynamodb: DynamoDBClient, table: str
) -> None:
    audit = AuditTable(dynamodb, table.replace("Refunds", "Audit"))
    first, second = (audit_entry(refund(1, version=version).item()) for version in (1, 2))
    forged = first | {"user_id": "mallory"}
    assert audit.insert_new([first]) == [None]
    assert audit.insert_new([forged, second, forged]) == [first, None, first]
