"""A sequential audit writer, as Powertools' documentation has stream batches:
https://docs.aws.amazon.com/powertools/python/latest/utilities/batch/ («DynamoDB Streams»)
"""

from __future__ import annotations

from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import DynamoDBRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

logger = Logger()
processor = BatchProcessor(event_type=EventType.DynamoDBStreams)
table = boto3.resource("dynamodb").Table("PlainAudit")


def record_handler(record: DynamoDBRecord) -> None:
    change = record.dynamodb
    if change is None or not change.new_image:
        return
    refund = change.new_image
    table.put_item(
        Item={
            **refund,
            "entry_id": f"{refund['refund_id']}#{refund['version']}",
            "event_name": str(record.event_name),
        }
    )


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    return process_partial_response(
        event=event, record_handler=record_handler, processor=processor, context=context
    )
