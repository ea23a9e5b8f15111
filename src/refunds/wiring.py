"""Building what the processor and the reconciler share from the environment, once a process."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from aws_lambda_powertools.utilities.parameters import SecretsProvider

from refunds.audit_table import AuditTable
from refunds.control import Control
from refunds.flair import FlairGateway
from refunds.gateway import Gateway
from refunds.http import PooledTransport
from refunds.ledger_table import LedgerTable
from refunds.refunds_table import RefundsTable
from refunds.reserving import Reserver
from refunds.runtime import CLIENT, POOL_WIDTH, new_token
from refunds.settings import GatewaySettings, SettingsError, Tables
from refunds.settling import Settler
from refunds.times import SystemClock

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SECRET_SECONDS = 300


class SecretKey:
    """The gateway's key in Secrets Manager, cached for five minutes; never in the environment."""

    def __init__(self, arn: str) -> None:
        self._arn = arn
        self._provider = SecretsProvider(boto_config=CLIENT)
        self._stale = False

    def get(self) -> str:
        value = self._provider.get(self._arn, max_age=SECRET_SECONDS, force_fetch=self._stale)
        self._stale = False
        # A line break that came along when it was stored can't go into a header.
        return str(value).strip()

    def forget(self) -> None:
        self._stale = True


@dataclass(frozen=True)
class Parts:
    """What both the processor and the reconciler are made of."""

    clock: SystemClock
    pool: ThreadPoolExecutor
    dynamodb: DynamoDBClient
    refunds: RefundsTable
    ledger: LedgerTable
    audit: AuditTable
    control: Control
    gateway: Gateway
    reserver: Reserver
    settler: Settler


def parts(processed_by: str) -> Parts:
    """Everything, from the environment. Raises ``SettingsError``."""
    tables, settings = Tables.from_environment(), GatewaySettings.from_environment()
    clock = SystemClock()
    dynamodb = boto3.client("dynamodb", config=CLIENT)
    refunds = RefundsTable(dynamodb, tables.refunds)
    ledger = LedgerTable(dynamodb, tables.ledger)
    gateway = gateway_from(settings, clock)
    reserver = Reserver(ledger, gateway)
    return Parts(
        clock=clock,
        pool=ThreadPoolExecutor(POOL_WIDTH),
        dynamodb=dynamodb,
        refunds=refunds,
        ledger=ledger,
        audit=AuditTable(dynamodb, tables.audit),
        control=Control(dynamodb, tables.ledger),
        gateway=gateway,
        reserver=reserver,
        settler=Settler(
            refunds=refunds,
            ledger=ledger,
            reserver=reserver,
            gateway=gateway,
            clock=clock,
            new_token=new_token,
            processed_by=processed_by,
            recheck_after=settings.recheck_after,
        ),
    )


def gateway_from(settings: GatewaySettings, clock: SystemClock) -> Gateway:
    """The gateway that the settings name. Raises ``SettingsError`` for one that is not known."""
    if settings.name != "flair":
        raise SettingsError(f"GATEWAY is {settings.name}, but only flair is known")
    return FlairGateway(
        base_url=settings.url,
        api_key=SecretKey(settings.secret_arn),
        transport=PooledTransport(POOL_WIDTH),
        clock=clock,
        timeout_seconds=settings.timeout_seconds,
    )


jitter = random.SystemRandom().random
