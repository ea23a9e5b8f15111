"""Builds ReconcileRefunds."""

from __future__ import annotations

from refunds.audit.failures_bucket import FailureStore
from refunds.breaker.queue_mapping import IntakeKeeper, Switch
from refunds.processing.dead_letters import DeadLetterArchiver
from refunds.processing.reconcile_refunds import ReconcileRefunds
from refunds.processing.reconciler import Reconciler
from refunds.settings import ReconcileRefundsSettings
from refunds.wiring.gateways import build_gateways
from refunds.wiring.protocol import build_protocol
from refunds.wiring.surroundings import Surroundings


def build_reconcile_refunds(
    settings: ReconcileRefundsSettings, surroundings: Surroundings
) -> ReconcileRefunds:
    """Raises ``SettingsError``."""
    clients, clock = surroundings.clients, surroundings.clock
    gateways = build_gateways(settings.gateways, surroundings.gateways, clock)
    protocol = build_protocol(
        settings.tables,
        gateways,
        surroundings,
        processed_by=settings.processed_by,
        recheck_after=settings.gateways.recheck_after,
    )
    archiver = DeadLetterArchiver(
        client=clients.sqs,
        queue_url=settings.dead_letter_queue_url,
        refunds=protocol.refunds,
        settler=protocol.settler,
        failures=FailureStore(clients.s3, settings.failures_bucket, clock),
        clock=clock,
    )
    return ReconcileRefunds(
        reconciler=Reconciler(
            refunds=protocol.refunds,
            settler=protocol.settler,
            gateways=gateways,
            control=protocol.control,
            clock=clock,
            pool=surroundings.pool,
            archiver=archiver,
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
        metrics=surroundings.metrics,
        log=surroundings.log,
    )
