"""One history or more for each numbered rule of docs/protocol.md."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.simulator.dynamodb import DynamoDB
from tests.simulator.kernel import START_SECONDS, Violation
from tests.simulator.scripting import (
    HIDDEN,
    HOUR,
    attribute,
    crash_at,
    fix_random,
    paid,
    posts,
    remaining,
    request,
    script_faults,
    status,
    world,
)
from tests.simulator.sqs import DAY


def test_rule_1_a_refused_message_goes_to_the_dlq_with_its_reason_and_blocks_nobody() -> None:
    made = world()
    made.send("no json")
    made.send(request())
    made.send(request("r2", amount_minor=1.5))
    made.run_for(60)
    codes = {
        each.body[:7]: each.attributes["error_code"]["StringValue"]
        for each in made.dlq.messages.values()
    }
    assert codes == {"no json": "invalid_json", '{"refun': "invalid_field"}
    assert status(made) == "SUCCEEDED"
    made.settle()


def test_rule_1_a_refused_message_does_not_use_up_its_id() -> None:
    made = world()
    made.send(request(currency="usd"))
    made.run_for(60)
    made.send(request())
    made.settle()
    assert status(made) == "SUCCEEDED"


def test_rule_2_concurrent_refunds_never_exceed_what_was_captured() -> None:
    made = world(enforces_balance=False, concurrency=5, batch_size=10)
    for number in range(8):
        made.send(request(f"r{number}"))
    made.settle()
    assert sum(each.amount for each in made.flair.refunds) == 900
    assert sorted(status(made, f"r{number}") for number in range(8)) == (
        ["REJECTED"] * 5 + ["SUCCEEDED"] * 3
    )


def test_rule_2_an_omitted_amount_is_pinned_by_its_reservation() -> None:
    made = world()
    crash_at(made, "dynamodb put Refunds")
    made.send(request(amount_minor=None))
    made.run_for(5)
    assert remaining(made) == 0
    made.flair.refund_by_others("tx1", 400)  # what would remain is less now
    made.settle()
    assert attribute(made, "amount_minor") == "1000"
    assert (status(made), remaining(made)) == ("FAILED", 600)  # the gateway knows better


def test_rule_3_a_failed_refund_gives_back_once_whatever_crashes() -> None:
    made = world()
    made.flair.stubborn["r1"] = "declined"
    crash_at(made, "dynamodb update Ledger", 2)  # the release
    made.send(request())
    made.run_for(5)
    assert (status(made), remaining(made)) == ("FAILED", 700)
    made.settle()
    assert remaining(made) == 1000


def test_rule_3_a_slow_duplicate_cannot_reserve_for_a_refund_that_has_ended() -> None:
    made = world(concurrency=2, batch_size=1)
    made.flair.stubborn["r1"] = "declined"
    script_faults(made, stall=[0, 0, 0, 1])  # one delivery has read the ledger, and sleeps
    made.send(request())
    made.send(request())
    made.settle()
    assert (status(made), remaining(made)) == ("FAILED", 1000)
    assert made.ledger.items[("tx1",)]["r#r1"] == {"N": "0"}


def test_rule_4_others_refunds_count_and_count_no_more_when_they_fail() -> None:
    made = world()
    made.send(request())
    made.run_for(60)
    made.flair.refund_by_others("tx1", 600)
    made.send(request("r2", amount_minor=200))
    made.run_for(60)
    # The ledger didn't know; the gateway did; now the ledger does.
    assert (status(made, "r2"), remaining(made)) == ("FAILED", 100)
    made.send(request("r3", amount_minor=200))
    made.run_for(60)
    assert status(made, "r3") == "REJECTED"
    made.flair.fail(made.flair.refunds[1], "by hand")
    made.send(request("r4", amount_minor=200))
    made.settle()
    assert (status(made, "r4"), remaining(made)) == ("SUCCEEDED", 500)


def test_rule_5_the_same_id_with_other_contents_is_refused_and_changes_nothing() -> None:
    made = world()
    made.pay("tx2", 500)
    made.send(request())
    made.run_for(60)
    made.send(request(amount_minor=301))
    made.send(request(transaction_id="tx2"))
    made.run_for(60)
    codes = [each.attributes["error_code"]["StringValue"] for each in made.dlq.messages.values()]
    assert codes == ["idempotency_conflict"] * 2
    made.settle()
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)
    assert made.ledger.items.get(("tx2",), {}).get("remaining", {"N": "500"}) == {"N": "500"}


def test_rule_5_a_running_lease_is_respected() -> None:
    made = world(concurrency=2, batch_size=1)
    script_faults(made, gateway_slow=[1])
    made.send(request())
    made.send(request())
    made.run_for(10)
    assert posts(made) == 1
    made.settle()
    assert paid(made) == 1


def test_rule_5_after_a_restore_every_claim_looks_first() -> None:
    made = world()
    made.send(request())
    made.run_for(60)
    # The tables are back from a backup of before: they know nothing of what was paid.
    made.checker.tampered.add("r1")
    made.checker.images.clear()
    for table in (made.refunds, made.ledger):
        table.on_write, listeners = [], table.on_write
        for key in list(table.items):
            table.write(key, None)
        table.on_write = listeners
    until = datetime.fromtimestamp(START_SECONDS, UTC) + timedelta(days=28)
    made.ledger.items[("#look-up-first",)] = {
        "transaction_id": {"S": "#look-up-first"},
        "look_up_first_until": {"S": until.strftime("%Y-%m-%dT%H:%M:%S.%fZ")},
    }
    made.send(request())
    made.run_for(600)
    assert (status(made), paid(made), posts(made)) == ("SUCCEEDED", 1, 1)
    assert attribute(made, "version") == "2"  # its record is back as its trail has it


def test_rule_6_a_lost_answer_is_looked_up_not_asked_again() -> None:
    made = world()
    script_faults(made, network_loses_the_answer=[0, 1])
    made.send(request())
    made.settle()
    assert (status(made), paid(made), posts(made)) == ("SUCCEEDED", 1, 1)


def test_rule_6_a_lost_request_is_sent_again_with_the_same_key() -> None:
    made = world()
    script_faults(made, network_loses_the_request=[0, 1])
    made.send(request())
    made.settle()
    assert (status(made), paid(made), posts(made)) == ("SUCCEEDED", 1, 2)
    assert list(made.flair.keys) == ["r1"]


def test_rule_6_an_old_key_is_never_used_again_a_person_decides() -> None:
    made = world()
    script_faults(made, network_loses_the_answer=[0, 1])
    made.send(request())
    made.run_for(1)
    made.kernel.fault_rates = HIDDEN | {"gateway takes no orders": 1.0}
    made.run_for(25 * HOUR)
    made.reconcile()
    made.run_for(600)
    assert status(made) == "IN_REVIEW"
    assert attribute(made, "failure_code") == "idempotency_key_expired"
    assert remaining(made) == 700
    made.settle()
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)
    assert made.kernel.counts["reviews"] == 1


def test_rule_7_a_call_ends_before_its_invocation_does() -> None:
    made = world()
    made.kernel.fault_rates = {"gateway slow": 1.0}
    for number in range(3):
        made.send(request(f"r{number}"))
    made.settle()
    assert made.kernel.counts["timeouts of process"] == 0
    assert [paid(made, f"r{number}") for number in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("fault", "left"),
    [
        ("gateway_pays_another_amount", 695),
        ("gateway_doubles_a_refund", 400),
        ("gateway_lies", 700),
    ],
)
def test_rule_7_what_was_not_asked_for_goes_to_a_person_and_counts(fault: str, left: int) -> None:
    made = world()
    # A double shows only in a look-up.
    script_faults(
        made, **{fault: [1]}, network_loses_the_answer=[0, 1] if "doubles" in fault else []
    )
    made.send(request())
    made.run_for(HOUR)
    assert (status(made), remaining(made)) == ("IN_REVIEW", left)
    made.settle()
    assert status(made) == "SUCCEEDED"


def test_rule_8_a_decline_after_an_unknown_attempt_counts_only_with_a_look_up() -> None:
    made = world()
    script_faults(
        made,
        network_loses_the_answer=[0, 1],
        gateway_hides_a_refund_once=[1],
        gateway_declines_a_replay=[1],
    )
    made.send(request())
    made.settle()
    assert (status(made), paid(made), posts(made)) == ("SUCCEEDED", 1, 2)


def test_rule_8_a_remembered_500_is_unknown_until_a_person_decides() -> None:
    made = world()
    script_faults(made, gateway_500_without_commit=[1])
    made.send(request())
    made.run_for(2 * HOUR)
    assert (status(made), remaining(made)) == ("PROCESSING", 700)
    made.settle()
    assert (status(made), paid(made), remaining(made)) == ("FAILED", 0, 1000)
    assert made.kernel.counts["reviews"] == 1


def test_rule_8_a_page_of_html_says_nothing() -> None:
    made = world()
    script_faults(made, network_answers_with_HTML=[0, 1])
    made.send(request())
    made.settle()
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)


def test_rule_8_a_key_in_use_says_nothing() -> None:
    made = world()
    script_faults(made, gateway_slow=[1])
    fix_random(made, lambda low, high: high)  # 40 s
    made.send(request())
    made.settle()
    assert any("409 to POST" in line for line in made.kernel.trace or [])
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)


def test_rule_9_an_attempt_that_was_taken_over_cannot_write() -> None:
    made = world(concurrency=2, batch_size=1)
    # The other's clock is 100 s fast, so it takes over while the first still waits for its answer.
    script_faults(made, clock_skew=[0, 1, 1], gateway_slow=[1])
    fix_random(made, lambda low, high: high if low < 0 else 10.0)
    made.send(request())
    made.send(request())
    made.settle()
    assert (status(made), paid(made)) == ("SUCCEEDED", 1)
    assert made.kernel.counts["takeovers"] >= 1
    answered = next(line for line in made.kernel.trace or [] if "201 to POST" in line)
    recorded = next(line for line in made.kernel.trace or [] if "to SUCCEEDED" in line)
    assert answered.split()[:2] < recorded.split()[:2]
    assert made.kernel.counts["gateway key replays"] >= 1


def test_rule_9_a_successful_refund_costs_five_write_units() -> None:
    made = world()
    made.send(request(metadata=None))
    made.run_for(60)
    assert status(made) == "SUCCEEDED"
    units = [
        units
        for table in (made.ledger, made.refunds, made.audit)
        for units in table.write_units.values()
    ]
    assert sum(units) == 5


def test_rule_10_a_pending_refund_is_found_without_its_message() -> None:
    made = world()
    made.flair.stubborn["r1"] = "pending"
    made.send(request())
    made.run_for(60)
    assert not made.queue.messages
    assert (status(made), remaining(made)) == ("PENDING", 700)
    made.run_for(3 * DAY)  # no reconciler: nothing is lost, nothing is freed
    made.flair.fail(made.flair.refunds[0], "bank_refused")
    made.settle()
    assert (status(made), remaining(made)) == ("FAILED", 1000)


def test_rule_10_the_simulator_would_see_a_lost_refund() -> None:
    made = world()
    crash_at(made, "gateway POST")
    message = made.send(request())
    made.run_for(3)
    assert status(made) == "PROCESSING"
    made.sqs.remove(message, "deleted")  # as nothing of ours would
    with pytest.raises(Violation, match="in no index, with no lease and no message"):
        made.run_for(HOUR)


def test_rule_11_delays_stay_under_an_hour_and_old_dead_letters_go_to_s3() -> None:
    made = world(max_receives=20)
    made.kernel.fault_rates = {"network refuses": 1.0}
    message = made.send(request())
    latest = 0.0
    while message.queue is made.queue:
        made.run_for(600)
        latest = max(latest, message.visible_at - made.kernel.now)
    assert 600 < latest <= HOUR
    made.run_for(3 * DAY)
    made.reconcile()
    made.run_for(600)
    assert message.queue is made.dlq
    made.settle()
    assert message.gone == "archived"
    assert any(
        message.body.encode() in body.replace(b"\\", b"") for body in made.s3.objects.values()
    )


def test_rule_12_nothing_deletes_and_a_redrive_after_weeks_pays_nothing() -> None:
    assert not hasattr(DynamoDB, "delete_item")  # whoever calls it fails here
    made = world()
    made.send(request())
    made.run_for(30 * DAY)
    made.send(request())
    made.settle()
    assert (paid(made), posts(made), remaining(made)) == (1, 1, 700)


def test_rule_13_an_outage_of_a_day_loses_and_doubles_nothing() -> None:
    made = world()
    for number in range(3):
        made.send(request(f"r{number}"))
    made.kernel.fault_rates = {"gateway says 503": 1.0, "network loses the answer": 0.3}
    for _ in range(24):
        made.run_for(HOUR)
        made.reconcile()
    made.settle()
    assert [paid(made, f"r{number}") for number in range(3)] == [1, 1, 1]


def test_rule_14_the_reconciler_finds_late_reversals_page_by_page() -> None:
    made = world(page_size=2)
    for number in range(5):
        made.send(request(f"r{number}", amount_minor=100))
    made.run_for(60)
    oldest = made.flair.refunds[0]
    made.flair.fail(oldest, "account_closed")
    made.settle()
    assert status(made, oldest.reference) == "REVERSED"
    assert remaining(made) == 600


def test_rule_14_a_reconciler_that_crashes_at_any_step_loses_nothing() -> None:
    for nth in range(40):
        made = world()
        made.kernel.trace = None
        made.flair.stubborn["r1"] = "pending"
        made.send(request())
        made.run_for(HOUR)
        made.flair.stubborn.clear()
        made.flair.refunds[0].status = "succeeded"
        made.flair.refunds[0].ever_succeeded = True
        made.kernel.script["crash"] = [False] * nth + [True]
        made.reconcile()
        made.run_for(600)
        made.settle()
        assert status(made) == "SUCCEEDED"
