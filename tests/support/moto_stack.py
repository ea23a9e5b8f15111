"""The tables, queues, buckets and bus of one stack, in moto."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import astuple, dataclass
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlparse

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models import dynamodb_backends
from moto.events.models import events_backends
from moto.s3.models import s3_backends
from moto.sqs.models import sqs_backends
from tests.support import moto_partiql as moto_partiql  # corrects moto

from refunds.domain.refund import Item
from refunds.tables.wire import item_from_wire

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient


REGION: Literal["eu-central-1"] = "eu-central-1"

_numbers = count(1)


@dataclass(frozen=True)
class Clients:
    dynamodb: DynamoDBClient
    sqs: SQSClient
    s3: S3Client
    events: EventBridgeClient


@dataclass(frozen=True)
class TableNames:
    refunds: str
    ledger: str
    audit: str

    @classmethod
    def create(cls, client: DynamoDBClient) -> TableNames:
        """Create three empty tables, with the keys and the indexes of template.yaml."""
        number = next(_numbers)
        names = cls(f"Refunds-{number}", f"Ledger-{number}", f"PaymentAuditTrail-{number}")
        create_tables(client, names.refunds, names.ledger, names.audit)
        return names

    # Two shortcuts through moto's own dictionaries: the API would cost more than new tables do.

    def empty(self) -> bool:
        """Delete every item. False if moto was reset and the tables are gone."""
        tables = _moto_tables()
        if not all(name in tables for name in astuple(self)):
            return False
        for name in astuple(self):
            tables[name].items.clear()
        return True

    def copy_items_to(self, other: TableNames) -> None:
        tables = _moto_tables()
        for source, target in zip(astuple(self), astuple(other), strict=True):
            tables[target].items = deepcopy(tables[source].items)


def _moto_tables() -> dict[str, Any]:
    return dynamodb_backends[DEFAULT_ACCOUNT_ID][REGION].tables


class Stack:
    """One stack's empty tables in moto. Queues, buckets and the bus are created on first use.

    A rule sends every event with source ``refunds`` to the events queue.
    """

    _reusable: ClassVar[TableNames | None] = None

    def __init__(self, clients: Clients, tables: TableNames) -> None:
        self.clients = clients
        self.tables = tables
        self._number = next(_numbers)
        self.refunds_table = tables.refunds
        self.ledger_table = tables.ledger
        self.audit_table = tables.audit

    @classmethod
    def create(cls, clients: Clients) -> Stack:
        """A stack with tables of its own."""
        return cls(clients, TableNames.create(clients.dynamodb))

    @classmethod
    def reuse(cls, clients: Clients) -> Stack:
        """A stack with the tables of the stack before, emptied. Only one can be in use."""
        if cls._reusable is None or not cls._reusable.empty():
            cls._reusable = TableNames.create(clients.dynamodb)
        return cls(clients, cls._reusable)

    @cached_property
    def queue_url(self) -> str:
        return self._new_queue("refund-requests")

    @cached_property
    def dead_letter_queue_url(self) -> str:
        return self._new_queue("dead-letters")

    @cached_property
    def events_queue_url(self) -> str:
        return self._new_queue("events-seen")

    @cached_property
    def failures_bucket(self) -> str:
        return self._new_bucket("failures")

    @cached_property
    def backup_bucket(self) -> str:
        return self._new_bucket("backups")

    # In moto itself, as many tests create more of these than they call: ten times as fast.

    @cached_property
    def bus_name(self) -> str:
        name, events = f"refunds-{self._number}", events_backends[DEFAULT_ACCOUNT_ID][REGION]
        events.create_event_bus(name)
        events.put_rule("all", event_bus_arn=name, event_pattern='{"source": ["refunds"]}')
        queue = sqs_backends[DEFAULT_ACCOUNT_ID][REGION].get_queue(
            self.events_queue_url.rpartition("/")[2]
        )
        events.put_targets("all", name, [{"Id": "1", "Arn": queue.queue_arn}])
        return name

    def _new_queue(self, name: str) -> str:
        queue = sqs_backends[DEFAULT_ACCOUNT_ID][REGION].create_queue(f"{name}-{self._number}")
        return queue.url(urlparse(f"https://sqs.{REGION}.amazonaws.com"))

    def _new_bucket(self, name: str) -> str:
        bucket = f"{name}-{self._number}"
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(bucket, REGION)
        return bucket

    def items(self, table: str) -> list[Item]:
        found = self.clients.dynamodb.scan(TableName=table, ConsistentRead=True)["Items"]
        return [item_from_wire(item) for item in found]

    def messages(self, queue_url: str) -> list[dict[str, Any]]:
        """Receive every visible message."""
        found: list[Any] = []
        while got := self.clients.sqs.receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            found += got
        return found

    def dead_letters(self) -> list[dict[str, Any]]:
        return self.messages(self.dead_letter_queue_url)

    def events(self) -> list[dict[str, Any]]:
        """The events that the bus has delivered."""
        return [json.loads(message["Body"]) for message in self.messages(self.events_queue_url)]

    def kept(self, bucket: str) -> dict[str, Any]:
        """The objects of a bucket, parsed as JSON, by key."""
        s3 = self.clients.s3
        listed = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {
            each["Key"]: json.loads(s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read())
            for each in listed
        }

    def send(self, content: Any) -> dict[str, Any]:
        """Send a message (text, or a value to encode as JSON) and receive it as Lambda would:
        as the record of an SQS event."""
        text = content if isinstance(content, str) else json.dumps(content)
        self.clients.sqs.send_message(QueueUrl=self.queue_url, MessageBody=text)
        return self.receive()

    def receive(self) -> dict[str, Any]:
        got: Any = self.clients.sqs.receive_message(
            QueueUrl=self.queue_url,
            MessageSystemAttributeNames=["All"],
            VisibilityTimeout=360,
        )["Messages"]
        (message,) = got
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": f"arn:aws:sqs:{REGION}:123456789012:refund-requests",
            "awsRegion": REGION,
        }


def create_tables(client: DynamoDBClient, refunds: str, ledger: str, audit: str) -> None:
    """Create empty tables with the keys and the indexes of template.yaml."""
    keys: dict[str, tuple[str, ...]] = {
        refunds: ("refund_id",),
        ledger: ("transaction_id",),
        audit: ("transaction_id", "entry_id"),
    }
    indexes = {
        "open-refunds": ("open_shard", "check_at"),
        "refunds-by-user": ("user_id", "created_at"),
        "refunds-by-day": ("day_shard", "created_at"),
    }
    for table, names in keys.items():
        attributes = set(names)
        more: dict[str, Any] = {}
        if table == refunds:
            attributes.update(*indexes.values())
            more["GlobalSecondaryIndexes"] = [
                {
                    "IndexName": index,
                    "KeySchema": _key_schema(*key),
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
                for index, key in indexes.items()
            ]
        client.create_table(
            TableName=table,
            KeySchema=_key_schema(*names),
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"} for name in sorted(attributes)
            ],
            BillingMode="PAY_PER_REQUEST",
            **more,
        )


def _key_schema(*names: str) -> Any:
    kinds = ("HASH", "RANGE")
    return [
        {"AttributeName": name, "KeyType": kind} for name, kind in zip(names, kinds, strict=False)
    ]


def table_without_indexes(stack: Stack) -> str:
    """A second table of refunds, as of a stack with UserIndex=false and DayIndex=false."""
    name = f"{stack.refunds_table}-no-indexes-{next(_plain_tables)}"
    stack.clients.dynamodb.create_table(
        TableName=name,
        KeySchema=_key_schema("refund_id"),
        AttributeDefinitions=[{"AttributeName": "refund_id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return name


_plain_tables = count(1)
