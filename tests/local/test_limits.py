"""Limits, approval and the automatic stop, by the command line, on a stack that has them.

A second stack on the same emulator: limits hold for a whole stack, and are off by default.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.local.flow import Flow, eventually
from tests.support.people import credentials_of

from refunds.domain.refund import Item
from refunds_devkit.local.deployment import (
    PARAMETERS,
    build_parameters,
    deploy_stack,
    gateway_parameters,
)
from refunds_devkit.local.gateway import api_key
from refunds_devkit.local.workspace import Workspace
from refunds_devkit.sandbox.client import SandboxClient
from refunds_ops.stack.stack import Stack

NAME = "refunds-limits"
ACCOUNT = "000000000000"
LIMITS = {
    "LimitPerRefund": "USD=5000",
    "StopAboveMinor": "USD=10000",
    "AuditTableName": "PaymentAuditTrailOfLimits",
}
REFUNDS = Path(sys.executable).parent / "refunds"
SECONDS = 120


@dataclass(frozen=True)
class People:
    """Who runs `refunds …` on the stack."""

    settings: dict[str, str]

    def run(self, who: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        session = credentials_of(
            who,
            "Reviewer",
            ACCOUNT,
            region_name=self.settings["AWS_REGION"],
            endpoint_url=self.settings["AWS_ENDPOINT_URL"],
            aws_access_key_id=self.settings["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.settings["AWS_SECRET_ACCESS_KEY"],
        )
        return subprocess.run(
            [REFUNDS, "--stack", NAME, *arguments],
            env={**os.environ, **self.settings, **session},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )


@pytest.fixture(scope="module")
def limited(stack: Stack, workspace: Workspace) -> Iterator[Flow]:
    record = workspace.record()
    assert record is not None
    parameters = PARAMETERS | build_parameters() | LIMITS
    parameters |= {"GatewayName": record.gateway_name} | gateway_parameters(record.gateway_url)
    there = deploy_stack(workspace, record.emulator_port, NAME, parameters)
    there.secrets.put_secret_value(SecretId=there["GatewaySecretArn"], SecretString=api_key())
    yield Flow(there, SandboxClient(record.gateway_url))
    there.cloudformation.delete_stack(StackName=NAME)


@pytest.fixture
def people(limited: Flow) -> People:
    return People(dict(limited.stack.settings))


def last_approval(refund: Item) -> Item:
    approval: Item = refund["approvals"][-1]
    return approval


def test_a_refund_over_a_limit_goes_out_when_another_person_approves(
    limited: Flow, people: People
) -> None:
    payment = limited.payment()
    body = limited.request(payment, 6_000, requested_by="operator:grace")
    refund_id = json.loads(body)["refund_id"]
    limited.send(body)
    waiting = limited.refund(body, "AWAITING_APPROVAL")
    assert waiting["awaiting"]["over"] == "per_refund"
    assert limited.moved(payment) == []

    decide = ("approve", refund_id, "--why", "a good customer, TICKET-1", "--yes")
    herself = people.run("grace", *decide)
    assert herself.returncode == 1, herself.stderr
    assert "grace" in herself.stderr
    assert limited.moved(payment) == []

    ada = people.run("ada", *decide)
    assert ada.returncode == 0, ada.stderr
    refund = limited.refund(body, "SUCCEEDED")
    assert limited.moved(payment) == [6_000]
    approval = last_approval(refund)
    assert approval["by"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/Reviewer/ada"
    assert approval["gateway"].startswith("flair shows no such refund")
    assert "60.00 USD reserved for this refund" in approval["balance"]

    limited.entries(refund)
    trail = people.run("ada", "audit", "show", refund_id)
    assert trail.returncode == 0, trail.stderr
    words = " ".join(trail.stdout.split())
    assert "approved by ada as Reviewer: a good customer, TICKET-1" in words
    assert "sent by" in words
    assert people.run("ada", "show", refund_id).returncode == 0


def test_a_denied_refund_is_rejected_and_its_money_is_free(limited: Flow, people: People) -> None:
    payment = limited.payment()
    body = limited.request(payment, 6_000)
    limited.send(body)
    refund_id = limited.refund(body, "AWAITING_APPROVAL")["refund_id"]
    denied = people.run("ada", "deny", refund_id, "--why", "asked for twice", "--yes", "--json")
    assert denied.returncode == 0, denied.stderr
    assert json.loads(denied.stdout)["failure_code"] == "approval_denied"
    assert limited.refund(body, "REJECTED")
    assert limited.moved(payment) == []


def test_requests_stop_above_the_days_total_until_a_person_resumes(
    limited: Flow, people: People
) -> None:
    payment = limited.payment(50_000)
    for _ in range(2):
        body = limited.request(payment, 4_000)
        limited.send(body)
        limited.refund(body, "SUCCEEDED")
    over = limited.request(payment, 4_000)
    limited.send(over)

    def held() -> Item | None:
        found: Item = json.loads(people.run("ada", "status", "--json").stdout)
        return found if found["paused_at"] else None

    status = eventually(held, "requests are stopped", SECONDS)
    limited.invoke("ReconcileRefunds")  # if the event that invokes it was lost
    assert json.loads(people.run("ada", "status", "--json").stdout)["flows"] is False
    assert "ProcessRefund" in status["paused_by"]
    assert "120.00 USD, above 100.00 USD" in status["paused_why"]
    assert limited.moved(payment) == [4_000] * 2

    resumed = people.run("ada", "resume", "--why", "a sale, TICKET-2")
    assert resumed.returncode == 0, resumed.stderr
    # Its request was put back for five minutes. A copy of it is the same request, and sooner.
    limited.send(over)
    limited.refund(over, "SUCCEEDED")
    assert limited.moved(payment) == [4_000] * 3
    history = json.loads(people.run("ada", "status", "--json").stdout)["history"]
    assert history[-1]["by"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/Reviewer/ada"
    assert history[-1]["why"] == "a sale, TICKET-2"
