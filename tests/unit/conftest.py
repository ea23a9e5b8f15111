"""Fixtures for the tests of src/refunds. None is automatic: a test says what it needs."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from typing import Any

import boto3
import pytest
from moto import mock_aws
from tests.support.builders import FakeClock
from tests.support.moto_stack import REGION, Clients, Stack
from tests.support.world import World


class OneAtATime:
    """A client for several threads: moto checks a condition and writes in two steps, where
    DynamoDB does both in one."""

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


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    """AWS in moto, for one module's tests."""
    with mock_aws():
        dynamodb: Any = OneAtATime(boto3.client("dynamodb", region_name=REGION))
        yield Clients(
            dynamodb,
            boto3.client("sqs", region_name=REGION),
            boto3.client("s3", region_name=REGION),
            boto3.client("events", region_name=REGION),
        )


@pytest.fixture
def stack(clients: Clients) -> Stack:
    return Stack.create(clients)


@pytest.fixture
def world(stack: Stack) -> World:
    return World(stack)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
