"""The parameters: their limits, the order they are asked in, and combinations that are refused."""

from __future__ import annotations

import re
import tomllib

import pytest
from tests.support.expanded_template import (
    ENVIRONMENT,
    ROOT,
    Check,
    Edit,
    ExpandedTemplate,
    Json,
    assert_each_has_an_edit,
    assert_noticed,
    drop,
    load_template,
    put,
)

PROD = {
    "Stage": "prod",
    "AlarmEmail": "payments@shop.example",
    "BackupLockMode": "GOVERNANCE",
    "LogRetentionDays": "365",
}


def test_the_defaults_are_allowed(stack: ExpandedTemplate) -> None:
    assert stack.refused_by() == []
    assert stack.given(Webhooks="true").refused_by() == []
    assert stack.given(**PROD).refused_by() == []


def test_prod_needs_somebody_who_gets_its_alarms(stack: ExpandedTemplate) -> None:
    (why,) = stack.given(**PROD | {"AlarmEmail": ""}).refused_by()
    assert "Set AlarmEmail" in why


def test_prod_needs_a_decision_about_locking_backups(stack: ExpandedTemplate) -> None:
    (why,) = stack.given(**PROD | {"BackupLockMode": "UNDECIDED"}).refused_by()
    assert "Set BackupLockMode" in why
    assert stack.parameters["BackupLockMode"] == "UNDECIDED"
    assert stack.given(**PROD | {"BackupLockMode": "NONE"}).refused_by() == []


def test_only_the_local_stage_calls_a_gateway_over_plain_http(stack: ExpandedTemplate) -> None:
    local = {"GatewayUrl": "", "LocalGatewayUrl": "http://127.0.0.1:8790"}
    assert stack.given(**local).refused_by() == []
    assert all("GatewayUrl" in why for why in stack.given(**local, Stage="dev").refused_by())
    for stage in (PROD, {"Stage": "dev"}):
        assert len(stack.given(**stage | local).refused_by()) == 2
        beside = stage | {"LocalGatewayUrl": "http://127.0.0.1:8790"}
        (why,) = stack.given(**beside).refused_by()
        assert "over plain http" in why
    for name in ("ProcessRefund", "ReconcileRefunds"):
        variables = stack.given(**local)[name]["Environment"]["Variables"]
        assert variables["GATEWAY_URL"] == local["LocalGatewayUrl"]
        assert stack[name]["Environment"]["Variables"]["GATEWAY_URL"] == "https://gateway.example"


def test_a_stack_without_a_gateway_is_refused(stack: ExpandedTemplate) -> None:
    for stage in (PROD, {"Stage": "dev"}, {"Stage": "local"}):
        (why,) = stack.given(**stage | {"GatewayUrl": ""}).refused_by()
        assert "Set GatewayUrl" in why


def test_prod_keeps_its_logs_for_a_year(stack: ExpandedTemplate) -> None:
    for days in stack.template["Parameters"]["LogRetentionDays"]["AllowedValues"]:
        refused = stack.given(**PROD | {"LogRetentionDays": str(days)}).refused_by()
        assert len(refused) == (days < 365), days


def test_prod_does_not_log_at_debug(stack: ExpandedTemplate) -> None:
    (why,) = stack.given(**PROD | {"LogLevel": "DEBUG"}).refused_by()
    assert "Set LogLevel" in why


def test_prod_bounds_what_webhooks_may_take(stack: ExpandedTemplate) -> None:
    (why,) = stack.given(**PROD | {"Webhooks": "true"}).refused_by()
    assert "Set WebhookConcurrency" in why
    asked = PROD | {"Webhooks": "true", "WebhookConcurrency": "5"}
    assert stack.given(**asked).refused_by() == []


def test_what_lambda_cannot_do_is_refused_before_anything_changes(stack: ExpandedTemplate) -> None:
    for parameters in (
        {"SnapStart": "on", "PythonRuntime": "python3.11"},
        {"BackupCompression": "zstd", "PythonRuntime": "python3.13"},
        {"RequestBatchSize": "11"},
    ):
        assert len(stack.given(**parameters).refused_by()) == 1, parameters
    assert stack.given(RequestBatchSize="11", RequestBatchWindowSeconds="1").refused_by() == []
    assert stack.given(SnapStart="on", PythonRuntime="python3.12").refused_by() == []


def test_every_parameter_has_a_label_in_the_order_it_is_asked_for(stack: ExpandedTemplate) -> None:
    """The console shows the groups, `sam deploy --guided` goes through Parameters: one order."""
    interface = stack.template["Metadata"]["AWS::CloudFormation::Interface"]
    grouped = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    assert grouped == list(stack.template["Parameters"])
    assert set(interface["ParameterLabels"]) == set(grouped)
    for group in interface["ParameterGroups"]:
        assert group["Label"]["default"]


def test_every_parameter_says_what_it_is(stack: ExpandedTemplate) -> None:
    for name, parameter in stack.template["Parameters"].items():
        assert len(parameter["Description"]) >= 20, name
        assert parameter["Description"].endswith("."), name
        if "AllowedPattern" in parameter:
            assert "ConstraintDescription" in parameter, name


