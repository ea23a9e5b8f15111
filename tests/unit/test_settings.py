"""The environment is read in one place, and what can't be is said by name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.unit.factories import FakeClock

from refunds.gateway import Stage
from refunds.routing import Gateways, Route
from refunds.settings import (
    GatewayAccount,
    GatewaySettings,
    SettingsError,
    Tables,
    function_identity,
    number,
    text,
)
from refunds.times import SystemClock
from refunds.wiring import SecretKey, gateways_from

GATEWAY = {
    "STAGE": "prod",
    "GATEWAY": "flair",
    "GATEWAY_URL": "https://api.flair.example",
    "GATEWAY_SECRET_ARN": "arn:secret",
    "GATEWAY_TIMEOUT_SECONDS": "15",
    "RECONCILE_AFTER_SECONDS": "300",
}


def gateways_of(settings: GatewaySettings) -> Gateways:
    no_secrets: Any = None
    return gateways_from(settings, SystemClock(), no_secrets)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in GATEWAY.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_the_gateways_settings_are_typed(environment: pytest.MonkeyPatch) -> None:
    assert GatewaySettings.from_environment() == GatewaySettings(
        accounts=(GatewayAccount("flair", "https://api.flair.example", "arn:secret"),),
        routes=(),
        stage=Stage(),
        timeout_seconds=15.0,
        recheck_after=timedelta(minutes=5),
    )


@pytest.mark.parametrize("name", sorted(GATEWAY.keys() - {"STAGE"}))
def test_a_missing_setting_is_named(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.delenv(name)
    with pytest.raises(SettingsError, match=name):
        GatewaySettings.from_environment()


@pytest.mark.parametrize("url", ["http://api.flair.example", "api.flair.example", "HTTP://x"])
def test_the_key_goes_nowhere_without_tls(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("GATEWAY_URL", url)
    with pytest.raises(SettingsError, match="https://"):
        GatewaySettings.from_environment()


def test_the_local_stage_may_talk_to_its_sandbox_without_tls(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("STAGE", "local")
    environment.setenv("GATEWAY_URL", "http://127.0.0.1:8790")

    assert GatewaySettings.from_environment().accounts[0].url == "http://127.0.0.1:8790"


def test_a_gateway_without_an_adapter_is_not_guessed_at(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("GATEWAY", "strype")
    with pytest.raises(SettingsError, match=r"strype.*flair, stripe"):
        gateways_of(GatewaySettings.from_environment())


def test_routes_bring_their_gateways_each_with_its_own_key(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("GATEWAY_ROUTES", "pi_|ch_=stripe,f-=flair,a_=acme@https://acme.example/v2")
    environment.setenv("ROUTED_SECRET_ARN", "arn:routed")
    settings = GatewaySettings.from_environment()

    assert settings.accounts == (
        GatewayAccount("flair", "https://api.flair.example", "arn:secret"),
        GatewayAccount("stripe", None, "arn:routed", secret_field="stripe"),  # noqa: S106
        GatewayAccount("acme", "https://acme.example/v2", "arn:routed", secret_field="acme"),  # noqa: S106
    )
    assert settings.routes == (
        Route("pi_", "stripe"),
        Route("ch_", "stripe"),
        Route("f-", "flair"),
        Route("a_", "acme"),
    )


@pytest.mark.parametrize(
    "rules",
    ["stripe", "=stripe", "pi_=", "pi_=Stripe", "pi_=stripe;ch_=stripe", "|pi_=stripe", "p i=x"],
)
def test_a_rule_that_cant_be_read_is_refused(environment: pytest.MonkeyPatch, rules: str) -> None:
    environment.setenv("GATEWAY_ROUTES", rules)
    with pytest.raises(SettingsError, match="GATEWAY_ROUTES"):
        GatewaySettings.from_environment()


def test_a_routed_gateway_needs_tls_and_a_key_too(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("GATEWAY_ROUTES", "pi_=stripe@http://api.stripe.example")
    with pytest.raises(SettingsError, match="https://"):
        GatewaySettings.from_environment()
    environment.setenv("GATEWAY_ROUTES", "pi_=stripe")
    with pytest.raises(SettingsError, match="ROUTED_SECRET_ARN"):
        GatewaySettings.from_environment()


def test_where_a_routed_gateway_is_must_be_known(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("GATEWAY", "stripe")
    environment.setenv("GATEWAY_ROUTES", "f-=flair")
    environment.setenv("ROUTED_SECRET_ARN", "arn:routed")
    with pytest.raises(SettingsError, match=r"GATEWAY_ROUTES.*flair"):
        gateways_of(GatewaySettings.from_environment())


@pytest.mark.parametrize("name", ["dev.eu", "d e", "x" * 21, "dév"])
def test_a_stages_name_can_end_at_a_dot_only(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.setenv("GATEWAY_STAGE", name)
    with pytest.raises(SettingsError, match="GATEWAY_STAGE"):
        GatewaySettings.from_environment()


@pytest.mark.parametrize("value", ["", "0", "901", "-1", "1.5", " 5", "five", "٥", "1e2"])
def test_a_number_out_of_bounds_or_shape_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("FIRST_RETRY_SECONDS", value)
    with pytest.raises(SettingsError, match="FIRST_RETRY_SECONDS"):
        number("FIRST_RETRY_SECONDS", 1, 900)


@pytest.mark.parametrize("value", ["1", "900"])
def test_the_bounds_of_a_number_are_within_it(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("FIRST_RETRY_SECONDS", value)

    assert number("FIRST_RETRY_SECONDS", 1, 900) == int(value)


def test_an_empty_setting_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_QUEUE_URL", "")
    with pytest.raises(SettingsError, match="REFUND_QUEUE_URL"):
        text("REFUND_QUEUE_URL")


def test_each_table_has_its_own_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REFUNDS_TABLE", "LEDGER_TABLE", "AUDIT_TABLE"):
        monkeypatch.setenv(name, name.lower())

    assert Tables.from_environment() == Tables("refunds_table", "ledger_table", "audit_table")


def test_who_processes_is_the_functions_name_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "ProcessRefund")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_VERSION", "7")

    assert function_identity() == "ProcessRefund:7"


class SecretStore:
    """Secrets Manager, which counts how often it is asked."""

    def __init__(self, value: str) -> None:
        self.value = value
        self.asked = 0

    def get_secret_value(self, *, SecretId: str) -> dict[str, str]:  # noqa: N803 - AWS's name
        assert SecretId == "arn:secret"
        self.asked += 1
        return {"SecretString": self.value}


class Keys:
    """Makes keys that come from one store, by one clock."""

    def __init__(self) -> None:
        self.store = SecretStore("sk_1\n")
        self.clock = FakeClock()

    def key(self, field: str | None = None) -> SecretKey:
        store: Any = self.store
        return SecretKey(store, self.clock, "arn:secret", field)


@pytest.fixture
def keys() -> Keys:
    return Keys()


def test_the_key_is_asked_for_once_in_five_minutes(keys: Keys) -> None:
    key = keys.key()
    key.get()
    keys.clock.advance(minutes=5, microseconds=-1)
    key.get()
    assert keys.store.asked == 1

    keys.store.value = "sk_2"
    keys.clock.advance(microseconds=1)
    assert key.get() == "sk_2"


def test_the_key_is_asked_for_anew_once_after_it_was_forgotten(keys: Keys) -> None:
    key = keys.key()
    key.get()
    key.forget()
    keys.store.value = "sk_2"

    assert [key.get(), key.get()] == ["sk_2", "sk_2"]
    assert keys.store.asked == 2


def test_a_store_that_fails_is_asked_again_by_the_next(keys: Keys) -> None:
    key, store = keys.key(), keys.store

    def down(**arguments: str) -> dict[str, str]:
        raise RuntimeError

    keys.store.get_secret_value = down  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        key.get()
    del store.get_secret_value
    assert key.get() == "sk_1"


def test_a_line_break_stored_with_the_key_is_not_part_of_it(keys: Keys) -> None:
    assert keys.key().get() == "sk_1"


def test_a_routed_gateways_key_is_its_field_of_the_secret(keys: Keys) -> None:
    keys.store.value = '{"stripe": "sk_2", "acme": "sk_3"}'

    assert keys.key("acme").get() == "sk_3"


@pytest.mark.parametrize("secret", ["sk_live_4", '{"stripe": "sk_live_4"}', '["sk_live_4"]', "{"])
def test_a_secret_without_the_field_is_not_repeated(keys: Keys, secret: str) -> None:
    keys.store.value = secret
    with pytest.raises(SettingsError, match="acme") as raised:
        keys.key("acme").get()

    assert "sk_live_4" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None


def test_the_key_is_in_no_repr(keys: Keys) -> None:
    key = keys.key()
    key.get()

    assert "sk_1" not in repr(key)
