"""Lambda's event source mapping of the queue, as far as pausing goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError


@dataclass
class Mapping:
    """Lambda's control plane, slow as it is: a change shows after ``slow`` looks."""

    state: str = "Enabled"
    concurrency: int = 10
    slow: int = 2
    fails: bool = False
    _next: list[str] = field(default_factory=list)
    settings: dict[str, str] = field(
        default_factory=lambda: {
            "STAGE": "local",
            "GATEWAY": "flair",
            "GATEWAY_URL": "https://api.flair.example",
            "GATEWAY_SECRET_ARN": "arn:secret",
            "GATEWAY_ROUTES": "pi_=stripe",
            "ROUTED_SECRET_ARN": "arn:routed",
            "GATEWAY_TIMEOUT_SECONDS": "15",
            "RECONCILE_AFTER_SECONDS": "300",
        }
    )

    def get_function_configuration(self, *, FunctionName: str) -> dict[str, Any]:  # noqa: N803
        assert FunctionName == "stack-ProcessRefund"
        return {"Environment": {"Variables": self.settings}}

    def get_event_source_mapping(self, *, UUID: str) -> dict[str, Any]:  # noqa: N803
        assert UUID == "mapping-1"
        if self._next:
            self.state = self._next.pop(0)
        return {"State": self.state, "ScalingConfig": {"MaximumConcurrency": self.concurrency}}

    def update_event_source_mapping(self, *, UUID: str, **change: Any) -> dict[str, Any]:  # noqa: N803
        if self.fails:
            raise ClientError(
                {"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "Update"
            )
        if self.state.endswith("ing"):
            raise ClientError(
                {"Error": {"Code": "ResourceInUseException", "Message": "busy"}}, "Update"
            )
        end = "Enabled" if change["Enabled"] else "Disabled"
        self.state = end.removesuffix("d")[:-1] + "ing"
        self._next = [self.state] * self.slow + [end]
        return {"State": self.state}
