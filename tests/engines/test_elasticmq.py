"""ElasticMQ does with our messages what SQS promises, as far as the functions rely on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from tests.support.engines.stack import queue_arn

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


@pytest.fixture
def sqs(elasticmq: str, credentials: None) -> Iterator[SQSClient]:
    client = boto3.client("sqs", endpoint_url=elasticmq)
    yield client
    for url in client.list_queues().get("QueueUrls", []):
        client.delete_queue(QueueUrl=url)


def receive(sqs: SQSClient, url: str) -> list[Any]:
    answer = sqs.receive_message(
        QueueUrl=url, MessageSystemAttributeNames=["All"], MessageAttributeNames=["All"]
    )
    return list(answer.get("Messages", []))


def test_a_message_that_is_put_back_at_once_counts_its_receives(sqs: SQSClient) -> None:
    url = sqs.create_queue(QueueName="requests")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="é\u2028{}")
    for receives in ("1", "2", "3"):
        (message,) = receive(sqs, url)
        assert message["Body"] == "é\u2028{}"
        assert message["Attributes"]["ApproximateReceiveCount"] == receives
        assert int(message["Attributes"]["SentTimestamp"]) > 0
        assert receive(sqs, url) == []
        sqs.change_message_visibility(
            QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )


def test_after_its_last_receive_a_message_moves_to_the_dead_letter_queue(sqs: SQSClient) -> None:
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    policy = {"deadLetterTargetArn": queue_arn(sqs, dead), "maxReceiveCount": "2"}
    url = sqs.create_queue(
        QueueName="requests",
        Attributes={"VisibilityTimeout": "0", "RedrivePolicy": json.dumps(policy)},
    )["QueueUrl"]
    attributes: Any = {"error_code": {"DataType": "String", "StringValue": "invalid_json"}}
    sqs.send_message(QueueUrl=url, MessageBody="x", MessageAttributes=attributes)
    assert len(receive(sqs, url)) == 1
    assert len(receive(sqs, url)) == 1
    assert receive(sqs, url) == []
    (message,) = receive(sqs, dead)
    assert message["Body"] == "x"
    assert message["MessageAttributes"] == attributes


def test_it_names_the_sender_by_address(sqs: SQSClient) -> None:
    """AWS names the principal. Refunds keep it as ``sent_by``, whatever it is."""
    url = sqs.create_queue(QueueName="requests")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x")
    assert receive(sqs, url)[0]["Attributes"]["SenderId"] == "127.0.0.1"
