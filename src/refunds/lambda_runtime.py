"""What every function shares: its AWS clients and their limits, and an invocation's deadline."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import botocore.session
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from refunds.domain.clock import Clock, Deadline

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient

POOL_WIDTH = 50
"""As wide as the widest batch, so that all of a batch runs at once."""

CLIENT = Config(
    connect_timeout=2,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=POOL_WIDTH,
    # What we send is typed, and AWS validates it all the same.
    parameter_validation=False,
    # botocore's own is put together anew for each call, twice.
    user_agent=f"Botocore/{botocore.__version__} refunds",
)
"""Short limits, so that a lost answer leaves time for another try."""

_SPARE_SECONDS = 1.0


class Aws:
    """botocore's clients, those of boto3, on one session: its credentials are found only once.

    Never our own: what signs requests, retries them and reads AWS's answers is not ours to keep
    right (docs/decisions/0006-libraries-for-aws.md).
    """

    def __init__(self, config: Config = CLIENT) -> None:
        self._session = botocore.session.get_session()
        self._config = config

    def dynamodb(self) -> DynamoDBClient:
        return cast("DynamoDBClient", self._session.create_client("dynamodb", config=self._config))

    def events(self) -> EventBridgeClient:
        return cast("EventBridgeClient", self._session.create_client("events", config=self._config))

    def when_needed(self, service: str) -> Any:
        """The client of a service that most invocations do without: made at its first call, since
        its making takes as long as many calls."""
        return WhenNeeded(lambda: self._session.create_client(service, config=self._config))


class WhenNeeded:
    """A client that is made by the first call of it."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._client: Any = None
        self._lock = Lock()

    def __getattr__(self, name: str) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._make()
        return getattr(self._client, name)


def thread_pool() -> ThreadPoolExecutor:
    """Threads for the widest batch, all on one processor.

    They take turns at the interpreter's lock, at every read and write. From one processor to the
    other each turn is a thread to be woken over there, which costs a good part of what a batch
    computes (`make bench ONLY=cpu`); and below 1,769 MB a function has no more than one anyway.
    """
    return ThreadPoolExecutor(POOL_WIDTH, initializer=_stay_on_one_processor)


def _stay_on_one_processor() -> None:
    if hasattr(os, "sched_setaffinity"):  # Linux has it
        with suppress(OSError):  # where it may not be chosen, it is only slower
            allowed = sorted(os.sched_getaffinity(0))
            # By process: functions that share a machine, as on a laptop, don't share a processor.
            os.sched_setaffinity(0, {allowed[os.getpid() % len(allowed)]})


def deadline_of(context: LambdaContext, clock: Clock) -> Deadline:
    """A second before Lambda ends the invocation."""
    left_seconds = context.get_remaining_time_in_millis() / 1000
    return Deadline.after(clock, left_seconds - _SPARE_SECONDS)


def new_token() -> str:
    """16 random hex digits: never the same twice."""
    return secrets.token_hex(8)
