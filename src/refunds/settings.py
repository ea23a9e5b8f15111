"""The environment, read once: the only file that knows its names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import timedelta

from refunds.gateways.contract import Stage
from refunds.gateways.routing import Route


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
class GatewayAccount:
    """A gateway by its adapter's name, where it is, and where its key is.

    ``url`` None is the gateway's own public address. ``secret_field`` None means that the secret
    is the key, else it is a JSON object with the key under that name.
    """

    name: str
    url: str | None
    secret_arn: str
    secret_field: str | None = None


@dataclass(frozen=True)
class GatewaySettings:
    """Which gateways, which transactions go where, and how patient to be with them."""

    accounts: tuple[GatewayAccount, ...]
    """The first takes every transaction that no route sends elsewhere."""
    routes: tuple[Route, ...]
    stage: Stage
    timeout_seconds: float
    recheck_after: timedelta

    @classmethod
    def from_environment(cls) -> GatewaySettings:
        first = GatewayAccount(
            text("GATEWAY"), _tls(text("GATEWAY_URL"), "GATEWAY_URL"), text("GATEWAY_SECRET_ARN")
        )
        routes, urls = _routes(os.environ.get("GATEWAY_ROUTES", ""))
        others = tuple(
            GatewayAccount(name, url, text("ROUTED_SECRET_ARN"), secret_field=name)
            for name, url in urls.items()
            if name != first.name
        )
        return cls(
            accounts=(first, *others),
            routes=routes,
            stage=Stage(_stage_name(os.environ.get("GATEWAY_STAGE", ""))),
            timeout_seconds=float(number("GATEWAY_TIMEOUT_SECONDS", 1, 60)),
            recheck_after=timedelta(seconds=number("RECONCILE_AFTER_SECONDS", 1, 3600)),
        )


def _routes(rules: str) -> tuple[tuple[Route, ...], dict[str, str | None]]:
    """``pi_|ch_=stripe,x-=acme@https://api.acme.example``: for each rule, prefixes of transaction
    ids, the gateway, and its address if it isn't the adapter's own."""
    routes: list[Route] = []
    urls: dict[str, str | None] = {}
    for rule in filter(None, rules.split(",")):
        found = _RULE.fullmatch(rule)
        if found is None:
            raise SettingsError("GATEWAY_ROUTES must be rules such as pi_|ch_=stripe, with commas")
        name, url = found["gateway"], found["url"]
        routes += [Route(prefix, name) for prefix in found["prefixes"].split("|")]
        urls[name] = _tls(url, "GATEWAY_ROUTES") if url else urls.get(name)
    return tuple(routes), urls


_RULE = re.compile(
    r"(?P<prefixes>[A-Za-z0-9_-]+(\|[A-Za-z0-9_-]+)*)=(?P<gateway>[a-z][a-z0-9_]*)(@(?P<url>\S+))?"
)


def _tls(url: str, setting: str) -> str:
    # The key goes to whoever answers there; only on one's own machine will less than TLS do.
    if not url.startswith("https://") and text("STAGE") != "local":
        raise SettingsError(f"{setting}: a gateway's address must begin with https://")
    return url


def _stage_name(name: str) -> str:
    # A dot ends the stage's name in a reference, so it can't be in it.
    if not re.fullmatch(r"[A-Za-z0-9_-]{0,20}", name):
        raise SettingsError("GATEWAY_STAGE must be at most 20 of A-Z, a-z, 0-9, _ and -")
    return name


@dataclass(frozen=True)
class BackupSettings:
    """Where backups go, which keys encrypt and sign them, and how hard the tables are read."""

    bucket: str
    data_key_arn: str
    signing_key_arn: str
    compression: str
    read_units_per_second: int
    """Over all of a scan's segments; 0 is no limit."""
    native_above_bytes: int
    """From this size on DynamoDB exports Refunds itself; 0 is never."""

    @classmethod
    def from_environment(cls) -> BackupSettings:
        return cls(
            bucket=text("BACKUP_BUCKET"),
            data_key_arn=text("BACKUP_DATA_KEY_ARN"),
            signing_key_arn=text("BACKUP_SIGNING_KEY_ARN"),
            compression=text("BACKUP_COMPRESSION"),
            read_units_per_second=number("BACKUP_READ_UNITS_PER_SECOND", 0, 1_000_000),
            native_above_bytes=number("BACKUP_NATIVE_ABOVE_GIB", 0, 1_000_000) * 1024**3,
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
