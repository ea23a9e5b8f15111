"""Which stack a command works on: by name, from the environment, or the local one's stack.env."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from refunds_ops.errors import NotReadyError
from refunds_ops.stack.endpoint import ENDPOINT, stale_endpoint
from refunds_ops.stack.outputs import OUTPUTS as OUTPUTS
from refunds_ops.stack.stack_env import STACK_ENV, read_values
from refunds_ops.terminal import print_note

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

_AWS_SETTINGS = (
    ENDPOINT,
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
)
_ONE_AT_A_TIME = threading.Lock()
"""A botocore session can't create two clients at once."""
_OUTPUT_NAME = re.compile(r"[A-Z][a-z0-9]+(?:[A-Z][A-Za-z0-9]*)+")
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

    @property
    def name(self) -> str:
        """CloudFormation's name of the stack. Raises ``NotReadyError`` if there is none."""
        return self["StackName"]

    @property
    def endpoint(self) -> str | None:
        """The endpoint of AWS calls if they don't go to AWS itself."""
        named = {**os.environ, **self.settings}
        # This includes AWS_ENDPOINT_URL_SQS and the like.
        return next((named[name] for name in sorted(named) if name.startswith(ENDPOINT)), None)

    @cached_property
    def _session(self) -> botocore.session.Session:
        return botocore.session.Session()

    # Any: botocore makes clients at run time, and the types of each are in the stubs only.
    def new_client(self, service: str) -> Any:
        """A new client that nothing else uses, or one for a service that few commands need."""
        settings = self.settings
        with _ONE_AT_A_TIME:
            return self._session.create_client(
                service,
                region_name=settings.get("AWS_REGION")
                or settings.get("AWS_DEFAULT_REGION")
                # botocore itself reads only AWS_DEFAULT_REGION; Lambda and most tools read both.
                or os.environ.get("AWS_REGION"),
                endpoint_url=settings.get(ENDPOINT),
                aws_access_key_id=settings.get("AWS_ACCESS_KEY_ID"),
                aws_secret_access_key=settings.get("AWS_SECRET_ACCESS_KEY"),
                aws_session_token=settings.get("AWS_SESSION_TOKEN"),
                config=_CLIENT,
            )

    @cached_property
    def cloudformation(self) -> CloudFormationClient:
        return self.new_client("cloudformation")  # type: ignore[no-any-return]

    @cached_property
    def dynamodb(self) -> DynamoDBClient:
        return self.new_client("dynamodb")  # type: ignore[no-any-return]

    @cached_property
    def events(self) -> EventBridgeClient:
        return self.new_client("events")  # type: ignore[no-any-return]

    @cached_property
    def functions(self) -> LambdaClient:
        return self.new_client("lambda")  # type: ignore[no-any-return]

    @cached_property
    def s3(self) -> S3Client:
        return self.new_client("s3")  # type: ignore[no-any-return]

    @cached_property
    def secrets(self) -> SecretsManagerClient:
        return self.new_client("secretsmanager")  # type: ignore[no-any-return]

    @cached_property
    def sqs(self) -> SQSClient:
        return self.new_client("sqs")  # type: ignore[no-any-return]


def find_stack(name: str | None, environment: Mapping[str, str] = os.environ) -> Stack:
    """The stack called ``name``, else the environment's, else the one of .local/stack.env.

    Says on standard error which it is, unless it was named and is in AWS. Raises ``NotReadyError``
    when there is none.
    """
    stack = _find(name, environment)
    place = f" at {stack.endpoint}" if stack.endpoint else ""
    if place or not name:
        print_note(f"[{stack.where}{place}]")
    return stack


def _find(name: str | None, environment: Mapping[str, str]) -> Stack:
    if name:
        return with_outputs(Stack(f"the stack {name}", {}), name)
    named = {output: environment[output] for output in OUTPUTS if environment.get(output)}
    if "RefundQueueUrl" in named or "RefundsTableName" in named:
        # No other variables are taken: they may be secrets, and `stack outputs` prints all of
        # these.
        outputs = {
            each: value
            for each, value in environment.items()
            if value and _OUTPUT_NAME.fullmatch(each)
        }
        return Stack("the stack of the environment", outputs)
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
            *(
                stale_endpoint()
                or (
                    "Check the name, the region (AWS_REGION) and the credentials (aws sts "
                    "get-caller-identity).",
                )
            ),
        ) from exc
    outputs = {
        each["OutputKey"]: each["OutputValue"]
        for each in found.get("Outputs", [])
        if "OutputKey" in each and "OutputValue" in each
    }
    return Stack(stack.where, outputs, stack.settings)


def read_stack_env(path: Path) -> Stack:
    """The local stack that wrote ``path``. Raises ``NotReadyError`` for a damaged file."""
    values = read_values(path)
    settings = {name: values.pop(name) for name in _AWS_SETTINGS if name in values}
    return Stack(f"the local stack of {path}", values, settings)
