"""The AWS calls of the functions in histories of the crash simulator, as IAM actions."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any
from unittest.mock import patch

import tests.simulator.functions as simulated
from botocore import xform_name
from botocore.session import get_session
from tests.simulator.histories import run_history
from tests.simulator.limit_histories import run_limits
from tests.simulator.outages import run_outage
from tests.simulator.scripting import HOUR, crash_at, request
from tests.simulator.second_gateway import second_gateway_registered
from tests.simulator.sqs import DAY
from tests.simulator.tap import AUDIT_MAPPING_ID, MAPPING_ID
from tests.simulator.two_gateways import play_day
from tests.simulator.world import World
from tests.support.recorded_calls import Called, called

from refunds.lambda_runtime import Clients

FUNCTIONS = {
    "process": "ProcessRefund",
    "audit": "WriteAudit",
    "reconcile": "ReconcileRefunds",
}
SERVICES = {"functions": "lambda"}
"""Where a field of Clients is not called like its service."""
LOGICAL_IDS = {
    "Refunds": "Refunds",
    "Ledger": "Ledger",
    "Audit": "PaymentAuditTrail",
    "queue": "RefundQueue",
    "dlq": "RefundDeadLetterQueue",
    "bus": "RefundEvents",
    "failures": "FailuresBucket",
    MAPPING_ID: "ProcessRefundRefundRequests",
    AUDIT_MAPPING_ID: "WriteAuditRefundChanges",
}


HISTORIES = 20
"""Random ones; with the two scripted ones, together they reach every call."""


def simulated_calls() -> dict[str, set[Called]]:
    """What each function calls, by the function's logical id."""
    calls: dict[str, set[Called]] = {name: set() for name in FUNCTIONS.values()}
    environment_of = simulated.Environment.__init__

    def start(self: Any, services: Any, function: str, number: int) -> None:
        # A person's commands have an environment as well, and a role of their own.
        record = calls.get(FUNCTIONS.get(function, ""), set()).update
        with patch.object(simulated, "Clients", lambda **parts: _recorded(record, parts)):
            environment_of(self, services, function, number)

    with patch.object(simulated.Environment, "__init__", start):
        run_outage(1)
        with second_gateway_registered():
            play_day(1, outage="refuses")
        for seed in range(HISTORIES):
            run_history(seed)
        for seed in range(HISTORIES):
            run_limits(seed)
        _reserved_and_archived()
    return calls


def _reserved_and_archived() -> None:
    """A request that was reserved, and never claimed before its message is archived."""
    world = World(1, max_receives=1)
    world.pay("tx1", 1000)
    crash_at(world, "dynamodb put Refunds")
    world.send(request())
    world.run_for(4 * DAY + HOUR)
    world.settle()


def _recorded(record: Callable[[set[Called]], None], parts: dict[str, Any]) -> Clients:
    recorders: dict[str, Any] = {
        name: _Recorder(SERVICES.get(name, name), parts[name], record) for name in Clients._fields
    }
    return Clients(**recorders)


@lru_cache
def _operations(service: str) -> dict[str, str]:
    """The service's operations by their names in botocore."""
    model = get_session().get_service_model(service)
    return {xform_name(name): name for name in model.operation_names}


class _Recorder:
    """A client of the simulator whose calls are recorded."""

    def __init__(self, service: str, client: Any, record: Callable[[set[Called]], None]) -> None:
        self._service = service
        self._client = client
        self._record = record
        self._operations = _operations(service)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        operation = self._operations.get(name)
        if operation is None:
            return attribute

        def call(**parameters: Any) -> Any:
            self._record(called(f"{self._service}:{operation}", parameters, LOGICAL_IDS))
            return attribute(**parameters)

        return call
