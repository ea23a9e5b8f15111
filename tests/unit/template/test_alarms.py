"""The alarms: whom they reach, what they watch, when silence is a fault."""

from __future__ import annotations

import json
import re

import click
import pytest
from tests.support.expanded_template import (
    CHANGES,
    DAY_SECONDS,
    EVERY_ALARM,
    FUNCTIONS,
    HOUR_SECONDS,
    ROOT,
    Check,
    Edit,
    ExpandedTemplate,
    Json,
    assert_each_has_an_edit,
    assert_noticed,
    drop,
    put,
)

from refunds_ops.cli import cli

DESCRIPTION = re.compile(
    r"(.+)[.?] (First): (.+) \((SEV[123]); docs/runbook\.md#([a-z]+)\)", re.DOTALL
)


def _allows(policy: Json) -> list[Json]:
    return [s for s in policy["Statement"] if s["Effect"] == "Allow"]


def test_every_alarm_reaches_the_topic_and_who_asked_for_it(stack: ExpandedTemplate) -> None:
    alarms = stack.of_type("AWS::CloudWatch::Alarm")
    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == ["AlarmTopic"], name
    (publish,) = _allows(stack["AlarmTopicPolicy"]["PolicyDocument"])
    assert publish["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert not any(r["Type"] == "AWS::SNS::Subscription" for r in stack.resources.values())
    asked = stack.given(AlarmEmail="ops@example.com")
    (subscription,) = asked.of_type("AWS::SNS::Subscription").values()
    assert subscription["Endpoint"] == "ops@example.com"


def test_what_is_watched(stack: ExpandedTemplate) -> None:
    watched = {
        (alarm["MetricName"], alarm["Dimensions"][0]["Value"]): alarm["Threshold"]
        for alarm in stack.given(Webhooks="true").of_type("AWS::CloudWatch::Alarm").values()
    }
    service = "refunds-test"  # the dimension that Powertools adds
    for name in FUNCTIONS:
        assert watched["Errors", name] == 0
        assert stack[name]["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"] == service
    assert watched["ApproximateAgeOfOldestMessage", "RefundQueue.QueueName"] == DAY_SECONDS
    dead = "RefundDeadLetterQueue.QueueName"
    assert watched["ApproximateNumberOfMessagesVisible", dead] == 0
    assert watched["OldestDeadLetterAgeSeconds", service] == 3 * DAY_SECONDS
    assert watched["OldestPutBackAgeSeconds", service] == DAY_SECONDS
    assert watched["Throttles", "ProcessRefund"] == watched["Throttles", "WriteAudit"] == 0
    assert watched["IteratorAge", "WriteAudit"] <= 6 * HOUR_SECONDS * 1000
    assert watched["OnFailureDestinationDeliveredEventCount", "WriteAuditRefundChanges"] == 0
    assert watched["DestinationDeliveryFailures", "WriteAudit"] == 0
    assert stack["WriteAuditRefundChanges"]["MetricsConfig"] == {"Metrics": ["EventCount"]}
    assert watched["OldestOpenRefundAgeSeconds", service] == DAY_SECONDS
    assert watched["RefundsInReview", service] == 0
    assert watched["QueuePaused", service] == 0
    assert watched["AuditEntriesRejected", service] == 0
    assert ("BackupCompleted", service) in watched
    # Whole runs: webhooks invoke the function too.
    assert ("ReconcilerRuns", service) in watched
    for metric in ("Misconfigured", "AuditStopped", "ArchivedDeadLetters", "KeptAuditRecords"):
        assert watched[metric, service] == 0
    assert watched["Errors", "ReceiveWebhook"] == 0


def test_our_own_metrics_are_those_that_the_code_emits(stack: ExpandedTemplate) -> None:
    code = "".join(
        path.read_text() for path in (*ROOT.glob("src/**/*.py"), *ROOT.glob("ops/**/*.py"))
    )
    for alarm in stack.of_type("AWS::CloudWatch::Alarm").values():
        if alarm["Namespace"] == "Refunds":
            assert f'"{alarm["MetricName"]}"' in code


def test_every_alarm_says_what_is_wrong_what_to_do_first_and_where_to_read_on(
    stack: ExpandedTemplate,
) -> None:
    runbook = (ROOT / "docs/runbook.md").read_text()
    whole = stack.given(**EVERY_ALARM)
    for name, alarm in whole.of_type("AWS::CloudWatch::Alarm").items():
        text = alarm["AlarmDescription"]
        assert len(text) <= 1024, name
        found = DESCRIPTION.fullmatch(text)
        assert found is not None, f"{name}: not cause, first command, severity and section"
        cause, first, command, severity, anchor = found.groups()
        assert len(cause) > 20, name
        assert first == "First", name
        assert command.split()[0] in ("aws", "refunds"), name
        assert anchor == name.lower(), name
        assert f"\n### {name}\n\n{severity}: " in runbook, f"{name} ({severity}) has no section"


def test_the_first_commands_are_commands_that_exist(stack: ExpandedTemplate) -> None:
    whole = stack.given(**EVERY_ALARM)
    for name, alarm in whole.of_type("AWS::CloudWatch::Alarm").items():
        command = DESCRIPTION.fullmatch(alarm["AlarmDescription"])[3].split()  # type: ignore[index]
        if command[0] != "refunds":
            continue
        group: click.Command = cli
        for word in command[1:]:
            assert isinstance(group, click.Group), name
            group = group.get_command(click.Context(group), word)  # type: ignore[assignment]
            assert group is not None, f"{name}: there is no `{' '.join(command)}`"


def test_an_alarm_of_ours_rolls_a_gradual_deployment_back(stack: ExpandedTemplate) -> None:
    gradual = stack.given(GradualDeployment="true")
    (group,) = gradual.of_type("AWS::CodeDeploy::DeploymentGroup").values()
    assert {each["Name"] for each in group["AlarmConfiguration"]["Alarms"]} == {
        "ProcessRefundErrors",  # the function fails as a whole
        "ProcessRefundUnexpectedErrors",  # it fails for each record, which is no error of Lambda's
    }
    # Within the first two of the ten minutes.
    alarm = gradual["ProcessRefundUnexpectedErrors"]
    assert (alarm["Period"], alarm["DatapointsToAlarm"]) == (60, 1)


def test_a_correction_can_be_deployed_while_the_alarm_is_on(stack: ExpandedTemplate) -> None:
    """CodeDeploy stops a deployment whose alarm is on. Without it the alias changes at once."""

    def of_codedeploy(template: ExpandedTemplate) -> list[str]:
        policies = [name for name, each in template.resources.items() if "UpdatePolicy" in each]
        kinds = [name for name, each in template.resources.items() if "CodeDeploy" in each["Type"]]
        return policies + kinds

    assert of_codedeploy(stack.given(GradualDeployment="true"))
    assert of_codedeploy(stack.given(GradualDeployment="false")) == []
    runbook = (ROOT / "docs/runbook.md").read_text()
    section = runbook.partition("### ProcessRefundUnexpectedErrors")[2].partition("\n### ")[0]
    assert "--config-env prod --parameter-overrides GradualDeployment=false" in section


def test_business_alarms_are_for_stages_that_have_business(stack: ExpandedTemplate) -> None:
    def names(**parameters: str) -> set[str]:
        return set(stack.given(**parameters).of_type("AWS::CloudWatch::Alarm"))

    ratios = {"FailureRatio", "ReversalRatio", "RefundCountUnusual"}
    amounts = {"RefundAmountUnusual", "DailyBudgetExceeded"}
    assert not names() & (ratios | amounts)
    assert names(Stage="dev") & (ratios | amounts) == ratios
    assert names(**EVERY_ALARM) >= ratios | amounts
    budget = stack.given(**EVERY_ALARM)["DailyBudgetExceeded"]
    assert (budget["MetricName"], budget["Statistic"]) == ("RefundedMinor", "Sum")
    assert str(budget["Threshold"]) == "100000000"
    assert {"Name": "currency", "Value": "USD"} in budget["Dimensions"]


def test_the_dashboard_begins_with_the_alarms_and_then_the_money(stack: ExpandedTemplate) -> None:
    widgets = json.loads(stack["Dashboard"]["DashboardBody"])["widgets"]
    assert widgets[0]["type"] == "alarm"
    assert {each.removesuffix(".Arn") for each in widgets[0]["properties"]["alarms"]} == set(
        stack.of_type("AWS::CloudWatch::Alarm")
    )
    assert "RequestedMinor" in str(widgets[1])
    assert [each["y"] for each in widgets] == sorted(each["y"] for each in widgets)


def test_silence_is_a_fault_where_something_must_happen(stack: ExpandedTemplate) -> None:
    breaching = {
        name: alarm["Period"] * alarm["EvaluationPeriods"]
        for name, alarm in stack.of_type("AWS::CloudWatch::Alarm").items()
        if alarm["TreatMissingData"] == "breaching"
    }
    assert set(breaching) == {"BackupMissing", "ReconcilerSilent"}
    # Daily, with time to run; CloudWatch looks back no further than a week.
    assert DAY_SECONDS < breaching["BackupMissing"] <= 30 * HOUR_SECONDS
    for name in breaching:
        assert stack[name]["ComparisonOperator"] == "LessThanThreshold"
        assert stack[name]["Threshold"] == 1


# --- Do the checks notice? ------------------------------------------------------------------------

EDITS: list[tuple[Check, Edit]] = [
    (
        test_every_alarm_reaches_the_topic_and_who_asked_for_it,
        put("DeadLetters.Properties.AlarmActions", []),
    ),
    (
        test_every_alarm_reaches_the_topic_and_who_asked_for_it,
        drop("AlarmEmailSubscription.Condition"),
    ),
    (
        test_every_alarm_reaches_the_topic_and_who_asked_for_it,
        drop("AlarmTopicPolicy.Properties.PolicyDocument.Statement.1"),
    ),
    *(
        (test_what_is_watched, drop(alarm))
        for alarm in (
            "RequestsWait",
            "DeadLetters",
            "DeadLettersWait",
            "RequestsKeepFailing",
            "WriteAuditErrors",
            "ReconcileRefundsErrors",
            "BackupRefundsErrors",
            "ProcessRefundThrottles",
            "OpenRefundsWait",
            "RefundsToReview",
            "QueuePaused",
            "AuditLags",
            "AuditRejects",
            "RecordsLeftTheStream",
            "RecordsLost",
            "BackupMissing",
        )
    ),
    (test_what_is_watched, drop(f"{CHANGES}.MetricsConfig")),
    (
        test_what_is_watched,
        put("/Globals.Function.Environment.Variables.POWERTOOLS_SERVICE_NAME", "refunds"),
    ),
    (
        test_our_own_metrics_are_those_that_the_code_emits,
        put("BackupMissing.Properties.MetricName", "BackupsCompleted"),
    ),
    (
        test_every_alarm_says_what_is_wrong_what_to_do_first_and_where_to_read_on,
        put("DeadLetters.Properties.AlarmDescription", "A dead letter."),
    ),
    (
        test_the_first_commands_are_commands_that_exist,
        put(
            "UnreadableRefunds.Properties.AlarmDescription",
            "Bad. First: refunds mend (SEV1; docs/runbook.md#unreadablerefunds)",
        ),
    ),
    (
        test_an_alarm_of_ours_rolls_a_gradual_deployment_back,
        put(
            "ProcessRefund.Properties.DeploymentPreference.Alarms", [{"Ref": "ProcessRefundErrors"}]
        ),
    ),
    (
        test_an_alarm_of_ours_rolls_a_gradual_deployment_back,
        put("ProcessRefundUnexpectedErrors.Properties.Period", 300),
    ),
    (
        test_a_correction_can_be_deployed_while_the_alarm_is_on,
        put("ProcessRefund.Properties.DeploymentPreference.Enabled", True),
    ),
    (
        test_business_alarms_are_for_stages_that_have_business,
        put("RefundAmountUnusual.Condition", "HasBusinessAlarms"),
    ),
    (
        test_the_dashboard_begins_with_the_alarms_and_then_the_money,
        put("Dashboard.Properties.DashboardBody", '{"widgets": [{"type": "metric"}]}'),
    ),
    (
        test_silence_is_a_fault_where_something_must_happen,
        put("BackupMissing.Properties.TreatMissingData", "notBreaching"),
    ),
    (
        test_silence_is_a_fault_where_something_must_happen,
        put("BackupMissing.Properties.EvaluationPeriods", 48),
    ),
    (
        test_silence_is_a_fault_where_something_must_happen,
        put("DeadLetters.Properties.TreatMissingData", "breaching"),
    ),
]


@pytest.mark.parametrize(("check", "edit"), EDITS, ids=lambda value: value.__name__)
def test_the_checks_notice(template: Json, check: Check, edit: Edit) -> None:
    assert_noticed(template, check, edit)


def test_every_check_has_an_edit() -> None:
    assert_each_has_an_edit(globals(), EDITS)
