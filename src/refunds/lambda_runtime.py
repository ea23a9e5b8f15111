"""What every function shares: AWS clients and their limits, threads, an invocation's deadline."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import botocore.session
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.handlers import add_recursion_detection_header

from refunds.domain.clock import Clock, Deadline

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

POOL_WIDTH = 50
"""As many threads as the largest batch has records, so that a whole batch runs at once."""

DEFAULT_CLIENT_CONFIG = Config(
    connect_timeout=2,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=POOL_WIDTH,
    # mypy checks our parameters, and AWS validates them in any case.
    parameter_validation=False,
    # Botocore would otherwise build its own user agent twice for each call.
    user_agent=f"Botocore/{botocore.__version__} refunds",
)
"""Short timeouts, so that a lost response leaves time for another attempt."""

_SPARE_SECONDS = 1.0


class Clients(NamedTuple):
    """botocore's clients, which boto3 uses, too.

    Not our own clients: signing requests, retrying them and reading AWS's answers is a library's
    work (docs/decisions/0006-libraries-for-aws.md).
    """

    dynamodb: DynamoDBClient
    events: EventBridgeClient
    functions: LambdaClient
    kms: KMSClient
    s3: S3Client
    sqs: SQSClient


def lambda_clients(*needed: str, config: Config = DEFAULT_CLIENT_CONFIG) -> Clients:
    """Clients on one session, which finds its credentials once.

    Those of the services ``needed`` are built now, the others at their first call: building one
    takes as long as many calls, and most invocations do without it.
    """
    session = botocore.session.get_session()

    def client(service: str) -> Any:
        def create() -> Any:
            created = session.create_client(service, config=config)
            if service == "dynamodb":
                # Adds the trace's id, by which Lambda finds functions that call themselves through
                # SQS, SNS or S3. DynamoDB does nothing with it.
                created.meta.events.unregister("before-call", add_recursion_detection_header)
            return created

        return create() if service in needed else LazyClient(create)

    return Clients(
        dynamodb=client("dynamodb"),
        events=client("events"),
        functions=client("lambda"),
        kms=client("kms"),
        s3=client("s3"),
        sqs=client("sqs"),
    )


class LazyClient:
    """A client that is created at its first use."""

    def __init__(self, create: Callable[[], Any]) -> None:
        self._create = create
        self._client: Any = None
        self._lock = Lock()

    def __getattr__(self, name: str) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._create()
        return getattr(self._client, name)


def thread_pool() -> ThreadPoolExecutor:
    """Threads for the widest batch."""
    return ThreadPoolExecutor(POOL_WIDTH)


def deadline_of(context: LambdaContext, clock: Clock) -> Deadline:
    """The deadline of an invocation: a second before Lambda ends it."""
    left_seconds = context.get_remaining_time_in_millis() / 1000
    return Deadline.after(clock, left_seconds - _SPARE_SECONDS)


_LIBRARIES = ("boto3", "botocore", "stripe", "urllib3")


def quiet_libraries() -> None:
    """Keep the libraries' own logs at WARNING, whatever level the function logs at.

    Lambda gives the root logger the level of the parameter LogLevel. At DEBUG, botocore and stripe
    would log whole requests and answers: API keys, names, and the contents of secrets.
    """
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)


def new_token() -> str:
    """16 random hex digits: never the same twice."""
    return secrets.token_hex(8)
