"""`refunds stack set-key`: the key goes to Secrets Manager and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator

import boto3
import pytest
from click.testing import CliRunner, Result
from moto import mock_aws
from tests.support.moto_stack import REGION

from refunds_ops.cli import cli
from refunds_ops.errors import NotReadyError, RefusedError

KEY = "sk_test_8c1f"


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The stack's two secrets, by the output that names each."""
    with mock_aws():
        client = boto3.client("secretsmanager", region_name=REGION)
        made = {
            "GatewaySecretArn": client.create_secret(Name="one", SecretString="not-set")["ARN"],
            "RoutedGatewaySecretArn": client.create_secret(Name="more", SecretString="{}")["ARN"],
        }
        for name, value in {**made, "AWS_REGION": REGION, "RefundsTableName": "Refunds"}.items():
            monkeypatch.setenv(name, value)
        yield made


def run(*arguments: str, typed: str) -> Result:
    return CliRunner().invoke(
        cli, ["stack", "set-key", *arguments], input=typed, standalone_mode=False
    )


def stored(arn: str) -> str:
    client = boto3.client("secretsmanager", region_name=REGION)
    return client.get_secret_value(SecretId=arn)["SecretString"]


def test_the_key_is_stored_and_not_shown(secrets: dict[str, str]) -> None:
    result = run(typed=f"  {KEY}\n")
    assert stored(secrets["GatewaySecretArn"]) == KEY
    assert KEY not in result.output
    assert stored(secrets["RoutedGatewaySecretArn"]) == "{}"


def test_json_says_where_the_key_is_and_not_the_key(secrets: dict[str, str]) -> None:
    result = run("--json", typed=f"{KEY}\n")
    shown = result.stdout[result.stdout.index("{") :]
    assert json.loads(shown) == {"secret": secrets["GatewaySecretArn"]}
    assert KEY not in result.output


def test_another_gateways_key_joins_those_that_are_there(secrets: dict[str, str]) -> None:
    run("--gateway-name", "stripe", typed=f"{KEY}\n")
    run("--gateway-name", "acme", typed="other\n")
    assert json.loads(stored(secrets["RoutedGatewaySecretArn"])) == {"stripe": KEY, "acme": "other"}


@pytest.mark.parametrize("typed", ["\n", "two words\n", ""])
def test_what_can_be_no_key_is_not_stored(secrets: dict[str, str], typed: str) -> None:
    result = run(typed=typed)
    assert isinstance(result.exception, RefusedError)
    assert stored(secrets["GatewaySecretArn"]) == "not-set"


def test_a_stack_with_one_gateway_has_no_key_to_choose(
    secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RoutedGatewaySecretArn")
    error = run("--gateway-name", "stripe", typed=f"{KEY}\n").exception
    assert isinstance(error, NotReadyError)
    assert "Leave --gateway-name out" in error.to_do[0]
    assert stored(secrets["GatewaySecretArn"]) == "not-set"
