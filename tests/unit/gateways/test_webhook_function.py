"""The function at the webhook URL: what it passes on, and what it answers."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws
from tests.support.moto_stack import REGION
from tests.support.webhook_events import OTHER, SECRET, now_signed, told


class Endpoint:
    """ReceiveWebhook as it is deployed, over Secrets Manager in moto; ``started`` is what the
    reconciler was started with."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self.started: list[Any] = []
        module._functions = SimpleNamespace(invoke=self._invoke)

    def _invoke(self, *, FunctionName: str, InvocationType: str, Payload: bytes) -> None:  # noqa: N803
        assert (FunctionName, InvocationType) == ("reconciler:live", "Event")
        self.started.append(json.loads(Payload))

    def call(self, event: dict[str, Any]) -> Any:
        context = SimpleNamespace(
            function_name="ReceiveWebhook",
            memory_limit_in_mb=256,
            invoked_function_arn="arn:aws:lambda:eu-central-1:123456789012:function:x",
            aws_request_id="0",
        )
        return self._module.handler(event, context)


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    name = "refunds.handlers.receive_webhook"
    with mock_aws():
        made = boto3.client("secretsmanager", region_name=REGION).create_secret(
            Name=f"webhook-{time.time_ns()}", SecretString=f"{OTHER}\n{SECRET}\n"
        )
        for variable, value in {
            "AWS_DEFAULT_REGION": REGION,
            "WEBHOOK_SECRET_ARN": made["ARN"],
            "RECONCILE_FUNCTION": "reconciler:live",
            "POWERTOOLS_TRACE_DISABLED": "true",
            "POWERTOOLS_SERVICE_NAME": "refunds-test",
            "POWERTOOLS_METRICS_NAMESPACE": "Refunds",
        }.items():
            monkeypatch.setenv(variable, value)
        sys.modules.pop(name, None)
        yield Endpoint(importlib.import_module(name))
        sys.modules.pop(name, None)


def test_a_signed_event_starts_the_reconciler_for_that_refund(function: Endpoint) -> None:
    assert function.call(now_signed()) == {"statusCode": 202}
    assert function.started == [{"look_at": "refund-1"}]


def test_nothing_of_the_event_but_the_refund_id_is_passed_on(function: Endpoint) -> None:
    content = told(data={"object": {"reference": "refund-1", "status": "failed", "amount": 1}})
    function.call(now_signed(content))
    assert function.started == [{"look_at": "refund-1"}]


def test_forged_and_uninteresting_events_start_nothing(
    function: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert function.call(now_signed(None, "forged-by-somebody")) == {"statusCode": 401}
    assert function.call(now_signed({"type": "refund.created", "data": 1})) == {"statusCode": 202}
    assert function.call({"headers": {}, "body": "planted-in-a-body"}) == {"statusCode": 401}
    assert function.started == []
    assert "planted" not in "".join(capsys.readouterr())


def test_an_event_that_could_not_be_passed_on_is_asked_for_again(function: Endpoint) -> None:
    def broken(event: Any) -> None:
        raise RuntimeError("throttled")

    function._module._functions = SimpleNamespace(invoke=lambda **call: broken(call))
    with pytest.raises(RuntimeError):  # to whoever called, that is HTTP 502
        function.call(now_signed())
