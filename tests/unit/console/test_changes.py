"""What a person decides on the pages: shown before, refused when read-only, recorded under AWS's
word of who it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.builders import VISA, body, payment, shown
from tests.support.console import Client, console_over
from tests.support.operators_stack import operators_stack
from tests.support.people import MOTO
from tests.support.shop import Lived
from tests.support.world import World

from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import GatewayStatus
from refunds.gateways.routing import Gateways
from refunds_ops.audit import sources

REVIEW = "/work/reviews/rf_1"
DECIDED = {"why": "The bank says so.", "evidence": "ticket 7"}


@pytest.fixture
def changing(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A console that allows changes."""
    monkeypatch.setattr(sources, "gateways", lambda stack: Gateways([world.gateway]))
    client = console_over(operators_stack(world.stack), allow_changes=True).enter()
    yield client
    client.finish_reading()


@pytest.fixture
def review(lived: Lived) -> Refund:
    return lived.add(
        "rf_1",
        became=Status.IN_REVIEW,
        transaction_id="pay_1",
        failure_code="outcome_unknown",
        open_shard="1",
        check_at="2026-01-01T00:00:00.000000Z",
    )


def entries(lived: Lived) -> list[Any]:
    return lived.world.stack.items(lived.world.stack.audit_table)


# --- Reviews --------------------------------------------------------------------------------------


def test_both_decisions_say_what_they_would_do(changing: Client, review: Refund) -> None:
    page = " ".join(changing.get(REVIEW).text.split())
    assert "25.00 USD stays subtracted from the payment." in page
    assert "75.00 USD can then still be refunded." in page
    assert "100.00 USD can then still be refunded." in page
    assert f"Recorded under <code>{MOTO}</code>" in page


def test_a_decision_is_recorded_with_who_and_why(
    world: World, changing: Client, review: Refund
) -> None:
    answer = changing.change(REVIEW, decision="not_paid", **DECIDED, on_behalf_of="Ada")
    assert (answer.status, answer.headers["location"]) == (303, "/refunds/rf_1")
    decided = world.stored("rf_1")
    assert decided.status is Status.FAILED
    assert decided.review is not None
    assert decided.review["by"] == MOTO
    assert decided.review["on_behalf_of"] == "Ada"
    assert decided.review["why"] == "The bank says so."
    assert world.held("rf_1", "pay_1") == 0


def test_a_decision_against_the_gateway_is_asked_again_and_keeps_what_was_typed(
    world: World, changing: Client, review: Refund
) -> None:
    world.gateway.payments["pay_1"] = payment(transaction_id="pay_1")
    world.gateway.refunds.append(
        shown(refund_id="rf_1", transaction_id="pay_1", status=GatewayStatus.SUCCEEDED)
    )
    refused = changing.change(REVIEW, decision="not_paid", **DECIDED)
    assert refused.status == 409
    assert "The gateway says otherwise" in refused.text
    assert "100.00 USD can then still be refunded" not in refused.text  # 25.00 have moved
    assert 'value="ticket 7"' in refused.text
    assert 'name="against_gateway"' in refused.text
    assert world.stored("rf_1").status is Status.IN_REVIEW
    done = changing.change(REVIEW, decision="not_paid", **DECIDED, against_gateway="1")
    assert done.status == 303
    assert world.stored("rf_1").status is Status.FAILED


@pytest.mark.parametrize(
    "form",
    [
        {**DECIDED},
        {"decision": "maybe", **DECIDED},
        {"decision": "paid", "why": " ", "evidence": "x"},
        {"decision": "paid", "why": "x", "evidence": ""},
        {"decision": "paid", "why": f"card {VISA}", "evidence": "x"},
    ],
)
def test_an_incomplete_decision_changes_nothing(
    world: World, changing: Client, review: Refund, form: dict[str, str]
) -> None:
    assert changing.change(REVIEW, **form).status == 409
    assert world.stored("rf_1") == review


def test_a_read_only_console_decides_nothing(world: World, console: Client, review: Refund) -> None:
    answer = console.change(REVIEW, decision="not_paid", **DECIDED)
    assert answer.status == 409
    assert "read-only" in answer.text
    assert world.stored("rf_1") == review
    page = console.get(REVIEW).text
    assert '<form class="card form"' not in page
    assert "--allow-changes" in page
    assert "100.00 USD can then still be refunded." in " ".join(page.split())


def test_without_the_token_of_its_own_pages_it_decides_nothing(
    world: World, changing: Client, review: Refund
) -> None:
    answer = changing.post(REVIEW, {"decision": "not_paid", **DECIDED})
    assert answer.status == 409
    assert world.stored("rf_1") == review


# --- Approvals ------------------------------------------------------------------------------------

APPROVAL = "/work/approvals/rf_large"


@pytest.fixture
def large(lived: Lived) -> Refund:
    return lived.waits_for_approval("rf_large")


