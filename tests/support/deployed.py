"""The functions as template.yaml deploys them: its environment and resources in moto, the gateway
through the sandbox over HTTP. Knows the template and the handlers' names, nothing inside."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import boto3
from aws_lambda_powertools.logging.constants import LOGGER_ATTRIBUTE_PRECONFIGURED
from moto import mock_aws
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]
from tests.support import moto_partiql as moto_partiql  # corrects moto

from refunds_devkit.sandbox.server import SandboxGateway

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
FUNCTIONS = ("ProcessRefund", "WriteAudit", "ReconcileRefunds", "BackupRefunds")
REGION = "us-east-1"


class Deployed:
    """The functions, callable; what they wrote is in ``environment``'s tables and queues."""

    def __init__(
        self, template: dict[str, Any], gateway_url: str, api_key: str, **parameters: str
    ) -> None:
        """``parameters``: the template's, where the defaults don't fit."""
        self._template = template
        self._parameters = {"Stage": "local", **parameters, "LocalGatewayUrl": gateway_url}
        self._api_key = api_key
        self._made: dict[str, str] = {}
        self._make("PaymentAuditTrail")
        self.environment = self._environment()

    @property
    def logical_ids(self) -> dict[str, str]:
        """The logical id in the template that each name or address stands for."""
        return {made: logical_id for logical_id, made in self._made.items()}

    def handler(self, function: str) -> str:
        """The handler's dotted path."""
        return str(self._template["Resources"][function]["Properties"]["Handler"])

    def timeout_seconds(self, function: str) -> float:
        return float(self._template["Resources"][function]["Properties"]["Timeout"])

    def call(self, function: str, event: dict[str, Any], left_ms: int = 60_000) -> Any:
        """What the function answers to an event when it has ``left_ms`` until its timeout."""
        module, _, name = self.handler(function).rpartition(".")
        context = SimpleNamespace(
            function_name=function,
            function_version="1",
            memory_limit_in_mb=1024,
            invoked_function_arn=f"arn:aws:lambda:{REGION}:123456789012:function:{function}:1",
            aws_request_id="00000000-0000-4000-8000-000000000000",
            get_remaining_time_in_millis=lambda: left_ms,
        )
        return getattr(importlib.import_module(module), name)(event, context)

    def item(self, table: str, **key: str) -> dict[str, Any] | None:
        """One item of the table that the functions know as ``table``, in wire form."""
        answer = boto3.client("dynamodb").get_item(
            TableName=self.environment[table], Key={name: {"S": key[name]} for name in key}
        )
        return answer.get("Item")

    def entries(self, transaction_id: str, refund_id: str) -> list[Any]:
        """The audit entries of a refund, in wire form."""
        return boto3.client("dynamodb").query(
            TableName=self.environment["AUDIT_TABLE"],
            KeyConditionExpression="transaction_id = :tx AND begins_with(entry_id, :prefix)",
            ExpressionAttributeValues={
                ":tx": {"S": transaction_id},
                ":prefix": {"S": f"REFUND#{refund_id}#"},
            },
        )["Items"]

    def dead_letters(self) -> dict[str, str]:
        """Body and error_code of each dead letter so far; they are taken out."""
        found = {}
        while (
            messages := boto3.client("sqs")
            .receive_message(
                QueueUrl=self.environment["DEAD_LETTER_QUEUE_URL"],
                MaxNumberOfMessages=10,
                MessageAttributeNames=["All"],
            )
            .get("Messages", [])
        ):
            for message in messages:
                found[message["Body"]] = message["MessageAttributes"]["error_code"]["StringValue"]
        return found

    def keys(self, bucket: str) -> list[str]:
        """The keys in the bucket that the functions know as ``bucket``."""
        listed = boto3.client("s3").list_objects_v2(Bucket=self.environment[bucket])
        return [each["Key"] for each in listed.get("Contents", [])]

    def _environment(self) -> dict[str, str]:
        wanted = dict(self._template["Globals"]["Function"]["Environment"]["Variables"])
        for function in FUNCTIONS:
            properties = self._template["Resources"][function]["Properties"]
            wanted |= properties["Environment"]["Variables"]
        del wanted["AWS_ENDPOINT_URL"]  # not set in AWS
        return {name: self._value(value) for name, value in wanted.items()} | {
            "AWS_LAMBDA_FUNCTION_NAME": "sample",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "POWERTOOLS_TRACE_DISABLED": "true",
        }

    def _value(self, value: Any) -> str:
        match value:
            case {"Ref": name}:
                return self._make(name)
            case {"Fn::GetAtt": [name, "Arn" | "Id"]} | {"Fn::GetAtt": [name]}:
                return self._make(name)
            case {"Fn::If": ["HasLocalGateway", local, _]}:
                return self._value(local)
            case dict():
                return f"unknown-{len(str(value))}"
        return str(value)

    def _make(self, name: str) -> str:
        """What a Ref to a parameter or a resource gives, which is made if need be."""
        if name in self._template["Parameters"]:
            default = self._template["Parameters"][name].get("Default", "")
            return self._parameters.get(name, str(default))
        if name not in self._made:
            resource = self._template["Resources"].get(name, {"Type": "?"})
            self._made[name] = self._create(name, resource["Type"], resource.get("Properties", {}))
        return self._made[name]

    def _create(  # noqa: PLR0911 - one case a type of resource
        self, name: str, kind: str, properties: dict[str, Any]
    ) -> str:
        match kind:
            case "AWS::DynamoDB::Table":
                wanted = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
                more: Any = {
                    each: [_by_default(value) for value in properties[each]]
                    for each in wanted
                    if each in properties
                }
                if "TableName" in properties:
                    name = self._value(properties["TableName"])
                boto3.client("dynamodb").create_table(
                    TableName=name, BillingMode="PAY_PER_REQUEST", **more
                )
                return name
            case "AWS::SQS::Queue":
                return boto3.client("sqs").create_queue(QueueName=name)["QueueUrl"]
            case "AWS::S3::Bucket":
                boto3.client("s3").create_bucket(Bucket=name.lower())
                return name.lower()
            case "AWS::Events::EventBus":
                boto3.client("events").create_event_bus(Name=name)
                return name
            case "AWS::SecretsManager::Secret":
                made = boto3.client("secretsmanager").create_secret(
                    Name=name, SecretString=self._api_key
                )
                return made["ARN"]
            case "AWS::KMS::Key":
                spec: Any = {
                    each: properties[each] for each in ("KeySpec", "KeyUsage") if each in properties
                }
                return boto3.client("kms").create_key(**spec)["KeyMetadata"]["Arn"]
        return f"{name}-id"


