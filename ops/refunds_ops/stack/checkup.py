"""The checks of `refunds doctor`: whether a deployed stack can process a refund, and whether it is
monitored.

Every check only reads. What AWS doesn't let the caller see is reported as not checked, not as good.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from refunds.domain.clock import Deadline, SystemClock
from refunds.gateways.contract import Gateway, GatewayUnavailableError
from refunds_ops.audit.sources import gateways
from refunds_ops.errors import CommandError
from refunds_ops.stack.outputs import FUNCTIONS, OUTPUTS
from refunds_ops.stack.stack import Stack

CLOCK_SKEW_SECONDS = 60
"""The most that a clock may be off. SigV4 refuses a difference of five minutes, and leases compare
clocks."""
GATEWAY_SECONDS = 15.0
PLACEHOLDERS = ("not-set", "{}")
SCHEDULES = 2
"""ReconcileRefunds' and BackupRefunds'."""


class Grade(StrEnum):
    GOOD = "good"
    WARNING = "warning"
    """It works, but something about it should be changed."""
    FAULT = "fault"
    UNCHECKED = "not checked"


@dataclass(frozen=True)
class Finding:
    """``what`` was found; ``to_do`` says how to correct it."""

    grade: Grade
    what: str
    to_do: str = ""


def good(what: str) -> Finding:
    return Finding(Grade.GOOD, what)


def fault(what: str, to_do: str) -> Finding:
    return Finding(Grade.FAULT, what, to_do)


def warning(what: str, to_do: str) -> Finding:
    return Finding(Grade.WARNING, what, to_do)


Check = Callable[[Stack], Iterator[Finding]]


def check_stack(stack: Stack) -> Iterator[Finding]:
    """What every check finds, in the order in which a request passes the parts."""
    for name, check in CHECKS.items():
        try:
            yield from check(stack)
        except ClientError as exc:
            code = exc.response["Error"]["Code"]
            yield Finding(
                Grade.UNCHECKED, f"{name}: AWS answered {code} to {exc.operation_name}", _RIGHTS
            )
        except BotoCoreError as exc:
            yield Finding(Grade.UNCHECKED, f"{name}: {exc}", "Check the network and the region.")
        except CommandError as exc:
            yield fault(f"{name}: {exc.what}", " ".join(exc.to_do))


_RIGHTS = "Run it as somebody who may read that, or look at it yourself."


def outputs(stack: Stack) -> Iterator[Finding]:
    if missing := [name for name in OUTPUTS if not stack.outputs.get(name)]:
        yield fault(
            f"outputs are missing: {', '.join(missing)}", "Deploy this template: sam deploy"
        )
    else:
        yield good(f"all {len(OUTPUTS)} outputs are there")


def clock(stack: Stack) -> Iterator[Finding]:
    answer = stack.sqs.get_queue_attributes(QueueUrl=stack["RefundQueueUrl"])
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if date is None:
        yield Finding(Grade.UNCHECKED, "clock: the answer has no Date", "")
        return
    skew = abs((datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds())
    if skew > CLOCK_SKEW_SECONDS:
        yield fault(f"this machine's clock is {skew:.0f} s away from AWS's", "Set the clock (NTP).")
    else:
        yield good("this machine's clock agrees with AWS's")


def secrets(stack: Stack) -> Iterator[Finding]:
    for output, what in (("GatewaySecretArn", "gateway"), ("RoutedGatewaySecretArn", "routed")):
        if arn := stack.outputs.get(output):
            value = stack.secrets.get_secret_value(SecretId=arn)["SecretString"]
            yield _secret(what, value)


def _secret(what: str, value: str) -> Finding:
    """What is wrong with a secret's format. The finding contains no part of its value."""
    set_key = "Set it: refunds stack set-key" + (" --gateway-name NAME" if what == "routed" else "")
    if value.strip() in PLACEHOLDERS:
        return fault(f"the {what} secret has no key yet: requests wait", set_key)
    if what == "routed":
        try:
            keys = json.loads(value)
        except ValueError:
            keys = None
        if not isinstance(keys, dict) or not all(isinstance(key, str) for key in keys.values()):
            return fault("the routed secret is no JSON object of keys by gateway", set_key)
        return good(f"the routed secret has keys for {', '.join(sorted(keys))}")
    if any(character.isspace() for character in value.strip()) or value.startswith(("{", '"')):
        return fault("the gateway secret is not a bare key", f"{set_key} (the key alone, no JSON)")
    return good("the gateway secret has a key")


def gateway_answers(stack: Stack) -> Iterator[Finding]:
    """Asks each gateway for a payment that does not exist. This is a read, with the stack's own
    key."""
    for gateway in gateways(stack):
        yield _gateway_answer(gateway)


def _gateway_answer(gateway: Gateway) -> Finding:
    deadline = Deadline.after(SystemClock(), GATEWAY_SECONDS)
    try:
        gateway.get_payment("refunds-doctor", deadline)
    except GatewayUnavailableError as exc:
        return fault(
            f"the gateway {gateway.name} does not answer us: {exc}",
            "Refused: set its key with refunds stack set-key. Unreachable: check GatewayUrl.",
        )
    return good(f"the gateway {gateway.name} answers and accepts the key")


def mappings(stack: Stack) -> Iterator[Finding]:
    for function, why in (("ProcessRefund", "refunds status"), ("WriteAudit", "sam deploy")):
        found = stack.functions.list_event_source_mappings(
            FunctionName=f"{stack[f'{function}FunctionName']}:live"
        )["EventSourceMappings"]
        state = found[0].get("State", "missing") if found else "missing"
        if state == "Enabled":
            yield good(f"{function} is connected to its source")
        elif function == "ProcessRefund" and found:
            yield warning(f"ProcessRefund's queue is {state}", f"Paused on purpose? {why}")
        else:
            yield fault(f"{function}'s mapping is {state}", f"Deploy again: {why}")


