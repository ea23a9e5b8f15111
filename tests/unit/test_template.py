"""What the linters don't see in template.yaml: the settings that lose money, messages or evidence.

Each check reads the template as CloudFormation would, expanded by SAM's own translator and with its
parameters filled in. The second half breaks the template in every way that the checks are there for
and sees that they notice.
"""

from __future__ import annotations

import copy
import logging
import re
import tomllib
from collections.abc import Callable

import pytest
from tests.support.expanded_template import (
    ACCOUNT,
    REGION,
    ROOT,
    Json,
    Stack,
    as_list,
    load_template,
    strings,
)

from refunds.audit.outcome_events import GATEWAY_DOWN, SOURCE
from refunds.gateways.registry import ADAPTERS

FUNCTIONS = ("ProcessRefund", "WriteAudit", "ReconcileRefunds", "BackupRefunds")
SHOP = "arn:aws:iam::444455556666:role/shop"  # a producer in another account

HOUR_SECONDS = 3600
DAY_SECONDS = 24 * HOUR_SECONDS


@pytest.fixture(autouse=True)
def _region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    logging.getLogger("samtranslator").setLevel(logging.CRITICAL)


@pytest.fixture(scope="module")
def template() -> Json:
    return load_template()


@pytest.fixture
def stack(template: Json) -> Stack:
    return Stack(template)


# --- Queue ----------------------------------------------------------------------------------------


def test_a_message_stays_hidden_six_times_as_long_as_its_function_may_run(stack: Stack) -> None:
    timeout_seconds = stack["ProcessRefund"]["Timeout"]
    assert stack["RefundQueue"]["VisibilityTimeout"] >= 6 * timeout_seconds


def test_a_message_is_tried_often_and_gives_up_before_it_is_too_old(stack: Stack) -> None:
    queue, dead = stack["RefundQueue"], stack["RefundDeadLetterQueue"]
    receives = queue["RedrivePolicy"]["maxReceiveCount"]
    assert receives >= 5
    assert receives * HOUR_SECONDS < 5 * DAY_SECONDS
    assert queue["MessageRetentionPeriod"] >= 7 * DAY_SECONDS
    # Counted from the first enqueue: a shorter one would delete what SQS has just moved there.
    assert dead["MessageRetentionPeriod"] >= 14 * DAY_SECONDS


def test_a_refused_body_fits_the_dead_letter_queue_with_its_reason(stack: Stack) -> None:
    most = stack["RefundQueue"]["MaximumMessageSize"]
    assert most <= 256 * 1024
    assert stack["RefundDeadLetterQueue"]["MaximumMessageSize"] >= most + 4096


