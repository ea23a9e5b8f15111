"""Builds WriteAudit."""

from __future__ import annotations

from refunds.audit.failures_bucket import FailureStore
from refunds.audit.outcome_events import OutcomeBus
from refunds.audit.write_audit import WriteAudit
from refunds.audit.writer import AuditWriter
from refunds.audit_settings import WriteAuditSettings
from refunds.batches import Pool
from refunds.domain.clock import Clock
from refunds.lambda_runtime import Clients
from refunds.tables.audit_trail import AuditTable
from refunds.telemetry import Log, Metrics, Money


def build_write_audit(  # noqa: PLR0913 - the parts of the function, each by keyword
    settings: WriteAuditSettings,
    *,
    clients: Clients,
    clock: Clock,
    pool: Pool,
    metrics: Metrics,
    money: Money,
    log: Log,
) -> WriteAudit:
    writer = AuditWriter(
        audit=AuditTable(clients.dynamodb, settings.audit_table),
        failures=FailureStore(clients.s3, settings.failures_bucket, clock),
        clock=clock,
    )
    return WriteAudit(
        writer=writer,
        bus=OutcomeBus(clients.events, settings.event_bus, pool),
        pool=pool,
        metrics=metrics,
        money=money,
        log=log,
    )
