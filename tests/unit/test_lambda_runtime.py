"""What every function runs on."""

from __future__ import annotations

from threading import Barrier
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse, HeadersDict

from refunds.lambda_runtime import POOL_WIDTH, lambda_clients, thread_pool

BARRIER_SECONDS = 30


def test_a_pool_runs_the_widest_batch_at_once() -> None:
    all_there = Barrier(POOL_WIDTH)

    def run(number: int) -> int:
        all_there.wait(BARRIER_SECONDS)  # nobody passes before all have arrived
        return number

    with thread_pool() as pool:
        assert list(pool.map(run, range(POOL_WIDTH))) == list(range(POOL_WIDTH))


def test_only_calls_of_dynamodb_leave_out_the_trace_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lambda finds a function that calls itself through SQS by it."""
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "ProcessRefund")
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3fe1be46a994272793")
    sent: list[Any] = []

    class Body:
        def stream(self, **_: Any) -> Any:
            yield b"{}"

    def answer(request: Any, **_: Any) -> Any:
        sent.append({name.lower() for name in request.headers})
        headers: Any = HeadersDict()
        return AWSResponse(request.url, 200, headers, Body())

    clients = lambda_clients("dynamodb", "sqs")
    for client in (clients.dynamodb, clients.sqs):
        client.meta.events.register("before-send", answer)
    clients.dynamodb.list_tables()
    clients.sqs.list_queues()
    dynamodb, sqs = sent
    assert "x-amzn-trace-id" not in dynamodb
    assert "x-amzn-trace-id" in sqs
