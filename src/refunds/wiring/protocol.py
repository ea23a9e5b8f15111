"""Builds what ProcessRefund and ReconcileRefunds share: tables, gateways, and the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from refunds.gateways.routing import Gateways
from refunds.processing.reserver import Reserver
from refunds.processing.settler import Settler
from refunds.settings import TableNames
from refunds.tables.audit_trail import AuditTable
from refunds.tables.ledger import LedgerTable
from refunds.tables.refunds import RefundsTable
from refunds.tables.state import Control
from refunds.wiring.surroundings import Surroundings


@dataclass(frozen=True)
class Protocol:
    refunds: RefundsTable
    ledger: LedgerTable
    audit: AuditTable
    control: Control
    gateways: Gateways
    reserver: Reserver
    settler: Settler


def build_protocol(
    tables: TableNames,
    gateways: Gateways,
    surroundings: Surroundings,
    *,
    processed_by: str,
    recheck_after: timedelta,
) -> Protocol:
    dynamodb, clock = surroundings.clients.dynamodb, surroundings.clock
    refunds = RefundsTable(dynamodb, tables.refunds)
    ledger = LedgerTable(dynamodb, tables.ledger)
    reserver = Reserver(ledger, gateways)
    return Protocol(
        refunds=refunds,
        ledger=ledger,
        audit=AuditTable(dynamodb, tables.audit),
        control=Control(dynamodb, tables.ledger),
        gateways=gateways,
        reserver=reserver,
        settler=Settler(
            refunds=refunds,
            ledger=ledger,
            reserver=reserver,
            gateways=gateways,
            clock=clock,
            new_token=surroundings.new_token,
            processed_by=processed_by,
            recheck_after=recheck_after,
        ),
    )
