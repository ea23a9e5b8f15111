"""template.yaml's functions and resources on the engines, with pollers for its event sources."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
from botocore.config import Config
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]
from tests.support.deployed import FUNCTIONS, TEMPLATE, Deployed
from tests.support.engines import servers
from tests.support.engines.control_plane import ControlPlane
from tests.support.engines.function import Function
from tests.support.engines.pollers import (
    Mapping as EventSourceMapping,
)
from tests.support.engines.pollers import (
    QueuePoller,
    Record,
    ShardDelivery,
    StreamPoller,
    StreamRules,
)

from refunds_devkit.local.deployment import PARAMETERS
from refunds_devkit.sandbox.client import SandboxClient
from refunds_devkit.sandbox.server import DEFAULT_API_KEY, SandboxGateway
from refunds_ops.stack.stack import Stack

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": servers.REGION,
    "AWS_REGION": servers.REGION,
}
REQUESTS_MAPPING = "ProcessRefundRefundRequests-id"
AUDIT_MAPPING = "WriteAuditRefundChanges-id"
RETRY_PAUSE_SECONDS = 0.2
LEDGER_SECONDS = 600
"""For the sandbox to answer with its whole ledger."""
STREAM_CLIENT = Config(parameter_validation=False)
"""dynoxide's shard ids are shorter than the least that botocore allows (docs/engines.md)."""


class _OnEngines(Deployed):
    """Adds what the parts in moto do without: the stream, and the queue's redrive policy."""

    def _create(self, name: str, kind: str, properties: dict[str, Any]) -> str:
        match kind:
            case "AWS::SQS::Queue" if "RedrivePolicy" in properties:
                return self._queue_with_redrive(name, properties)
            case "AWS::S3::Bucket" if properties.get("VersioningConfiguration"):
                bucket = super()._create(name, kind, properties)
                boto3.client("s3").put_bucket_versioning(
                    Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
                )
                return bucket
        made = super()._create(name, kind, properties)
        if "StreamSpecification" in properties:
            specification = properties["StreamSpecification"] | {"StreamEnabled": True}
            boto3.client("dynamodb").update_table(TableName=made, StreamSpecification=specification)
        return made

    def _queue_with_redrive(self, name: str, properties: dict[str, Any]) -> str:
        dead = self._make("RefundDeadLetterQueue")
        policy = {
            "deadLetterTargetArn": queue_arn(boto3.client("sqs"), dead),
            "maxReceiveCount": str(properties["RedrivePolicy"]["maxReceiveCount"]),
        }
        made = boto3.client("sqs").create_queue(
            QueueName=name,
            Attributes={
                "VisibilityTimeout": str(properties["VisibilityTimeout"]),
                "RedrivePolicy": json.dumps(policy),
            },
        )
        return made["QueueUrl"]


def queue_arn(sqs: Any, url: str) -> str:
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(found["Attributes"]["QueueArn"])


@dataclass
class EngineStack:
    """A running stack. ``functions`` by logical id."""

    stack: Stack
    sandbox: SandboxClient
    functions: Mapping[str, Function]
    mapping: EventSourceMapping
    audit_poller: StreamPoller
    log: Path


@contextmanager
def engine_stack(  # noqa: PLR0913 - the engines and what runs on them
    urls: Mapping[str, str],
    folder: Path,
    *,
    worker_urls: Mapping[str, str] | None = None,
    sandbox_url: str | None = None,
    gateway_url: str | None = None,
    parameters: Mapping[str, str] | None = None,
    worker_variables: Mapping[str, str] | None = None,
) -> Iterator[EngineStack]:
    """Deploy to the engines at ``urls`` (by botocore's names, such as ``DYNAMODB_STREAMS``).

    ``worker_urls``: where the functions reach them instead, such as a proxy. ``gateway_url`` stands
    for ``sandbox_url``, a running sandbox gateway, in the same way.
    """
    with ExitStack() as stack:
        plane = ControlPlane(_send_by_arn)
        stack.callback(plane.close)
        own = dict.fromkeys(("SECRETS_MANAGER", "EVENTBRIDGE", "LAMBDA"), plane.url)
        endpoints = _endpoints({**urls, **own})
        stack.enter_context(patch.dict(os.environ, {**CREDENTIALS, **endpoints}))
        if sandbox_url is None:
            sandbox_url = stack.enter_context(SandboxGateway()).url
        settings = {**PARAMETERS, **(parameters or {})}
        deployed = _OnEngines(
            yaml_parse(TEMPLATE.read_text()),
            gateway_url or sandbox_url,
            DEFAULT_API_KEY,
            **settings,
        )
        worker_environment = {
            **os.environ,
            **_endpoints(worker_urls or {}),
            **deployed.environment,
            **(worker_variables or {}),
        }
        log = folder / "functions.log"
        functions = {
            name: Function(
                deployed.handler(name),
                {**worker_environment, "AWS_LAMBDA_FUNCTION_NAME": name},
                timeout_seconds=deployed.timeout_seconds(name),
                log=log,
            )
            for name in FUNCTIONS
        }
        plane.variables = deployed.environment
        for name, function in functions.items():
            stack.callback(function.close)
            plane.functions[name] = function.invoke
        outputs = _outputs(deployed)
        described = boto3.client("dynamodb").describe_table(TableName=outputs["RefundsTableName"])
        stream_arn = described["Table"]["LatestStreamArn"]
        plane.mappings[REQUESTS_MAPPING] = EventSourceMapping(
            outputs["RefundQueueArn"], concurrency=int(settings["MaximumConcurrency"])
        )
        plane.mappings[AUDIT_MAPPING] = EventSourceMapping(stream_arn)
        made = Stack("the stack on engines", outputs, {})
        running = EngineStack(
            stack=made,
            sandbox=SandboxClient(sandbox_url, timeout_seconds=LEDGER_SECONDS),
            functions=functions,
            mapping=plane.mappings[REQUESTS_MAPPING],
            audit_poller=_audit_poller(made, functions["WriteAudit"], stream_arn),
            log=log,
        )
        os.environ["GATEWAY_URL"] = sandbox_url
        for poller in (_queue_poller(running), running.audit_poller):
            poller.start()
            stack.callback(poller.stop)
        yield running


