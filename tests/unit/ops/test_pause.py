"""`refunds pause`, `refunds resume` and `refunds status`: a person's switch of the queue."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import Mock
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result
from tests.support.builders import NOW, VISA, refund
from tests.support.lambda_mapping import Mapping
from tests.support.moto_stack import REGION, Stack
from tests.support.people import MOTO, session_arn, sign_in
from tests.support.world import World

from refunds.backup.digest import Digest, digest_key
from refunds.breaker.queue_mapping import IntakeKeeper, Switch
from refunds.domain.clock import rfc3339
from refunds.domain.intake import BreakerState, Intake, open_breaker
from refunds.domain.refund import Status
from refunds.tables.wire import item_to_wire
from refunds_ops.cli import cli
from refunds_ops.commands import intake as command
from refunds_ops.dates import Zone
from refunds_ops.errors import NotReadyError, RefusedError
from refunds_ops.stack.audit_writer import NotConnectedError


@pytest.fixture
def mapping(monkeypatch: pytest.MonkeyPatch) -> Mapping:
    mapping = Mapping()
    monkeypatch.setattr("refunds_ops.stack.stack.Stack.functions", mapping)
    monkeypatch.setattr(command, "_ASK_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(f"{command.__name__}.audit_writer.check_connected", lambda _: None)
    return mapping


@pytest.fixture(autouse=True)
def environment(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "AWS_REGION": REGION,
        "RefundsTableName": stack.refunds_table,
        "LedgerTableName": stack.ledger_table,
        "RefundQueueUrl": stack.queue_url,
        "RefundDeadLetterQueueUrl": stack.dead_letter_queue_url,
        "BackupBucketName": stack.backup_bucket,
        "RefundRequestsMappingId": "mapping-1",
        "WriteAuditFunctionName": "stack-WriteAudit",
        "ProcessRefundFunctionName": "stack-ProcessRefund",
        "MaximumConcurrency": "10",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def run(*arguments: str) -> Result:
    return CliRunner(mix_stderr=False).invoke(cli, list(arguments))


def pause(*arguments: str) -> Result:
    return run("pause", "--why", "gateway maintenance", *arguments)


def run_raising(*arguments: str) -> None:
    CliRunner().invoke(cli, list(arguments), catch_exceptions=False, standalone_mode=False)


def state_of(world: World) -> Intake:
    return world.control.intake()


def test_pausing_stops_the_queue_and_keeps_who_and_why(world: World, mapping: Mapping) -> None:
    result = pause()

    assert result.exit_code == 0, result.output
    assert mapping.state == "Disabled"
    intake = state_of(world)
    assert (intake.paused_by, intake.paused_why) == (MOTO, "gateway maintenance")
    assert intake.history[-1]["what"] == "paused"


def test_resuming_lets_requests_flow_and_keeps_who_and_why(world: World, mapping: Mapping) -> None:
    pause()
    result = run("resume", "--why", "maintenance is over", "--on-behalf-of", "the shop")

    assert result.exit_code == 0, result.output
    assert mapping.state == "Enabled"
    assert not state_of(world).paused
    assert dict(state_of(world).history[-1]) == {
        "at": state_of(world).history[-1]["at"],
        "by": MOTO,
        "on_behalf_of": "the shop",
        "what": "resumed",
        "why": "maintenance is over",
    }


def test_who_pauses_is_asked_of_aws_and_a_name_given_is_only_a_note(
    world: World, mapping: Mapping, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(monkeypatch, "ada", "Operator")
    run("pause", "--why", "a look", "--by", "somebody else")
    found = state_of(world)
    assert found.paused_by == session_arn("ada", "Operator")
    assert found.paused_on_behalf_of == "somebody else"
    shown = run("status").output
    assert "ada as Operator, on behalf of somebody else" in " ".join(shown.split())


def test_times_are_shown_as_everywhere(world: World, mapping: Mapping) -> None:
    """Not as they are stored, with microseconds and without the stack's zone."""
    pause()
    paused_at = state_of(world).paused_at
    assert paused_at is not None
    shown = f"since {Zone('UTC', ZoneInfo('UTC')).show(paused_at)}:"
    assert shown in " ".join(run("status").output.split())
    assert shown in " ".join(pause().output.split())
    assert "Z " not in run("status").output


