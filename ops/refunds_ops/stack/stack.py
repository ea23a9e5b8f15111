"""Which stack a command works on: by name, from the environment, or the local one's stack.env."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from refunds_ops.errors import NotReadyError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

STACK_ENV = Path(".local/stack.env")

OUTPUTS = (
    "RefundQueueUrl",
    "RefundQueueArn",
    "RefundDeadLetterQueueUrl",
    "RefundsTableName",
    "AuditTableName",
    "BackupBucketName",
    "ProcessRefundFunctionName",
    "WriteAuditFunctionName",
    "ReconcileRefundsFunctionName",
    "BackupRefundsFunctionName",
    "EventBusName",
    "LedgerTableName",
    "FailuresBucketName",
)
"""The outputs that every stack of template.yaml has."""

FUNCTIONS = ("ProcessRefund", "WriteAudit", "ReconcileRefunds", "BackupRefunds")
"""The functions' logical ids; each has its output ``<logical id>FunctionName``."""

_AWS_SETTINGS = (
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
)
# A backup run may take the function's whole timeout, 15 minutes.
_CLIENT = Config(connect_timeout=5, read_timeout=905, retries={"mode": "standard"})


@dataclass(frozen=True)
class Stack:
    """A deployed stack's outputs, and AWS clients for it.

    ``settings``: AWS settings that differ from the environment's (those of a local stack).
    """

    where: str
    outputs: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, output: str) -> str:
        """An output by its name. Raises ``NotReadyError`` when the stack has none of that name."""
        if value := self.outputs.get(output):
            return value
        raise NotReadyError(
            f"{self.where} has no {output}.",
            "Is it a stack of this project's template.yaml? Name another with --stack NAME.",
        )

    @cached_property
    def _session(self) -> boto3.Session:
        return boto3.Session(
            aws_access_key_id=self.settings.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=self.settings.get("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=self.settings.get("AWS_SESSION_TOKEN"),
            region_name=self.settings.get("AWS_REGION")
            or self.settings.get("AWS_DEFAULT_REGION")
            # boto3 itself knows only the other one; Lambda and most tools know both.
            or os.environ.get("AWS_REGION"),
        )

    @property
    def _endpoint(self) -> str | None:
        return self.settings.get("AWS_ENDPOINT_URL")

    def new_client(self, service: str) -> Any:
        """A client that nobody else has, or one for a service that few commands need."""
        return self._session.client(service, endpoint_url=self._endpoint, config=_CLIENT)  # type: ignore[call-overload]

    @cached_property
    def cloudformation(self) -> CloudFormationClient:
        return self._session.client("cloudformation", endpoint_url=self._endpoint, config=_CLIENT)

    @cached_property
    def dynamodb(self) -> DynamoDBClient:
        return self._session.client("dynamodb", endpoint_url=self._endpoint, config=_CLIENT)

    @cached_property
    def events(self) -> EventBridgeClient:
        return self._session.client("events", endpoint_url=self._endpoint, config=_CLIENT)

    @cached_property
    def functions(self) -> LambdaClient:
        return self._session.client("lambda", endpoint_url=self._endpoint, config=_CLIENT)

    @cached_property
    def s3(self) -> S3Client:
        return self._session.client("s3", endpoint_url=self._endpoint, config=_CLIENT)

    @cached_property
    def secrets(self) -> SecretsManagerClient:
        return self._session.client("secretsmanager", endpoint_url=self._endpoint, config=_CLIENT)

    @cached_property
    def sqs(self) -> SQSClient:
        return self._session.client("sqs", endpoint_url=self._endpoint, config=_CLIENT)


def find_stack(name: str | None, environment: Mapping[str, str] = os.environ) -> Stack:
    """The stack called ``name``, else the environment's, else the one of .local/stack.env.

    Raises ``NotReadyError`` when there is none.
    """
    if name:
        return with_outputs(Stack(f"the stack {name}", {}), name)
    named = {output: environment[output] for output in OUTPUTS if environment.get(output)}
    if "RefundQueueUrl" in named or "RefundsTableName" in named:
        return Stack("the environment", dict(environment))
    if STACK_ENV.is_file():
        return read_stack_env(STACK_ENV)
    raise NotReadyError(
        "No stack to work on.",
        "For one in AWS: refunds --stack NAME …   (or export its outputs)",
        "For one on this machine: make up, then call refunds in the same folder.",
    )


def with_outputs(stack: Stack, name: str) -> Stack:
    """``stack`` with the outputs that CloudFormation has for ``name``.

    Raises ``NotReadyError`` when there is no such stack or AWS can't be asked.
    """
    try:
        found = stack.cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    except (ClientError, BotoCoreError) as exc:
        raise NotReadyError(
            f"The outputs of the stack {name} could not be read: {exc}",
            "Check the name, the region (AWS_REGION) and the credentials (aws sts "
            "get-caller-identity).",
        ) from exc
    outputs = {
        each["OutputKey"]: each["OutputValue"]
        for each in found.get("Outputs", [])
        if "OutputKey" in each and "OutputValue" in each
    }
    return Stack(stack.where, outputs, stack.settings)


def read_stack_env(path: Path) -> Stack:
    """The local stack that wrote ``path``. Raises ``NotReadyError`` for a damaged file."""
    values = {}
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition("=")
            if key:
                (values[key],) = shlex.split(value) or [""]
    except (OSError, ValueError) as exc:
        raise NotReadyError(f"{path} can't be read: {exc}", "Make it anew: make down up") from exc
    settings = {name: values.pop(name) for name in _AWS_SETTINGS if name in values}
    return Stack(str(path), values, settings)
