"""Puts the resources that a deleted stack left behind into a new stack of the same name.

When a stack is deleted, CloudFormation keeps its tables, buckets, queues, secrets, keys and logs.
It can't create them again while they exist. A resource import puts them into a stack; the next `sam
deploy` then adds everything else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, WaiterError

from refunds_ops.errors import RefusedError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

IDENTIFIERS = {
    "AWS::DynamoDB::Table": "TableName",
    "AWS::KMS::Key": "KeyId",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::SQS::Queue": "QueueUrl",
    "AWS::SecretsManager::Secret": "Id",
}
"""The resource types that the template keeps on deletion, and the property that identifies each."""

WAIT_SECONDS = 600
_DELETED_STACKS_ARE_LISTED_DAYS = 90
# REVIEW_IN_PROGRESS: a change set was created for the stack but never executed.
_NO_STACK = ("DELETE_COMPLETE", "REVIEW_IN_PROGRESS")


@dataclass(frozen=True)
class Kept:
    """A resource that a deleted stack left behind."""

    logical_id: str
    kind: str
    physical_id: str


@dataclass(frozen=True)
class DeletedStack:
    name: str
    stack_id: str
    kept: tuple[Kept, ...]
    template: Mapping[str, Any]
    parameters: Mapping[str, str]


def find_deleted(cloudformation: CloudFormationClient, name: str) -> DeletedStack:
    """The last deleted stack of that name. Raises ``RefusedError``."""
    if _exists(cloudformation, name):
        raise RefusedError(
            f"The stack {name} exists.",
            "It has its data. Only a stack that was deleted can be adopted.",
        )
    pages = cloudformation.get_paginator("list_stacks").paginate(
        StackStatusFilter=["DELETE_COMPLETE"]
    )
    deleted = [
        stack for page in pages for stack in page["StackSummaries"] if stack["StackName"] == name
    ]
    if not deleted:
        raise RefusedError(
            f"No deleted stack {name} is known here.",
            f"CloudFormation lists deleted stacks for {_DELETED_STACKS_ARE_LISTED_DAYS} days, in "
            "the account and region where they were.",
        )
    last = max(deleted, key=lambda stack: stack["CreationTime"])
    stack_id = last["StackId"]
    described = cloudformation.describe_stacks(StackName=stack_id)["Stacks"][0]
    body: Any = cloudformation.get_template(StackName=stack_id, TemplateStage="Processed")[
        "TemplateBody"
    ]
    return DeletedStack(
        name=name,
        stack_id=stack_id,
        kept=tuple(_kept(cloudformation, stack_id)),
        template=json.loads(body) if isinstance(body, str) else body,
        parameters={
            each["ParameterKey"]: each["ParameterValue"] for each in described.get("Parameters", [])
        },
    )


def _exists(cloudformation: CloudFormationClient, name: str) -> bool:
    try:
        stacks = cloudformation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as exc:
        if exc.response["Error"]["Code"] == "ValidationError":
            return False
        raise
    return any(stack["StackStatus"] not in _NO_STACK for stack in stacks)


def _kept(cloudformation: CloudFormationClient, stack_id: str) -> list[Kept]:
    """The resources that the deletion skipped, from the stack's events, which come newest first."""
    kept = []
    pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack_id)
    for event in (event for page in pages for event in page["StackEvents"]):
        if event.get("PhysicalResourceId") == stack_id:
            if event["ResourceStatus"] == "DELETE_IN_PROGRESS":
                break  # earlier events belong to updates
            continue
        if event["ResourceStatus"] == "DELETE_SKIPPED" and event["ResourceType"] in IDENTIFIERS:
            kept.append(
                Kept(event["LogicalResourceId"], event["ResourceType"], event["PhysicalResourceId"])
            )
    return sorted(kept, key=lambda each: each.logical_id)


