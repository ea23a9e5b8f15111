"""Histories of faults of our own: a release, permissions, keys, records that can't be read."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from tests.simulator.alarm_expectations import Expected
from tests.simulator.alarm_play import (
    QUIET_SECONDS,
    Played,
    broken,
    denied,
    history,
    request,
    succeed,
)
from tests.simulator.dynamodb import DynamoDB
from tests.simulator.scripting import resume
from tests.simulator.watch import DAY, HOUR, MINUTE

from refunds.domain.limits import Limits
from refunds.gateways.http import HttpResponse
from refunds.processing.processor import Processor
from refunds.processing.settler import Settler
from refunds.tables.audit_trail import AuditTable


@history
def _all_is_well(played: Played) -> None:
    played.quiet_from = played.now
    for number in range(8):
        played.world.send(request(f"r{number}"))
        played.world.run_schedule(HOUR)


@history
def _a_release_fails_on_every_request(played: Played) -> None:
    world, since = played.world, played.now
    with broken(Processor, "process", TypeError("a bug of the new version")):
        for number in range(10):
            world.send(request(f"r{number}"))
        world.run_schedule(HOUR)
        played.expect("ProcessRefundUnexpectedErrors", since)
        # Retries are an hour apart by then: it must not go off in between.
        world.run_schedule(3 * HOUR)
        played.expect("ProcessRefundUnexpectedErrors", played.now - 30)
    played.recovers()
    assert sum(each.ever_succeeded for each in world.flair.refunds) == 10


@history
def _a_release_fails_on_every_audit_record(played: Played) -> None:
    world, since = played.world, played.now
    with broken(AuditTable, "insert_new", RuntimeError("a bug of the new version")):
        world.send(request())
        world.run_schedule(10 * MINUTE)
        played.expect("WriteAuditUnexpectedErrors", since)
    played.recovers()


@history
def _the_reconciler_fails_on_a_refund(played: Played) -> None:
    world = played.world
    world.flair.stubborn["r1"] = "pending"
    world.send(request())
    world.run_for(30)
    with broken(Settler, "take_over", KeyError("a bug of the new version")):
        since = played.now + 300
        world.run_schedule(2 * HOUR)
        played.expect("ReconcileRefundsUnexpectedErrors", since)
    succeed(world)
    played.recovers()


@history
def _the_index_cant_be_read_for_three_days(played: Played) -> None:
    world = played.world
    world.flair.stubborn["r1"] = "pending"
    world.send(request())
    world.run_for(60)
    since = played.now
    with denied(world, "dynamodb query Refunds"):
        world.run_schedule(3 * DAY)
        played.expect("Misconfigured", since, "a permission")
        played.expect("SettleErrors", since)
        played.expect("OpenRefundsWait", since, "can't be read")
        for alarm in ("Misconfigured", "SettleErrors", "OpenRefundsWait"):
            played.expected.append(Expected(alarm, played.now - 1, played.now))
    succeed(world)
    played.recovers()


@history
def _a_key_is_disabled(played: Played) -> None:
    world, since = played.world, played.now
    with denied(world, "dynamodb get Ledger", "dynamodb put Refunds", code="KMS.DisabledException"):
        world.send(request())
        world.run_schedule(HOUR)
        played.expect("Misconfigured", since, "a permission")
    played.recovers()
    assert world.refunds.items[("r1",)]["status"]["S"] == "SUCCEEDED"


@history
def _a_table_cant_be_reached(played: Played) -> None:
    world, since = played.world, played.now
    with denied(world, "dynamodb query Refunds", code="unreachable"):
        world.run_schedule(2 * HOUR)
        played.expect("AwsErrors", since)
    played.recovers()


@history
def _the_queues_mapping_cant_be_read_while_it_is_paused(played: Played) -> None:
    world = played.world
    world.tap.state = "Disabled"
    world.source.enabled = False
    with denied(world, "lambda get mapping"):
        since = played.now
        world.run_schedule(4 * HOUR)
        played.expect("QueuePaused", since, "mapping")
        played.expect("QueueSwitchErrors", since)
        played.expected.append(Expected("QueuePaused", played.now - 1, played.now))
    world.run_schedule(HOUR)  # no record says why it is stopped: it stays so until a person resumes
    resume(world)
    played.recovers()


@history
def _the_archiver_behind_a_list_that_never_ends(played: Played) -> None:
    world, since = played.world, played.now
    for number in range(60):
        world.flair._create("tx1", f"old-{number}", 1, ours=False)
    page = world.flair._list
    request_ = world.network.request

    def endless(host: str, query: dict[str, str]) -> Any:
        if "reference" in query or "transaction_id" in query:
            return page(host, query)
        return page(host, {**query, "cursor": "50"})

    def slow(method: str, url: str, **more: Any) -> Any:
        if method == "GET" and "reference=" not in url and "transaction_id" not in url:
            world.kernel.pause(10.0)
        return request_(method, url, **more)

    world.flair.page_size = 2
    message = world.sqs.enqueue(world.dlq, '{"refused": 1}', {})
    message.sent_at -= 4 * DAY - 2 * HOUR  # it has waited for almost four days
    with patch.object(world.flair, "_list", endless), patch.object(world.network, "request", slow):
        world.run_schedule(2 * HOUR - 600)
        played.expect("DeadLetters", since)
        played.expected.append(Expected("DeadLettersWait", since, since + 7 * MINUTE))
        world.run_schedule(1200)
    assert message.gone == "archived"
    archived = played.now
    # Its alarms go off with it; this one stays until a person has dealt with it.
    played.expect("DeadLettersArchived", archived)
    world.run_schedule(DAY)
    played.expected.append(Expected("DeadLettersArchived", played.now - 1, played.now))
    world.deal_with_failures()
    played.recovers()


@history
def _a_full_dead_letter_queue(played: Played) -> None:
    world, since = played.world, played.now
    messages = [world.sqs.enqueue(world.dlq, f'{{"refused": {number}}}') for number in range(700)]
    world.run_schedule(20 * MINUTE)
    played.expect("DeadLetters", since)
    # What was looked at is visible again at once.
    assert all(each.visible_at <= played.now for each in messages)
    world.run_for(4 * DAY)
    world.run_schedule(2 * HOUR)
    assert all(each.gone == "archived" for each in messages)
    world.deal_with_failures()
    played.recovers()


@history
def _dead_letters_cant_be_read(played: Played) -> None:
    world, since = played.world, played.now
    with denied(world, "sqs receive"):
        world.run_schedule(2 * HOUR)
        played.expect("ArchiveErrors", since)
        played.expect("Misconfigured", since, "a permission")
    played.recovers()


@history
def _the_audit_mapping_is_disabled(played: Played) -> None:
    world, since = played.world, played.now
    world.tap.audit_state = "Disabled"
    world.run_schedule(HOUR)
    played.expect("AuditStopped", since)
    world.tap.audit_state = "Enabled"
    played.recovers()


@history
def _the_tables_stream_is_gone(played: Played) -> None:
    world, since = played.world, played.now
    dynamodb: DynamoDB = world.services.dynamodb
    dynamodb.has_stream = False
    world.run_schedule(HOUR)
    played.expect("AuditStopped", since)
    dynamodb.has_stream = True
    played.recovers()


@history
def _the_schedule_is_dead_and_webhooks_still_come(played: Played) -> None:
    world, since = played.world, played.now
    world.run_for(60)
    for _ in range(30):
        world.functions.invoke(
            "reconcile",
            lambda env, deadline: env.reconcile_refunds.handle({"look_at": "r1"}, deadline),
            lambda result: None,
            lambda: None,
        )
        world.run_for(300)
    played.expect("ReconcilerSilent", since)
    played.recovers()


@history
def _a_wrong_key(played: Played) -> None:
    world, since = played.world, played.now
    for_real, world.secret.value = world.secret.value, "sk_wrong"
    world.flair.secret = type(world.secret)()
    world.flair.secret.value = for_real
    world.run_for(400)  # the caches of the functions end
    since = played.now
    for number in range(3):
        world.send(request(f"r{number}"))
    world.run_schedule(6 * HOUR)
    played.expect("Misconfigured", since, "API key")
    played.expected.append(Expected("Misconfigured", played.now - 1, played.now))
    # It rejects and fails nothing for good.
    assert not {item["status"]["S"] for item in world.refunds.items.values()} & {
        "REJECTED",
        "FAILED",
    }
    world.secret.value = for_real
    played.recovers()
    assert sum(each.ever_succeeded for each in world.flair.refunds) == 3


@history
def _a_gateway_outage(played: Played) -> None:
    world, since = played.world, played.now
    world.network.outage = "answers 503"
    for number in range(12):
        world.pay(f"tx-{number}", 100)
        world.send(request(f"r{number}", transaction_id=f"tx-{number}"))
    world.run_schedule(4 * HOUR)
    played.expect("QueuePaused", since, "gateway")
    played.expect("SweepErrors", since)
    # An outage of the gateway is never called our own misconfiguration.
    assert not world.watch.advance().on("Misconfigured")
    world.network.outage = None
    played.recovers()


@history
def _the_gateways_list_can_not_be_read_for_two_days(played: Played) -> None:
    world = played.world
    world.reconcile()
    world.run_for(60)
    listed = world.flair._list

    def unlisted(host: str, query: dict[str, str]) -> Any:
        if "reference" in query or "transaction_id" in query:
            return listed(host, query)
        return HttpResponse(503, {}, b"unavailable")

    since = played.now
    with patch.object(world.flair, "_list", unlisted):
        world.run_schedule(2 * DAY)
        played.expect("SweepErrors", since)
        played.expect("SweepBehind", since)
    played.recovers()


@history
def _a_days_total_above_the_stop(played: Played) -> None:
    world = played.world
    world.services.limits = Limits(stop_above={"USD": 5})
    world.functions.idle.clear()
    since = played.now
    for number in range(3):
        world.send(request(f"r{number}"))
    world.run_schedule(16 * HOUR)
    played.expect("QueuePaused", since, "StopAboveMinor")
    played.expected.append(Expected("QueuePaused", played.now - 1, played.now))
    assert sum(each.ever_succeeded for each in world.flair.refunds) == 1
    resume(world)
    played.recovers()


@history
def _one_unreadable_refund_in_the_gateways_list(played: Played) -> None:
    world = played.world
    world.flair.page_size = 2
    world.send(request())
    world.run_for(60)
    for number in range(3):
        world.flair._create("tx1", f"others-{number}", 5, ours=False)
    shown = world.flair._shown

    def other_status(moved: Any) -> dict[str, Any]:
        return shown(moved) | ({"amount": 0} if moved.reference == "others-0" else {})

    world.flair.fail(world.flair.refunds[0], "account_closed")
    with patch.object(world.flair, "_shown", other_status):
        since = played.now
        world.run_schedule(2 * HOUR)
        played.expect("UnreadableGatewayRefunds", since)
    assert world.refunds.items[("r1",)]["status"]["S"] == "REVERSED"
    played.recovers(QUIET_SECONDS)


@history
def _a_poison_stream_record(played: Played) -> None:
    world = played.world
    world.send(request())
    world.run_for(60)
    world.checker.tampered.add("r1")
    since = played.now
    item = world.refunds.items[("r1",)]
    world.refunds.write(("r1",), item | {"amount_minor": {"N": "77"}})  # by hand, same version
    world.run_schedule(2 * HOUR)
    played.expect("AuditRejects", since)
    played.expect("AuditRecordsKept", since)
    played.expected.append(Expected("AuditRecordsKept", played.now - 1, played.now))
    world.deal_with_failures()
    played.recovers()


@history
def _a_row_that_cant_be_read(played: Played) -> None:
    world = played.world
    world.flair.stubborn["r1"] = "pending"
    world.send(request())
    world.run_for(60)
    world.checker.tampered.add("r1")
    item = world.refunds.items[("r1",)]
    check_at = item["check_at"]
    since = played.now + 600
    world.refunds.write(("r1",), item | {"status": {"S": "NONSENSE"}})
    world.run_schedule(4 * HOUR)
    played.expect("UnreadableRefunds", since)
    played.expected.append(Expected("UnreadableRefunds", played.now - 1, played.now))
    world.refunds.write(("r1",), item | {"check_at": check_at})
    succeed(world)
    world.run_for(60)
    world.deal_with_failures()
    played.recovers()
