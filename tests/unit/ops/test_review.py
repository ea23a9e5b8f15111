"""`refunds review` and `refunds stack outputs`: a person's decision, and where it is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.support.builders import refund, shown
from tests.support.moto_stack import REGION, Stack
from tests.support.people import session_arn, sign_in
from tests.support.world import World

from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import GatewayStatus
from refunds_ops.cli import cli
from refunds_ops.errors import NotReadyError, RefusedError


@pytest.fixture(autouse=True)
def environment(stack: Stack, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refunds_ops.audit.sources.gateways", lambda stack: world.gateways)
    monkeypatch.setattr("refunds_ops.audit.sources.settings_of", lambda stack: {})
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
    world.settler.recorder.finish(
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


def test_a_refund_decided_as_paid_succeeds_and_keeps_its_money(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(monkeypatch, "ana")
    waiting_for_a_person(world)
    world.gateway.refunds.append(shown())

    result = decide("--paid", "--on-behalf-of", "the shop")

    assert result.exit_code == 0, result.output
    found = world.refunds.get("refund-1")
    assert found is not None
    assert (found.status, found.failure_code) == (Status.SUCCEEDED, None)
    assert found.processed_by == session_arn("ana")
    assert found.review == {
        "by": session_arn("ana"),
        "on_behalf_of": "the shop",
        "why": "seen",
        "evidence": "T-7",
        "gateway": "flair shows gw-1 25.00 USD succeeded",
        "balance": "100.00 USD captured, 75.00 USD still refundable, 25.00 USD reserved for this "
        "refund",
    }
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
    world.gateway.refunds.append(shown())
    decide("--paid")

    again = decide("--not-paid")

    assert isinstance(again.exception, RefusedError)
    assert again.exception.what.startswith("refund-1 is SUCCEEDED")
    found = world.refunds.get("refund-1")
    assert found is not None
    assert found.status is Status.SUCCEEDED


def test_a_decision_against_the_gateway_needs_its_own_option_and_is_audited(world: World) -> None:
    waiting_for_a_person(world)
    world.gateway.refunds.append(shown())

    refused = decide("--not-paid")
    assert isinstance(refused.exception, RefusedError)
    assert "gw-1 25.00 USD succeeded" in refused.exception.what
    assert world.stored().status is Status.IN_REVIEW

    decided = decide("--not-paid", "--against-gateway")
    assert (decided.exit_code, "0.00 USD freed" in decided.output) == (0, True)
    found = world.stored()
    assert found.status is Status.FAILED
    assert found.review is not None
    assert found.review["against_gateway"] == "true"
    # The gateway has the money all the same: nobody else may have it.
    assert (world.held(), world.remaining()) == (0, 7500)


def test_a_gateway_that_cannot_be_asked_decides_nothing(world: World) -> None:
    waiting_for_a_person(world)
    world.gateway.down = True

    refused = decide("--paid")
    assert isinstance(refused.exception, RefusedError)
    assert "can't be asked" in refused.exception.what
    assert decide("--paid", "--against-gateway").exit_code == 0


def correct() -> Result:
    return run("correct", "refund-1", "--why", "dashboard", "--evidence", "T-8")


def test_a_failed_refund_that_the_gateway_paid_is_corrected_and_counts_again(world: World) -> None:
    waiting_for_a_person(world)
    decide("--not-paid")
    world.gateway.refunds.append(shown())

    assert correct().exit_code == 0
    found = world.stored()
    assert (found.status, found.gateway_refund_id) == (Status.SUCCEEDED, "gw-1")
    assert (world.held(), world.remaining()) == (2500, 7500)
    assert correct().exit_code == 0  # as after a crash: nothing is counted twice
    assert (world.held(), world.remaining()) == (2500, 7500)


@pytest.mark.parametrize(
    "changes", [{"status": GatewayStatus.FAILED}, {"amount_minor": 1}, {"currency": "EUR"}]
)
def test_nothing_is_corrected_without_the_gateways_clear_word(
    world: World, changes: dict[str, Any]
) -> None:
    waiting_for_a_person(world)
    decide("--not-paid")
    world.gateway.refunds.append(shown(**changes))

    assert isinstance(correct().exception, RefusedError)
    assert world.stored().status is Status.FAILED


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nobody", "--why", "x", "--evidence", "y", "--paid"], "There is no refund nobody"),
        (["refund-1", "--why", " ", "--evidence", "y", "--paid"], "Say why"),
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
    wrong = run("stack", "outputs", "RefundQueueURL").exception
    assert isinstance(wrong, NotReadyError)
    assert wrong.to_do == ("To list them: refunds stack outputs",)


# --- Two people above an amount -------------------------------------------------------------------


def test_above_the_amount_a_second_person_confirms(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"APPROVE_ABOVE_MINOR": "USD=2000"}
    monkeypatch.setattr("refunds_ops.audit.sources.settings_of", lambda stack: settings)
    waiting_for_a_person(world)

    sign_in(monkeypatch, "ada")
    first = decide("--not-paid")
    assert first.exit_code == 0, first.output
    assert "proposed as not paid" in first.output
    assert world.stored().status is Status.IN_REVIEW
    waiting = run("review", "list").output
    assert "ada as Reviewer proposes not_paid" in " ".join(waiting.split())

    again = decide("--not-paid", "--by", "eve")
    assert isinstance(again.exception, RefusedError)
    assert "another person must confirm" in again.exception.what

    sign_in(monkeypatch, "eve")
    assert decide("--not-paid").exit_code == 0
    found = world.stored()
    assert found.status is Status.FAILED
    assert found.review is not None
    assert (found.review["proposed_by"], found.review["by"]) == (
        session_arn("ada"),
        session_arn("eve"),
    )


def test_a_proposal_is_shown_with_who_and_what_they_saw(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"APPROVE_ABOVE_MINOR": "USD=2000"}
    monkeypatch.setattr("refunds_ops.audit.sources.settings_of", lambda stack: settings)
    waiting_for_a_person(world)
    sign_in(monkeypatch, "ada")
    decide("--not-paid")
    out = " ".join(run("show", "refund-1").output.split())
    assert "as not_paid by ada as Reviewer: seen (T-7); shown: flair shows no such refund" in out
