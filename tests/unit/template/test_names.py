"""Stacks beside each other: every name that the template chooses carries the stack's."""

from __future__ import annotations

import pytest
from tests.support.expanded_template import (
    Check,
    Edit,
    ExpandedTemplate,
    Json,
    assert_each_has_an_edit,
    assert_noticed,
    drop,
    put,
)

LONGEST_STACK_NAME = "s" * 50
"""Longer ones don't leave room in a queue's name; docs/deploying.md says so."""

NAME_PROPERTIES = (
    "AliasName",
    "AlarmName",
    "BucketName",
    "DashboardName",
    "FunctionName",
    "GroupName",
    "LogGroupName",
    "ManagedPolicyName",
    "Name",
    "QueueName",
    "RoleName",
    "TableName",
    "TopicName",
    "TrailName",
)

# Names within something that has the stack's name, or is the stack's own.
WITHIN = {
    "GatewaySettingsProfile": "gateway",
}

# The longest name that each service takes.
LENGTHS = {
    "AWS::SQS::Queue": 80,
    "AWS::Logs::LogGroup": 512,
    "AWS::Events::EventBus": 256,
    "AWS::AppConfig::Application": 64,
    "AWS::KMS::Alias": 256,
    "AWS::CloudWatch::Dashboard": 255,
    "AWS::CloudTrail::Trail": 128,
}


def names(stack: ExpandedTemplate) -> dict[str, tuple[str, str]]:
    """Type and name of each resource that the template itself names."""
    found = {}
    for logical_id, resource in stack.resources.items():
        for key in NAME_PROPERTIES:
            name = resource.get("Properties", {}).get(key)
            # A function's name in another resource's properties is a reference.
            if name is not None and name not in stack.resources and not name.endswith("live"):
                found[logical_id] = (resource["Type"], name)
    return found


def test_every_name_carries_the_stacks(stack: ExpandedTemplate) -> None:
    everything = {"Webhooks": "true", "GatewayRoutes": "pi_=stripe", "AuditTableName": "theirs"}
    one = names(ExpandedTemplate(stack.template, stack_name="refunds-dev", **everything))
    other = names(ExpandedTemplate(stack.template, stack_name="refunds-prod", **everything))
    assert len(one) >= 10
    for logical_id, (_, name) in one.items():
        if logical_id in WITHIN:
            assert name == WITHIN[logical_id]
        elif logical_id == "PaymentAuditTrail":
            assert name == "theirs"  # the one name that is a parameter
        else:
            assert "refunds-dev" in name, logical_id
            assert other[logical_id][1] == name.replace("refunds-dev", "refunds-prod")


def test_schedules_have_no_name_of_the_templates_own(stack: ExpandedTemplate) -> None:
    """SAM would name them by their logical ids alone: the same in every stack of the account."""
    for name, schedule in stack.of_type("AWS::Scheduler::Schedule").items():
        assert "Name" not in schedule, name


def test_a_long_stack_name_leaves_room_in_every_name(stack: ExpandedTemplate) -> None:
    long = ExpandedTemplate(stack.template, stack_name=LONGEST_STACK_NAME, Webhooks="true")
    for logical_id, (kind, name) in names(long).items():
        assert len(name) <= LENGTHS.get(kind, 255), logical_id


# --- Do the checks notice? ------------------------------------------------------------------------

SCHEDULE = "Properties.Events.Schedule.Properties"
EDITS: list[tuple[Check, Edit]] = [
    (
        test_every_name_carries_the_stacks,
        put("RefundEvents.Properties.Name", "refunds"),
    ),
    (
        test_every_name_carries_the_stacks,
        put("Refunds.Properties.TableName", "all-refunds"),
    ),
    (test_schedules_have_no_name_of_the_templates_own, drop(f"BackupRefunds.{SCHEDULE}.OmitName")),
    (
        test_a_long_stack_name_leaves_room_in_every_name,
        put(
            "RefundQueue.Properties.QueueName",
            {"Fn::Sub": "${AWS::StackName}-requests-of-refunds-by-everybody"},
        ),
    ),
]


@pytest.mark.parametrize(("check", "edit"), EDITS, ids=lambda value: value.__name__)
def test_the_checks_notice(template: Json, check: Check, edit: Edit) -> None:
    assert_noticed(template, check, edit)


def test_every_check_has_an_edit() -> None:
    assert_each_has_an_edit(globals(), EDITS)
