"""The protocol's parts that a person's decision on a refund needs, in that person's name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from refunds.domain.clock import Clock, SystemClock
from refunds.domain.identity import Identity
from refunds.domain.limits import NO_LIMITS, Limits
from refunds.environment import SettingsError
from refunds.lambda_runtime import new_token
from refunds.processing.approval import Approvals
from refunds.processing.balance import Balance
from refunds.processing.evidence import Evidence
from refunds.processing.limit_checks import LimitChecks
from refunds.processing.recorder import Recorder
from refunds.processing.review import Reviewer
from refunds.processing.settler import Settler
from refunds.settings import read_limits
from refunds.tables.audit_trail import AuditTable
from refunds.tables.ledger import LedgerTable
from refunds.tables.limit_counters import LimitCounters
from refunds.tables.refunds import RefundsTable
from refunds.tables.state import Control
from refunds_ops.audit import sources
from refunds_ops.errors import NotReadyError
from refunds_ops.stack.stack import Stack

GATEWAY_SECONDS = 60.0
_FIRST_WORDS = frozenset({"a", "at", "corrected", "leave", "say", "the", "there"})
"""The words with which our own texts begin. A refund's id or a person's name keeps its case."""


@dataclass(frozen=True)
class Deciding:
    refunds: RefundsTable
    ledger: LedgerTable
    settler: Settler
    clock: Clock

    def reviewer(self, limits: Limits) -> Reviewer:
        return Reviewer(self.refunds, self.settler, self.ledger, limits.approve_above)

    def approvals(self) -> Approvals:
        return Approvals(refunds=self.refunds, settler=self.settler, clock=self.clock)


def deciding(stack: Stack, who: Identity) -> Deciding:
    clock, dynamodb = SystemClock(), stack.dynamodb
    refunds = RefundsTable(dynamodb, stack["RefundsTableName"])
    ledger = LedgerTable(dynamodb, stack["LedgerTableName"])
    shares = LimitChecks(
        limits=NO_LIMITS,  # only gives shares back; the refund has its own share
        counters=LimitCounters(dynamodb, stack["LedgerTableName"]),
        refunds=refunds,
        control=Control(dynamodb, stack["LedgerTableName"]),
        clock=clock,
        new_token=new_token,
    )
    settler = Settler(
        refunds=refunds,
        recorder=Recorder(
            refunds=refunds,
            ledger=ledger,
            clock=clock,
            processed_by=who.arn,
            recheck_after=timedelta(minutes=5),
            give_back_share=shares.give_back,
        ),
        evidence=Evidence(
            sources.gateways(stack),
            Balance(ledger, refunds, AuditTable(dynamodb, stack["AuditTableName"])),
        ),
        clock=clock,
        new_token=new_token,
    )
    return Deciding(refunds, ledger, settler, clock)


def limits_of(stack: Stack) -> Limits:
    """The stack's limits, from the settings of its functions."""
    try:
        return read_limits(sources.settings_of(stack))
    except SettingsError as exc:
        raise NotReadyError(f"The limits of {stack.where} can't be read: {exc}.") from exc


def sentence(error: Exception) -> str:
    """The text of a protocol error, as a sentence."""
    text = str(error)
    first, _, rest = text.partition(" ")
    if first.rstrip(";") in _FIRST_WORDS:
        text = f"{first.capitalize()} {rest}"
    return f"{text}."