def schedules(stack: Stack) -> Iterator[Finding]:
    resources = stack.cloudformation.get_paginator("list_stack_resources").paginate(
        StackName=stack.name
    )
    named = [
        each["PhysicalResourceId"]
        for page in resources
        for each in page["StackResourceSummaries"]
        if each["ResourceType"] == "AWS::Scheduler::Schedule"
    ]
    client = stack.new_client("scheduler")
    states = {name: client.get_schedule(Name=name.split("|")[-1])["State"] for name in named}
    if len(states) < SCHEDULES:
        yield fault(f"{len(states)} of {SCHEDULES} schedules are there", "Deploy: sam deploy")
    for name, state in states.items():
        if state == "ENABLED":
            yield good(f"the schedule {name} is on")
        else:
            yield fault(f"the schedule {name} is {state}", "Switch it on in EventBridge Scheduler.")


def alarms(stack: Stack) -> Iterator[Finding]:
    found = stack.new_client("sns").list_subscriptions_by_topic(TopicArn=stack["AlarmTopicArn"])
    subscribed = [each["SubscriptionArn"] for each in found["Subscriptions"]]
    confirmed = [arn for arn in subscribed if arn.startswith("arn:")]
    grade = fault if _stage(stack) == "prod" else warning
    if confirmed:
        yield good(f"{len(confirmed)} get the alarms")
    elif subscribed:
        yield grade("nobody has confirmed the subscription to the alarms", "Open AWS's mail.")
    else:
        yield grade("nobody gets the alarms", "Deploy with AlarmEmail=…")
    raised = stack.new_client("cloudwatch").describe_alarms(
        AlarmNamePrefix=f"{stack.name}-", StateValue="ALARM"
    )["MetricAlarms"]
    for alarm in raised:
        yield warning(f"the alarm {alarm['AlarmName']} is on", "docs/runbook.md says what to do.")


def concurrency(stack: Stack) -> Iterator[Finding]:
    limit = stack.functions.get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    wanted = int(stack["MaximumConcurrency"])
    if limit < wanted + 10:
        yield warning(
            f"the account has {limit} concurrent executions, and ProcessRefund may use {wanted}",
            "Ask for more in Service Quotas, or lower MaximumConcurrency: others are throttled.",
        )
    else:
        yield good(f"the account has {limit} concurrent executions")


def permissions(stack: Stack) -> Iterator[Finding]:
    """The most important permissions of each role, according to IAM's simulator, which sees no
    bucket or key policy."""
    iam = stack.new_client("iam")
    for function, needed in _needed(stack).items():
        configuration = _configuration(stack, function)
        denied = [
            action
            for action, resource in needed
            for result in iam.simulate_principal_policy(
                PolicySourceArn=configuration["Role"],
                ActionNames=[action],
                ResourceArns=[resource],
            )["EvaluationResults"]
            if result["EvalDecision"] != "allowed"
        ]
        if denied:
            yield fault(f"{function} may not {', '.join(denied)}", "Deploy again: sam deploy")
        else:
            yield good(f"{function}'s role allows what it needs")


def _needed(stack: Stack) -> dict[str, list[tuple[str, str]]]:
    def table(output: str) -> str:
        return stack.dynamodb.describe_table(TableName=stack[output])["Table"]["TableArn"]

    refunds, ledger, audit = map(table, ("RefundsTableName", "LedgerTableName", "AuditTableName"))
    backups = f"arn:aws:s3:::{stack['BackupBucketName']}/refund-backups/any"
    record = [("dynamodb:GetItem", refunds), ("dynamodb:UpdateItem", ledger)]
    return {
        "ProcessRefund": [*record, ("sqs:ReceiveMessage", stack["RefundQueueArn"])],
        "WriteAudit": [("dynamodb:PartiQLInsert", audit)],
        "ReconcileRefunds": record,
        "BackupRefunds": [("dynamodb:Scan", refunds), ("s3:PutObject", backups)],
    }


def protection(stack: Stack) -> Iterator[Finding]:
    described = stack.cloudformation.describe_stacks(StackName=stack.name)["Stacks"][0]
    if described.get("EnableTerminationProtection"):
        yield good("the stack is protected against deletion")
    elif _stage(stack) == "prod":
        yield warning(
            "the stack has no termination protection",
            f"aws cloudformation update-termination-protection --stack-name {stack.name} "
            "--enable-termination-protection",
        )


def functions(stack: Stack) -> Iterator[Finding]:
    for function in FUNCTIONS:
        state = _configuration(stack, function).get("State", "Active")
        if state not in ("Active", "Inactive"):
            yield fault(f"{function} is {state}", "Look at it in Lambda's console; deploy again.")
    yield good(f"{len(FUNCTIONS)} functions are deployed, stage {_stage(stack)}")


def _configuration(stack: Stack, function: str) -> dict[str, Any]:
    name = stack[f"{function}FunctionName"]
    return dict(stack.functions.get_function_configuration(FunctionName=name))


def _stage(stack: Stack) -> str:
    variables = _configuration(stack, "ProcessRefund").get("Environment", {}).get("Variables", {})
    return str(variables.get("STAGE", ""))


CHECKS: dict[str, Check] = {
    "outputs": outputs,
    "clock": clock,
    "functions": functions,
    "secrets": secrets,
    "gateway": gateway_answers,
    "mappings": mappings,
    "schedules": schedules,
    "permissions": permissions,
    "concurrency": concurrency,
    "alarms": alarms,
    "protection": protection,
}
