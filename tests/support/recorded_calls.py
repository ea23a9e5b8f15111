"""The AWS calls that functions make, as the IAM actions and resources that must allow them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from botocore.client import BaseClient
from tests.support.partiql import inserted

Json = Any
Called = tuple[str, str]
"""An IAM action, and the logical id of the resource it is called on."""

_ACTIONS = {
    "dynamodb:TransactWriteItems": (),  # each action in it is recorded instead
    "lambda:Invoke": ("lambda:InvokeFunction",),
    "sts:GetCallerIdentity": (),  # AWS lets everybody ask, whatever their policies say
    "s3:HeadObject": ("s3:GetObject",),
    "s3:ListObjectsV2": ("s3:ListBucket",),
    "sqs:ChangeMessageVisibilityBatch": ("sqs:ChangeMessageVisibility",),
    "sqs:DeleteMessageBatch": ("sqs:DeleteMessage",),
    "sqs:SendMessageBatch": ("sqs:SendMessage",),
}
_TARGETS = (
    "TableName",
    "QueueUrl",
    "Bucket",
    "SecretId",
    "KeyId",
    "UUID",
    "FunctionName",
    "TableArn",
    "ExportArn",
    "EventBusName",
)


@contextmanager
def recorded_calls(logical_ids: Mapping[str, str]) -> Iterator[set[Called]]:
    """Collects every call made within. ``logical_ids``: what each name or address stands for."""
    calls: set[Called] = set()
    real = BaseClient._make_api_call  # type: ignore[attr-defined]

    def record(client: Any, operation: str, parameters: dict[str, Json]) -> Json:
        service = client.meta.service_model.service_name
        calls.update(called(f"{service}:{operation}", parameters, logical_ids))
        return real(client, operation, parameters)

    with patch.object(BaseClient, "_make_api_call", record):
        yield calls


def called(
    operation: str, parameters: Mapping[str, Json], logical_ids: Mapping[str, str]
) -> set[Called]:
    if operation in ("dynamodb:BatchGetItem", "dynamodb:BatchWriteItem"):
        return {(operation, logical_ids.get(name, name)) for name in parameters["RequestItems"]}
    if operation == "dynamodb:TransactWriteItems":
        return {
            (f"dynamodb:{kind}Item", logical_ids.get(each["TableName"], each["TableName"]))
            for action in parameters["TransactItems"]
            for kind, each in action.items()
        }
    if operation == "dynamodb:BatchExecuteStatement":
        names = {
            inserted(each["Statement"], each["Parameters"])[0] for each in parameters["Statements"]
        }
        return {("dynamodb:PartiQLInsert", logical_ids.get(name, name)) for name in names}
    if operation == "events:PutEvents":
        return {
            (operation, logical_ids.get(entry["EventBusName"], entry["EventBusName"]))
            for entry in parameters["Entries"]
        }
    target = next((str(parameters[key]) for key in _TARGETS if key in parameters), "*")
    resource = logical_ids.get(target, target)
    if index := parameters.get("IndexName"):
        resource = f"{resource}/index/{index}"
    return {(action, resource) for action in _ACTIONS.get(operation, (operation,))}