def test_a_switch_names_its_stack_once(
    world: World, mapping: Mapping, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_stack = Mock(wraps=vars(command)["find_stack"])
    monkeypatch.setattr(command, "find_stack", find_stack)
    assert run("resume", "--why", "over").exit_code == 0
    assert find_stack.call_count == 1


def test_pausing_twice_names_the_first_and_finishes_what_was_begun(
    world: World, mapping: Mapping
) -> None:
    mapping.fails = True
    first = pause()
    assert first.exception is not None  # recorded, but Lambda was not told
    assert mapping.state == "Enabled"
    mapping.fails = False

    result = run("pause", "--why", "me too")

    assert result.exit_code == 0
    assert "by moto" in result.output
    assert mapping.state == "Disabled"


def test_a_pause_that_died_half_way_is_finished_by_the_reconciler(
    world: World, mapping: Mapping
) -> None:
    mapping.fails = True
    pause()
    mapping.fails = False
    keeper(world, mapping).keep(world.deadline(230))
    assert mapping.state == "Disabling"


def keeper(world: World, mapping: Mapping) -> IntakeKeeper:
    client: Any = mapping
    switch = Switch(
        control=world.control, client=client, mapping_id="mapping-1", maximum_concurrency=10
    )
    return IntakeKeeper(
        control=world.control,
        switch=switch,
        gateways=[world.gateway],
        clock=world.clock,
        by="ReconcileRefunds:1",
    )


def test_the_reconciler_does_not_resume_what_a_person_paused(
    world: World, mapping: Mapping
) -> None:
    pause()
    for _ in range(5):
        keeper(world, mapping).keep(world.deadline(230))
        world.clock.advance(minutes=5)
    assert mapping.state == "Disabled"


def test_resuming_does_not_close_an_open_breaker(world: World, mapping: Mapping) -> None:
    world.control.change_intake(
        lambda intake: open_breaker(intake, "ProcessRefund:7", "HTTP 503", NOW)
    )
    pause()
    result = run("resume", "--why", "done")

    assert result.exit_code == 0
    assert "the gateway is down" in result.output
    assert mapping.state == "Disabled"
    assert state_of(world).breaker is BreakerState.OPEN


def test_resuming_what_nobody_paused_is_no_change(world: World, mapping: Mapping) -> None:
    result = run("resume", "--why", "just so")
    assert result.exit_code == 0
    assert state_of(world) == Intake()


def test_why_must_be_said(world: World, mapping: Mapping) -> None:
    assert run("pause").exit_code == 2
    assert isinstance(run("pause", "--why", "  ").exception, RefusedError)
    assert isinstance(run("pause", "--why", f"card {VISA}").exception, RefusedError)
    assert state_of(world) == Intake()


@pytest.mark.usefixtures("mapping")
def test_a_pause_that_others_keep_overtaking_says_that_it_was_not_recorded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an outage, when many functions write the breaker's state."""
    monkeypatch.setattr("refunds.tables.state.Control._replace", lambda *_: False)
    result = pause()
    assert isinstance(result.exception, NotReadyError)
    assert "Nothing was changed" in result.exception.what
    assert not state_of(world).paused


def test_a_lambda_that_never_follows_is_told_after_a_while(
    world: World, mapping: Mapping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "SWITCH_SECONDS", 0.05)
    mapping.state = "Updating"
    result = pause()
    assert isinstance(result.exception, NotReadyError)
    assert state_of(world).paused


def test_one_of_several_gateways_can_be_paused_and_resumed(world: World, mapping: Mapping) -> None:
    result = pause("--gateway", "stripe")
    assert result.exit_code == 0, result.output
    assert "refunds resume --gateway stripe" in result.output
    assert world.control.intake("stripe").paused_by == MOTO
    assert not world.control.intake("flair").paused
    assert not state_of(world).paused
    assert mapping.state == "Enabled"

    status = run("status", "--json")
    assert status.exit_code == 1
    found = json.loads(status.output)
    assert "by moto since" in found["gateways_paused"]["stripe"]
    assert "requests for stripe are paused" in found["attention"]
    assert "gateway maintenance" in run("status").output

    resumed = run("resume", "--why", "over", "--only", "stripe", "--json")
    assert json.loads(resumed.output)["changed"] is True
    assert not world.control.intake("stripe").paused
    assert run("status").exit_code == 0


@pytest.mark.parametrize(
    ("routes", "why"), [("", "only gateway"), ("x-=stripe", "not a gateway of this stack")]
)
def test_a_gateway_that_cannot_be_paused_alone_is_refused(
    world: World, mapping: Mapping, routes: str, why: str
) -> None:
    mapping.settings["GATEWAY_ROUTES"] = routes
    mapping.settings["GATEWAY"] = "stripe" if routes else "flair"
    with pytest.raises(RefusedError, match=why):
        run_raising("pause", "--why", "w", "--only", "flair")

    assert not world.control.intake("flair").paused


def test_the_status_of_a_quiet_stack_is_clean(world: World, mapping: Mapping) -> None:
    result = run("status")
    assert result.exit_code == 0, result.output
    assert "flow" in result.output


def test_the_status_shows_what_waits_and_who_paused(world: World, mapping: Mapping) -> None:
    stack = world.stack
    for _ in range(3):
        stack.clients.sqs.send_message(QueueUrl=stack.queue_url, MessageBody="{}")
    stack.clients.sqs.send_message(QueueUrl=stack.dead_letter_queue_url, MessageBody="{}")
    world.put(
        refund(
            status=Status.IN_REVIEW,
            open_since=rfc3339(NOW),
            open_shard="0",
            check_at=rfc3339(NOW),
        )
    )
    world.put(
        refund(
            refund_id="refund-2",
            status=Status.PENDING,
            open_since=rfc3339(NOW),
            open_shard="1",
            check_at=rfc3339(NOW),
            balance_short_at=rfc3339(NOW),
        )
    )
    world.put(
        refund(
            refund_id="refund-3",
            status=Status.FAILED,
            open_since=rfc3339(NOW),
            open_shard="2",
            check_at=rfc3339(NOW),
            seen_paid_at=rfc3339(NOW),
        )
    )
    damaged = item_to_wire(
        refund(refund_id="refund-4", open_shard="3", check_at=rfc3339(NOW)).item()
    )
    damaged.pop("status")
    world.stack.clients.dynamodb.put_item(TableName=world.stack.refunds_table, Item=damaged)
    pause()

    result = run("status", "--json")

    assert result.exit_code == 1
    found = json.loads(result.output)
    assert found["paused_by"] == MOTO
    assert found["paused_why"] == "gateway maintenance"
    assert (found["waiting"], found["dead_letters"]) == (3, 1)
    assert (found["open_refunds"], found["in_review"], found["balance_short"]) == (2, 1, 1)
    assert (found["paid_though_ended"], found["unreadable_refunds"]) == (1, 1)
    assert found["mapping_state"] == "Disabled"
    assert len(found["attention"]) == 6
    table = run("status")
    assert table.exit_code == 1
    assert "gateway maintenance" in table.output


def test_one_gateway_of_several_that_is_down_is_named(world: World, mapping: Mapping) -> None:
    world.control.change_intake(
        lambda intake: open_breaker(intake, "P:1", "HTTP 503", NOW), "stripe"
    )
    result = run("status", "--json")
    assert result.exit_code == 1
    assert "HTTP 503" in json.loads(result.output)["gateways_down"]["stripe"]
    assert "the gateway stripe is down" in str(json.loads(result.output)["attention"])


def test_the_status_says_when_the_mapping_is_not_as_it_should_be(
    world: World, mapping: Mapping
) -> None:
    mapping.state = "Disabled"
    result = run("status", "--json")
    assert result.exit_code == 1
    assert "mapping is Disabled" in str(json.loads(result.output)["attention"])


def test_the_status_tells_the_last_published_backup_and_no_other(
    world: World, mapping: Mapping
) -> None:
    s3, bucket = world.stack.clients.s3, world.stack.backup_bucket
    begun = "refund-backups/2026/11/23/20261123T071000Z/refunds/AWSDynamoDB/1/manifest-summary.json"
    s3.put_object(Bucket=bucket, Key=begun, Body=b"{}")
    assert json.loads(run("status", "--json").output)["last_backup"] is None

    s3.put_object(Bucket=bucket, Key=digest_key(1), Body=b"not a digest")
    result = run("status", "--json")
    assert result.exit_code == 1
    assert "refunds backup verify" in str(json.loads(result.output)["attention"])

    published = Digest(
        1, bucket, rfc3339(NOW), rfc3339(NOW), "refund-backups/x", (), "0" * 64, None
    )
    s3.put_object(Bucket=bucket, Key=digest_key(1), Body=published.to_bytes())
    assert json.loads(run("status", "--json").output)["last_backup"] == rfc3339(NOW)


def test_resume_refuses_while_nobody_would_write_the_audit_trail(
    world: World, mapping: Mapping, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_connected(_: Any) -> None:
        raise NotConnectedError("WriteAudit reads nothing", "aws lambda …")

    pause()
    monkeypatch.setattr(f"{command.__name__}.audit_writer.check_connected", not_connected)
    result = run("resume", "--why", "restored")

    assert isinstance(result.exception, RefusedError)
    assert "Requests stay paused: WriteAudit reads nothing" in str(result.exception)
    assert result.exception.to_do == ("aws lambda …",)
    assert mapping.state == "Disabled"
    assert state_of(world).paused
