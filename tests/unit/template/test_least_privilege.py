"""Least privilege, measured: what the functions call is what their roles allow.

Every sample event goes through the handlers, and the crash simulator plays histories with outages,
crashes and old dead letters. Each AWS call is recorded with its resource. A call that a role does
not allow fails the test, and so does a permission that no call needed, unless AWS needs it on the
function's behalf.
"""

from __future__ import annotations

import importlib
import json
import os
from contextlib import suppress
from types import SimpleNamespace
from unittest.mock import patch
from warnings import catch_warnings, simplefilter

import boto3
import pytest
from botocore.exceptions import ClientError
from tests.support.deployed import Deployed, deployed
from tests.support.expanded_template import ACCOUNT, REGION, ExpandedTemplate, as_list
from tests.support.recorded_calls import Called, recorded_calls
from tests.support.simulated_calls import simulated_calls
from tests.support.webhook_events import SECRET, now_signed

from refunds.backup.native_export import NativeExport
from refunds.domain.clock import Deadline, SystemClock
from refunds_devkit.sample_events import FOLDER

pytestmark = pytest.mark.long

FUNCTIONS = ("ProcessRefund", "WriteAudit", "ReconcileRefunds", "BackupRefunds", "ReceiveWebhook")
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
    "ReceiveWebhook": set(),
}

# test_permissions.py and test_key_permissions.py have these.
EVERYWHERE = ("kms:", "logs:", "xray:")


@pytest.fixture(scope="module")
def called() -> dict[str, set[Called]]:
    calls: dict[str, set[Called]] = {name: set() for name in FUNCTIONS}
    with deployed() as functions:
        for path in sorted(FOLDER.iterdir()):
            for prefix, name in PREFIXES.items():
                if path.name.startswith(prefix):
                    with recorded_calls(functions.logical_ids) as recorded:
                        functions.call(name, json.loads(path.read_text()))
                    calls[name] |= recorded
        calls["BackupRefunds"] |= _long_backups(functions)
        calls["ReceiveWebhook"] |= _webhooks()
    for name, simulated in simulated_calls().items():
        calls[name] |= simulated
    return calls


def _long_backups(functions: Deployed) -> set[Called]:
    """A run that needs another invocation, and DynamoDB's own export. moto ends neither."""
    arn = f"arn:aws:dynamodb:us-east-1:123456789012:table/{functions.environment['REFUNDS_TABLE']}"
    dynamodb, bucket = boto3.client("dynamodb"), functions.environment["BACKUP_BUCKET"]
    export = NativeExport(dynamodb=dynamodb, s3=boto3.client("s3"), bucket=bucket, key_arn=None)
    dynamodb.update_continuous_backups(
        TableName=functions.environment["REFUNDS_TABLE"],
        PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
    )
    names = functions.logical_ids | {arn: "Refunds", "sample": "BackupRefunds"}
    with recorded_calls(names) as recorded:
        with suppress(ClientError), catch_warnings():
            simplefilter("ignore")  # Powertools': no metric before the fault
            functions.call("BackupRefunds", {}, left_ms=1)
        with suppress(ClientError):
            started = export.start(arn, "refund-backups/x", "token")
            export.wait(started, Deadline.after(SystemClock(), 1))
    return {
        # moto gives an export another kind of ARN.
        (action, "Refunds/export/*" if action == "dynamodb:DescribeExport" else resource)
        for action, resource in recorded
    }


def _webhooks() -> set[Called]:
    secrets = boto3.client("secretsmanager")
    secret = secrets.create_secret(Name="webhooks", SecretString=SECRET)["ARN"]
    environment = {"WEBHOOK_SECRET_ARN": secret, "RECONCILE_FUNCTION": "ReconcileRefunds:live"}
    context = SimpleNamespace(
        function_name="ReceiveWebhook",
        memory_limit_in_mb=256,
        invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:x",
        aws_request_id="0",
    )
    with patch.dict(os.environ, environment):
        module = importlib.import_module("refunds.handlers.receive_webhook")
        with recorded_calls({secret: "WebhookSecret"}) as recorded, suppress(ClientError):
            module.handler(now_signed(), context)
    return recorded


def allowed(stack: ExpandedTemplate, function: str) -> set[Called]:
    stack = stack.given(Webhooks="true")
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


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_role_allows_what_its_function_calls(
    stack: ExpandedTemplate, called: dict[str, set[Called]], function: str
) -> None:
    calls = {call for call in called[function] if not call[0].startswith(EVERYWHERE)}
    assert calls, function
    assert calls - allowed(stack, function) == set()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_role_allows_nothing_that_nobody_calls(
    stack: ExpandedTemplate, called: dict[str, set[Called]], function: str
) -> None:
    known = called[function] | BY_AWS[function]
    assert allowed(stack, function) - known == set()
    # BY_AWS names nothing that no role allows, and nothing that the code does itself.
    assert BY_AWS[function] - allowed(stack, function) == set()
    assert BY_AWS[function] & called[function] == set()


def test_the_measure_notices_a_permission_too_many_and_one_too_few(
    stack: ExpandedTemplate, called: dict[str, set[Called]]
) -> None:
    known = called["WriteAudit"] | BY_AWS["WriteAudit"]
    assert ("dynamodb:PutItem", "PaymentAuditTrail") not in known
    assert ("dynamodb:PartiQLInsert", "PaymentAuditTrail") in called["WriteAudit"]
    assert ("dynamodb:PutItem", "Refunds") not in allowed(stack, "WriteAudit")
