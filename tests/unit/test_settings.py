"""The environment is read in one place, and what can't be is said by name."""

from __future__ import annotations

from datetime import timedelta

import pytest

from refunds.domain.clock import SystemClock
from refunds.environment import SettingsError, TableNames, function_identity, number, text
from refunds.gateways.contract import Stage
from refunds.gateways.routing import Route
from refunds.settings import GatewayAccount, GatewaySettings
from refunds.wiring.gateways import SecretKey, gateway_access, open_gateways

GATEWAY = {
    "STAGE": "prod",
    "GATEWAY": "flair",
    "GATEWAY_URL": "https://api.flair.example",
    "GATEWAY_SECRET_ARN": "arn:secret",
    "GATEWAY_TIMEOUT_SECONDS": "15",
    "RECONCILE_AFTER_SECONDS": "300",
}


Environment = dict[str, str]


@pytest.fixture
def environment() -> Environment:
    return dict(GATEWAY)


def test_the_gateways_settings_are_typed(environment: Environment) -> None:
    assert GatewaySettings.read(environment) == GatewaySettings(
        accounts=(GatewayAccount("flair", "https://api.flair.example", "arn:secret"),),
        routes=(),
        stage=Stage(),
        timeout_seconds=15.0,
        recheck_after=timedelta(minutes=5),
    )


@pytest.mark.parametrize("name", sorted(GATEWAY.keys() - {"STAGE"}))
def test_a_missing_setting_is_named(environment: Environment, name: str) -> None:
    del environment[name]
    with pytest.raises(SettingsError, match=name):
        GatewaySettings.read(environment)


@pytest.mark.parametrize("url", ["http://api.flair.example", "api.flair.example", "HTTP://x"])
def test_the_key_goes_nowhere_without_tls(environment: Environment, url: str) -> None:
    environment["GATEWAY_URL"] = url
    with pytest.raises(SettingsError, match="https://"):
        GatewaySettings.read(environment)


def test_the_local_stage_may_talk_to_its_sandbox_without_tls(
    environment: Environment,
) -> None:
    environment["STAGE"] = "local"
    environment["GATEWAY_URL"] = "http://127.0.0.1:8790"

    assert GatewaySettings.read(environment).accounts[0].url == "http://127.0.0.1:8790"


def test_a_gateway_without_an_adapter_is_not_guessed_at(environment: Environment) -> None:
    environment["GATEWAY"] = "strype"
    with pytest.raises(SettingsError, match=r"strype.*flair, stripe"):
        open_gateways(GatewaySettings.read(environment), gateway_access(), SystemClock())


def test_routes_bring_their_gateways_each_with_its_own_key(
    environment: Environment,
) -> None:
    environment["GATEWAY_ROUTES"] = "pi_|ch_=stripe,f-=flair,a_=acme@https://acme.example/v2"
    environment |= {"ROUTED_SECRET_ARN": "arn:routed"}
    settings = GatewaySettings.read(environment)

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


def test_options_of_a_route_hold_for_its_gateway_the_first_one_too(
    environment: Environment,
) -> None:
    environment["GATEWAY_ROUTES"] = (
        "pi_=stripe+reverse_transfer,ch_=stripe+refund_application_fee,f-=flair+x,"
        "a_=acme+y@https://acme.example"
    )
    environment |= {"ROUTED_SECRET_ARN": "arn:routed"}
    options = {each.name: each.options for each in GatewaySettings.read(environment).accounts}

    assert options == {
        "flair": {"x"},
        "stripe": {"reverse_transfer", "refund_application_fee"},
        "acme": {"y"},
    }


def test_an_option_that_the_adapter_lacks_is_refused(environment: Environment) -> None:
    environment["GATEWAY_ROUTES"] = "pi_=stripe+reverse_transfers"
    environment |= {"ROUTED_SECRET_ARN": "arn:routed"}
    with pytest.raises(SettingsError, match=r"reverse_transfers.*refund_application_fee"):
        open_gateways(GatewaySettings.read(environment), gateway_access(), SystemClock())


@pytest.mark.parametrize(
    "rules",
    [
        "stripe",
        "=stripe",
        "pi_=stripe+",
        "pi_=stripe+X",
        "pi_=",
        "pi_=Stripe",
        "pi_=stripe;ch_=stripe",
        "|pi_=stripe",
        "p i=x",
    ],
)
def test_a_rule_that_cant_be_read_is_refused(environment: Environment, rules: str) -> None:
    environment["GATEWAY_ROUTES"] = rules
    with pytest.raises(SettingsError, match="GATEWAY_ROUTES"):
        GatewaySettings.read(environment)