def _by_default(value: Any) -> Any:
    """What an ``Fn::If`` gives where every index is on, as it is by default."""
    return value["Fn::If"][1] if "Fn::If" in value else value


@contextmanager
def deployed() -> Iterator[Deployed]:
    """The functions with everything they need; nothing of it is left afterwards."""
    template = yaml_parse(TEMPLATE.read_text())
    settings = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
    }
    before = {name: module for name, module in sys.modules.items() if _is_handler(name)}
    with SandboxGateway() as gateway, patch.dict(os.environ, settings), mock_aws():
        functions = Deployed(template, gateway.url, gateway.api_key)
        _forget_handlers()
        with patch.dict(os.environ, functions.environment):
            yield functions
    _forget_handlers()
    sys.modules.update(before)


def _is_handler(module: str) -> bool:
    return module.startswith("refunds.handlers.")


def _forget_handlers() -> None:
    """A handler builds its clients when it is imported: the next test imports it anew.

    So is its logger made anew: Powertools' writes for ever to the stream that was there first.
    """
    for name in [name for name in sys.modules if _is_handler(name)]:
        del sys.modules[name]
    loggers = logging.root.manager.loggerDict
    for name in [
        name for name in loggers if hasattr(loggers[name], LOGGER_ATTRIBUTE_PRECONFIGURED)
    ]:
        del loggers[name]
