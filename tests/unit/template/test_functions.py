"""The functions, their package and their versions."""

from __future__ import annotations

import re

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
    drop,
    put,
    strings_in,
)


def test_handlers_exist(stack: ExpandedTemplate) -> None:
    functions = stack.of_type("AWS::Lambda::Function")
    assert set(functions) == set(FUNCTIONS)
    for function in functions.values():
        module, _, name = function["Handler"].rpartition(".")
        source = ROOT / "src" / (module.replace(".", "/") + ".py")
        assert f"def {name}(" in source.read_text()


def test_functions_run_on_what_the_parameters_say(stack: ExpandedTemplate) -> None:
    stack = stack.given(PythonRuntime="python3.11", Architecture="x86_64")
    for function in stack.of_type("AWS::Lambda::Function").values():
        assert function["Runtime"] == "python3.11"
        assert function["Architectures"] == ["x86_64"]


def test_functions_are_traced_and_log_json_where_logs_are_kept(stack: ExpandedTemplate) -> None:
    groups = stack.of_type("AWS::Logs::LogGroup")
    for name in FUNCTIONS:
        function = stack[name]
        assert function["TracingConfig"] == {"Mode": "Active"}
        assert function["LoggingConfig"]["LogFormat"] == "JSON"
        group = groups[function["LoggingConfig"]["LogGroup"]]
        assert int(group["RetentionInDays"]) >= 30
        # The key's policy lets logs be written for these names only.
        assert group["LogGroupName"].startswith("/aws/lambda/refunds-test-")


def test_a_changed_parameter_publishes_a_version_of_each_function_that_reads_it(
    stack: ExpandedTemplate,
) -> None:
    for name in FUNCTIONS:
        raw = _function_as_written(stack.template, name)
        reads = {text for path, text in strings_in(raw) if path.endswith(".Ref")}
        read_parameters = reads & set(stack.template["Parameters"])
        named = _parameters_in(raw["VersionDescription"])
        if "GatewaySettings" in named:
            named.remove("GatewaySettings")
            named |= _parameters_in(stack.template["Resources"]["GatewaySettings"])
        assert named == read_parameters, name
        assert raw["AutoPublishAliasAllProperties"] is True


def _parameters_in(value: Json) -> set[str]:
    found = re.findall(r"\$\{(\w+)\}", str(value))
    return {name for name in found if not name.startswith("AWS::")}


def test_a_changed_long_setting_is_another_version_of_the_gateways_settings(
    stack: ExpandedTemplate,
) -> None:
    """CloudFormation creates another configuration version when Content changes."""
    changed = stack.given(GatewayRoutes="pi_=stripe")
    assert stack["GatewaySettings"]["Content"] != changed["GatewaySettings"]["Content"]
    assert (
        stack.resources["GatewaySettings"]["Type"] == "AWS::AppConfig::HostedConfigurationVersion"
    )
    for name in ("ProcessRefund", "ReconcileRefunds"):
        (version,) = [
            each
            for each in stack.of_type("AWS::Lambda::Version").values()
            if each["FunctionName"] == name
        ]
        assert "GatewaySettings" in version["Description"]


def _function_as_written(template: Json, name: str) -> Json:
    """A function's properties with the Globals, without what is not the function's own."""
    own = template["Resources"][name]["Properties"]
    common = template["Globals"]["Function"]
    elsewhere = ("Events", "DeploymentPreference")
    kept = {key: value for key, value in own.items() if key not in elsewhere}
    return {"Globals": common, **kept}


def test_a_version_description_fits_lambdas_256_characters(stack: ExpandedTemplate) -> None:
    parameters = stack.template["Parameters"]
    assert "{3,80}" in parameters["AuditTableName"]["AllowedPattern"]
    assert "{0,20}" in parameters["GatewayStage"]["AllowedPattern"]
    longest = stack.given(
        PythonRuntime="python3.14",
        Architecture="x86_64",
        Stage="local",
        LogLevel="DEBUG",
        AuditTableName="t" * 80,
        GatewayUrl="https://" + "x" * (parameters["GatewayUrl"]["MaxLength"] - 8),
        LocalGatewayUrl="http://" + "x" * (parameters["LocalGatewayUrl"]["MaxLength"] - 7),
        GatewayName="stripe",
        GatewayRoutes="r" * parameters["GatewayRoutes"]["MaxLength"],
        GatewayStage="s" * 20,
        GatewayTimeoutSeconds="25",
        FirstRetrySeconds="900",
        NotReadySeconds="86400",
        ReconcileAfterSeconds="3600",
        FunctionMemoryMB="3008",
        SnapStart="off",
        MaximumConcurrency="1000",
        BackupCompression="gzip",
        BackupReadUnitsPerSecond="1000000",
        BackupNativeAboveGiB="1000000",
    )
    for name, version in longest.of_type("AWS::Lambda::Version").items():
        settings_number = "1234567"  # in place of the name that stands here for the reference
        described = version["Description"].replace("GatewaySettings", settings_number)
        assert len(described) <= 256, name


