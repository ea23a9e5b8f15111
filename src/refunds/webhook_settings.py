"""ReceiveWebhook's settings. They have their own module, because ``settings`` also loads the types
of gateways and limits."""

from __future__ import annotations

from typing import NamedTuple

from refunds.environment import Environment, text


class ReceiveWebhookSettings(NamedTuple):
    secret_arn: str
    reconcile_function: str

    @classmethod
    def read(cls, environment: Environment) -> ReceiveWebhookSettings:
        return cls(
            secret_arn=text(environment, "WEBHOOK_SECRET_ARN"),
            reconcile_function=text(environment, "RECONCILE_FUNCTION"),
        )
