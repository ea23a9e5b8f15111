"""Copies of backups in another account, and the record of who reads and writes refund data."""

from __future__ import annotations

import pytest
from tests.support.expanded_template import (
    ROOT,
    Check,
    Edit,
    ExpandedTemplate,
    Json,
    as_list,
    assert_each_has_an_edit,
    assert_noticed,
    drop,
    load_template,
    put,
)

COPIES = {
    "BackupCopyBucketArn": "arn:aws:s3:::refund-copies",
    "BackupCopyAccount": "444455556666",
    "BackupCopyKeyArn": "arn:aws:kms:eu-west-1:444455556666:key/copies",
}


def test_backups_are_copied_only_when_asked_for(stack: ExpandedTemplate) -> None:
    assert "ReplicationConfiguration" not in stack["BackupBucket"]
    assert "BackupCopyRole" not in stack.resources


def test_copies_need_an_account_and_a_key(stack: ExpandedTemplate) -> None:
    assert stack.given(**COPIES).refused_by() == []
    for name in ("BackupCopyAccount", "BackupCopyKeyArn"):
        (why,) = stack.given(**COPIES | {name: ""}).refused_by()
        assert name in why


def test_copies_belong_to_the_other_account_and_outlive_deletions(stack: ExpandedTemplate) -> None:
    (rule,) = stack.given(**COPIES)["BackupBucket"]["ReplicationConfiguration"]["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["Filter"] == {"Prefix": "refund-backups/"}
    assert rule["DeleteMarkerReplication"] == {"Status": "Disabled"}
    destination = rule["Destination"]
    assert destination["Bucket"] == COPIES["BackupCopyBucketArn"]
    assert destination["Account"] == COPIES["BackupCopyAccount"]
    assert destination["AccessControlTranslation"] == {"Owner": "Destination"}
    assert destination["EncryptionConfiguration"] == {"ReplicaKmsKeyID": COPIES["BackupCopyKeyArn"]}


def test_both_sides_agree_on_what_the_copying_role_may_do(stack: ExpandedTemplate) -> None:
    there = load_template(ROOT / "docs/backup-copy.template.yaml")["Resources"]
    (_, writes) = there["CopyBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    (_, encrypts) = there["CopyKey"]["Properties"]["KeyPolicy"]["Statement"]
    here = {
        statement["Sid"]: set(as_list(statement["Action"]))
        for statement in stack.given(**COPIES)["BackupCopyPolicy"]["PolicyDocument"]["Statement"]
    }
    assert set(writes["Fn::If"][1]["Action"]) == here["WriteCopies"]
    assert set(as_list(encrypts["Fn::If"][1]["Action"])) == here["EncryptCopies"]
    assert not any("Delete" in action for actions in here.values() for action in actions)


def test_who_reads_and_writes_is_recorded_when_asked_for(stack: ExpandedTemplate) -> None:
    assert "DataEvents" not in stack.resources
    trail = stack.given(DataEventsBucket="trails")["DataEvents"]
    assert trail["S3BucketName"] == "trails"
    assert trail["IsLogging"] is True
    assert trail["EnableLogFileValidation"] is True
    recorded = {
        arn
        for selector in trail["AdvancedEventSelectors"]
        for fields in selector["FieldSelectors"]
        if fields["Field"] == "resources.ARN"
        for arn in fields.get("Equals", []) + fields.get("StartsWith", [])
    }
    assert {"Refunds.Arn", "Ledger.Arn", "BackupBucket.Arn/", "FailuresBucket.Arn/"} < recorded


# --- Do the checks notice? ------------------------------------------------------------------------

RULE = "BackupBucket.Properties.ReplicationConfiguration.Fn::If.1.Rules.0"
EDITS: list[tuple[Check, Edit]] = [
    (
        test_backups_are_copied_only_when_asked_for,
        put("/Conditions.CopiesBackups", {"Fn::Equals": ["a", "a"]}),
    ),
    (test_copies_need_an_account_and_a_key, drop("/Rules.BackupCopiesNeedAnAccountAndAKey")),
    (
        test_copies_belong_to_the_other_account_and_outlive_deletions,
        put(f"{RULE}.DeleteMarkerReplication.Status", "Enabled"),
    ),
    (
        test_copies_belong_to_the_other_account_and_outlive_deletions,
        drop(f"{RULE}.Destination.AccessControlTranslation"),
    ),
    (
        test_both_sides_agree_on_what_the_copying_role_may_do,
        put(
            "BackupCopyPolicy.Properties.PolicyDocument.Statement.2.Action",
            ["s3:ReplicateObject", "s3:ReplicateDelete"],
        ),
    ),
    (
        test_who_reads_and_writes_is_recorded_when_asked_for,
        put("DataEvents.Properties.IsLogging", False),
    ),
]


@pytest.mark.parametrize(("check", "edit"), EDITS, ids=lambda value: value.__name__)
def test_the_checks_notice(template: Json, check: Check, edit: Edit) -> None:
    assert_noticed(template, check, edit)


def test_every_check_has_an_edit() -> None:
    assert_each_has_an_edit(globals(), EDITS)
