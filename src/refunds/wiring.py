"""Building what the processor and the reconciler share from the environment, once a process."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_lambda_powertools.utilities.parameters import SecretsProvider

from refunds.breaker.breaker import GatewayCalls, WatchedGateway
from refunds.domain.clock import SystemClock
from refunds.gateways.contract import Gateway
from refunds.gateways.http import PooledTransport
from refunds.gateways.registry import ADAPTERS, open_gateway
from refunds.gateways.routing import Gateways
from refunds.lambda_runtime import CLIENT, POOL_WIDTH, Aws, new_token, thread_pool
from refunds.processing.reserver import Reserver
from refunds.processing.settler import Settler
from refunds.settings import GatewayAccount, GatewaySettings, SettingsError, Tables
from refunds.tables.audit_trail import AuditTable
from refunds.tables.ledger import LedgerTable
from refunds.tables.refunds import RefundsTable
from refunds.tables.state import Control

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SECRET_SECONDS = 300


class SecretKey:
    """A gateway's key in Secrets Manager, cached for five minutes; never in the environment.

    ``field``: the secret is a JSON object, and the key is its value of that name.
    """

    def __init__(self, arn: str, field: str | None = None) -> None:
        self._arn = arn
        self._field = field
        self._provider: SecretsProvider | None = None
        self._stale = False

    def get(self) -> str:
        if self._provider is None:
            # At the first call to the gateway, not at every cold start.
            self._provider = SecretsProvider(boto_config=CLIENT)
        value = self._provider.get(self._arn, max_age=SECRET_SECONDS, force_fetch=self._stale)
        self._stale = False
        if self._field is not None:
            value = _field_of(str(value), self._field)
        # A line break that came along when it was stored can't go into a header.
        return str(value).strip()

    def forget(self) -> None:
        self._stale = True


def _field_of(secret: str, field: str) -> str:
    # Nothing of the secret may get into the error, nor into its cause.
    try:
        fields = json.loads(secret)
    except ValueError:
        fields = None
    value = fields.get(field) if isinstance(fields, dict) else None
    if not isinstance(value, str):
        raise SettingsError(f'the secret of routed gateways must be JSON like {{"{field}": "key"}}')
    return value


@dataclass(frozen=True)
class Parts:
    """What both the processor and the reconciler are made of."""

    clock: SystemClock
    pool: ThreadPoolExecutor
    aws: Aws
    dynamodb: DynamoDBClient
    refunds: RefundsTable
    ledger: LedgerTable
    audit: AuditTable
    control: Control
    gateways: Gateways
    reserver: Reserver
    settler: Settler


def parts(processed_by: str, calls: GatewayCalls | None = None) -> Parts:
    """Everything, from the environment; ``calls`` notes which calls to the gateways get through.

    Raises ``SettingsError``.
    """
    tables, settings = Tables.from_environment(), GatewaySettings.from_environment()
    clock, aws = SystemClock(), Aws()
    dynamodb = aws.dynamodb()
    refunds = RefundsTable(dynamodb, tables.refunds)
    ledger = LedgerTable(dynamodb, tables.ledger)
    gateways = gateways_from(settings, clock, calls)
    reserver = Reserver(ledger, gateways)
    return Parts(
        clock=clock,
        pool=thread_pool(),
        aws=aws,
        dynamodb=dynamodb,
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
            new_token=new_token,
            processed_by=processed_by,
            recheck_after=settings.recheck_after,
        ),
    )


def gateways_from(
    settings: GatewaySettings,
    clock: SystemClock,
    calls: GatewayCalls | None = None,
) -> Gateways:
    """The gateways that the settings name. Raises ``SettingsError`` for one that is not known."""
    found = [_gateway(account, settings, clock) for account in settings.accounts]
    watched = found if calls is None else [WatchedGateway(each, calls) for each in found]
    return Gateways(watched, settings.routes)


def _gateway(account: GatewayAccount, settings: GatewaySettings, clock: SystemClock) -> Gateway:
    if (adapter := ADAPTERS.get(account.name)) is None:
        known = ", ".join(ADAPTERS)
        raise SettingsError(f"there is no gateway {account.name}; there are {known}")
    if (url := account.url or adapter.url) is None:
        raise SettingsError(
            f"GATEWAY_ROUTES must say where {account.name} is: …={account.name}@URL"
        )
    return open_gateway(
        adapter,
        base_url=url,
        api_key=SecretKey(account.secret_arn, account.secret_field),
        # Each its own: how old an idle connection is must not be told by another gateway's traffic.
        transport=PooledTransport(POOL_WIDTH),
        clock=clock,
        timeout_seconds=settings.timeout_seconds,
        stage=settings.stage,
    )


jitter = random.SystemRandom().random
