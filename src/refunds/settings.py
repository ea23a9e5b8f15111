"""The settings of ProcessRefund and ReconcileRefunds, read from their environments.

Nothing here reads the environment. A handler passes ``os.environ``, tests pass a dict.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import NamedTuple

from refunds.domain.limits import DEFAULT_APPROVAL_DAYS, NO_LIMITS, Limits, parse_amounts
from refunds.environment import (
    Environment,
    SettingsError,
    TableNames,
    function_identity,
    number,
    text,
)
from refunds.gateways.contract import Stage
from refunds.gateways.routing import Route


class GatewayAccount(NamedTuple):
    """A gateway: the name of its adapter, its address, and the secret that contains its key.

    ``url`` None: the gateway's own public address. ``secret_field`` None: the secret is the key;
    otherwise the secret is a JSON object, and the key is its value of that name.
    """

    name: str
    url: str | None
    secret_arn: str
    secret_field: str | None = None
    options: frozenset[str] = frozenset()
    """The options that the routes give the adapter, for all refunds that begin from now on."""


class GatewaySettings(NamedTuple):
    """The gateways, which transactions go to which, and how long to wait for them."""

    accounts: tuple[GatewayAccount, ...]
    """The first takes every transaction that no route sends elsewhere."""
    routes: tuple[Route, ...]
    stage: Stage
    timeout_seconds: float
    recheck_after: timedelta
    """How soon the reconciler first checks a refund that stays open."""

    @classmethod
    def read(cls, environment: Environment) -> GatewaySettings:
        rules = _routing_rules(environment, environment.get("GATEWAY_ROUTES", ""))
        urls: dict[str, str | None] = {}
        options: dict[str, frozenset[str]] = {}
        for rule in rules:
            urls[rule.gateway] = rule.url or urls.get(rule.gateway)
            options[rule.gateway] = rule.options | options.get(rule.gateway, frozenset())
        name = text(environment, "GATEWAY")
        first = GatewayAccount(
            name,
            _tls_url(environment, "GATEWAY_URL", text(environment, "GATEWAY_URL")),
            text(environment, "GATEWAY_SECRET_ARN"),
            options=options.get(name, frozenset()),
        )
        others = tuple(
            GatewayAccount(
                name,
                url,
                text(environment, "ROUTED_SECRET_ARN"),
                secret_field=name,
                options=options[name],
            )
            for name, url in urls.items()
            if name != first.name
        )
        return cls(
            accounts=(first, *others),
            routes=tuple(Route(prefix, rule.gateway) for rule in rules for prefix in rule.prefixes),
            stage=Stage(_stage_name(environment.get("GATEWAY_STAGE", ""))),
            timeout_seconds=float(number(environment, "GATEWAY_TIMEOUT_SECONDS", 1, 60)),
            recheck_after=timedelta(
                seconds=number(environment, "RECONCILE_AFTER_SECONDS", 1, 3600)
            ),
        )


def read_limits(environment: Environment) -> Limits:
    """The limits, each off when it is not set. Raises ``SettingsError``."""

    def amounts(name: str) -> dict[str, int] | None:
        try:
            return parse_amounts(environment.get(name, ""))
        except ValueError as exc:
            raise SettingsError(f"{name} {exc}") from exc

    def count(name: str, least: int, most: int) -> int | None:
        return number(environment, name, least, most) if environment.get(name) else None

    return Limits(
        per_refund=amounts("LIMIT_PER_REFUND"),
        user_day=amounts("LIMIT_PER_USER_DAY"),
        day=amounts("LIMIT_PER_DAY"),
        user_count=count("LIMIT_COUNT_PER_USER_DAY", 0, 100_000) or None,
        approve_above=amounts("APPROVE_ABOVE_MINOR"),
        second_approval_above=amounts("SECOND_APPROVAL_ABOVE_MINOR"),
        stop_above=amounts("STOP_ABOVE_MINOR"),
        approval_days=count("APPROVAL_DAYS", 1, 30) or DEFAULT_APPROVAL_DAYS,
    )


class ProcessRefundSettings(NamedTuple):
    tables: TableNames
    gateways: GatewaySettings
    queue_url: str
    dead_letter_queue_url: str
    event_bus: str
    first_retry_seconds: int
    not_ready_for: timedelta
    """How long a request waits for a payment that is not captured, or not visible, yet."""
    processed_by: str
    limits: Limits = NO_LIMITS

    @classmethod
    def read(cls, environment: Environment) -> ProcessRefundSettings:
        return cls(
            tables=TableNames.read(environment),
            gateways=GatewaySettings.read(environment),
            queue_url=text(environment, "REFUND_QUEUE_URL"),
            dead_letter_queue_url=text(environment, "DEAD_LETTER_QUEUE_URL"),
            event_bus=text(environment, "EVENT_BUS_NAME"),
            first_retry_seconds=number(environment, "FIRST_RETRY_SECONDS", 1, 900),
            not_ready_for=timedelta(seconds=number(environment, "NOT_READY_SECONDS", 0, 86_400)),
            processed_by=function_identity(environment),
            limits=read_limits(environment),
        )


class ReconcileRefundsSettings(NamedTuple):
    tables: TableNames
    gateways: GatewaySettings
    dead_letter_queue_url: str
    failures_bucket: str
    requests_mapping_id: str
    """The event source mapping that brings requests from the queue to ProcessRefund."""
    audit_mapping_id: str
    """The event source mapping that brings the stream of Refunds to WriteAudit."""
    maximum_concurrency: int
    sweep_pages_at_once: int
    """How many pages of a gateway's list of refunds may be read at the same time."""
    processed_by: str
    limits: Limits = NO_LIMITS

    @classmethod
    def read(cls, environment: Environment) -> ReconcileRefundsSettings:
        return cls(
            tables=TableNames.read(environment),
            gateways=GatewaySettings.read(environment),
            dead_letter_queue_url=text(environment, "DEAD_LETTER_QUEUE_URL"),
            failures_bucket=text(environment, "FAILURES_BUCKET"),
            requests_mapping_id=text(environment, "REQUESTS_MAPPING_ID"),
            audit_mapping_id=text(environment, "AUDIT_MAPPING_ID"),
            maximum_concurrency=number(environment, "MAXIMUM_CONCURRENCY", 2, 1000),
            sweep_pages_at_once=number(environment, "SWEEP_PAGES_AT_ONCE", 1, 12),
            processed_by=function_identity(environment),
            limits=read_limits(environment),
        )


