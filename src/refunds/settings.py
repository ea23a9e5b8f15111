"""The environment, read once: the only file that knows its names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta


class SettingsError(Exception):
    """The environment lacks a setting or has a value that can't be."""


@dataclass(frozen=True)
class Tables:
    refunds: str
    ledger: str
    audit: str

    @classmethod
    def from_environment(cls) -> Tables:
        return cls(text("REFUNDS_TABLE"), text("LEDGER_TABLE"), text("AUDIT_TABLE"))


@dataclass(frozen=True)
class GatewaySettings:
    """Which gateway, where, and how patient to be with it."""

    name: str
    url: str
    secret_arn: str
    timeout_seconds: float
    recheck_after: timedelta

    @classmethod
    def from_environment(cls) -> GatewaySettings:
        url = text("GATEWAY_URL")
        # The key goes to whoever answers there; only on one's own machine will less than TLS do.
        if not url.startswith("https://") and text("STAGE") != "local":
            raise SettingsError("GATEWAY_URL must begin with https://")
        return cls(
            name=text("GATEWAY"),
            url=url,
            secret_arn=text("GATEWAY_SECRET_ARN"),
            timeout_seconds=float(number("GATEWAY_TIMEOUT_SECONDS", 1, 60)),
            recheck_after=timedelta(seconds=number("RECONCILE_AFTER_SECONDS", 1, 3600)),
        )


def text(name: str) -> str:
    """A setting that must be there. Raises ``SettingsError``."""
    if value := os.environ.get(name):
        return value
    raise SettingsError(f"the environment has no {name}: see template.yaml for what it should be")


def number(name: str, least: int, most: int) -> int:
    """A whole number within bounds. Raises ``SettingsError``."""
    value = text(name)
    if value.isascii() and value.isdigit() and least <= int(value) <= most:
        return int(value)
    raise SettingsError(f"{name} must be a whole number from {least} to {most}")


def function_identity() -> str:
    """Who processes, for the audit trail: the function's name and version."""
    return f"{text('AWS_LAMBDA_FUNCTION_NAME')}:{text('AWS_LAMBDA_FUNCTION_VERSION')}"
