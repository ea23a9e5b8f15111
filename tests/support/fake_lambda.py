"""Lambda as the operator's commands see it: event source mappings and functions' settings."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any

ARN = "arn:aws:lambda:eu-central-1:111122223333:function"


class FakeLambda:
    """``requests`` is the state of the queue's mapping; ``mappings`` are those of WriteAudit."""

    def __init__(self, requests: str = "Disabled", stage: str = "local") -> None:
        self.requests = requests
        self.stage = stage
        self.mappings: list[dict[str, Any]] = []
        self.invoked: list[dict[str, Any]] = []
        self._numbers = count(1)

    def invoke(self, **call: Any) -> None:
        """Nothing runs; what was asked for is in ``invoked``."""
        self.invoked.append(call)

    def connect(self, stream_arn: str, **more: Any) -> dict[str, Any]:
        """A mapping of WriteAudit, as template.yaml has it."""
        return self.create_event_source_mapping(
            FunctionName=f"{ARN}:stack-WriteAudit:live",
            EventSourceArn=stream_arn,
            BatchSize=100,
            ParallelizationFactor=10,
            MaximumRetryAttempts=10,
            FunctionResponseTypes=["ReportBatchItemFailures"],
            **more,
        )

    def get_event_source_mapping(self, UUID: str) -> dict[str, Any]:  # noqa: N803 - boto3's names
        return {"State": self.requests, "ScalingConfig": {"MaximumConcurrency": 10}}

    def update_event_source_mapping(self, UUID: str, **change: Any) -> dict[str, Any]:  # noqa: N803
        self.requests = "Enabled" if change["Enabled"] else "Disabled"
        return self.get_event_source_mapping(UUID)

    def create_event_source_mapping(self, **arguments: Any) -> dict[str, Any]:
        arguments.pop("Enabled", None)
        function = arguments.pop("FunctionName")
        mapping = {
            "UUID": f"mapping-{next(self._numbers)}",
            "FunctionArn": function,
            "State": "Enabled",
            **arguments,
        }
        self.mappings.append(mapping)
        return mapping

    def get_paginator(self, operation: str) -> Any:
        assert operation == "list_event_source_mappings"
        return SimpleNamespace(paginate=self._pages)

    def _pages(self) -> Iterator[dict[str, Any]]:
        others = [{"UUID": "queue", "FunctionArn": f"{ARN}:x:live", "EventSourceArn": "arn:queue"}]
        yield {"EventSourceMappings": others}
        yield {"EventSourceMappings": list(self.mappings)}

    def get_function_configuration(self, FunctionName: str) -> dict[str, Any]:  # noqa: N803
        variables = {"STAGE": self.stage, "POWERTOOLS_SERVICE_NAME": "refunds-prod"}
        return {"Environment": {"Variables": variables}}
