"""The one function that the internet reaches."""

from __future__ import annotations

import pytest
from tests.support.expanded_template import (
    Check,
    Edit,
    ExpandedTemplate,
    Json,
    allow,
    as_list,
    assert_each_has_an_edit,
    assert_noticed,
    drop,
    put,
)


def test_webhooks_are_off_unless_asked_for(stack: ExpandedTemplate) -> None:
    assert not any("Webhook" in name for name in stack.resources)
    assert not any(r["Type"] == "AWS::Lambda::Url" for r in stack.resources.values())
    asked = stack.given(Webhooks="true")
    (url,) = asked.of_type("AWS::Lambda::Url").values()
    # A gateway can't sign for IAM; its own signature is checked.
    assert url == {"TargetFunctionArn": "ReceiveWebhookAliaslive", "AuthType": "NONE"}
    permissions = [
        each
        for each in asked.of_type("AWS::Lambda::Permission").values()
        if each["FunctionName"] == "ReceiveWebhookAliaslive"
    ]
    # Lambda asks for both, of each caller of a URL.
    assert permissions == [
        {
            "Action": "lambda:InvokeFunctionUrl",
            "FunctionName": "ReceiveWebhookAliaslive",
            "FunctionUrlAuthType": "NONE",
            "Principal": "*",
        },
        {
            "Action": "lambda:InvokeFunction",
            "FunctionName": "ReceiveWebhookAliaslive",
            "InvokedViaFunctionUrl": True,
            "Principal": "*",
        },
    ]
    assert asked["ReceiveWebhook"]["Handler"] == "refunds.handlers.receive_webhook.handler"


def test_webhooks_can_be_deployed_where_no_concurrency_can_be_reserved(
    stack: ExpandedTemplate,
) -> None:
    """A new account has ten concurrent executions, and Lambda lets none of them be reserved."""
    stack = stack.given(Webhooks="true")
    assert "ReservedConcurrentExecutions" not in stack["ReceiveWebhook"]


def test_a_guided_deployment_asks_nothing_about_the_url(stack: ExpandedTemplate) -> None:
    """`sam deploy --guided` asks for each function with FunctionUrlConfig, Webhooks=false included,
    and gives up when the answer is Enter."""
    for name, resource in stack.template["Resources"].items():
        assert "FunctionUrlConfig" not in resource.get("Properties", {}), name


def test_what_the_internet_reaches_may_hardly_do_anything(stack: ExpandedTemplate) -> None:
    stack = stack.given(Webhooks="true", WebhookConcurrency="5")
    allowed = {
        (action, resource)
        for statement in stack.statements("ReceiveWebhook")
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }
    assert allowed == {
        ("lambda:InvokeFunction", "ReconcileRefunds.Arn:live"),
        ("secretsmanager:GetSecretValue", "WebhookSecret.Id"),
        ("kms:Decrypt", "DataKey.Arn"),
        ("logs:CreateLogStream", "ReceiveWebhookLogGroup.Arn"),
        ("logs:PutLogEvents", "ReceiveWebhookLogGroup.Arn"),
        ("xray:PutTelemetryRecords", "*"),
        ("xray:PutTraceSegments", "*"),
    }
    # A flood takes no concurrency from refunds.
    assert stack["ReceiveWebhook"]["ReservedConcurrentExecutions"] == "5"
    secret = stack["WebhookSecret"]
    assert secret["KmsKeyId"] == "DataKey.Arn"
    assert "SecretString" not in secret  # a placeholder would be a secret that everybody knows
    assert secret["GenerateSecretString"]["PasswordLength"] >= 32


# --- Do the checks notice? ------------------------------------------------------------------------

EDITS: list[tuple[Check, Edit]] = [
    (
        test_webhooks_are_off_unless_asked_for,
        put("ReceiveWebhookUrlPublicPermissions.Properties.Action", "lambda:*"),
    ),
    (test_webhooks_are_off_unless_asked_for, drop("ReceiveWebhookURLInvokeAllowPublicAccess")),
    (
        test_webhooks_can_be_deployed_where_no_concurrency_can_be_reserved,
        put("/Parameters.WebhookConcurrency.Default", 5),
    ),
    (
        test_a_guided_deployment_asks_nothing_about_the_url,
        put("BackupRefunds.Properties.FunctionUrlConfig", {"AuthType": "NONE"}),
    ),
    (test_webhooks_are_off_unless_asked_for, put("/Parameters.Webhooks.Default", "true")),
    (test_webhooks_are_off_unless_asked_for, drop("WebhookSecret.Condition")),
    (
        test_what_the_internet_reaches_may_hardly_do_anything,
        allow("ReceiveWebhook", "StartReconciler", resource="ProcessRefund.Arn:live"),
    ),
    (
        test_what_the_internet_reaches_may_hardly_do_anything,
        drop("ReceiveWebhook.Properties.ReservedConcurrentExecutions"),
    ),
    (
        test_what_the_internet_reaches_may_hardly_do_anything,
        put("WebhookSecret.Properties.SecretString", "not-set"),
    ),
]


@pytest.mark.parametrize(("check", "edit"), EDITS, ids=lambda value: value.__name__)
def test_the_checks_notice(template: Json, check: Check, edit: Edit) -> None:
    assert_noticed(template, check, edit)


def test_every_check_has_an_edit() -> None:
    assert_each_has_an_edit(globals(), EDITS)
