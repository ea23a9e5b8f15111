"""Fixtures that the unit tests ask for by name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from threading import Lock
from typing import Any

import boto3
import pytest
from moto import mock_aws
from tests.support import moto_calls as moto_calls  # makes moto faster
from tests.support import no_public_authorities as no_public_authorities
from tests.support.builders import FakeClock
from tests.support.moto_stack import REGION, Clients, Stack
from tests.support.world import World


class OneAtATime:
    """Serializes the calls of a client: moto checks a condition and writes in two steps, where
    DynamoDB does both atomically."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = Lock()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                return found(*args, **kwargs)

        return call


@cache
def worker_clients() -> Clients:
    """The same clients for every module: creating them costs more than most tests."""
    dynamodb: Any = OneAtATime(boto3.client("dynamodb", region_name=REGION))
    return Clients(
        dynamodb,
        boto3.client("sqs", region_name=REGION),
        boto3.client("s3", region_name=REGION),
        boto3.client("events", region_name=REGION),
    )


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    """AWS in moto. What a module creates stays, so that the next one can use it again."""
    aws = mock_aws()
    aws.start(reset=False)
    yield worker_clients()
    aws.stop(remove_data=False)


@pytest.fixture
def stack(clients: Clients) -> Stack:
    return Stack.reuse(clients)


@pytest.fixture
def world(stack: Stack) -> World:
    return World(stack)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
