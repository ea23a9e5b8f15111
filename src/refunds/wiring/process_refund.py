"""Builds ProcessRefund."""

from __future__ import annotations

from refunds.audit.outcome_events import OutcomeBus, gateway_down_event, requests_stopped_event
from refunds.breaker.breaker import Breaker, GatewayCalls, WatchedGateway
from refunds.gateways.routing import Gateways
from refunds.processing.process_refund import ProcessRefund
from refunds.processing.queue import RefundQueue
from refunds.settings import ProcessRefundSettings
from refunds.wiring.protocol import build_protocol
from refunds.wiring.surroundings import Surroundings


def build_process_refund(
    settings: ProcessRefundSettings, surroundings: Surroundings
) -> ProcessRefund:
    """Raises ``SettingsError``."""
    calls = GatewayCalls()
    watched = [
        WatchedGateway(gateway, calls) for gateway in surroundings.open_gateways(settings.gateways)
    ]
    gateways = Gateways(watched, settings.gateways.routes)
    bus = OutcomeBus(surroundings.clients.events, settings.event_bus)
    protocol = build_protocol(
        settings.tables,
        gateways,
        surroundings,
        processed_by=settings.processed_by,
        recheck_after=settings.gateways.recheck_after,
        not_ready_for=settings.not_ready_for,
        limits=settings.limits,
        announce_stop=lambda intake: bus.publish([requests_stopped_event(intake)]),
    )
    breaker = Breaker(
        control=protocol.control,
        gateways=gateways,
        calls=calls,
        clock=surroundings.clock,
        by=settings.processed_by,
        announce=lambda intake: bus.publish([gateway_down_event(intake)]),
        random=surroundings.random,
    )
    queue = RefundQueue(
        client=surroundings.clients.sqs,
        queue_url=settings.queue_url,
        dead_letter_queue_url=settings.dead_letter_queue_url,
        bus=bus,
        processor=protocol.processor,
        first_retry_seconds=settings.first_retry_seconds,
        random=surroundings.random,
        hold=breaker.hold,
    )
    return ProcessRefund(
        queue=queue,
        breaker=breaker,
        control=protocol.control,
        ledger=protocol.ledger,
        clock=surroundings.clock,
        pool=surroundings.pool,
        metrics=surroundings.metrics,
        log=surroundings.log,
    )