def test_snapstart_is_off_by_default_and_on_by_parameter(stack: ExpandedTemplate) -> None:
    for name in ("ProcessRefund", "WriteAudit"):
        assert stack[name]["SnapStart"] == {"ApplyOn": "None"}
        on = stack.given(SnapStart="on")[name]
        assert on["SnapStart"] == {"ApplyOn": "PublishedVersions"}


def test_gradual_deployment_is_off_by_default_and_on_by_parameter(stack: ExpandedTemplate) -> None:
    kinds = {resource["Type"] for resource in stack.resources.values()}
    assert not any(kind.startswith("AWS::CodeDeploy::") for kind in kinds)
    gradual = stack.given(GradualDeployment="true")
    assert len(gradual.of_type("AWS::CodeDeploy::DeploymentGroup")) == 1
    assert "CodeDeployLambdaAliasUpdate" in str(gradual.resources["ProcessRefundAliaslive"])


def test_boto3_is_left_to_the_lambda_runtime() -> None:
    lock = (ROOT / "src" / "requirements.txt").read_text()
    packaged = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    assert packaged
    assert not packaged & {"boto3", "botocore", "s3transfer"}
    assert "no-deps = true" in (ROOT / "uv.toml").read_text()


def test_what_is_packaged_is_what_is_tested() -> None:
    def versions(path: str) -> dict[str, str]:
        text = (ROOT / path).read_text()
        return dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", text, re.MULTILINE))

    tested = versions("requirements/dev.txt")
    for name, version in versions("src/requirements.txt").items():
        assert tested[name] == version


# --- Do the checks notice? ------------------------------------------------------------------------

EDITS: list[tuple[Check, Edit]] = [
    (
        test_handlers_exist,
        put("WriteAudit.Properties.Handler", "refunds.handlers.write_audit.main"),
    ),
    (
        test_functions_run_on_what_the_parameters_say,
        put("ProcessRefund.Properties.Runtime", "python3.13"),
    ),
    (
        test_functions_are_traced_and_log_json_where_logs_are_kept,
        put("/Globals.Function.Tracing", "PassThrough"),
    ),
    (
        test_functions_are_traced_and_log_json_where_logs_are_kept,
        drop("BackupRefundsLogGroup.Properties.RetentionInDays"),
    ),
    (
        test_functions_are_traced_and_log_json_where_logs_are_kept,
        put("BackupRefundsLogGroup.Properties.LogGroupName", "/aws/lambda/backup"),
    ),
    (
        test_a_changed_parameter_publishes_a_version_of_each_function_that_reads_it,
        put("WriteAudit.Properties.VersionDescription", {"Fn::Sub": "${PythonRuntime} ${Stage}"}),
    ),
    (
        test_a_changed_parameter_publishes_a_version_of_each_function_that_reads_it,
        put(f"BackupRefunds.{ENVIRONMENT}.RETENTION_DAYS", {"Ref": "BackupRetentionDays"}),
    ),
    (
        test_a_version_description_fits_lambdas_256_characters,
        put(
            "ProcessRefund.Properties.VersionDescription",
            {"Fn::Sub": "${GatewayUrl} ${GatewayRoutes}"},
        ),
    ),
    (
        test_a_changed_long_setting_is_another_version_of_the_gateways_settings,
        put("GatewaySettings.Properties.Content", "constant"),
    ),
    (
        test_snapstart_is_off_by_default_and_on_by_parameter,
        put("/Parameters.SnapStart.Default", "on"),
    ),
    (
        test_gradual_deployment_is_off_by_default_and_on_by_parameter,
        put("/Parameters.GradualDeployment.Default", "true"),
    ),
    (
        test_gradual_deployment_is_off_by_default_and_on_by_parameter,
        put("ProcessRefund.Properties.DeploymentPreference.Enabled", False),
    ),
]


@pytest.mark.parametrize(("check", "edit"), EDITS, ids=lambda value: value.__name__)
def test_the_checks_notice(template: Json, check: Check, edit: Edit) -> None:
    assert_noticed(template, check, edit)


def test_every_check_has_an_edit() -> None:
    assert_each_has_an_edit(globals(), EDITS)
