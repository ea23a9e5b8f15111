"""After a restore the tables are as template.yaml has them, and the audit writer reads them."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.backup_commands import Run
from tests.support.backup_parts import BackedUp, refund
from tests.support.expanded_template import load_template
from tests.support.fake_lambda import FakeLambda
from tests.support.moto_stream import MotoStream

from refunds.tables.refunds import RefundsTable
from refunds.tables.state import MESSAGES_RETURN_WITHIN
from refunds_ops.backup.whole_tables import STREAM, TableSettings, WholeTables, entries_stay
from refunds_ops.stack.audit_writer import NotConnectedError, check_connected
from refunds_ops.stack.stack import Stack, find_stack

pytestmark = pytest.mark.usefixtures("gateway")

KEY = "arn:aws:kms:eu-central-1:111122223333:key/data"
TEMPLATE: Any = load_template()["Resources"]


@pytest.fixture
def functions(refunds: Run) -> FakeLambda:
    found: Any = Stack.functions
    assert isinstance(found, FakeLambda)
    return found


def lose(stack: BackedUp, *tables: str) -> None:
    stack.back_up()
    for table in tables:
        stack.dynamodb.delete_table(TableName=getattr(stack, table))


def described(stack: BackedUp, table: str) -> Any:
    return stack.dynamodb.describe_table(TableName=getattr(stack, table))["Table"]


def recovery(stack: BackedUp, table: str) -> str:
    answer = stack.dynamodb.describe_continuous_backups(TableName=getattr(stack, table))
    found = answer["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
    return found["PointInTimeRecoveryStatus"]


def test_a_lost_table_comes_back_as_the_template_has_it(
    stack: BackedUp, refunds: Run, functions: FakeLambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DataKeyArn", KEY)
    functions.stage = "prod"
    stack.add(refund(1))
    tag: Any = {"Key": "team", "Value": "payments"}
    ledger_arn = described(stack, "ledger")["TableArn"]
    stack.dynamodb.tag_resource(ResourceArn=ledger_arn, Tags=[tag])
    encrypted: Any = {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyArn": KEY}
    # moto doesn't change a table's key.
    stack.dynamodb.meta.events.register(
        "after-call.dynamodb.DescribeTable",
        lambda parsed, **_: parsed.get("Table", {}).setdefault("SSEDescription", encrypted),
    )
    monkeypatch.setattr(Stack, "dynamodb", stack.dynamodb)
    lose(stack, "refunds", "audit")
    status, _, err = refunds("restore")
    assert status == 0, err
    for table in ("refunds", "ledger"):
        found = described(stack, table)
        assert found["SSEDescription"]["KMSMasterKeyArn"] == KEY, table
        assert found["DeletionProtectionEnabled"], table
        assert recovery(stack, table) == "ENABLED"
    assert recovery(stack, "audit") == "ENABLED"
    assert described(stack, "refunds")["StreamSpecification"] == STREAM
    indexes = described(stack, "refunds")["GlobalSecondaryIndexes"]
    assert "open-refunds" in {index["IndexName"] for index in indexes}
    tags = stack.dynamodb.list_tags_of_resource(ResourceArn=described(stack, "refunds")["TableArn"])
    assert tags["Tags"] == [tag]
    assert "Created the table" in err


def test_the_settings_are_those_of_the_template() -> None:
    for table in ("Refunds", "Ledger", "PaymentAuditTrail"):
        properties = TEMPLATE[table]["Properties"]
        assert properties["PointInTimeRecoverySpecification"] == {
            "PointInTimeRecoveryEnabled": True
        }
        assert properties["DeletionProtectionEnabled"] == {"Fn::If": ["IsProd", True, False]}
        assert properties["SSESpecification"]["SSEType"] == "KMS"
        assert "TimeToLiveSpecification" not in properties
        assert set(properties) <= {
            *("TableName", "BillingMode", "AttributeDefinitions", "KeySchema"),
            *("GlobalSecondaryIndexes", "StreamSpecification", "SSESpecification"),
            *("PointInTimeRecoverySpecification", "DeletionProtectionEnabled", "ResourcePolicy"),
        }, "a new property: have a restore check it"
    (stays,) = TEMPLATE["PaymentAuditTrail"]["Properties"]["ResourcePolicy"]["PolicyDocument"][
        "Statement"
    ]
    (restored,) = entries_stay("arn")["Statement"]
    for name in ("Sid", "Effect", "Principal", "Action"):
        assert restored[name] == stays[name]
    stream_ = TEMPLATE["Refunds"]["Properties"]["StreamSpecification"]
    assert stream_["StreamViewType"] == STREAM["StreamViewType"]


def test_a_lost_refunds_table_is_audited_again_from_the_first_row(
    stack: BackedUp, refunds: Run, functions: FakeLambda
) -> None:
    stack.add(refund(1))
    lose(stack, "refunds")
    before = functions.mappings[0]
    status, _, err = refunds("restore")
    assert (status, "Connected WriteAudit" in err) == (0, True)
    old, new = functions.mappings
    assert old == before
    assert new["EventSourceArn"] == described(stack, "refunds")["LatestStreamArn"]
    assert new["EventSourceArn"] != old["EventSourceArn"]
    assert new["StartingPosition"] == "TRIM_HORIZON"
    same = ("FunctionArn", "BatchSize", "ParallelizationFactor", "FunctionResponseTypes")
    assert all(new[name] == old[name] for name in (*same, "MaximumRetryAttempts"))
    writer = MotoStream(stack.refunds, stack.audit, stack.clock)
    writer.deliver()
    assert writer.kept == []
    assert refunds("restore")[0] == 0  # once more: it is connected
    assert len(functions.mappings) == 2


def test_the_audit_writers_role_may_read_the_stream_of_a_table_created_again() -> None:
    (policy,) = TEMPLATE["WriteAuditRole"]["Properties"]["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    (reads,) = [each for each in statements if each["Sid"] == "ReadStream"]
    assert reads["Resource"] == {"Fn::Sub": "${Refunds.Arn}/stream/*"}


def test_a_stream_that_nobody_reads_ends_the_restore_before_its_first_row(
    stack: BackedUp, refunds: Run, functions: FakeLambda
) -> None:
    stack.add(refund(1))
    lose(stack, "refunds")
    functions.mappings.clear()
    status, _, err = refunds("restore")
    assert status == 1
    assert "No row was restored" in err
    assert "aws lambda create-event-source-mapping" in err
    assert described(stack, "refunds")["LatestStreamArn"] in err.replace("\n", "")
    assert RefundsTable(stack.dynamodb, stack.refunds).get("rf-000001") is None


def test_a_disabled_audit_writer_ends_the_restore_with_the_step(
    stack: BackedUp, refunds: Run, functions: FakeLambda
) -> None:
    stack.back_up()
    functions.mappings[0]["State"] = "Disabled"
    status, _, err = refunds("restore")
    assert (status, "--enabled --uuid mapping-1" in err) == (1, True)


def test_what_was_switched_off_by_hand_is_on_again(stack: BackedUp, refunds: Run) -> None:
    stack.add(refund(1))
    stack.back_up()
    stack.dynamodb.update_time_to_live(
        TableName=stack.refunds,
        TimeToLiveSpecification={"Enabled": True, "AttributeName": "gone_at"},
    )
    assert refunds("restore")[0] == 0
    ttl = stack.dynamodb.describe_time_to_live(TableName=stack.refunds)["TimeToLiveDescription"]
    assert ttl["TimeToLiveStatus"] == "DISABLED"
    assert recovery(stack, "refunds") == recovery(stack, "ledger") == "ENABLED"


@pytest.mark.parametrize("operation", ["UpdateContinuousBackups", "UpdateTable"])
def test_what_can_not_be_mended_is_told_as_a_command(
    stack: BackedUp, refunds: Run, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DataKeyArn", KEY)
    stack.back_up()
    dynamodb: Any = stack.dynamodb

    def denied(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException"}}, operation)

    name = {"UpdateContinuousBackups": "update_continuous_backups", "UpdateTable": "update_table"}
    monkeypatch.setattr(dynamodb, name[operation], denied)
    monkeypatch.setattr(Stack, "dynamodb", dynamodb)
    status, _, err = refunds("restore")
    assert (status, "AccessDeniedException" in err) == (1, True)
    assert f"aws dynamodb {name[operation].replace('_', '-')} --table-name" in err


def test_a_table_without_the_index_is_refused_with_the_steps(stack: BackedUp, refunds: Run) -> None:
    stack.back_up()
    stack.dynamodb.delete_table(TableName=stack.refunds)
    stack.dynamodb.create_table(
        TableName=stack.refunds,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "refund_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "refund_id", "AttributeType": "S"}],
    )
    status, _, err = refunds("restore")
    assert (status, "lacks the index open-refunds" in err) == (1, True)


def test_an_audit_table_that_is_there_is_left_as_it_is(stack: BackedUp, refunds: Run) -> None:
    stack.back_up()
    stack.dynamodb.update_time_to_live(
        TableName=stack.audit,
        TimeToLiveSpecification={"Enabled": True, "AttributeName": "the_payment_sides"},
    )
    assert refunds("restore")[0] == 0
    assert recovery(stack, "audit") == "DISABLED"
    tables = WholeTables(stack.dynamodb, TableSettings())
    assert {each.what.split(" ")[0] for each in tables.deviations("audit", stack.audit)} == {
        "point-in-time",
        "a",
        "no",
    }


def test_claims_look_up_first_for_longer_than_any_message_can_come_back() -> None:
    seconds = sum(
        int(TEMPLATE[queue]["Properties"]["MessageRetentionPeriod"])
        for queue in ("RefundQueue", "RefundDeadLetterQueue")
    )
    assert MESSAGES_RETURN_WITHIN.total_seconds() >= seconds + 7 * 24 * 3600


def test_only_an_enabled_mapping_of_the_current_stream_counts_as_connected(
    stack: BackedUp, functions: FakeLambda
) -> None:
    found = find_stack(None)
    check_connected(found)
    (mapping,) = functions.mappings
    for state, connected in (("Disabled", False), ("Disabling", False), ("Enabling", True)):
        mapping["State"] = state
        if connected:
            check_connected(found)
        else:
            with pytest.raises(NotConnectedError, match=state):
                check_connected(found)
    mapping["FunctionArn"] = "arn:aws:lambda:eu-central-1:111122223333:function:another:live"
    with pytest.raises(NotConnectedError, match="doesn't read the current stream"):
        check_connected(found)
    stack.dynamodb.update_table(
        TableName=stack.refunds, StreamSpecification={"StreamEnabled": False}
    )
    with pytest.raises(NotConnectedError, match="has no stream"):
        check_connected(found)
