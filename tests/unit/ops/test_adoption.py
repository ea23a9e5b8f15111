"""What of a deleted stack's template goes into the import. tests/local deletes and adopts one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.expanded_template import REGION, expanded, load_template

from refunds_ops.cli import cli
from refunds_ops.commands import stack as stack_commands
from refunds_ops.stack.adoption import IDENTIFIERS, DeletedStack, Kept, import_template


@pytest.fixture(autouse=True)
def _region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)


def deleted(*kept: Kept, template: dict[str, Any] | None = None) -> DeletedStack:
    whole = template or expanded(load_template())
    return DeletedStack("refunds", "arn:…", kept, whole, {"Stage": "dev"})


def everything() -> tuple[Kept, ...]:
    return tuple(
        Kept(name, resource["Type"], "physical")
        for name, resource in expanded(load_template())["Resources"].items()
        if resource.get("DeletionPolicy") == "RetainExceptOnCreate"
    )


def test_every_kept_resource_can_be_imported() -> None:
    assert len(everything()) == 17
    assert {each.kind for each in everything()} == set(IDENTIFIERS)


def test_the_import_has_the_kept_resources_and_nothing_else() -> None:
    template = import_template(deleted(*everything()))
    assert set(template["Resources"]) == {each.logical_id for each in everything()}
    assert "Outputs" not in template  # CloudFormation refuses new ones in an import
    for resource in template["Resources"].values():
        assert resource["DeletionPolicy"] == "RetainExceptOnCreate"
        assert "Condition" not in resource


def test_a_statement_about_a_deleted_role_goes_as_a_whole() -> None:
    """Without its principal it would allow something else."""
    template = import_template(deleted(*everything()))
    policy = template["Resources"]["BackupSigningKey"]["Properties"]["KeyPolicy"]
    sids = [statement["Sid"] for statement in policy["Statement"]]
    assert sids == ["AccountAdministersKeyAndVerifies"]
    assert "BackupRefundsRole" not in str(template["Resources"])


def test_references_between_kept_resources_stay() -> None:
    template = import_template(deleted(*everything()))
    queue = template["Resources"]["RefundQueue"]["Properties"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {
        "Fn::GetAtt": ["RefundDeadLetterQueue", "Arn"]
    }


def test_a_property_that_refers_to_what_is_left_out_goes_alone() -> None:
    kept = tuple(each for each in everything() if each.logical_id != "DataKey")
    queue = import_template(deleted(*kept))["Resources"]["RefundQueue"]["Properties"]
    assert "KmsMasterKeyId" not in queue
    assert queue["VisibilityTimeout"] == 360


@pytest.mark.parametrize("yes", [False, True])
def test_json_says_what_was_left_behind_and_whether_it_was_adopted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], yes: bool
) -> None:
    gone = deleted(Kept("Refunds", "AWS::DynamoDB::Table", "refunds-1"), template={})
    adopted: list[DeletedStack] = []
    monkeypatch.setattr(stack_commands, "find_deleted", lambda cloudformation, name: gone)
    monkeypatch.setattr(
        stack_commands, "adopt_kept", lambda cloudformation, found: adopted.append(found)
    )
    line = ["stack", "adopt", "--stack", "refunds", "--json", *(["--yes"] if yes else [])]
    cli(line, standalone_mode=False, prog_name="refunds")
    assert json.loads(capsys.readouterr().out) == {
        "stack_id": "arn:…",
        "kept": [{"logical_id": "Refunds", "physical_id": "refunds-1"}],
        "adopted": yes,
    }
    assert adopted == ([gone] if yes else [])
