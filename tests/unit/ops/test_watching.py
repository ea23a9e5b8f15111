"""`refunds watch`, `as-of`, `key check` and `show --gateway`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.support import finished_refunds
from tests.support.builders import refund, shown
from tests.support.command_line import Refunds
from tests.support.finished_refunds import add, at
from tests.support.world import World

from refunds.domain.clock import from_rfc3339
from refunds.domain.refund import Status
from refunds.gateways.contract import (
    GatewayMisconfiguredError,
    GatewayUnavailableError,
    Misconfiguration,
)
from refunds.gateways.routing import Gateways
from refunds_ops.audit import sources


@pytest.fixture(autouse=True)
def gateway(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "gateways", lambda stack: Gateways([world.gateway]))
    monkeypatch.setattr(sources, "GATEWAY_TRIES", 1)


def test_watching_one_refund_ends_with_it(world: World, refunds: Refunds) -> None:
    add(world, "r1")
    add(world, "r2", became=Status.FAILED, failure_code="card_declined")
    assert refunds("watch", "r1").status == 0
    ran = refunds("watch", "r2")
    assert (ran.status, "card_declined" in ran.out) == (1, True)


def test_a_refund_that_does_not_end_in_time_says_where_it_is(
    world: World, refunds: Refunds
) -> None:
    world.refunds.put_new(refund(refund_id="r1"))
    ran = refunds("watch", "r1", "--seconds", "0")
    assert (ran.status, "still PROCESSING" in ran.err) == (1, True)
    ran = refunds("watch", "nothing", "--seconds", "0")
    assert (ran.status, "No request waits" in ran.err) == (1, True)
    assert "There is no refund nothing yet." in ran.err


def test_watching_everything_shows_what_flows(
    world: World, refunds: Refunds, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the last ten minutes are shown; a test run can take longer.
    monkeypatch.setattr(finished_refunds, "NOW", datetime.now(UTC))
    add(world, "r1", 0)
    world.stack.clients.sqs.send_message(QueueUrl=world.stack.queue_url, MessageBody="{}")
    ran = refunds("watch", "--seconds", "0", "--json")
    assert ran.status == 0
    (seen,) = ran.lines
    assert (seen["waiting"], [each["refund_id"] for each in seen["refunds"]]) == (1, ["r1"])


def test_a_refund_as_it_was(world: World, refunds: Refunds) -> None:
    first = refund(refund_id="r1", created_at=at(5), updated_at=at(5))
    add(world, "r1", 5)
    assert first.version == 1
    ran = refunds("as-of", "4h", "r1", "--json")
    assert (ran.status, ran.json["status"]) == (0, "SUCCEEDED")
    assert "SUCCEEDED, Refund Successful" in refunds("as-of", "4h", "r1").out
    before = refunds("as-of", "6h", "r1")
    assert (before.status, "There was no refund r1 then" in before.err) == (1, True)
    assert refunds("as-of", "soon", "r1").status == 1


def test_a_day_is_meant_as_a_whole(world: World, refunds: Refunds) -> None:
    add(world, "r1", 5)
    day = from_rfc3339(at(5)).astimezone(ZoneInfo("Europe/Berlin")).date()
    assert refunds("as-of", f"{day}", "r1").status == 0
    assert refunds("as-of", f"{day - timedelta(days=1)}", "r1").status == 1
    assert refunds("as-of", "9999-12-31", "r1").status == 0
    assert refunds("as-of", "1h", "nothing").status == 1


@pytest.mark.parametrize(
    ("error", "result", "status"),
    [
        (None, "accepted", 0),
        (GatewayMisconfiguredError(next(iter(Misconfiguration))), "refused", 1),
        (GatewayUnavailableError("HTTP 503"), "unreachable", 3),
    ],
)
def test_a_key_is_checked(
    world: World, refunds: Refunds, error: Exception | None, result: str, status: int
) -> None:
    def called(name: str) -> None:
        if error is not None:
            raise error

    world.gateway.on_call = called
    ran = refunds("key", "check", "--json")
    assert (ran.status, ran.lines[0]["result"]) == (status, result)
    assert result in refunds("key", "check").out


@pytest.mark.parametrize(
    ("there", "status", "said"),
    [
        ([shown(refund_id="r1")], 0, "gw-1 succeeded, 25.00 USD"),
        ([], 1, "does not know this refund"),
        ([shown(refund_id="r1", amount_minor=1)], 1, "shows 0.01 USD"),
        ([shown(refund_id="r1"), shown(refund_id="r1", gateway_refund_id="gw-2")], 1, "2 refunds"),
        ([shown(refund_id="r1", trace="ARN-74")], 0, "trace number ARN-74"),
    ],
)
def test_the_gateways_view_is_compared(
    world: World, refunds: Refunds, there: list[Any], status: int, said: str
) -> None:
    add(world, "r1")
    world.gateway.refunds += there
    ran = refunds("show", "r1", "--gateway")
    assert (ran.status, said in ran.out) == (status, True), ran.out
    assert refunds("show", "r1", "--gateway", "--json").json["gateway"]["name"] == "flair"