def adopt(cloudformation: CloudFormationClient, deleted: DeletedStack) -> None:
    """Create the stack again from the resources that were kept. Raises ``RefusedError``."""
    template = import_template(deleted)
    change_set = f"adopt-{int(time.time())}"
    cloudformation.create_change_set(
        StackName=deleted.name,
        ChangeSetName=change_set,
        ChangeSetType="IMPORT",
        TemplateBody=json.dumps(template),
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in deleted.parameters.items()
            if key in template["Parameters"]
        ],
        ResourcesToImport=[
            {
                "ResourceType": each.kind,
                "LogicalResourceId": each.logical_id,
                "ResourceIdentifier": {IDENTIFIERS[each.kind]: each.physical_id},
            }
            for each in deleted.kept
        ],
    )
    try:
        _execute(cloudformation, deleted.name, change_set)
    except (RefusedError, WaiterError):
        # The stack that the change set began has no resources yet.
        cloudformation.delete_stack(StackName=deleted.name)
        raise
    waiter = cloudformation.get_waiter("stack_import_complete")
    waiter.wait(StackName=deleted.name, WaiterConfig=_WAITING)


_WAITING: Any = {"Delay": 2, "MaxAttempts": WAIT_SECONDS // 2}


def _execute(cloudformation: CloudFormationClient, name: str, change_set: str) -> None:
    waiter = cloudformation.get_waiter("change_set_create_complete")
    with suppress(WaiterError):  # the change set itself says why
        waiter.wait(StackName=name, ChangeSetName=change_set, WaiterConfig=_WAITING)
    made = cloudformation.describe_change_set(StackName=name, ChangeSetName=change_set)
    if made["ExecutionStatus"] != "AVAILABLE":
        raise RefusedError(
            f"CloudFormation can't import what {name} left behind: "
            f"{made.get('StatusReason', made['Status'])}",
            "Nothing was changed. Leave out what is no longer there with --leave LOGICAL_ID.",
        )
    cloudformation.execute_change_set(StackName=name, ChangeSetName=change_set)


def import_template(deleted: DeletedStack) -> dict[str, Any]:
    """The deleted stack's template, reduced to the kept resources.

    Values that refer to a deleted resource are left out. CloudFormation does not compare them on an
    import, and the next deployment adds them again. A policy loses the whole statement, since a
    part of a statement would mean something else.
    """
    names = {each.logical_id for each in deleted.kept}
    gone = set(deleted.template["Resources"]) - names
    resources = {}
    for name in sorted(names):
        resource = deleted.template["Resources"][name]
        resources[name] = {
            "Type": resource["Type"],
            "DeletionPolicy": resource["DeletionPolicy"],
            "UpdateReplacePolicy": resource["UpdateReplacePolicy"],
            "Properties": _without(resource["Properties"], gone, in_list=False),
        }
    sections = {
        section: deleted.template[section]
        for section in ("AWSTemplateFormatVersion", "Parameters", "Mappings", "Conditions")
        if section in deleted.template
    }
    return {**sections, "Parameters": sections.get("Parameters", {}), "Resources": resources}


class _GoneError(Exception):
    """A value refers to a deleted resource."""


def _without(value: Any, gone: set[str], *, in_list: bool) -> Any:
    if isinstance(value, list):
        return [each for each in (_or_none(each, gone) for each in value) if each is not None]
    if not isinstance(value, Mapping):
        return value
    if len(value) == 1 and next(iter(value)).startswith(("Ref", "Fn::")):
        if _names_in(value) & gone:
            raise _GoneError
        return value
    kept = {}
    for key, inner in value.items():
        try:
            kept[key] = _without(inner, gone, in_list=in_list)
        except _GoneError:
            if in_list:
                raise
    return kept


def _or_none(value: Any, gone: set[str]) -> Any:
    try:
        return _without(value, gone, in_list=True)
    except _GoneError:
        return None


def _names_in(value: Any) -> set[str]:
    """The logical ids and parameters that a value refers to."""
    if isinstance(value, Mapping):
        names: set[str] = set()
        for key, inner in value.items():
            if key in ("Ref", "Fn::GetAtt"):
                names.add(inner if isinstance(inner, str) else inner[0])
            elif key == "Fn::Sub":
                text = inner if isinstance(inner, str) else inner[0]
                names |= {part.split("}")[0].split(".")[0] for part in text.split("${")[1:]}
            names |= _names_in(inner)
        return {name.split(".")[0] for name in names}
    if isinstance(value, list):
        return set().union(*map(_names_in, value))
    return set()
