"""Builds what ProcessRefund and ReconcileRefunds share: tables, gateways, and the protocol."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from refunds.breaker.kill_switch import KillSwitch
from refunds.domain.intake import Intake
from refunds.domain.limits import NO_LIMITS, Limits
from refunds.environment import TableNames
from refunds.gateways.routing import Gateways
from refunds.processing.approval import Approvals
from refunds.processing.balance import Balance
from refunds.processing.evidence import Evidence
from refunds.processing.limit_checks import LimitChecks
from refunds.processing.lost_records import LostRecords
from refunds.processing.processor import Processor
from refunds.processing.recorder import Recorder
from refunds.processing.reserver import Reserver
from refunds.processing.settler import Settler
from refunds.tables.audit_trail import AuditTable
from refunds.tables.ledger import LedgerTable
from refunds.tables.limit_counters import LimitCounters
from refunds.tables.refunds import RefundsTable
from refunds.tables.state import Control
from refunds.wiring.surroundings import Surroundings


class Protocol(NamedTuple):
    refunds: RefundsTable
    ledger: LedgerTable
    audit: AuditTable
    control: Control
    gateways: Gateways
    reserver: Reserver
    recorder: Recorder
    evidence: Evidence
    settler: Settler
    processor: Processor
    approvals: Approvals
    counters: LimitCounters


def build_protocol(  # noqa: PLR0913 - the parts of the protocol, each by keyword
    tables: TableNames,
    gateways: Gateways,
    surroundings: Surroundings,
    *,
    processed_by: str,
    recheck_after: timedelta,
    not_ready_for: timedelta = timedelta(0),
    limits: Limits = NO_LIMITS,
    announce_stop: Callable[[Intake], None] = lambda intake: None,
) -> Protocol:
    """``announce_stop``: makes the reconciler stop the queue at once, not only at its next run."""
    dynamodb, clock = surroundings.clients.dynamodb, surroundings.clock
    refunds = RefundsTable(dynamodb, tables.refunds)
    ledger = LedgerTable(dynamodb, tables.ledger)
    audit = AuditTable(dynamodb, tables.audit)
    balance = Balance(ledger, refunds, audit)
    control = Control(dynamodb, tables.ledger)
    counters = LimitCounters(dynamodb, tables.ledger)
    limit_checks = LimitChecks(
        limits=limits,
        counters=counters,
        refunds=refunds,
        control=control,
        clock=clock,
        new_token=surroundings.new_token,
        on_day_total=KillSwitch(
            control=control,
            clock=clock,
            stop_above=limits.stop_above or {},
            by=processed_by,
            announce=announce_stop,
        ),
    )
    recorder = Recorder(
        refunds=refunds,
        ledger=ledger,
        clock=clock,
        processed_by=processed_by,
        recheck_after=recheck_after,
        give_back_share=limit_checks.give_back,
    )
    reserver = Reserver(ledger, gateways, balance)
    evidence = Evidence(gateways, balance)
    settler = Settler(
        refunds=refunds,
        recorder=recorder,
        evidence=evidence,
        clock=clock,
        new_token=surroundings.new_token,
    )
    return Protocol(
        refunds=refunds,
        ledger=ledger,
        audit=audit,
        control=control,
        gateways=gateways,
        reserver=reserver,
        recorder=recorder,
        evidence=evidence,
        settler=settler,
        processor=Processor(
            refunds=refunds,
            ledger=ledger,
            lost=LostRecords(
                audit=audit, recorder=recorder, clock=clock, new_token=surroundings.new_token
            ),
            reserver=reserver,
            settler=settler,
            limits=limit_checks,
            gateways=gateways,
            clock=clock,
            not_ready_for=not_ready_for,
        ),
        approvals=Approvals(refunds=refunds, settler=settler, clock=clock),
        counters=counters,
    )
