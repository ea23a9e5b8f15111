"""Opens the gateways that the settings name, with their keys from Secrets Manager."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from aws_lambda_powertools.utilities.parameters import SecretsProvider

from refunds.domain.clock import Clock
from refunds.environment import SettingsError
from refunds.gateways.contract import ApiKey, Gateway
from refunds.gateways.http import HttpTransport, PooledTransport
from refunds.gateways.registry import ADAPTERS, open_gateway
from refunds.lambda_runtime import DEFAULT_CLIENT_CONFIG, POOL_WIDTH
from refunds.settings import GatewayAccount, GatewaySettings

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

SECRET_CACHE_SECONDS = 300


class SecretKey:
    """A gateway's key in Secrets Manager, cached for five minutes; never in the environment.

    ``field``: the secret is a JSON object, and the key is its value of that name. ``client`` None:
    one with this process's credentials.
    """

    def __init__(
        self, arn: str, field: str | None = None, client: SecretsManagerClient | None = None
    ) -> None:
        self._arn = arn
        self._field = field
        self._client = client
        self._provider: SecretsProvider | None = None
        self._stale = False

    def get(self) -> str:
        if self._provider is None:
            # Built at the first call to the gateway: many environments never make one.
            self._provider = SecretsProvider(
                boto_config=DEFAULT_CLIENT_CONFIG, boto3_client=self._client
            )
        value = self._provider.get(self._arn, max_age=SECRET_CACHE_SECONDS, force_fetch=self._stale)
        self._stale = False
        if self._field is not None:
            value = _field_of(str(value), self._field)
        # Strips a line break that was stored with the key, because a header can't contain one.
        return str(value).strip()

    def forget(self) -> None:
        self._stale = True


def _field_of(secret: str, field: str) -> str:
    # No part of the secret may get into the error or its cause.
    try:
        fields = json.loads(secret)
    except ValueError:
        fields = None
    value = fields.get(field) if isinstance(fields, dict) else None
    if not isinstance(value, str):
        raise SettingsError(f'the secret of routed gateways must be JSON like {{"{field}": "key"}}')
    return value


class GatewayAccess(NamedTuple):
    """Reaches accounts. Each account has its own transport, so that the age of its idle connections
    does not depend on another gateway's traffic."""

    api_key: Callable[[GatewayAccount], ApiKey]
    transport: Callable[[GatewayAccount], HttpTransport]


def gateway_access() -> GatewayAccess:
    """Keys from Secrets Manager, calls over HTTPS."""
    return GatewayAccess(
        api_key=lambda account: SecretKey(account.secret_arn, account.secret_field),
        transport=lambda account: PooledTransport(POOL_WIDTH),
    )


def open_gateways(settings: GatewaySettings, access: GatewayAccess, clock: Clock) -> list[Gateway]:
    """The gateways that the settings name, in their order.

    Raises ``SettingsError`` for a gateway that has no adapter.
    """
    return [_open_gateway(account, settings, access, clock) for account in settings.accounts]


def _open_gateway(
    account: GatewayAccount, settings: GatewaySettings, access: GatewayAccess, clock: Clock
) -> Gateway:
    if (adapter := ADAPTERS.get(account.name)) is None:
        known = ", ".join(ADAPTERS)
        raise SettingsError(f"there is no gateway {account.name}; there are {known}")
    if (url := account.url or adapter.url) is None:
        raise SettingsError(
            f"GATEWAY_ROUTES must say where {account.name} is: …={account.name}@URL"
        )
    try:
        return open_gateway(
            adapter,
            base_url=url,
            api_key=access.api_key(account),
            transport=access.transport(account),
            clock=clock,
            timeout_seconds=settings.timeout_seconds,
            stage=settings.stage,
            options=account.options,
        )
    except ValueError as exc:
        raise SettingsError(f"the gateway {account.name} can't be used: {exc}") from exc
