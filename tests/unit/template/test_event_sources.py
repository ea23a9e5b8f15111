"""What invokes the functions: mappings, schedules, the rule that stops the queue."""

from __future__ import annotations

import pytest
from tests.support.expanded_template import (
    ACCOUNT,
    CHANGES,
    DAY_SECONDS,
    ENVIRONMENT,
    FUNCTIONS,
    REGION,
    REQUESTS,
    Check,
    Edit,
    ExpandedTemplate,
    Json,
    allow,
    assert_each_has_an_edit,
    assert_noticed,
    drop,
    put,
)

from refunds.audit.outcome_events import INTAKE_EVENTS, SOURCE

MAPPING = f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:ProcessRefundRefundRequests"
AUDIT_MAPPING = f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:WriteAuditRefundChanges"


def test_one_bad_record_does_not_send_its_batch_round_again(stack: ExpandedTemplate) -> None:
    mappings = stack.of_type("AWS::Lambda::EventSourceMapping")
    assert len(mappings) == 2
    for mapping in mappings.values():
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_a_poison_record_leaves_the_stream_whole_and_in_time(stack: ExpandedTemplate) -> None:
    mapping = stack["WriteAuditRefundChanges"]
    assert mapping["BisectBatchOnFunctionError"] is True
    assert 1 <= mapping["MaximumRetryAttempts"] <= 100  # -1, the default, is for ever
    assert 60 <= mapping["MaximumRecordAgeInSeconds"] < DAY_SECONDS
    # To S3 with the whole record (SQS gets a pointer), and not where retention locks it in.
    assert mapping["DestinationConfig"]["OnFailure"]["Destination"] == "FailuresBucket.Arn"
    assert stack.may("WriteAudit", "s3") == {
        "FailuresBucket.Arn/*": {"PutObject"},
        "FailuresBucket.Arn": {"ListBucket"},
    }


