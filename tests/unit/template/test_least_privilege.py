"""Least privilege, measured: what the functions call is what their roles allow.

Every sample event goes through the handlers; each AWS call is recorded with its resource. A call
that a role does not allow fails the test, and so does a permission that no call needed, unless the
table below says who needs it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.support.deployed import deployed
from tests.support.expanded_template import ACCOUNT, REGION, ExpandedTemplate, as_list
from tests.support.recorded_calls import Called, recorded_calls

from refunds_devkit.sample_events import FOLDER

PREFIXES = {
    "process-refund": "ProcessRefund",
    "write-audit": "WriteAudit",
    "reconcile": "ReconcileRefunds",
    "backup": "BackupRefunds",
}

# Needed by AWS on a function's behalf: Lambda polls sources and delivers failures with the
# function's role, and writes its logs and traces.
BY_AWS = {
    "ProcessRefund": {
        ("sqs:DeleteMessage", "RefundQueue"),
        ("sqs:GetQueueAttributes", "RefundQueue"),
        ("sqs:ReceiveMessage", "RefundQueue"),
    },
    "WriteAudit": {
        ("dynamodb:DescribeStream", "Refunds/stream/*"),
        ("dynamodb:GetRecords", "Refunds/stream/*"),
        ("dynamodb:GetShardIterator", "Refunds/stream/*"),
        ("dynamodb:ListStreams", "*"),
        ("s3:ListBucket", "FailuresBucket"),
    },
    "ReconcileRefunds": set(),
    "BackupRefunds": {
        ("s3:AbortMultipartUpload", "BackupBucket"),  # DynamoDB's export
        ("s3:PutObjectAcl", "BackupBucket"),
    },
}

# Called by the code, but not after a sample event; each with the test that reaches it.
ELSEWHERE = {
    "ProcessRefund": {
        # tests/unit/processing/test_deferral.py: a request for a gateway that is down
        ("sqs:SendMessage", "RefundQueue"),
    },
    "WriteAudit": set(),
    "ReconcileRefunds": {
        # tests/unit/processing/test_reconciler.py: a refund that is settled, or put off
        ("dynamodb:UpdateItem", "Refunds"),
        ("dynamodb:UpdateItem", "Ledger"),
        # tests/unit/processing/test_dead_letters.py: a dead letter that is four days old
        ("s3:PutObject", "FailuresBucket"),
        ("sqs:DeleteMessage", "RefundDeadLetterQueue"),
        # tests/unit/breaker/test_breaker_mapping.py
        ("lambda:UpdateEventSourceMapping", "ProcessRefundRefundRequests"),
        # tests/unit/processing/test_audit_stream.py
        ("dynamodb:DescribeTable", "Refunds"),
    },
    "BackupRefunds": {
        # tests/unit/backup/test_native_export.py
        ("dynamodb:ExportTableToPointInTime", "Refunds"),
        ("dynamodb:DescribeExport", "Refunds/export/*"),
        # tests/unit/backup/test_backup_steps.py: a run of more than one invocation
        ("lambda:InvokeFunction", "BackupRefunds"),
    },
}

# Only when two records of a batch meet, which they do in some runs.
IN_RACES: set[Called] = {("dynamodb:GetItem", "Refunds")}

# test_permissions.py and test_key_permissions.py have these.
EVERYWHERE = ("kms:", "logs:", "xray:")


@pytest.fixture(scope="module")
def called() -> Iterator[dict[str, set[Called]]]:
    calls: dict[str, set[Called]] = {name: set() for name in PREFIXES.values()}
    with deployed() as functions:
        for path in sorted(FOLDER.iterdir()):
            for prefix, name in PREFIXES.items():
                if path.name.startswith(prefix):
                    with recorded_calls(functions.logical_ids) as recorded:
                        functions.call(name, json.loads(path.read_text()))
                    calls[name] |= recorded
        yield calls


def allowed(stack: ExpandedTemplate, function: str) -> set[Called]:
    found = set()
    statements = stack.statements(function)
    if function == "BackupRefunds":
        statements += stack["BackupRefundsContinues"]["PolicyDocument"]["Statement"]
    for statement in statements:
        for action in as_list(statement["Action"]):
            if not action.startswith(EVERYWHERE):
                for resource in as_list(statement["Resource"]):
                    found.add((action, _logical(resource)))
    return found


def _logical(resource: str) -> str:
    """``X.Arn/prefix/*`` is X; the audit table, known by its name, is PaymentAuditTrail."""
    arn = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/"
    mapping = f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:"
    resource = resource.removeprefix(arn).removeprefix(mapping)
    name, _, rest = resource.replace(".Arn", "").replace(".Id", "").partition("/")
    keeps_rest = rest.startswith(("index/", "stream/", "export/"))
    return f"{name}/{rest}" if keeps_rest else name.removesuffix(":*")


@pytest.mark.parametrize("function", PREFIXES.values())
def test_a_role_allows_what_its_function_calls(
    stack: ExpandedTemplate, called: dict[str, set[Called]], function: str
) -> None:
    calls = {call for call in called[function] if not call[0].startswith(EVERYWHERE)}
    assert calls, function
    assert calls - allowed(stack, function) == set()


@pytest.mark.parametrize("function", PREFIXES.values())
def test_a_role_allows_nothing_that_nobody_calls(
    stack: ExpandedTemplate, called: dict[str, set[Called]], function: str
) -> None:
    known = called[function] | BY_AWS[function] | ELSEWHERE[function] | IN_RACES
    assert allowed(stack, function) - known == set()
    # Neither table names what no role allows, or what a sample event does after all.
    assert (BY_AWS[function] | ELSEWHERE[function]) - allowed(stack, function) == set()
    assert ELSEWHERE[function] & called[function] == set()


def test_the_measure_notices_a_permission_too_many_and_one_too_few(
    stack: ExpandedTemplate, called: dict[str, set[Called]]
) -> None:
    known = called["WriteAudit"] | BY_AWS["WriteAudit"]
    assert ("dynamodb:GetItem", "PaymentAuditTrail") not in known
    assert ("dynamodb:PutItem", "PaymentAuditTrail") in called["WriteAudit"]
    assert ("dynamodb:PutItem", "Refunds") not in allowed(stack, "ReconcileRefunds")
