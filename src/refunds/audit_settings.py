"""WriteAudit's settings. They have their own module, because ``settings`` also loads the types of
gateways and limits."""

from __future__ import annotations

from typing import NamedTuple

from refunds.environment import Environment, text


class WriteAuditSettings(NamedTuple):
    audit_table: str
    failures_bucket: str
    event_bus: str
    metrics_namespace: str
    metrics_service: str
    """The dimension that keeps the metrics of two stacks apart."""

    @classmethod
    def read(cls, environment: Environment) -> WriteAuditSettings:
        return cls(
            audit_table=text(environment, "AUDIT_TABLE"),
            failures_bucket=text(environment, "FAILURES_BUCKET"),
            event_bus=text(environment, "EVENT_BUS_NAME"),
            metrics_namespace=text(environment, "POWERTOOLS_METRICS_NAMESPACE"),
            metrics_service=text(environment, "POWERTOOLS_SERVICE_NAME"),
        )
