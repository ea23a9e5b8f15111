"""Fixtures for the tests of src/refunds. None is automatic: a test says what it needs."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws
from tests.unit.factories import REGION, Clients, FakeClock, Stack, World


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    """AWS in moto, for one module's tests."""
    with mock_aws():
        yield Clients(
            boto3.client("dynamodb", region_name=REGION),
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