class _Rule(NamedTuple):
    prefixes: tuple[str, ...]
    gateway: str
    options: frozenset[str]
    url: str | None


_RULE = re.compile(
    r"(?P<prefixes>[A-Za-z0-9_-]+(\|[A-Za-z0-9_-]+)*)=(?P<gateway>[a-z][a-z0-9_]*)"
    r"(?P<options>(\+[a-z][a-z0-9_]*)*)(@(?P<url>\S+))?"
)


def _routing_rules(environment: Environment, rules: str) -> list[_Rule]:
    """``pi_|ch_=stripe+reverse_transfer,x-=acme@https://api.acme.example``: in each rule the
    prefixes of transaction ids, the gateway, the adapter's options, and the gateway's address if
    that is not the adapter's own."""
    found = []
    for rule in filter(None, rules.split(",")):
        if (match := _RULE.fullmatch(rule)) is None:
            raise SettingsError("GATEWAY_ROUTES must be rules such as pi_|ch_=stripe, with commas")
        url = match["url"] and _tls_url(environment, "GATEWAY_ROUTES", match["url"])
        prefixes = tuple(match["prefixes"].split("|"))
        options = frozenset(filter(None, match["options"].split("+")))
        found.append(_Rule(prefixes, match["gateway"], options, url))
    return found


def _tls_url(environment: Environment, setting: str, url: str) -> str:
    # The API key is sent to this address. Plain HTTP is for the local machine only.
    if not url.startswith("https://") and text(environment, "STAGE") != "local":
        raise SettingsError(f"{setting}: a gateway's address must begin with https://")
    return url


def _stage_name(name: str) -> str:
    # In a reference, a dot ends the stage's name, so the name must not contain one.
    if not re.fullmatch(r"[A-Za-z0-9_-]{0,20}", name):
        raise SettingsError("GATEWAY_STAGE must be at most 20 of A-Z, a-z, 0-9, _ and -")
    return name
