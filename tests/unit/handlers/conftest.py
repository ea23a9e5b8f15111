from __future__ import annotations

import os
from collections.abc import Iterator
from unittest.mock import patch

import boto3
import pytest
from moto import mock_aws
from tests.support import deployed
from tests.support.builders import SECRET
from tests.support.expanded_template import load_template
from tests.support.functions import (
    Functions,
    Gateway,
    clean_handlers,
    pays,
)


@pytest.fixture(scope="module")
def loaded() -> Iterator[Functions]:
    template = load_template()
    settings = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": deployed.REGION,
        "AWS_REGION": deployed.REGION,
    }
    gateway = Gateway()
    with patch.dict(os.environ, settings), mock_aws():
        there = deployed.Deployed(template, gateway.url, SECRET)
        with clean_handlers(), patch.dict(os.environ, there.environment):
            yield Functions(there, gateway)
    gateway.stop()


@pytest.fixture
def functions(loaded: Functions) -> Iterator[Functions]:
    loaded.gateway.answers = pays
    # Each test finds the gateway trusted: the breaker remembers failures.
    boto3.client("dynamodb").delete_item(
        TableName=loaded.environment["LEDGER_TABLE"], Key={"transaction_id": {"S": "#intake"}}
    )
    yield loaded
    loaded.take_back_messages()