def test_the_functions_understand_what_the_parameters_allow(stack: ExpandedTemplate) -> None:
    """The environment of a function has 4 KB: the two long settings must fit beside the rest."""
    parameters = stack.template["Parameters"]
    assert parameters["LocalGatewayUrl"]["MaxLength"] == parameters["GatewayUrl"]["MaxLength"]
    longest = parameters["GatewayUrl"]["MaxLength"] + parameters["GatewayRoutes"]["MaxLength"]
    assert longest <= 2048
    example = parameters["GatewayRoutes"]["Description"]
    (documented,) = re.findall(r"\S+=\S+@https://\S+", example)
    assert len(documented) <= parameters["GatewayRoutes"]["MaxLength"]
    assert re.fullmatch(parameters["GatewayRoutes"]["AllowedPattern"], documented)


def _allows(parameter: str, value: str) -> bool:
    pattern = load_template()["Parameters"][parameter]["AllowedPattern"]
    return re.fullmatch(pattern, value) is not None


@pytest.mark.parametrize("url", ["https://api.stripe.com", "https://api.flair.example:8443/eu/v1"])
def test_gateways_that_can_be_called(url: str) -> None:
    assert _allows("GatewayUrl", url)
    assert _allows("GatewayRoutes", f"f-=flair@{url}")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8790",
        "http://localhost:1",
        "http://host.docker.internal:8790",
        "http://sandbox:8080",
        "http://172.17.0.1:8790",
        "http://10.1.2.3",
    ],
)
def test_gateways_that_can_be_called_from_the_same_machine_or_network(url: str) -> None:
    assert _allows("LocalGatewayUrl", url)
    assert not _allows("GatewayUrl", url)
    assert not _allows("GatewayRoutes", f"f-=flair@{url}")


@pytest.mark.parametrize(
    "url",
    [
        "http://api.flair.example",
        "http://172.32.0.1",
        "http://11.0.0.1",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "https://api.flair.example?key=1",
        "ftp://api.flair.example",
        "https://",
    ],
)
def test_the_key_is_not_sent_over_plain_http_to_the_internet(url: str) -> None:
    assert not _allows("GatewayUrl", url)
    assert not _allows("LocalGatewayUrl", url)


def test_the_shipped_prod_stage_leaves_one_decision_to_you(template: Json) -> None:
    """Who gets the alarms can't be known here; without it CloudFormation refuses to deploy."""
    stages = tomllib.loads((ROOT / "samconfig.toml").read_text())
    overrides = stages["prod"]["deploy"]["parameters"]["parameter_overrides"]
    prod = dict(override.split("=", 1) for override in overrides)
    (why,) = ExpandedTemplate(template, **prod).refused_by()
    assert "Set AlarmEmail" in why
    assert prod["BackupLockMode"] == "GOVERNANCE"
    for stage in ("default", "dev"):
        overrides = stages[stage]["deploy"]["parameters"]["parameter_overrides"]
        given = dict(override.split("=", 1) for override in overrides)
        assert ExpandedTemplate(template, **given).refused_by() == []


# --- Do the checks notice? ------------------------------------------------------------------------

EDITS: list[tuple[Check, Edit]] = [
    (test_the_defaults_are_allowed, put("/Parameters.BackupCompression.Default", "zstd")),
    (test_prod_needs_somebody_who_gets_its_alarms, drop("/Rules.ProdNotifiesSomebody")),
    (test_prod_needs_a_decision_about_locking_backups, drop("/Rules.ProdDecidesOnBackupLock")),
    (
        test_prod_needs_a_decision_about_locking_backups,
        put("/Parameters.BackupLockMode.Default", "NONE"),
    ),
    (
        test_prod_keeps_its_logs_for_a_year,
        put("/Rules.ProdKeepsLogsForAYear.Assertions.0.Assert.Fn::Contains.0.0", "90"),
    ),
    (test_prod_does_not_log_at_debug, drop("/Rules.ProdLogsNoDetails")),
    (
        test_only_the_local_stage_calls_a_gateway_over_plain_http,
        put("/Rules.PlainHttpStaysLocal.RuleCondition", {"Fn::Equals": ["a", "b"]}),
    ),
    (
        test_only_the_local_stage_calls_a_gateway_over_plain_http,
        put(f"ReconcileRefunds.{ENVIRONMENT}.GATEWAY_URL", {"Ref": "LocalGatewayUrl"}),
    ),
    (test_a_stack_without_a_gateway_is_refused, drop("/Rules.PlainHttpStaysLocal.Assertions.1")),
    (test_a_stack_without_a_gateway_is_refused, drop("/Rules.LocalHasAGateway")),
    (test_prod_bounds_what_webhooks_may_take, drop("/Rules.ProdBoundsWebhooks")),
    (
        test_what_lambda_cannot_do_is_refused_before_anything_changes,
        drop("/Rules.ZstdNeedsPython314"),
    ),
    (
        test_every_parameter_has_a_label_in_the_order_it_is_asked_for,
        put("/Parameters.NewOne", {"Type": "String", "Default": ""}),
    ),
    (test_every_parameter_says_what_it_is, drop("/Parameters.LogLevel.Description")),
    (
        test_the_functions_understand_what_the_parameters_allow,
        put("/Parameters.GatewayRoutes.MaxLength", 48),
    ),
]


@pytest.mark.parametrize(("check", "edit"), EDITS, ids=lambda value: value.__name__)
def test_the_checks_notice(template: Json, check: Check, edit: Edit) -> None:
    assert_noticed(template, check, edit)


def test_every_check_has_an_edit() -> None:
    assert_each_has_an_edit(globals(), EDITS)
