"""Tables, buckets and keys: data that outlives mistakes."""

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

KEPT = {
    "AWS::DynamoDB::Table": 3,
    "AWS::KMS::Key": 2,
    "AWS::Logs::LogGroup": 5,
    "AWS::S3::Bucket": 2,
    # Their messages are requests that nobody else has.
    "AWS::SQS::Queue": 2,
    # Typed in by hand, or known to the gateway.
    "AWS::SecretsManager::Secret": 3,
}


def test_deleting_the_stack_loses_no_record_request_secret_or_log(stack: ExpandedTemplate) -> None:
    stack = stack.given(Webhooks="true", GatewayRoutes="pi_=stripe")
    for kind, count in KEPT.items():
        kept = {n: r for n, r in stack.resources.items() if r["Type"] == kind}
        assert len(kept) == count, kind
        for name, resource in kept.items():
            assert resource.get("DeletionPolicy") == "RetainExceptOnCreate", name
            assert resource.get("UpdateReplacePolicy") == "Retain", name


def test_tables_can_be_restored_and_in_prod_not_be_deleted(stack: ExpandedTemplate) -> None:
    for stage, protected in (("local", False), ("dev", False), ("prod", True)):
        for table in stack.given(Stage=stage).of_type("AWS::DynamoDB::Table").values():
            assert table["DeletionProtectionEnabled"] is protected
            assert table["PointInTimeRecoverySpecification"] == {
                "PointInTimeRecoveryEnabled": True,
            }
            assert "TimeToLiveSpecification" not in table


def test_buckets_keep_versions_stay_private_and_clean_up_broken_uploads(
    stack: ExpandedTemplate,
) -> None:
    buckets = stack.of_type("AWS::S3::Bucket")
    assert set(buckets) == {"BackupBucket", "FailuresBucket"}
    for bucket in buckets.values():
        assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
        blocked = bucket["PublicAccessBlockConfiguration"]
        assert len(blocked) == 4
        assert all(blocked.values())
        rules = bucket["LifecycleConfiguration"]["Rules"]
        assert any("AbortIncompleteMultipartUpload" in r and "Prefix" not in r for r in rules)
        assert all(rule["Status"] == "Enabled" for rule in rules)


def test_backups_are_kept_for_years(stack: ExpandedTemplate) -> None:
    rules = stack["BackupBucket"]["LifecycleConfiguration"]["Rules"]
    expiries = [
        int(rule["ExpirationInDays"])
        for rule in rules
        if "ExpirationInDays" in rule and "refund-backups/2026/11/23/".startswith(rule["Prefix"])
    ]
    assert len(expiries) == 1
    assert expiries[0] >= 7 * 365


def test_backups_are_locked_by_parameter(stack: ExpandedTemplate) -> None:
    assert "ObjectLockConfiguration" not in stack["BackupBucket"]
    assert "ObjectLockConfiguration" not in stack.given(BackupLockMode="NONE")["BackupBucket"]
    bucket = stack.given(BackupLockMode="COMPLIANCE", BackupLockYears="5")["BackupBucket"]
    assert bucket["ObjectLockEnabled"] is True
    assert bucket["ObjectLockConfiguration"]["Rule"] == {
        "DefaultRetention": {"Mode": "COMPLIANCE", "Years": "5"}
    }


def test_digests_outlive_the_backups(stack: ExpandedTemplate) -> None:
    for rule in stack["BackupBucket"]["LifecycleConfiguration"]["Rules"]:
        if "ExpirationInDays" in rule:
            assert not "refund-backups/digests/000000000001.json".startswith(rule["Prefix"])
            assert rule["Prefix"] in ("refund-backups/2", "refund-backups/runs/")


def test_the_index_of_open_refunds_costs_a_good_refund_nothing(stack: ExpandedTemplate) -> None:
    index = stack["Refunds"]["GlobalSecondaryIndexes"][0]
    assert index["IndexName"] == "open-refunds"
    assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    keys = [(key["AttributeName"], key["KeyType"]) for key in index["KeySchema"]]
    assert keys == [("open_shard", "HASH"), ("check_at", "RANGE")]


# --- Do the checks notice? ------------------------------------------------------------------------

EDITS: list[tuple[Check, Edit]] = [
    *(
        (
            test_deleting_the_stack_loses_no_record_request_secret_or_log,
            drop(f"{kept}.DeletionPolicy"),
        )
        for kept in ("RefundQueue", "GatewaySecret", "WebhookSecret", "ProcessRefundLogGroup")
    ),
    (test_deleting_the_stack_loses_no_record_request_secret_or_log, drop("Ledger.DeletionPolicy")),
    (
        test_deleting_the_stack_loses_no_record_request_secret_or_log,
        put("BackupBucket.UpdateReplacePolicy", "Delete"),
    ),
    (test_deleting_the_stack_loses_no_record_request_secret_or_log, drop("DataKey.DeletionPolicy")),
    (
        test_tables_can_be_restored_and_in_prod_not_be_deleted,
        put("Refunds.Properties.DeletionProtectionEnabled", False),
    ),
    (
        test_tables_can_be_restored_and_in_prod_not_be_deleted,
        drop("PaymentAuditTrail.Properties.PointInTimeRecoverySpecification"),
    ),
    (
        test_tables_can_be_restored_and_in_prod_not_be_deleted,
        put("Ledger.Properties.TimeToLiveSpecification", {"Enabled": True, "AttributeName": "ttl"}),
    ),
    (
        test_buckets_keep_versions_stay_private_and_clean_up_broken_uploads,
        drop("BackupBucket.Properties.VersioningConfiguration"),
    ),
    (
        test_buckets_keep_versions_stay_private_and_clean_up_broken_uploads,
        put(
            "FailuresBucket.Properties.PublicAccessBlockConfiguration.RestrictPublicBuckets", False
        ),
    ),
    (
        test_buckets_keep_versions_stay_private_and_clean_up_broken_uploads,
        drop("BackupBucket.Properties.LifecycleConfiguration.Rules.1"),
    ),
    (test_backups_are_kept_for_years, put("/Parameters.BackupRetentionDays.Default", "365")),
    (
        test_backups_are_locked_by_parameter,
        drop("BackupBucket.Properties.ObjectLockConfiguration"),
    ),
    (
        test_digests_outlive_the_backups,
        put("BackupBucket.Properties.LifecycleConfiguration.Rules.0.Prefix", "refund-backups/"),
    ),
    (
        test_the_index_of_open_refunds_costs_a_good_refund_nothing,
        put("Refunds.Properties.GlobalSecondaryIndexes.0.Projection.ProjectionType", "ALL"),
    ),
]


@pytest.mark.parametrize(("check", "edit"), EDITS, ids=lambda value: value.__name__)
def test_the_checks_notice(template: Json, check: Check, edit: Edit) -> None:
    assert_noticed(template, check, edit)


def test_every_check_has_an_edit() -> None:
    assert_each_has_an_edit(globals(), EDITS)
