"""The common design, as Powertools' documentation shows it.

Sequential batch with a pydantic model of the record, the idempotency decorator around the business
function, a boto3 resource, ``requests`` for the gateway, one log line and one metric a refund:
https://docs.aws.amazon.com/powertools/python/latest/utilities/batch/ («Extending», «Pydantic»)
https://docs.aws.amazon.com/powertools/python/latest/utilities/idempotency/ («Batch integration»)

It is tuned: clients are created once, connections are kept, the key is the refund id, and like ours
it does without Powertools' tracer.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any, Literal

import boto3
import requests
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.parser.models import SqsRecordModel
from aws_lambda_powertools.utilities.parser.types import Json
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel


class RefundRequest(BaseModel):
    refund_id: str
    transaction_id: str
    user_id: str
    amount_minor: int
    currency: str
    reason: Literal[
        "requested_by_customer",
        "order_cancelled",
        "payment_error",
        "duplicate",
        "fraudulent",
        "other",
    ]
    requested_by: str
    requested_at: str | None = None


class RefundRecord(SqsRecordModel):
    body: Json[RefundRequest]


logger = Logger()
metrics = Metrics()
processor = BatchProcessor(event_type=EventType.SQS, model=RefundRecord)
persistence = DynamoDBPersistenceLayer(table_name="Idempotency")
config = IdempotencyConfig(event_key_jmespath="refund_id", raise_on_no_idempotency_key=True)
dynamodb = boto3.resource("dynamodb")
refunds_table = dynamodb.Table("PlainRefunds")
audit_table = dynamodb.Table("PlainAudit")
gateway = requests.Session()


@idempotent_function(data_keyword_argument="request", config=config, persistence_store=persistence)
def refund_payment(*, request: dict[str, Any]) -> dict[str, Any]:
    api_key = parameters.get_secret(os.environ["GATEWAY_SECRET_ARN"], max_age=300)
    answer = gateway.post(
        f"{os.environ['GATEWAY_URL']}/v1/refunds",
        json={
            "transaction_id": request["transaction_id"],
            "amount": request["amount_minor"],
            "currency": request["currency"],
            "reference": request["refund_id"],
            "reason": request["reason"],
        },
        headers={
            "Authorization": f"Bearer {api_key}",
            "Idempotency-Key": request["refund_id"],
        },
        timeout=15,
    )
    answer.raise_for_status()
    refund = answer.json()
    now = datetime.now(UTC).isoformat()
    refunds_table.put_item(
        Item={
            **{name: value for name, value in request.items() if value is not None},
            "status": refund["status"].upper(),
            "gateway_refund_id": refund["id"],
            "created_at": now,
        }
    )
    audit_table.put_item(
        Item={
            "transaction_id": request["transaction_id"],
            "entry_id": f"{request['refund_id']}#{now}",
            "refund_id": request["refund_id"],
            "processed_by": os.environ["AWS_LAMBDA_FUNCTION_NAME"],
            "occurred_at": now,
            "amount_minor": request["amount_minor"],
            "currency": request["currency"],
            "outcome": "Refund Successful",
        }
    )
    logger.info("refund recorded", refund_id=request["refund_id"], status=refund["status"])
    metrics.add_metric("RefundSucceeded", MetricUnit.Count, 1)
    return {"gateway_refund_id": refund["id"], "status": refund["status"]}


def record_handler(record: RefundRecord) -> dict[str, Any]:
    refunded: dict[str, Any] = refund_payment(request=record.body.model_dump())
    return refunded


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    config.register_lambda_context(context)
    return process_partial_response(
        event=event, record_handler=record_handler, processor=processor, context=context
    )