def test_only_the_refund_queue_moves_messages_to_the_dead_letter_queue(stack: Stack) -> None:
    queue, dead = stack["RefundQueue"], stack["RefundDeadLetterQueue"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == "RefundDeadLetterQueue.Arn"
    assert dead["RedriveAllowPolicy"] == {
        "redrivePermission": "byQueue",
        "sourceQueueArns": [f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue['QueueName']}"],
    }


def test_senders_from_another_account_may_send_and_nothing_else(stack: Stack) -> None:
    stack = stack.given(QueueSenderArns=f"{SHOP},arn:aws:iam::777788889999:root")
    (allow,) = _allows(stack["RefundQueuePolicy"]["PolicyDocument"])
    assert SHOP in allow["Principal"]["AWS"]
    assert len(allow["Principal"]["AWS"]) == 2
    assert set(allow["Action"]) == {"sqs:GetQueueUrl", "sqs:SendMessage"}
    assert allow["Resource"] == "RefundQueue.Arn"
    # The queue is encrypted with the sender's rights.
    (use,) = [s for s in _allows(stack["DataKey"]["KeyPolicy"]) if SHOP in str(s["Principal"])]
    assert set(use["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}
    assert use["Condition"] == {
        "StringEquals": {"kms:ViaService": f"sqs.{REGION}.amazonaws.com"},
    }


def test_nobody_else_may_send_unless_named(stack: Stack) -> None:
    assert _allows(stack["RefundQueuePolicy"]["PolicyDocument"]) == []
    assert all(s["Principal"] != "*" for s in _allows(stack["DataKey"]["KeyPolicy"]))


def _allows(policy: Json) -> list[Json]:
    return [s for s in policy["Statement"] if s["Effect"] == "Allow"]


# --- Event sources --------------------------------------------------------------------------------


def test_one_bad_record_does_not_send_its_batch_round_again(stack: Stack) -> None:
    mappings = stack.of_type("AWS::Lambda::EventSourceMapping")
    assert len(mappings) == 2
    for mapping in mappings.values():
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_a_poison_record_leaves_the_stream_whole_and_in_time(stack: Stack) -> None:
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


def test_the_audit_stream_starts_at_its_first_record_with_both_images(stack: Stack) -> None:
    assert stack["WriteAuditRefundChanges"]["StartingPosition"] == "TRIM_HORIZON"
    assert stack["Refunds"]["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


def test_the_gateway_is_protected_from_a_full_queue(stack: Stack) -> None:
    for value in stack.template["Parameters"]["MaximumConcurrency"]["AllowedValues"]:
        mapping = stack.given(MaximumConcurrency=str(value))["ProcessRefundRefundRequests"]
        # A number, not the text that a parameter is: the emulator can't compare with that.
        assert mapping["ScalingConfig"] == {"MaximumConcurrency": value}


def test_every_trigger_invokes_the_alias(stack: Stack) -> None:
    for name, mapping in stack.of_type("AWS::Lambda::EventSourceMapping").items():
        assert mapping["FunctionName"].endswith("Aliaslive"), name
    for name, schedule in stack.of_type("AWS::Scheduler::Schedule").items():
        assert schedule["Target"]["Arn"].endswith("Aliaslive"), name


def test_schedules_are_parameters_and_send_an_empty_event(stack: Stack) -> None:
    stack = stack.given(ReconcileSchedule="rate(1 minute)", BackupSchedule="cron(15 2 * * ? *)")
    expressions = {
        name: (schedule["ScheduleExpression"], schedule["Target"]["Input"])
        for name, schedule in stack.of_type("AWS::Scheduler::Schedule").items()
    }
    assert expressions == {
        "ReconcileRefundsSchedule": ("rate(1 minute)", "{}"),
        "BackupRefundsSchedule": ("cron(15 2 * * ? *)", "{}"),
    }


# --- Functions ------------------------------------------------------------------------------------


def test_handlers_exist(stack: Stack) -> None:
    functions = stack.of_type("AWS::Lambda::Function")
    assert set(functions) == set(FUNCTIONS)
    for function in functions.values():
        module, _, name = function["Handler"].rpartition(".")
        source = ROOT / "src" / (module.replace(".", "/") + ".py")
        assert f"def {name}(" in source.read_text()


def test_functions_run_on_what_the_parameters_say(stack: Stack) -> None:
    stack = stack.given(PythonRuntime="python3.11", Architecture="x86_64")
    for function in stack.of_type("AWS::Lambda::Function").values():
        assert function["Runtime"] == "python3.11"
        assert function["Architectures"] == ["x86_64"]


def test_functions_are_traced_and_log_json_where_logs_are_kept(stack: Stack) -> None:
    groups = stack.of_type("AWS::Logs::LogGroup")
    for name in FUNCTIONS:
        function = stack[name]
        assert function["TracingConfig"] == {"Mode": "Active"}
        assert function["LoggingConfig"]["LogFormat"] == "JSON"
        group = groups[function["LoggingConfig"]["LogGroup"]]
        assert int(group["RetentionInDays"]) >= 30
        # The key's policy lets logs be written for these names only.
        assert group["LogGroupName"].startswith("/aws/lambda/refunds-test-")


def test_a_changed_parameter_publishes_a_version_of_each_function_that_reads_it(
    stack: Stack,
) -> None:
    for name in FUNCTIONS:
        raw = _function_as_written(stack.template, name)
        reads = {text for path, text in strings(raw) if path.endswith(".Ref")}
        read_parameters = reads & set(stack.template["Parameters"])
        named = set(re.findall(r"\$\{(\w+)\}", raw["VersionDescription"]["Fn::Sub"]))
        assert named == read_parameters, name
        assert raw["AutoPublishAliasAllProperties"] is True


def _function_as_written(template: Json, name: str) -> Json:
    """A function's properties with the Globals, without what is not the function's own."""
    own = template["Resources"][name]["Properties"]
    common = template["Globals"]["Function"]
    elsewhere = ("Events", "DeploymentPreference")
    kept = {key: value for key, value in own.items() if key not in elsewhere}
    return {"Globals": common, **kept}


def test_a_version_description_fits_lambdas_256_characters(stack: Stack) -> None:
    longest = stack.given(
        GatewayUrl="https://" + "x" * (stack.template["Parameters"]["GatewayUrl"]["MaxLength"] - 8),
        AuditTableName="t" * 80,
        GatewayName="stripe",
        GatewayRoutes="r" * stack.template["Parameters"]["GatewayRoutes"]["MaxLength"],
        GatewayStage="s" * 10,
        GatewayTimeoutSeconds="25",
        FirstRetrySeconds="900",
        ReconcileAfterSeconds="3600",
    )
    assert "{3,80}" in stack.template["Parameters"]["AuditTableName"]["AllowedPattern"]
    assert "{0,10}" in stack.template["Parameters"]["GatewayStage"]["AllowedPattern"]
    for name, version in longest.of_type("AWS::Lambda::Version").items():
        assert len(version["Description"]) <= 256, name


def test_snapstart_is_off_by_default_and_on_by_parameter(stack: Stack) -> None:
    for name in ("ProcessRefund", "WriteAudit"):
        assert stack[name]["SnapStart"] == {"ApplyOn": "None"}
        on = stack.given(SnapStart="on")[name]
        assert on["SnapStart"] == {"ApplyOn": "PublishedVersions"}


def test_gradual_deployment_is_off_by_default_and_on_by_parameter(stack: Stack) -> None:
    kinds = {resource["Type"] for resource in stack.resources.values()}
    assert not any(kind.startswith("AWS::CodeDeploy::") for kind in kinds)
    gradual = stack.given(GradualDeployment="true")
    (group,) = gradual.of_type("AWS::CodeDeploy::DeploymentGroup").values()
    assert group["AlarmConfiguration"]["Alarms"] == [{"Name": "ProcessRefundErrors"}]
    assert "CodeDeployLambdaAliasUpdate" in str(gradual.resources["ProcessRefundAliaslive"])


def test_boto3_is_left_to_the_lambda_runtime() -> None:
    lock = (ROOT / "src" / "requirements.txt").read_text()
    packaged = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    assert packaged
    assert not packaged & {"boto3", "botocore", "s3transfer"}
    assert "no-deps = true" in (ROOT / "uv.toml").read_text()


def test_what_is_packaged_is_what_is_tested() -> None:
    def versions(path: str) -> dict[str, str]:
        text = (ROOT / path).read_text()
        return dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", text, re.MULTILINE))

    tested = versions("requirements/dev.txt")
    for name, version in versions("src/requirements.txt").items():
        assert tested[name] == version


# --- Least privilege ------------------------------------------------------------------------------

AUDIT_TABLE = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/PaymentAuditTrail"

MAY_NOT_BE_NAMED = {"dynamodb:ListStreams", "xray:PutTelemetryRecords", "xray:PutTraceSegments"}


def test_each_function_has_a_role_of_its_own_without_managed_policies(stack: Stack) -> None:
    roles = [stack[name]["Role"] for name in FUNCTIONS]
    assert len(set(roles)) == len(FUNCTIONS)
    for name in FUNCTIONS:
        role = stack[stack[name]["Role"].removesuffix(".Arn")]
        assert "ManagedPolicyArns" not in role
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}


def test_no_role_allows_what_could_be_named(stack: Stack) -> None:
    for name, role in stack.of_type("AWS::IAM::Role").items():
        for policy in role.get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                assert "NotAction" not in statement
                assert "NotResource" not in statement
                actions = set(as_list(statement["Action"]))
                assert not any("*" in action for action in actions), (name, actions)
                for resource in as_list(statement["Resource"]):
                    if resource == "*":
                        assert actions <= MAY_NOT_BE_NAMED, (name, actions)
                    else:
                        _assert_named(resource, actions)


def _assert_named(resource: str, actions: set[str]) -> None:
    """Only objects in a bucket may be meant by a pattern, and only below the bucket; and exports,
    whose ids DynamoDB makes up."""
    if "*" in resource and actions != {"dynamodb:DescribeExport"}:
        assert all(action.startswith("s3:") for action in actions), (resource, actions)
        assert re.fullmatch(r"\w+Bucket\.Arn/([a-z-]+/)?\*", resource), resource


def test_who_may_do_what_to_which_table(stack: Stack) -> None:
    record = {"GetItem", "PutItem", "UpdateItem"}
    assert stack.may("ProcessRefund", "dynamodb") == {
        "Refunds.Arn": record,
        "Ledger.Arn": record,
        AUDIT_TABLE: {"Query"},
    }
    assert stack.may("ReconcileRefunds", "dynamodb") == {
        "Refunds.Arn": record,
        "Refunds.Arn/index/open-refunds": {"Query"},
        "Ledger.Arn": record,
        AUDIT_TABLE: {"Query"},
    }
    assert stack.may("BackupRefunds", "dynamodb") == {
        "Refunds.Arn": {"DescribeTable", "ExportTableToPointInTime", "Scan"},
        "Refunds.Arn/export/*": {"DescribeExport"},
        "Ledger.Arn": {"DescribeTable", "Scan"},
        AUDIT_TABLE: {"DescribeTable", "Scan"},
    }


def test_the_audit_writer_puts_and_nothing_else(stack: Stack) -> None:
    assert stack.may("WriteAudit", "dynamodb") == {
        "Refunds.StreamArn": {"DescribeStream", "GetRecords", "GetShardIterator"},
        "*": {"ListStreams"},
        AUDIT_TABLE: {"PutItem"},
    }


def test_no_function_may_delete_records(stack: Stack) -> None:
    deleting = re.compile(
        r"dynamodb:(Delete|Batch|PartiQL|Transact|UpdateTable|UpdateTimeToLive)"
        r"|s3:(Delete|PutLifecycle|PutBucket)"
        r"|kms:(ScheduleKeyDeletion|DisableKey|PutKeyPolicy)"
    )
    for name in FUNCTIONS:
        for statement in stack.statements(name):
            for action in as_list(statement["Action"]):
                assert not deleting.match(action), (name, action)


def test_who_may_receive_and_send_messages(stack: Stack) -> None:
    assert stack.may("ProcessRefund", "sqs") == {
        "RefundQueue.Arn": {
            "ChangeMessageVisibility",
            "DeleteMessage",
            "GetQueueAttributes",
            "ReceiveMessage",
        },
        "RefundDeadLetterQueue.Arn": {"SendMessage"},
    }
    assert stack.may("ReconcileRefunds", "sqs") == {
        "RefundDeadLetterQueue.Arn": {"DeleteMessage", "ReceiveMessage"},
    }
    assert stack.may("WriteAudit", "sqs") == stack.may("BackupRefunds", "sqs") == {}


def test_only_what_calls_the_gateway_reads_its_key(stack: Stack) -> None:
    reads = {"GatewaySecret.Id": {"GetSecretValue"}}
    assert stack.may("ProcessRefund", "secretsmanager") == reads
    assert stack.may("ReconcileRefunds", "secretsmanager") == reads
    assert stack.may("WriteAudit", "secretsmanager") == {}
    assert stack.may("BackupRefunds", "secretsmanager") == {}


def test_routed_gateways_have_a_secret_of_their_own(stack: Stack) -> None:
    assert "RoutedGatewaySecret" not in stack.resources
    routed = stack.given(GatewayRoutes="pi_|ch_=stripe")
    reads = {
        "GatewaySecret.Id": {"GetSecretValue"},
        "RoutedGatewaySecret.Id": {"GetSecretValue"},
    }
    for name in ("ProcessRefund", "ReconcileRefunds"):
        assert routed.may(name, "secretsmanager") == reads
        variables = routed[name]["Environment"]["Variables"]
        assert variables["ROUTED_SECRET_ARN"] == "RoutedGatewaySecret.Id"  # noqa: S105
        assert variables["GATEWAY_ROUTES"] == "pi_|ch_=stripe"
    assert routed["RoutedGatewaySecret"]["KmsKeyId"] == "DataKey.Arn"
    assert routed.outputs["RoutedGatewaySecretArn"]["Value"] == "RoutedGatewaySecret.Id"


def test_every_gateway_that_has_an_adapter_can_be_chosen(stack: Stack) -> None:
    assert stack.template["Parameters"]["GatewayName"]["AllowedValues"] == list(ADAPTERS)


@pytest.mark.parametrize(
    "rules",
    ["", "pi_=stripe", "pi_|ch_=stripe,f-=flair@https://api.flair.example", "x=a@http://b:1"],
)
def test_routes_that_the_functions_understand_can_be_deployed(rules: str) -> None:
    definition = load_template()["Parameters"]["GatewayRoutes"]
    assert re.fullmatch(definition["AllowedPattern"], rules)


def test_backups_are_written_below_their_prefix_only(stack: Stack) -> None:
    assert stack.may("BackupRefunds", "s3") == {
        "BackupBucket.Arn/refund-backups/*": {
            "AbortMultipartUpload",
            "GetObject",
            "PutObject",
            "PutObjectAcl",
        },
        "BackupBucket.Arn": {"ListBucket"},
    }
    # What AWS asks for of an export; nothing of ours uploads in parts or sets an ACL.
    for statement in stack.statements("BackupRefunds"):
        needed = {"s3:AbortMultipartUpload", "s3:PutObjectAcl"} & set(as_list(statement["Action"]))
        assert not needed or statement["Sid"] == "WriteExport"
    assert stack.may("ReconcileRefunds", "s3") == {
        "FailuresBucket.Arn/dead-letters/*": {"PutObject"},
    }
    assert stack.may("ProcessRefund", "s3") == {}


def test_only_the_backup_signs_and_only_digests(stack: Stack) -> None:
    key = stack["BackupSigningKey"]
    assert (key["KeyUsage"], key["KeySpec"]) == ("SIGN_VERIFY", "RSA_3072")
    signing = [
        s
        for s in key["KeyPolicy"]["Statement"]
        if {"kms:Sign", "kms:*"} & set(as_list(s["Action"]))
    ]
    (signs,) = signing
    assert signs["Action"] == "kms:Sign"
    assert signs["Principal"] == {"AWS": "BackupRefundsRole.Arn"}
    assert signs["Condition"]["StringEquals"] == {
        "kms:MessageType": "DIGEST",
        "kms:SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256",
    }
    for name in FUNCTIONS:
        assert "BackupSigningKey.Arn" not in stack.may(name, "kms")
    assert stack.outputs["BackupSigningKeyArn"]["Value"] == "BackupSigningKey.Arn"


def test_a_backup_may_continue_in_another_invocation_of_itself(stack: Stack) -> None:
    policy = stack["BackupRefundsContinues"]
    assert policy["Roles"] == ["BackupRefundsRole"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Action"] == "lambda:InvokeFunction"
    assert statement["Resource"] == ["BackupRefunds.Arn", "BackupRefunds.Arn:*"]
    assert stack["BackupRefunds"]["RecursiveLoop"] == "Allow"


def test_backups_are_locked_by_parameter(stack: Stack) -> None:
    assert "ObjectLockConfiguration" not in stack["BackupBucket"]
    bucket = stack.given(BackupLockMode="COMPLIANCE", BackupLockYears="5")["BackupBucket"]
    assert bucket["ObjectLockEnabled"] is True
    assert bucket["ObjectLockConfiguration"]["Rule"] == {
        "DefaultRetention": {"Mode": "COMPLIANCE", "Years": "5"}
    }


def test_digests_outlive_the_backups(stack: Stack) -> None:
    for rule in stack["BackupBucket"]["LifecycleConfiguration"]["Rules"]:
        if "ExpirationInDays" in rule:
            assert not "refund-backups/digests/000000000001.json".startswith(rule["Prefix"])
            assert rule["Prefix"] in ("refund-backups/2", "refund-backups/runs/")


def test_a_function_may_use_the_key_of_another_owners_audit_table(stack: Stack) -> None:
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/theirs"
    stack = stack.given(CreateAuditTable="false", AuditTableName="theirs", AuditTableKeyArn=key)
    assert "PaymentAuditTrail" not in stack.resources
    assert stack.outputs["AuditTableName"]["Value"] == "theirs"
    for name in FUNCTIONS:
        assert set(stack.may(name, "kms")) == {"DataKey.Arn", key}
        assert stack[name]["Environment"]["Variables"]["AUDIT_TABLE"] == "theirs"
        assert any(arn.endswith(":table/theirs") for arn in stack.may(name, "dynamodb"))


# --- The queue's tap, and webhooks ----------------------------------------------------------------

MAPPING = f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:ProcessRefundRefundRequests"


def test_only_the_reconciler_may_switch_the_queue_and_nothing_else(stack: Stack) -> None:
    assert stack.may("ReconcileRefunds", "lambda") == {
        MAPPING: {"GetEventSourceMapping", "UpdateEventSourceMapping"},
    }
    for name in set(FUNCTIONS) - {"ReconcileRefunds"}:
        assert "EventSourceMapping" not in str(stack.may(name, "lambda"))
    stack = stack.given(Stage="prod", MaximumConcurrency="50")
    variables = stack["ReconcileRefunds"]["Environment"]["Variables"]
    assert variables["REQUESTS_MAPPING_ID"] == "ProcessRefundRefundRequests"
    assert stack.outputs["RefundRequestsMappingId"]["Value"] == "ProcessRefundRefundRequests"
    # What the breaker goes back to is what the stack was given.
    assert variables["MAXIMUM_CONCURRENCY"] == stack.outputs["MaximumConcurrency"]["Value"] == "50"


def test_a_gateway_that_is_down_stops_the_queue_at_once(stack: Stack) -> None:
    (rule,) = stack.of_type("AWS::Events::Rule").values()
    assert rule["EventBusName"] == "RefundEvents"
    assert rule["EventPattern"] == {"source": [SOURCE], "detail-type": [GATEWAY_DOWN]}
    (target,) = rule["Targets"]
    assert target["Arn"] == "ReconcileRefundsAliaslive"
    assert stack.may("ProcessRefund", "events") == {"RefundEvents.Arn": {"PutEvents"}}


def test_webhooks_are_off_unless_asked_for(stack: Stack) -> None:
    assert not any("Webhook" in name for name in stack.resources)
    assert not any(r["Type"] == "AWS::Lambda::Url" for r in stack.resources.values())
    asked = stack.given(Webhooks="true")
    (url,) = asked.of_type("AWS::Lambda::Url").values()
    assert url["AuthType"] == "NONE"  # a gateway can't sign for IAM; its own signature is checked
    assert asked["ReceiveWebhook"]["Handler"] == "refunds.handlers.receive_webhook.handler"


def test_what_the_internet_reaches_may_hardly_do_anything(stack: Stack) -> None:
    stack = stack.given(Webhooks="true")
    allowed = {
        (action, resource)
        for statement in stack.statements("ReceiveWebhook")
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }
    assert allowed == {
        ("lambda:InvokeFunction", "ReconcileRefunds.Arn:live"),
        ("secretsmanager:GetSecretValue", "WebhookSecret.Id"),
        ("kms:Decrypt", "DataKey.Arn"),
        ("logs:CreateLogStream", "ReceiveWebhookLogGroup.Arn"),
        ("logs:PutLogEvents", "ReceiveWebhookLogGroup.Arn"),
        ("xray:PutTelemetryRecords", "*"),
        ("xray:PutTraceSegments", "*"),
    }
    # A flood takes no concurrency from refunds.
    assert 1 <= stack["ReceiveWebhook"]["ReservedConcurrentExecutions"] <= 10
    secret = stack["WebhookSecret"]
    assert secret["KmsKeyId"] == "DataKey.Arn"
    assert "SecretString" not in secret  # a placeholder would be a secret that everybody knows
    assert secret["GenerateSecretString"]["PasswordLength"] >= 32


# --- Encryption, TLS, secrets ---------------------------------------------------------------------


def test_everything_at_rest_is_encrypted_with_the_data_key(stack: Stack) -> None:
    stack = stack.given(Stage="prod")
    for queue in stack.of_type("AWS::SQS::Queue").values():
        assert queue["KmsMasterKeyId"] == "DataKey.Arn"
    tables = stack.of_type("AWS::DynamoDB::Table")
    assert set(tables) == {"Refunds", "Ledger", "PaymentAuditTrail"}
    for table in tables.values():
        assert table["SSESpecification"] == {
            "SSEEnabled": True,
            "SSEType": "KMS",
            "KMSMasterKeyId": "DataKey.Arn",
        }
    for bucket in stack.of_type("AWS::S3::Bucket").values():
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"] == {
            "SSEAlgorithm": "aws:kms",
            "KMSMasterKeyID": "DataKey.Arn",
        }
    for secret in stack.of_type("AWS::SecretsManager::Secret").values():
        assert secret["KmsKeyId"] == "DataKey.Arn"
    for topic in stack.of_type("AWS::SNS::Topic").values():
        assert topic["KmsMasterKeyId"] == "DataKey.Arn"
    for group in stack.of_type("AWS::Logs::LogGroup").values():
        assert group["KmsKeyId"] == "DataKey.Arn"


def test_the_data_key_rotates_and_its_policy_is_narrow(stack: Stack) -> None:
    key = stack.given(QueueSenderArns=SHOP)["DataKey"]
    assert key["EnableKeyRotation"] is True
    statements = key["KeyPolicy"]["Statement"]
    using = re.compile(r"kms:(Decrypt|Encrypt|GenerateDataKey|ReEncrypt|CreateGrant)")
    for statement in statements:
        actions = as_list(statement["Action"])
        assert not any("*" in action for action in actions), statement["Sid"]
        if any(using.match(action) for action in actions):
            assert statement.get("Condition"), statement["Sid"]
    by_service = {
        s["Principal"]["Service"]: set(s["Action"])
        for s in statements
        if "Service" in s["Principal"]
    }
    # Without these an alarm, or a function's log, is lost without a word.
    assert by_service["cloudwatch.amazonaws.com"] == {"kms:Decrypt", "kms:GenerateDataKey"}
    assert "kms:GenerateDataKey" in by_service[f"logs.{REGION}.amazonaws.com"]
    # And without this nobody can ever change the policy again.
    assert any("kms:PutKeyPolicy" in as_list(s["Action"]) for s in statements)


def test_nothing_is_reached_without_tls(stack: Stack) -> None:
    def refuses_plain_http(policy: Json, *resources: str) -> bool:
        return any(
            statement["Effect"] == "Deny"
            and statement["Principal"] == "*"
            and statement["Condition"] == {"Bool": {"aws:SecureTransport": False}}
            and {"s3:*", "sqs:*", "sns:Publish"} & set(as_list(statement["Action"]))
            and set(as_list(statement["Resource"])) == set(resources)
            for statement in policy["PolicyDocument"]["Statement"]
        )

    for name in stack.of_type("AWS::S3::Bucket"):
        policies = stack.of_type("AWS::S3::BucketPolicy").values()
        (policy,) = [policy for policy in policies if policy["Bucket"] == name]
        assert refuses_plain_http(policy, f"{name}.Arn", f"{name}.Arn/*")
    for name in stack.of_type("AWS::SQS::Queue"):
        policies = stack.of_type("AWS::SQS::QueuePolicy").values()
        (policy,) = [policy for policy in policies if policy["Queues"] == [name]]
        assert refuses_plain_http(policy, f"{name}.Arn")
    assert refuses_plain_http(stack["AlarmTopicPolicy"], "AlarmTopic")


LOOKS_SECRET = re.compile(
    r"(sk|rk|pk|whsec)_[a-z0-9_]{4,}|AKIA[0-9A-Z]{12,}|-----BEGIN|Bearer\s+\S{8,}"
    r"|(?=\S*[0-9])(?=\S*[A-Z])(?=\S*[a-z])[A-Za-z0-9+/_=-]{32,}",
)


def test_no_secret_is_written_into_the_template_or_a_stage(stack: Stack) -> None:
    stages = tomllib.loads((ROOT / "samconfig.toml").read_text())
    assert not _secrets_in(stack.template)
    assert not _secrets_in(stages)
    assert stack["GatewaySecret"]["SecretString"] == "not-set"
    for name in FUNCTIONS:
        for variable in stack[name]["Environment"]["Variables"]:
            # The function reads the key from Secrets Manager; the environment says only where.
            assert not re.search(r"(KEY|SECRET)(?!_ARN$)|TOKEN|PASSWORD", variable), variable


def _secrets_in(document: Json) -> list[tuple[str, str]]:
    return [(path, text) for path, text in strings(document) if LOOKS_SECRET.search(text)]


def test_stages_name_no_account_and_call_the_gateway_over_https() -> None:
    text = (ROOT / "samconfig.toml").read_text()
    stages = tomllib.loads(text)
    assert not re.search(r"\d{12}", text)
    assert stages["default"] == stages["dev"]
    for stage in ("default", "dev", "prod"):
        settings = stages[stage]
        assert settings["build"]["parameters"]["beta_features"] is True  # python-uv
        overrides = settings["deploy"]["parameters"]["parameter_overrides"]
        assert any(override.startswith("GatewayUrl=https://") for override in overrides)
    assert "Stage=prod" in stages["prod"]["deploy"]["parameters"]["parameter_overrides"]
    assert stages["prod"]["deploy"]["parameters"]["confirm_changeset"] is True


# --- Data that outlives mistakes ------------------------------------------------------------------


def test_records_of_money_outlive_the_stack(stack: Stack) -> None:
    lasting = ("AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::KMS::Key")
    kept = {n: r for n, r in stack.resources.items() if r["Type"] in lasting}
    assert len(kept) == 7
    for name, resource in kept.items():
        assert resource.get("DeletionPolicy") == "RetainExceptOnCreate", name
        assert resource.get("UpdateReplacePolicy") == "Retain", name


def test_tables_can_be_restored_and_in_prod_not_be_deleted(stack: Stack) -> None:
    for stage, protected in (("local", False), ("dev", False), ("prod", True)):
        for table in stack.given(Stage=stage).of_type("AWS::DynamoDB::Table").values():
            assert table["DeletionProtectionEnabled"] is protected
            assert table["PointInTimeRecoverySpecification"] == {
                "PointInTimeRecoveryEnabled": True,
            }
            assert "TimeToLiveSpecification" not in table


def test_buckets_keep_versions_stay_private_and_clean_up_broken_uploads(stack: Stack) -> None:
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


def test_backups_are_kept_for_years(stack: Stack) -> None:
    rules = stack["BackupBucket"]["LifecycleConfiguration"]["Rules"]
    expiries = [
        int(rule["ExpirationInDays"])
        for rule in rules
        if "ExpirationInDays" in rule and "refund-backups/2026/11/23/".startswith(rule["Prefix"])
    ]
    assert len(expiries) == 1
    assert expiries[0] >= 7 * 365


def test_the_index_of_open_refunds_costs_a_good_refund_nothing(stack: Stack) -> None:
    (index,) = stack["Refunds"]["GlobalSecondaryIndexes"]
    assert index["IndexName"] == "open-refunds"
    assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    keys = [(key["AttributeName"], key["KeyType"]) for key in index["KeySchema"]]
    assert keys == [("open_shard", "HASH"), ("check_at", "RANGE")]


# --- Alarms and outputs ---------------------------------------------------------------------------


def test_every_alarm_reaches_the_topic_and_who_asked_for_it(stack: Stack) -> None:
    alarms = stack.of_type("AWS::CloudWatch::Alarm")
    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == ["AlarmTopic"], name
    (publish,) = _allows(stack["AlarmTopicPolicy"]["PolicyDocument"])
    assert publish["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert not any(r["Type"] == "AWS::SNS::Subscription" for r in stack.resources.values())
    asked = stack.given(AlarmEmail="ops@example.com")
    (subscription,) = asked.of_type("AWS::SNS::Subscription").values()
    assert subscription["Endpoint"] == "ops@example.com"


def test_what_is_watched(stack: Stack) -> None:
    watched = {
        (alarm["MetricName"], alarm["Dimensions"][0]["Value"]): alarm["Threshold"]
        for alarm in stack.of_type("AWS::CloudWatch::Alarm").values()
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
    assert ("Invocations", "ReconcileRefunds") in watched


def test_our_own_metrics_are_those_that_the_code_emits(stack: Stack) -> None:
    code = "".join(
        path.read_text() for path in (*ROOT.glob("src/**/*.py"), *ROOT.glob("ops/**/*.py"))
    )
    for alarm in stack.of_type("AWS::CloudWatch::Alarm").values():
        if alarm["Namespace"] == "Refunds":
            assert f'"{alarm["MetricName"]}"' in code


def test_silence_is_a_fault_where_something_must_happen(stack: Stack) -> None:
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


OUTPUTS = {
    "RefundQueueUrl": "RefundQueue",
    "RefundQueueArn": "RefundQueue.Arn",
    "RefundDeadLetterQueueUrl": "RefundDeadLetterQueue",
    "RefundsTableName": "Refunds",
    "LedgerTableName": "Ledger",
    "AuditTableName": "PaymentAuditTrail",
    "BackupBucketName": "BackupBucket",
    "FailuresBucketName": "FailuresBucket",
    "EventBusName": "RefundEvents",
    "ProcessRefundFunctionName": "ProcessRefund",
    "WriteAuditFunctionName": "WriteAudit",
    "ReconcileRefundsFunctionName": "ReconcileRefunds",
    "BackupRefundsFunctionName": "BackupRefunds",
    "GatewaySecretArn": "GatewaySecret.Id",
    "AlarmTopicArn": "AlarmTopic",
    "DataKeyArn": "DataKey.Arn",
}


def test_outputs_are_those_that_others_rely_on(stack: Stack) -> None:
    assert OUTPUTS.items() <= {n: o["Value"] for n, o in stack.outputs.items()}.items()


# --- Do the checks see? ---------------------------------------------------------------------------

Check = Callable[[Stack], None]
Fault = Callable[[Json], object]


def put(path: str, value: Json) -> Fault:
    """A fault that sets one property, by its path below Resources (or "/..." from the root)."""

    def damage(template: Json) -> None:
        *parents, last = path.lstrip("/").split(".")
        at = template if path.startswith("/") else template["Resources"]
        for key in parents:
            at = at[int(key)] if isinstance(at, list) else at[key]
        if value is None:
            del at[int(last) if isinstance(at, list) else last]
        else:
            at[int(last) if isinstance(at, list) else last] = value

    return damage


def drop(path: str) -> Fault:
    return put(path, None)


def allow(function: str, sid: str, action: str | None = None, resource: str | None = None) -> Fault:
    """A fault that gives a function's statement another action or resource."""

    def damage(template: Json) -> None:
        policy = template["Resources"][f"{function}Role"]["Properties"]["Policies"][0]
        (statement,) = [s for s in policy["PolicyDocument"]["Statement"] if s["Sid"] == sid]
        if action:
            statement["Action"] = [*as_list(statement["Action"]), action]
        if resource:
            statement["Resource"] = resource

    return damage


def change_key(sid: str, change: Callable[[Json], object]) -> Fault:
    """A fault in one statement of the data key's policy."""

    def damage(template: Json) -> None:
        policy = template["Resources"]["DataKey"]["Properties"]["KeyPolicy"]
        for statement in policy["Statement"]:
            statement = statement.get("Fn::If", [None, statement])[1]
            if statement["Sid"] == sid:
                change(statement)

    return damage


ENV = "Properties.Environment.Variables"
CHANGES = "WriteAudit.Properties.Events.RefundChanges.Properties"
REQUESTS = "ProcessRefund.Properties.Events.RefundRequests.Properties"
SENDS = "RefundQueuePolicy.Properties.PolicyDocument.Statement.1.Fn::If.1"
PLAIN_HTTP = "Properties.PolicyDocument.Statement.0"

FAULTS: list[tuple[Check, Fault]] = [
    (
        test_a_message_stays_hidden_six_times_as_long_as_its_function_may_run,
        put("RefundQueue.Properties.VisibilityTimeout", 359),
    ),
    (
        test_a_message_stays_hidden_six_times_as_long_as_its_function_may_run,
        put("ProcessRefund.Properties.Timeout", 61),
    ),
    (
        test_a_message_is_tried_often_and_gives_up_before_it_is_too_old,
        put("RefundQueue.Properties.RedrivePolicy.maxReceiveCount", 4),
    ),
    (
        test_a_message_is_tried_often_and_gives_up_before_it_is_too_old,
        put("RefundQueue.Properties.RedrivePolicy.maxReceiveCount", 120),
    ),
    (
        test_a_message_is_tried_often_and_gives_up_before_it_is_too_old,
        put("RefundDeadLetterQueue.Properties.MessageRetentionPeriod", 604800),
    ),
    (
        test_a_refused_body_fits_the_dead_letter_queue_with_its_reason,
        put("RefundDeadLetterQueue.Properties.MaximumMessageSize", 262144),
    ),
    (
        test_a_refused_body_fits_the_dead_letter_queue_with_its_reason,
        put("RefundQueue.Properties.MaximumMessageSize", 1048576),
    ),
    (
        test_only_the_refund_queue_moves_messages_to_the_dead_letter_queue,
        put("RefundDeadLetterQueue.Properties.RedriveAllowPolicy.redrivePermission", "allowAll"),
    ),
    (
        test_only_the_refund_queue_moves_messages_to_the_dead_letter_queue,
        put("RefundQueue.Properties.QueueName", "renamed"),
    ),
    (test_senders_from_another_account_may_send_and_nothing_else, put(f"{SENDS}.Action", "sqs:*")),
    (
        test_senders_from_another_account_may_send_and_nothing_else,
        change_key("SendersToTheQueue", lambda s: s["Action"].remove("kms:GenerateDataKey")),
    ),
    (
        test_senders_from_another_account_may_send_and_nothing_else,
        change_key("SendersToTheQueue", lambda s: s.pop("Condition")),
    ),
    (
        test_nobody_else_may_send_unless_named,
        put("/Conditions.HasQueueSenders", {"Fn::Equals": ["1", "1"]}),
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
        test_handlers_exist,
        put("WriteAudit.Properties.Handler", "refunds.handlers.write_audit.main"),
    ),
    (
        test_functions_run_on_what_the_parameters_say,
        put("ProcessRefund.Properties.Runtime", "python3.13"),
    ),
    (
        test_functions_are_traced_and_log_json_where_logs_are_kept,
        put("/Globals.Function.Tracing", "PassThrough"),
    ),
    (
        test_functions_are_traced_and_log_json_where_logs_are_kept,
        drop("BackupRefundsLogGroup.Properties.RetentionInDays"),
    ),
    (
        test_functions_are_traced_and_log_json_where_logs_are_kept,
        put("BackupRefundsLogGroup.Properties.LogGroupName", "/aws/lambda/backup"),
    ),
    (
        test_a_changed_parameter_publishes_a_version_of_each_function_that_reads_it,
        put("WriteAudit.Properties.VersionDescription", {"Fn::Sub": "${PythonRuntime} ${Stage}"}),
    ),
    (
        test_a_changed_parameter_publishes_a_version_of_each_function_that_reads_it,
        put(f"BackupRefunds.{ENV}.RETENTION_DAYS", {"Ref": "BackupRetentionDays"}),
    ),
    (
        test_a_version_description_fits_lambdas_256_characters,
        put("/Parameters.GatewayUrl.MaxLength", 200),
    ),
    (
        test_snapstart_is_off_by_default_and_on_by_parameter,
        put("/Parameters.SnapStart.Default", "on"),
    ),
    (
        test_gradual_deployment_is_off_by_default_and_on_by_parameter,
        put("/Parameters.GradualDeployment.Default", "true"),
    ),
    (
        test_gradual_deployment_is_off_by_default_and_on_by_parameter,
        put("ProcessRefund.Properties.DeploymentPreference.Enabled", False),
    ),
    (
        test_each_function_has_a_role_of_its_own_without_managed_policies,
        put("WriteAudit.Properties.Role", {"Fn::GetAtt": ["ProcessRefundRole", "Arn"]}),
    ),
    (
        test_each_function_has_a_role_of_its_own_without_managed_policies,
        put("WriteAuditRole.Properties.ManagedPolicyArns", ["arn:aws:iam::aws:policy/PowerUser"]),
    ),
    (
        test_no_role_allows_what_could_be_named,
        allow("ProcessRefund", "RecordRefunds", "dynamodb:*"),
    ),
    (
        test_no_role_allows_what_could_be_named,
        allow("ProcessRefund", "ReadGatewayKey", resource="*"),
    ),
    (
        test_no_role_allows_what_could_be_named,
        allow("BackupRefunds", "ReadTables", resource="arn:aws:dynamodb:*:*:table/*"),
    ),
    (
        test_no_role_allows_what_could_be_named,
        allow("BackupRefunds", "WriteBackups", resource="arn:aws:s3:::*/*"),
    ),
    (
        test_who_may_do_what_to_which_table,
        allow("ProcessRefund", "ReadAuditedVersions", "dynamodb:PutItem"),
    ),
    (
        test_who_may_do_what_to_which_table,
        allow("ReconcileRefunds", "RecordRefunds", "dynamodb:Scan"),
    ),
    (
        test_the_audit_writer_puts_and_nothing_else,
        allow("WriteAudit", "WriteEntries", "dynamodb:UpdateItem"),
    ),
    (
        test_the_audit_writer_puts_and_nothing_else,
        allow("WriteAudit", "WriteEntries", "dynamodb:GetItem"),
    ),
    (
        test_no_function_may_delete_records,
        allow("ReconcileRefunds", "RecordRefunds", "dynamodb:DeleteItem"),
    ),
    (
        test_no_function_may_delete_records,
        allow("BackupRefunds", "WriteBackups", "s3:DeleteObjectVersion"),
    ),
    (
        test_who_may_receive_and_send_messages,
        allow("ProcessRefund", "RefuseMessages", "sqs:DeleteMessage"),
    ),
    (
        test_only_what_calls_the_gateway_reads_its_key,
        allow("BackupRefunds", "ReadTables", "secretsmanager:GetSecretValue"),
    ),
    (
        test_routed_gateways_have_a_secret_of_their_own,
        put(f"ReconcileRefunds.{ENV}.ROUTED_SECRET_ARN", {"Ref": "AWS::NoValue"}),
    ),
    (
        test_every_gateway_that_has_an_adapter_can_be_chosen,
        put("/Parameters.GatewayName.AllowedValues", ["flair"]),
    ),
    (
        test_backups_are_written_below_their_prefix_only,
        allow("BackupRefunds", "WriteBackups", resource="BackupBucket.Arn/*"),
    ),
    (
        test_only_the_backup_signs_and_only_digests,
        drop("BackupSigningKey.Properties.KeyPolicy.Statement.1.Condition"),
    ),
    (
        test_only_the_backup_signs_and_only_digests,
        put("BackupSigningKey.Properties.KeyPolicy.Statement.0.Action", "kms:*"),
    ),
    (
        test_only_the_backup_signs_and_only_digests,
        allow("ProcessRefund", "UseDataKey", resource="BackupSigningKey.Arn"),
    ),
    (
        test_a_backup_may_continue_in_another_invocation_of_itself,
        put(
            "BackupRefundsContinues.Properties.PolicyDocument.Statement.0.Resource",
            {"Fn::GetAtt": ["ProcessRefund", "Arn"]},
        ),
    ),
    (
        test_a_backup_may_continue_in_another_invocation_of_itself,
        drop("BackupRefunds.Properties.RecursiveLoop"),
    ),
    (
        test_backups_are_locked_by_parameter,
        drop("BackupBucket.Properties.ObjectLockConfiguration"),
    ),
    (
        test_digests_outlive_the_backups,
        put("BackupBucket.Properties.LifecycleConfiguration.Rules.0.Prefix", "refund-backups/"),
    ),
    (
        test_a_function_may_use_the_key_of_another_owners_audit_table,
        drop("PaymentAuditTrail.Condition"),
    ),
    (
        test_a_function_may_use_the_key_of_another_owners_audit_table,
        put(f"WriteAudit.{ENV}.AUDIT_TABLE", "PaymentAuditTrail"),
    ),
    (
        test_a_function_may_use_the_key_of_another_owners_audit_table,
        allow("BackupRefunds", "UseDataKey", resource="DataKey.Arn"),
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
        put(f"ReconcileRefunds.{ENV}.MAXIMUM_CONCURRENCY", "10"),
    ),
    (
        test_a_gateway_that_is_down_stops_the_queue_at_once,
        drop("ReconcileRefunds.Properties.Events.GatewayDown"),
    ),
    (
        test_a_gateway_that_is_down_stops_the_queue_at_once,
        put("ReconcileRefunds.Properties.Events.GatewayDown.Properties.Pattern.source", ["x"]),
    ),
    (test_webhooks_are_off_unless_asked_for, put("/Parameters.Webhooks.Default", "true")),
    (test_webhooks_are_off_unless_asked_for, drop("WebhookSecret.Condition")),
    (
        test_what_the_internet_reaches_may_hardly_do_anything,
        allow("ReceiveWebhook", "StartReconciler", resource="ProcessRefund.Arn:live"),
    ),
    (
        test_what_the_internet_reaches_may_hardly_do_anything,
        drop("ReceiveWebhook.Properties.ReservedConcurrentExecutions"),
    ),
    (
        test_what_the_internet_reaches_may_hardly_do_anything,
        put("WebhookSecret.Properties.SecretString", "not-set"),
    ),
    *(
        (test_everything_at_rest_is_encrypted_with_the_data_key, drop(path))
        for path in (
            "RefundQueue.Properties.KmsMasterKeyId",
            "Ledger.Properties.SSESpecification",
            "FailuresBucket.Properties.BucketEncryption",
            "GatewaySecret.Properties.KmsKeyId",
            "AlarmTopic.Properties.KmsMasterKeyId",
            "WriteAuditLogGroup.Properties.KmsKeyId",
        )
    ),
    (
        test_the_data_key_rotates_and_its_policy_is_narrow,
        put("DataKey.Properties.EnableKeyRotation", False),
    ),
    (
        test_the_data_key_rotates_and_its_policy_is_narrow,
        change_key("AccountUsesKeyThroughServices", lambda s: s.pop("Condition")),
    ),
    (
        test_the_data_key_rotates_and_its_policy_is_narrow,
        change_key("AccountAdministersKey", lambda s: s.update(Action="kms:*")),
    ),
    (
        test_the_data_key_rotates_and_its_policy_is_narrow,
        change_key("AlarmsToTheTopic", lambda s: s["Action"].remove("kms:Decrypt")),
    ),
    *(
        (test_nothing_is_reached_without_tls, put(f"{policy}.{PLAIN_HTTP}.Effect", "Allow"))
        for policy in (
            "RefundQueuePolicy",
            "RefundDeadLetterQueuePolicy",
            "BackupBucketPolicy",
            "FailuresBucketPolicy",
            "AlarmTopicPolicy",
        )
    ),
    (
        test_nothing_is_reached_without_tls,
        put(f"BackupBucketPolicy.{PLAIN_HTTP}.Resource", {"Fn::GetAtt": ["BackupBucket", "Arn"]}),
    ),
    (
        test_no_secret_is_written_into_the_template_or_a_stage,
        put(f"ProcessRefund.{ENV}.GATEWAY", "sk_live_51H"),
    ),
    (
        test_no_secret_is_written_into_the_template_or_a_stage,
        put("/Parameters.GatewayName.Default", "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4MTIz"),
    ),
    (
        test_no_secret_is_written_into_the_template_or_a_stage,
        put(f"ProcessRefund.{ENV}.GATEWAY_API_KEY", {"Ref": "GatewayName"}),
    ),
    (
        test_no_secret_is_written_into_the_template_or_a_stage,
        put("GatewaySecret.Properties.SecretString", "flair-7731"),
    ),
    (test_records_of_money_outlive_the_stack, drop("Ledger.DeletionPolicy")),
    (test_records_of_money_outlive_the_stack, put("BackupBucket.UpdateReplacePolicy", "Delete")),
    (test_records_of_money_outlive_the_stack, drop("DataKey.DeletionPolicy")),
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
        test_the_index_of_open_refunds_costs_a_good_refund_nothing,
        put("Refunds.Properties.GlobalSecondaryIndexes.0.Projection.ProjectionType", "ALL"),
    ),
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
    *((test_outputs_are_those_that_others_rely_on, drop(f"/Outputs.{name}")) for name in OUTPUTS),
]


@pytest.mark.parametrize(("check", "fault"), FAULTS, ids=lambda value: value.__name__)
def test_the_checks_see_what_they_are_there_for(template: Json, check: Check, fault: Fault) -> None:
    damaged = copy.deepcopy(template)
    fault(damaged)
    assert damaged != template
    stack = Stack(damaged)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        check(stack)


def test_every_check_of_the_template_has_a_fault() -> None:
    checks = {
        value
        for name, value in globals().items()
        if name.startswith("test_") and "stack" in value.__annotations__
    }
    assert checks == {check for check, _ in FAULTS}
