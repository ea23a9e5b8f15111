"""The stages of samconfig.toml, and secrets that are in neither file."""

from __future__ import annotations

import re
import tomllib

import pytest
from tests.support.expanded_template import (
    ENVIRONMENT,
    FUNCTIONS,
    ROOT,
    Check,
    Edit,
    ExpandedTemplate,
    Json,
    assert_each_has_an_edit,
    assert_noticed,
    load_template,
    put,
    strings_in,
)

from refunds.gateways.registry import ADAPTERS

LOOKS_SECRET = re.compile(
    r"(sk|rk|pk|whsec)_[a-z0-9_]{4,}|AKIA[0-9A-Z]{12,}|-----BEGIN|Bearer\s+\S{8,}"
    r"|(?=\S*[0-9])(?=\S*[A-Z])(?=\S*[a-z])[A-Za-z0-9+/_=-]{32,}",
)


def test_no_secret_is_written_into_the_template_or_a_stage(stack: ExpandedTemplate) -> None:
    stages = tomllib.loads((ROOT / "samconfig.toml").read_text())
    assert not _secrets_in(stack.template)
    assert not _secrets_in(stages)
    assert stack["GatewaySecret"]["SecretString"] == "not-set"
    for name in FUNCTIONS:
        for variable in stack[name]["Environment"]["Variables"]:
            # The function reads the key from Secrets Manager; the environment says only where.
            assert not re.search(r"(KEY|SECRET)(?!_ARN$)|TOKEN|PASSWORD", variable), variable


def _secrets_in(document: Json) -> list[tuple[str, str]]:
    return [(path, text) for path, text in strings_in(document) if LOOKS_SECRET.search(text)]


def test_stages_name_no_account_and_call_the_gateway_over_https() -> None:
    text = (ROOT / "samconfig.toml").read_text()
    stages = tomllib.loads(text)
    assert not re.search(r"\d{12}", text)
    assert stages["default"] == stages["dev"]
    for stage in ("default", "dev", "prod"):
        settings = stages[stage]
        assert settings["build"]["parameters"]["beta_features"] is True  # python-uv
        overrides = settings["deploy"]["parameters"]["parameter_overrides"]
        assert any(override.startswith("GatewayUrl=https://") for override in overrides)
    assert "Stage=prod" in stages["prod"]["deploy"]["parameters"]["parameter_overrides"]
    assert stages["prod"]["deploy"]["parameters"]["confirm_changeset"] is True


def test_every_gateway_that_has_an_adapter_can_be_chosen(stack: ExpandedTemplate) -> None:
    assert stack.template["Parameters"]["GatewayName"]["AllowedValues"] == list(ADAPTERS)


@pytest.mark.parametrize(
    "rules",
    ["", "pi_=stripe", "pi_|ch_=stripe,f-=flair@https://api.flair.example", "x=a@https://b:1"],
)
def test_routes_that_the_functions_understand_can_be_deployed(rules: str) -> None:
    definition = load_template()["Parameters"]["GatewayRoutes"]
    assert re.fullmatch(definition["AllowedPattern"], rules)


# --- Do the checks notice? ------------------------------------------------------------------------

EDITS: list[tuple[Check, Edit]] = [
    (
        test_no_secret_is_written_into_the_template_or_a_stage,
        put(f"ProcessRefund.{ENVIRONMENT}.GATEWAY", "sk_live_51H"),
    ),
    (
        test_no_secret_is_written_into_the_template_or_a_stage,
        put("/Parameters.GatewayName.Default", "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4MTIz"),
    ),
    (
        test_no_secret_is_written_into_the_template_or_a_stage,
        put(f"ProcessRefund.{ENVIRONMENT}.GATEWAY_API_KEY", {"Ref": "GatewayName"}),
    ),
    (
        test_no_secret_is_written_into_the_template_or_a_stage,
        put("GatewaySecret.Properties.SecretString", "flair-7731"),
    ),
    (
        test_every_gateway_that_has_an_adapter_can_be_chosen,
        put("/Parameters.GatewayName.AllowedValues", ["flair"]),
    ),
]


@pytest.mark.parametrize(("check", "edit"), EDITS, ids=lambda value: value.__name__)
def test_the_checks_notice(template: Json, check: Check, edit: Edit) -> None:
    assert_noticed(template, check, edit)


def test_every_check_has_an_edit() -> None:
    assert_each_has_an_edit(globals(), EDITS)