def _endpoints(urls: Mapping[str, str]) -> dict[str, str]:
    return {f"AWS_ENDPOINT_URL_{service}": url for service, url in urls.items()}


def _send_by_arn(arn: str, body: str) -> None:
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody=body)


def _outputs(deployed: Deployed) -> dict[str, str]:
    environment = deployed.environment
    queue = environment["REFUND_QUEUE_URL"]
    return {
        "RefundQueueUrl": queue,
        "RefundQueueArn": queue_arn(boto3.client("sqs"), queue),
        "RefundDeadLetterQueueUrl": environment["DEAD_LETTER_QUEUE_URL"],
        "RefundsTableName": environment["REFUNDS_TABLE"],
        "LedgerTableName": environment["LEDGER_TABLE"],
        "AuditTableName": environment["AUDIT_TABLE"],
        "BackupBucketName": environment["BACKUP_BUCKET"],
        "FailuresBucketName": environment["FAILURES_BUCKET"],
        "BackupSigningKeyArn": environment["BACKUP_SIGNING_KEY_ARN"],
        "EventBusName": environment["EVENT_BUS_NAME"],
        "GATEWAY_URL": environment["GATEWAY_URL"],
        **{f"{name}FunctionName": name for name in FUNCTIONS},
    }


def _queue_poller(running: EngineStack) -> QueuePoller:
    return QueuePoller(
        boto3.client("sqs"),
        running.stack["RefundQueueUrl"],
        running.stack["RefundQueueArn"],
        running.functions["ProcessRefund"].invoke,
        running.mapping,
    )


def _audit_poller(stack: Stack, write_audit: Function, stream_arn: str) -> StreamPoller:
    stopping = threading.Event()

    def keep(records: list[Record], condition: str) -> None:
        _keep_failed(stack, records, condition)

    delivery = ShardDelivery(
        StreamRules(),
        write_audit.invoke,
        keep,
        now=time.time,
        pause=lambda retries: stopping.wait(RETRY_PAUSE_SECONDS),
    )
    streams = boto3.client("dynamodbstreams", config=STREAM_CLIENT)
    return StreamPoller(streams, stream_arn, delivery)


def _keep_failed(stack: Stack, records: list[Record], condition: str) -> None:
    """What Lambda's on-failure destination writes to S3."""
    first = records[0]["dynamodb"]["SequenceNumber"]
    body = {
        "requestContext": {"condition": condition},
        "version": "1.0",
        "payload": json.dumps({"Records": records}),
    }
    stack.s3.put_object(
        Bucket=stack["FailuresBucketName"],
        Key=f"aws/lambda/{AUDIT_MAPPING}/shard/{first}",
        Body=json.dumps(body).encode(),
    )


@contextmanager
def engines(
    folder: Path,
    *,
    emulated: bool = False,
    mount: Callable[[str, Path], None] = lambda service, folder: None,
) -> Iterator[dict[str, str]]:
    """Every engine that the stack needs, by botocore's name of its service.

    ``emulated``: MiniStack has the tables, instead of dynoxide. ``mount`` may put a disk at the
    folder of a service before the engine starts.
    """
    with ExitStack() as stack:

        def start(engine: Any, service: str) -> str:
            own = Path(tempfile.mkdtemp(dir=folder, prefix=f"{engine.__name__}-"))
            mount(service, own)
            more = (own / "tables.db",) if engine is servers.dynoxide else ()
            url: str = stack.enter_context(engine(own, *more))
            return url

        dynamodb = start(servers.ministack if emulated else servers.dynoxide, "DYNAMODB")
        yield {
            "DYNAMODB": dynamodb,
            "DYNAMODB_STREAMS": dynamodb,
            "SQS": start(servers.elasticmq, "SQS"),
            "S3": start(servers.versitygw, "S3"),
            "KMS": start(servers.local_kms, "KMS"),
        }


@contextmanager
def stack_on_engines(folder: Path) -> Iterator[EngineStack]:
    """A stack with engines of its own."""
    with engines(folder) as urls, engine_stack(urls, folder) as running:
        yield running