def test_a_routed_gateway_needs_tls_and_a_key_too(environment: Environment) -> None:
    environment["GATEWAY_ROUTES"] = "pi_=stripe@http://api.stripe.example"
    with pytest.raises(SettingsError, match="https://"):
        GatewaySettings.read(environment)
    environment["GATEWAY_ROUTES"] = "pi_=stripe"
    with pytest.raises(SettingsError, match="ROUTED_SECRET_ARN"):
        GatewaySettings.read(environment)


def test_where_a_routed_gateway_is_must_be_known(environment: Environment) -> None:
    environment["GATEWAY"] = "stripe"
    environment["GATEWAY_ROUTES"] = "f-=flair"
    environment |= {"ROUTED_SECRET_ARN": "arn:routed"}
    with pytest.raises(SettingsError, match=r"GATEWAY_ROUTES.*flair"):
        open_gateways(GatewaySettings.read(environment), gateway_access(), SystemClock())


@pytest.mark.parametrize("name", ["dev.eu", "d e", "x" * 21, "dév"])
def test_a_stages_name_can_end_at_a_dot_only(environment: Environment, name: str) -> None:
    environment["GATEWAY_STAGE"] = name
    with pytest.raises(SettingsError, match="GATEWAY_STAGE"):
        GatewaySettings.read(environment)


@pytest.mark.parametrize("value", ["", "0", "901", "-1", "1.5", " 5", "five", "٥", "1e2"])
def test_a_number_out_of_bounds_or_shape_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="FIRST_RETRY_SECONDS"):
        number({"FIRST_RETRY_SECONDS": value}, "FIRST_RETRY_SECONDS", 1, 900)


@pytest.mark.parametrize("value", ["1", "900"])
def test_the_bounds_of_a_number_are_within_it(value: str) -> None:
    assert number({"FIRST_RETRY_SECONDS": value}, "FIRST_RETRY_SECONDS", 1, 900) == int(value)


def test_an_empty_setting_counts_as_missing() -> None:
    with pytest.raises(SettingsError, match="REFUND_QUEUE_URL"):
        text({"REFUND_QUEUE_URL": ""}, "REFUND_QUEUE_URL")


def test_each_table_has_its_own_setting() -> None:
    environment = {name: name.lower() for name in ("REFUNDS_TABLE", "LEDGER_TABLE", "AUDIT_TABLE")}

    assert TableNames.read(environment) == TableNames(
        "refunds_table", "ledger_table", "audit_table"
    )


def test_who_processes_is_the_functions_name_and_version() -> None:
    environment = {"AWS_LAMBDA_FUNCTION_NAME": "ProcessRefund", "AWS_LAMBDA_FUNCTION_VERSION": "7"}

    assert function_identity(environment) == "ProcessRefund:7"


class Secrets:
    """A secret's store behind Powertools' cache: tells when it was asked in earnest."""

    def __init__(self, value: str) -> None:
        self.value = value
        self.asked: list[bool] = []

    def get(self, name: str, *, max_age: int, force_fetch: bool) -> str:
        assert (name, max_age) == ("arn:secret", 300)
        self.asked.append(force_fetch)
        return self.value


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> tuple[SecretKey, Secrets]:
    secrets = Secrets("sk_1\n")
    monkeypatch.setattr("refunds.wiring.gateways.SecretsProvider", lambda **_: secrets)
    return SecretKey("arn:secret"), secrets


def test_the_key_is_asked_for_anew_once_after_it_was_forgotten(
    key: tuple[SecretKey, Secrets],
) -> None:
    secret, secrets = key
    secret.get()
    secret.forget()
    secret.get()
    secret.get()

    assert secrets.asked == [False, True, False]


def test_a_line_break_stored_with_the_key_is_not_part_of_it(key: tuple[SecretKey, Secrets]) -> None:
    assert key[0].get() == "sk_1"


def test_a_routed_gateways_key_is_its_field_of_the_secret(
    key: tuple[SecretKey, Secrets],
) -> None:
    key[1].value = '{"stripe": "sk_2", "acme": "sk_3"}'

    assert SecretKey("arn:secret", "acme").get() == "sk_3"


@pytest.mark.parametrize("secret", ["sk_live_4", '{"stripe": "sk_live_4"}', '["sk_live_4"]', "{"])
def test_a_secret_without_the_field_is_not_repeated(
    key: tuple[SecretKey, Secrets], secret: str
) -> None:
    key[1].value = secret
    with pytest.raises(SettingsError, match="acme") as raised:
        SecretKey("arn:secret", "acme").get()

    assert "sk_live_4" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None


def test_the_key_is_in_no_repr(key: tuple[SecretKey, Secrets]) -> None:
    key[0].get()

    assert "sk_1" not in repr(key[0])
