"""`refunds review` and `refunds stack outputs`: a person's decision, and where it is kept."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result
from tests.support.builders import refund
from tests.support.moto_stack import REGION, Stack
from tests.support.world import World

from refunds.domain.refund import Refund, Status
from refunds_ops.cli import cli
from refunds_ops.errors import RefusedError


@pytest.fixture(autouse=True)
def environment(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("RefundsTableName", stack.refunds_table)
    monkeypatch.setenv("LedgerTableName", stack.ledger_table)
    monkeypatch.setenv("AuditTableName", stack.audit_table)
    monkeypatch.setenv("RefundQueueUrl", stack.queue_url)


def run(*arguments: str) -> Result:
    return CliRunner(mix_stderr=False).invoke(cli, list(arguments))


def waiting_for_a_person(world: World) -> Refund:
    """A refund in review that holds 2500 of payment-1's 10000."""
    assert world.ledger.open(
        "payment-1",
        captured_minor=10_000,
        remaining_minor=10_000,
        currency="USD",
        refund_id="refund-1",
        amount_minor=2500,
    )
    claimed = refund(lease_until=None)
    assert world.refunds.put_new(claimed) is None
    world.settler.finish(
        claimed, Status.IN_REVIEW, failure_code="gateway_mismatch", failure_message="another amount"
    )
    found = world.refunds.get("refund-1")
    assert found is not None
    return found


def decide(*arguments: str) -> Result:
    return run("review", "decide", "refund-1", "--why", "seen", "--evidence", "T-7", *arguments)


def test_a_list_of_what_waits_names_each_refund_and_why(world: World) -> None:
    waiting_for_a_person(world)

    result = run("review", "list")

    assert result.exit_code == 1
    assert "refund-1" in result.output
    assert "gateway_mismatch" in result.output
    assert json.loads(run("review", "list", "--json").output)["status"] == "IN_REVIEW"


def test_nothing_waiting_is_a_clean_exit(world: World) -> None:
    result = run("review", "list")

    assert result.exit_code == 0
    assert "No refund waits" in result.output


def test_a_refund_decided_as_paid_succeeds_and_keeps_its_money(world: World) -> None:
    waiting_for_a_person(world)

    result = decide("--paid", "--by", "operator:ana")

    assert result.exit_code == 0, result.output
    found = world.refunds.get("refund-1")
    assert found is not None
    assert (found.status, found.failure_code) == (Status.SUCCEEDED, None)
    assert found.processed_by == "operator:ana"
    assert found.review == {"by": "operator:ana", "why": "seen", "evidence": "T-7"}
    ledger = world.ledger.get("payment-1")
    assert ledger is not None
    assert (ledger.remaining, dict(ledger.reservations)) == (7500, {"refund-1": 2500})


def test_a_refund_decided_as_not_paid_fails_and_frees_its_money(world: World) -> None:
    waiting_for_a_person(world)

    result = decide("--not-paid")

    assert result.exit_code == 0, result.output
    found = world.refunds.get("refund-1")
    assert found is not None
    assert (found.status, found.open_shard) == (Status.FAILED, None)
    ledger = world.ledger.get("payment-1")
    assert ledger is not None
    assert (ledger.remaining, dict(ledger.reservations)) == (10_000, {"refund-1": 0})


def test_a_decision_is_taken_once(world: World) -> None:
    waiting_for_a_person(world)
    decide("--paid")

    again = decide("--not-paid")

    assert isinstance(again.exception, RefusedError)
    assert "SUCCEEDED" in again.exception.what
    found = world.refunds.get("refund-1")
    assert found is not None
    assert found.status is Status.SUCCEEDED


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nobody", "--why", "x", "--evidence", "y", "--paid"], "there is no refund nobody"),
        (["refund-1", "--why", " ", "--evidence", "y", "--paid"], "say why"),
        (["refund-1", "--why", "4111 1111 1111 1111", "--evidence", "y", "--paid"], "card numbers"),
    ],
)
def test_a_decision_that_cannot_be_taken_says_why(
    world: World, arguments: list[str], told: str
) -> None:
    waiting_for_a_person(world)

    result = run("review", "decide", *arguments)

    assert isinstance(result.exception, RefusedError)
    assert told in result.exception.what


def test_a_decision_without_a_verdict_is_a_usage_error(world: World) -> None:
    assert decide().exit_code == 2


def test_an_output_is_printed_alone_for_scripts(stack: Stack) -> None:
    assert run("stack", "outputs", "RefundQueueUrl").output == f"{stack.queue_url}\n"
    assert f"LedgerTableName={stack.ledger_table}\n" in run("stack", "outputs").output
