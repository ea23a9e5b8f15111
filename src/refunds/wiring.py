"""Building what the processor and the reconciler share from the environment, once a process."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from refunds.adapters import ADAPTERS, open_gateway
from refunds.audit_table import AuditTable
from refunds.aws_json import Secrets
from refunds.breaker import GatewayCalls, WatchedGateway
from refunds.control import Control
from refunds.gateway import Gateway
from refunds.http import PooledTransport
from refunds.ledger_table import LedgerTable
from refunds.refunds_table import RefundsTable
from refunds.reserving import Reserver
from refunds.routing import Gateways
from refunds.runtime import POOL_WIDTH, Aws, new_token
from refunds.settings import GatewayAccount, GatewaySettings, SettingsError, Tables
from refunds.settling import Settler
from refunds.times import Clock, SystemClock

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SECRET_SECONDS = 300


class SecretKey:
    """A gateway's key in Secrets Manager, cached for five minutes; never in the environment.

    ``field``: the secret is a JSON object, and the key is its value of that name.
    """

    def __init__(self, secrets: Secrets, clock: Clock, arn: str, field: str | None = None) -> None:
        self._secrets = secrets
        self._clock = clock
        self._arn = arn
        self._field = field
        self._value = ""
        self._until = 0.0
        self._lock = Lock()

    def get(self) -> str:
        # One thread asks, the others of its batch wait for what it gets. By the wall clock: the
        # monotonic one stands still while a function is frozen.
        with self._lock:
            if (now := self._clock.now().timestamp()) >= self._until:
                self._value = self._fetch()
                self._until = now + SECRET_SECONDS
            return self._value

    def forget(self) -> None:
        with self._lock:
            self._until = 0.0

    def _fetch(self) -> str:
        answer = self._secrets.get_secret_value(SecretId=self._arn)
        value = str(answer["SecretString"])
        if self._field is not None:
            value = _field_of(value, self._field)
        # A line break that came along when it was stored can't go into a header.
        return value.strip()


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
    gateways = gateways_from(settings, clock, aws.secrets(), calls)
    reserver = Reserver(ledger, gateways)
    return Parts(
        clock=clock,
        pool=ThreadPoolExecutor(POOL_WIDTH),
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
    secrets: Secrets,
    calls: GatewayCalls | None = None,
) -> Gateways:
    """The gateways that the settings name. Raises ``SettingsError`` for one that is not known."""
    found = [_gateway(account, settings, clock, secrets) for account in settings.accounts]
    watched = found if calls is None else [WatchedGateway(each, calls) for each in found]
    return Gateways(watched, settings.routes)


def _gateway(
    account: GatewayAccount, settings: GatewaySettings, clock: SystemClock, secrets: Secrets
) -> Gateway:
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
        api_key=SecretKey(secrets, clock, account.secret_arn, account.secret_field),
        # Each its own: how old an idle connection is must not be told by another gateway's traffic.
        transport=PooledTransport(POOL_WIDTH),
        clock=clock,
        timeout_seconds=settings.timeout_seconds,
        stage=settings.stage,
    )


jitter = random.SystemRandom().random
