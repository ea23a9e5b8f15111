"""Builds ReconcileRefunds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refunds.audit.failures_bucket import FailureStore
from refunds.audit.stream_watch import StreamWatch
from refunds.breaker.queue_mapping import IntakeKeeper, Switch
from refunds.domain.clock import Clock
from refunds.gateways.routing import Gateways
from refunds.processing.dead_letters import DeadLetterArchiver
from refunds.processing.open_refunds import OpenRefunds
from refunds.processing.paid_refunds import PaidRefunds
from refunds.processing.reconcile_refunds import ReconcileRefunds
from refunds.processing.reconciler import Reconciler
from refunds.processing.reversal_sweep import DEFAULT_PAGES_AT_ONCE, ReversalSweep
from refunds.settings import ReconcileRefundsSettings
from refunds.wiring.protocol import Protocol, build_protocol
from refunds.wiring.surroundings import Surroundings

if TYPE_CHECKING:
    # Importing it would load Powertools' batch processor, which not every function uses.
    from refunds.batches import Pool


def build_reconciler(
    protocol: Protocol,
    archiver: DeadLetterArchiver,
    *,
    clock: Clock,
    pool: Pool,
    sweep_pages_at_once: int = DEFAULT_PAGES_AT_ONCE,
) -> Reconciler:
    paid = PaidRefunds(
        refunds=protocol.refunds,
        recorder=protocol.recorder,
        evidence=protocol.evidence,
        clock=clock,
    )
    return Reconciler(
        archiver=archiver,
        open_refunds=OpenRefunds(
            refunds=protocol.refunds,
            settler=protocol.settler,
            paid=paid,
            approvals=protocol.approvals,
            clock=clock,
            pool=pool,
        ),
        sweep=ReversalSweep(
            refunds=protocol.refunds,
            evidence=protocol.evidence,
            paid=paid,
            gateways=protocol.gateways,
            control=protocol.control,
            clock=clock,
            pool=pool,
            pages_at_once=sweep_pages_at_once,
        ),
        refunds=protocol.refunds,
        settler=protocol.settler,
        gateways=protocol.gateways,
    )


def build_reconcile_refunds(
    settings: ReconcileRefundsSettings, surroundings: Surroundings
) -> ReconcileRefunds:
    """Raises ``SettingsError``."""
    clients, clock = surroundings.clients, surroundings.clock
    gateways = Gateways(surroundings.open_gateways(settings.gateways), settings.gateways.routes)
    protocol = build_protocol(
        settings.tables,
        gateways,
        surroundings,
        processed_by=settings.processed_by,
        recheck_after=settings.gateways.recheck_after,
        limits=settings.limits,
    )
    archiver = DeadLetterArchiver(
        client=clients.sqs,
        queue_url=settings.dead_letter_queue_url,
        refunds=protocol.refunds,
        settler=protocol.settler,
        processor=protocol.processor,
        failures=FailureStore(clients.s3, settings.failures_bucket, clock),
        clock=clock,
    )
    return ReconcileRefunds(
        reconciler=build_reconciler(
            protocol,
            archiver,
            clock=clock,
            pool=surroundings.pool,
            sweep_pages_at_once=settings.sweep_pages_at_once,
        ),
        keeper=IntakeKeeper(
            control=protocol.control,
            switch=Switch(
                control=protocol.control,
                client=clients.functions,
                mapping_id=settings.requests_mapping_id,
                maximum_concurrency=settings.maximum_concurrency,
            ),
            gateways=gateways,
            clock=clock,
            by=settings.processed_by,
        ),
        stream=StreamWatch(
            functions=clients.functions,
            dynamodb=clients.dynamodb,
            mapping_id=settings.audit_mapping_id,
            refunds_table=settings.tables.refunds,
        ),
        metrics=surroundings.metrics,
        log=surroundings.log,
    )
