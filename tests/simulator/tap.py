"""Lambda's control plane for one event source mapping: changes take a while, one at a time."""

from __future__ import annotations

from typing import Any

from tests.simulator.aws import Wire, client_error
from tests.simulator.kernel import Kernel

MAPPING_ID = "mapping-1"
AUDIT_MAPPING_ID = "mapping-2"
STREAM_ARN = "stream-1"
SLOWEST_SECONDS = 60.0


class Tap:
    """The client and the service behind it. ``most`` is the stack's own MaximumConcurrency."""

    def __init__(self, kernel: Kernel, wire: Wire, source: Any, most: int) -> None:
        self._kernel = kernel
        self._wire = wire
        self._source = source
        self.most = most
        self.state = "Enabled"
        self.concurrency = most
        self.audit_state = "Enabled"
        """State of WriteAudit's mapping, which nobody of ours switches."""

    def get_event_source_mapping(self, *, UUID: str) -> dict[str, Any]:  # noqa: N803
        shown = {MAPPING_ID: self._shown, AUDIT_MAPPING_ID: self._audit_shown}[UUID]
        return self._wire.call("lambda", "get mapping", "", shown, writes=False)

    def update_event_source_mapping(
        self,
        *,
        UUID: str,  # noqa: N803
        Enabled: bool,  # noqa: N803
        ScalingConfig: dict[str, int] | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        assert UUID == MAPPING_ID

        def apply() -> dict[str, Any]:
            if self.state.endswith("ing"):
                raise client_error("UpdateEventSourceMapping", "ResourceInUseException")
            if ScalingConfig is not None:
                assert 2 <= ScalingConfig["MaximumConcurrency"] <= 1000
                self.concurrency = ScalingConfig["MaximumConcurrency"]
            self.state = "Enabling" if Enabled else "Disabling"
            self._kernel.log("mapping", f"{self.state}, {self.concurrency} batches at once")
            self._kernel.counts["mapping " + ("enabled" if Enabled else "disabled")] += 1
            self._kernel.after(
                SLOWEST_SECONDS * self._kernel.random.random(), lambda: self._done(Enabled)
            )
            return self._shown()

        return self._wire.call("lambda", "update mapping", str(Enabled), apply, writes=True)

    def _done(self, enabled: bool) -> None:
        self.state = "Enabled" if enabled else "Disabled"
        self._source.switch(enabled=enabled, concurrency=self.concurrency)

    def _audit_shown(self) -> dict[str, Any]:
        return {"State": self.audit_state, "EventSourceArn": STREAM_ARN}

    def _shown(self) -> dict[str, Any]:
        return {"State": self.state, "ScalingConfig": {"MaximumConcurrency": self.concurrency}}