def test_the_audit_stream_starts_at_its_first_record_with_both_images(
    stack: ExpandedTemplate,
) -> None:
    assert stack["WriteAuditRefundChanges"]["StartingPosition"] == "TRIM_HORIZON"
    assert stack["Refunds"]["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


def test_the_gateway_is_protected_from_a_full_queue(stack: ExpandedTemplate) -> None:
    for value in stack.template["Parameters"]["MaximumConcurrency"]["AllowedValues"]:
        mapping = stack.given(MaximumConcurrency=str(value))["ProcessRefundRefundRequests"]
        # A number, not the text that a parameter is: the emulator can't compare with that.
        assert mapping["ScalingConfig"] == {"MaximumConcurrency": value}


def test_every_trigger_invokes_the_alias(stack: ExpandedTemplate) -> None:
    for name, mapping in stack.of_type("AWS::Lambda::EventSourceMapping").items():
        assert mapping["FunctionName"].endswith("Aliaslive"), name
    for name, schedule in stack.of_type("AWS::Scheduler::Schedule").items():
        assert schedule["Target"]["Arn"].endswith("Aliaslive"), name


def test_schedules_are_parameters_and_send_an_empty_event(stack: ExpandedTemplate) -> None:
    stack = stack.given(ReconcileSchedule="rate(1 minute)", BackupSchedule="cron(15 2 * * ? *)")
    expressions = {
        name: (schedule["ScheduleExpression"], schedule["Target"]["Input"])
        for name, schedule in stack.of_type("AWS::Scheduler::Schedule").items()
    }
    assert expressions == {
        "ReconcileRefundsSchedule": ("rate(1 minute)", "{}"),
        "BackupRefundsSchedule": ("cron(15 2 * * ? *)", "{}"),
    }


def test_only_the_reconciler_may_switch_the_queue_and_nothing_else(stack: ExpandedTemplate) -> None:
    assert stack.may("ReconcileRefunds", "lambda") == {
        MAPPING: {"GetEventSourceMapping", "UpdateEventSourceMapping"},
        AUDIT_MAPPING: {"GetEventSourceMapping"},
    }
    for name in set(FUNCTIONS) - {"ReconcileRefunds"}:
        assert "EventSourceMapping" not in str(stack.may(name, "lambda"))
    stack = stack.given(Stage="prod", MaximumConcurrency="50")
    variables = stack["ReconcileRefunds"]["Environment"]["Variables"]
    assert variables["REQUESTS_MAPPING_ID"] == "ProcessRefundRefundRequests"
    assert stack.outputs["RefundRequestsMappingId"]["Value"] == "ProcessRefundRefundRequests"
    # What the breaker goes back to is what the stack was given.
    assert variables["MAXIMUM_CONCURRENCY"] == stack.outputs["MaximumConcurrency"]["Value"] == "50"


def test_a_gateway_that_is_down_stops_the_queue_at_once(stack: ExpandedTemplate) -> None:
    rule = stack["ReconcileRefundsGatewayDown"]
    assert rule["EventBusName"] == "RefundEvents"
    assert rule["EventPattern"] == {"source": [SOURCE], "detail-type": list(INTAKE_EVENTS)}
    (target,) = rule["Targets"]
    assert target["Arn"] == "ReconcileRefundsAliaslive"
    assert set(stack.of_type("AWS::Events::Rule")) == {
        "ReconcileRefundsGatewayDown",
        "ReconcileRefundsMappingChanged",
    }
    assert stack.may("ProcessRefund", "events") == {"RefundEvents.Arn": {"PutEvents"}}


def test_a_paused_queue_is_paused_again_at_once_when_a_deployment_changes_its_mapping(
    stack: ExpandedTemplate,
) -> None:
    rule = stack["ReconcileRefundsMappingChanged"]
    assert "EventBusName" not in rule  # CloudFormation's events are on the default bus
    assert rule["EventPattern"] == {
        "source": ["aws.cloudformation"],
        "detail-type": ["CloudFormation Resource Status Change"],
        "detail": {
            "stack-id": ["AWS::StackId"],
            "resource-type": ["AWS::Lambda::EventSourceMapping"],
            "status-details": {"status": ["UPDATE_COMPLETE"]},
        },
    }
    (target,) = rule["Targets"]
    assert target["Arn"] == "ReconcileRefundsAliaslive"
    assert target["Input"] == "{}"


# --- Do the checks notice? ------------------------------------------------------------------------

EDITS: list[tuple[Check, Edit]] = [
    (
        test_a_paused_queue_is_paused_again_at_once_when_a_deployment_changes_its_mapping,
        drop("ReconcileRefunds.Properties.Events.MappingChanged.Properties.Input"),
    ),
    (
        test_one_bad_record_does_not_send_its_batch_round_again,
        put(f"{REQUESTS}.FunctionResponseTypes", []),
    ),
    (
        test_one_bad_record_does_not_send_its_batch_round_again,
        put(f"{CHANGES}.FunctionResponseTypes", []),
    ),
    (
        test_a_poison_record_leaves_the_stream_whole_and_in_time,
        put(f"{CHANGES}.BisectBatchOnFunctionError", False),
    ),
    (
        test_a_poison_record_leaves_the_stream_whole_and_in_time,
        put(f"{CHANGES}.MaximumRetryAttempts", -1),
    ),
    (
        test_a_poison_record_leaves_the_stream_whole_and_in_time,
        put(f"{CHANGES}.MaximumRecordAgeInSeconds", 86400),
    ),
    (
        test_a_poison_record_leaves_the_stream_whole_and_in_time,
        put(
            f"{CHANGES}.DestinationConfig.OnFailure.Destination",
            {"Fn::GetAtt": ["BackupBucket", "Arn"]},
        ),
    ),
    (
        test_a_poison_record_leaves_the_stream_whole_and_in_time,
        allow("WriteAudit", "FindFailuresBucket", resource="elsewhere"),
    ),
    (
        test_the_audit_stream_starts_at_its_first_record_with_both_images,
        put(f"{CHANGES}.StartingPosition", "LATEST"),
    ),
    (
        test_the_audit_stream_starts_at_its_first_record_with_both_images,
        put("Refunds.Properties.StreamSpecification.StreamViewType", "NEW_IMAGE"),
    ),
    (
        test_the_gateway_is_protected_from_a_full_queue,
        put(f"{REQUESTS}.ScalingConfig", {"MaximumConcurrency": {"Ref": "MaximumConcurrency"}}),
    ),
    (test_the_gateway_is_protected_from_a_full_queue, drop(f"{REQUESTS}.ScalingConfig")),
    (
        test_the_gateway_is_protected_from_a_full_queue,
        put("/Parameters.MaximumConcurrency.AllowedValues", [2, 3]),
    ),
    (test_every_trigger_invokes_the_alias, drop("/Globals.Function.AutoPublishAlias")),
    (
        test_schedules_are_parameters_and_send_an_empty_event,
        put(
            "BackupRefunds.Properties.Events.Schedule.Properties.ScheduleExpression", "rate(1 day)"
        ),
    ),
    (
        test_schedules_are_parameters_and_send_an_empty_event,
        drop("ReconcileRefunds.Properties.Events.Schedule"),
    ),
    (
        test_only_the_reconciler_may_switch_the_queue_and_nothing_else,
        allow("ReconcileRefunds", "SwitchRequests", "lambda:DeleteEventSourceMapping"),
    ),
    (
        test_only_the_reconciler_may_switch_the_queue_and_nothing_else,
        allow("ProcessRefund", "RecordRefunds", "lambda:UpdateEventSourceMapping"),
    ),
    (
        test_only_the_reconciler_may_switch_the_queue_and_nothing_else,
        put(f"ReconcileRefunds.{ENVIRONMENT}.MAXIMUM_CONCURRENCY", "10"),
    ),
    (
        test_a_gateway_that_is_down_stops_the_queue_at_once,
        drop("ReconcileRefunds.Properties.Events.GatewayDown"),
    ),
    (
        test_a_gateway_that_is_down_stops_the_queue_at_once,
        put("ReconcileRefunds.Properties.Events.GatewayDown.Properties.Pattern.source", ["x"]),
    ),
]


@pytest.mark.parametrize(("check", "edit"), EDITS, ids=lambda value: value.__name__)
def test_the_checks_notice(template: Json, check: Check, edit: Edit) -> None:
    assert_noticed(template, check, edit)


def test_every_check_has_an_edit() -> None:
    assert_each_has_an_edit(globals(), EDITS)