def test_what_waits_for_approval_says_why(console: Client, large: Refund) -> None:
    assert f'href="{APPROVAL}"' in console.get("/work").text
    page = " ".join(console.get(APPROVAL).text.split())
    assert "25.00 USD is over a limit (one refund, 200.00 USD)" in page
    assert "Requested by agent:bot, sent by AROASHOP:checkout: neither can approve it." in page
    assert "--allow-changes" in page


def test_an_approval_is_recorded_with_what_was_shown(
    world: World, changing: Client, large: Refund
) -> None:
    form = {"decision": "approve", "why": "a good customer", "evidence": "ticket 9"}
    assert changing.change(APPROVAL, **form).status == 303
    approved = world.stored("rf_large")
    assert approved.status is Status.PROCESSING
    assert approved.approvals is not None
    [approval] = approved.approvals
    assert (approval["decision"], approval["by"], approval["why"]) == (
        "approved",
        MOTO,
        "a good customer",
    )
    functions: Any = changing.app.state.console.stack.functions
    [asked] = functions.invoked
    assert json.loads(asked["Payload"]) == {"look_at": "rf_large"}


def test_a_denial_frees_the_money(world: World, changing: Client, large: Refund) -> None:
    assert changing.change(APPROVAL, decision="deny", why="not ours").status == 303
    denied = world.stored("rf_large")
    assert (denied.status, denied.failure_code) == (Status.REJECTED, "approval_denied")
    assert world.held("rf_large", large.transaction_id) == 0


@pytest.mark.parametrize("form", [{"why": "x"}, {"decision": "approve", "why": ""}])
def test_an_incomplete_approval_changes_nothing(
    world: World, changing: Client, large: Refund, form: dict[str, str]
) -> None:
    assert changing.change(APPROVAL, **form).status == 409
    assert world.stored("rf_large") == large


def test_a_read_only_console_approves_nothing(world: World, console: Client, large: Refund) -> None:
    assert console.change(APPROVAL, decision="approve", why="x").status == 409
    assert world.stored("rf_large") == large


# --- Dead letters ---------------------------------------------------------------------------------


def resendable(lived: Lived) -> str:
    return lived.dead_letter(json.dumps(body(refund_id="rf_new")))


def test_a_dead_letter_is_sent_again_once_somebody_says_why(
    world: World, changing: Client, lived: Lived
) -> None:
    path = f"/work/dead-letters/{resendable(lived)}"
    assert "Sent again, it would be processed." in changing.get(path).text
    assert changing.change(path, action="resend", why=" ").status == 409
    assert changing.change(path, action="resend", why="the bug is mended").status == 303
    [sent] = world.stack.messages(world.stack.queue_url)
    assert json.loads(sent["Body"])["refund_id"] == "rf_new"
    [kept] = world.stack.kept(world.stack.failures_bucket).values()
    assert (kept["action"], kept["by"], kept["why"]) == ("resent", MOTO, "the bug is mended")
    assert "No dead letters." in changing.get("/work/dead-letters").text


def test_what_would_be_refused_again_is_not_sent(
    world: World, changing: Client, lived: Lived
) -> None:
    path = f"/work/dead-letters/{lived.dead_letter('{', error_code='invalid_json')}"
    assert "disabled" in changing.get(path).text
    answer = changing.change(path, action="resend", why="hope")
    assert answer.status == 409
    assert "Nothing was sent" in answer.text
    assert world.stack.messages(world.stack.queue_url) == []


def test_a_dropped_letter_stays_in_the_failures_bucket(
    world: World, changing: Client, lived: Lived
) -> None:
    path = f"/work/dead-letters/{lived.dead_letter('{', error_code='invalid_json')}"
    assert changing.change(path, action="drop", why="a test").status == 303
    [kept] = world.stack.kept(world.stack.failures_bucket).values()
    assert (kept["action"], kept["body"]) == ("dropped", "{")


def test_a_read_only_console_sends_nothing(world: World, console: Client, lived: Lived) -> None:
    path = f"/work/dead-letters/{resendable(lived)}"
    assert console.change(path, action="resend", why="x").status == 409
    assert "<form" not in console.get(path).text.split("<main")[1]
    assert world.stack.messages(world.stack.queue_url) == []


def test_a_letter_that_has_gone_is_named(changing: Client) -> None:
    answer = changing.get("/work/dead-letters/none")
    assert answer.status == 409
    assert "There is no dead letter none." in answer.text


# --- Receipts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["html", "json"])
def test_a_receipt_is_a_file_never_a_page_of_the_console(
    console: Client, lived: Lived, kind: str
) -> None:
    lived.add("rf_1")
    answer = console.get(f"/refunds/rf_1/receipt.{kind}")
    assert answer.status == 200
    name = f'attachment; filename="rf_1.receipt.{kind}"'
    assert answer.headers["content-disposition"] == name
    assert "rf_1" in answer.text
    assert console.get("/refunds/rf_1/receipt.pdf").status == 409
