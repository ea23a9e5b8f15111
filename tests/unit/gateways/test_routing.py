"""Several gateways at once: new refunds go by today's routes, begun ones stay where they are."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.support.builders import NOW, InlinePool, body, payment, refund, request, shown
from tests.support.fake_gateway import FakeGateway
from tests.support.world import World

from refunds.domain.clock import Deadline, rfc3339
from refunds.domain.refund import Refund, Status
from refunds.gateways.contract import GatewayStatus, GatewayUnavailableError, RefundPage, Unknown
from refunds.gateways.routing import Gateways, Route
from refunds.processing.recorder import Later, Recorded
from refunds.wiring.reconcile_refunds import build_reconciler


class OtherGateway(FakeGateway):
    name = "stripe"


def gateways(*routes: Route) -> tuple[FakeGateway, FakeGateway, Gateways]:
    flair, other = FakeGateway(), OtherGateway()
    return flair, other, Gateways([flair, other], routes)


# The rules


def test_what_no_rule_sends_elsewhere_goes_to_the_first() -> None:
    flair, other, both = gateways(Route("pi_", "stripe"))

    assert both.for_new("payment-1") is flair
    assert both.for_new("pi_1") is other
    assert both.for_new("api_1") is flair


def test_the_longest_prefix_wins_in_whatever_order() -> None:
    rules = [Route("p", "stripe"), Route("pay-", "flair"), Route("pa", "stripe")]
    for routes in (rules, rules[::-1]):
        flair, other, both = gateways(*routes)

        assert both.for_new("pay-1") is flair
        assert both.for_new("paid") is other


def test_a_rule_to_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="acme"):
        Gateways([FakeGateway()], [Route("a-", "acme")])


def test_two_gateways_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="name"):
        Gateways([FakeGateway(), FakeGateway()])


def test_a_gateway_that_is_gone_is_not_replaced() -> None:
    with pytest.raises(GatewayUnavailableError, match="stripe is not configured"):
        Gateways([FakeGateway()]).named("stripe")


# What follows for a refund


class Both:
    """The world with two gateways; transactions ``pi_…`` go to the second."""

    def __init__(self, world: World, *routes: Route) -> None:
        self.world = world
        self.flair, self.stripe, _ = gateways(*routes)
        for gateway in (self.flair, self.stripe):
            gateway.payments["pi_1"] = payment(transaction_id="pi_1")
        protocol = world.protocol(
            self.flair, self.stripe, routes=routes, processed_by="ProcessRefund:8"
        )
        self.settler, self.processor = protocol.settler, protocol.processor
        self.reconciler = build_reconciler(
            protocol,
            world.archiver,
            clock=world.clock,
            pool=InlinePool(),
        )

    def process(self, **changes: object) -> Recorded | Later:
        return self.processor.process(request(**changes), self.world.deadline())

    def put(self, **changes: object) -> Refund:
        there = {"transaction_id": "pi_1", "gateway": "stripe"} | changes
        fields = {name: there[name] for name in there.keys() & body().keys()}
        return self.world.put(
            refund(fingerprint=request(**fields).fingerprint(), **there), held=2500
        )


@pytest.fixture
def both(world: World) -> Both:
    return Both(world, Route("pi_", "stripe"))


@pytest.fixture
def rerouted(world: World) -> Both:
    """``pi_`` was routed to Stripe, and goes to Flair today."""
    return Both(world)


def test_a_new_refund_is_reserved_and_made_where_its_payment_is(both: Both) -> None:
    both.process(transaction_id="pi_1")

    stored = both.world.stored()
    assert (stored.status, stored.gateway) == (Status.SUCCEEDED, "stripe")
    assert both.stripe.calls == ["get_payment", "create_refund"]
    assert both.flair.calls == []


def test_both_gateways_take_their_own(both: Both) -> None:
    both.process(transaction_id="pi_1")
    both.process(refund_id="refund-2")

    assert both.world.stored("refund-2").gateway == "flair"
    assert len(both.flair.orders) == len(both.stripe.orders) == 1


def test_a_begun_refund_is_taken_over_with_its_own_gateway(rerouted: Both) -> None:
    rerouted.stripe.refunds.append(shown(transaction_id="pi_1"))
    rerouted.put(lease_until=rfc3339(NOW - timedelta(seconds=1)))
    rerouted.process(transaction_id="pi_1")

    assert rerouted.world.stored().status is Status.SUCCEEDED
    assert rerouted.flair.calls == []


def test_a_second_call_goes_where_the_first_went(rerouted: Both) -> None:
    rerouted.put(lease_until=rfc3339(NOW - timedelta(seconds=1)))
    rerouted.process(transaction_id="pi_1")

    assert rerouted.stripe.calls == ["find_refunds", "create_refund"]
    assert rerouted.world.stored().gateway == "stripe"


def test_an_unknown_outcome_is_settled_with_the_refunds_own_gateway(both: Both) -> None:
    both.stripe.answers.append(Unknown("HTTP 500"))
    both.process(transaction_id="pi_1")
    both.world.clock.advance(hours=1)
    both.reconciler.run(both.world.deadline(300))

    assert both.world.stored().status is Status.SUCCEEDED
    assert "find_refunds" not in both.flair.calls


def test_without_its_gateway_a_refund_waits_and_keeps_its_money(world: World) -> None:
    waiting = Both(world)
    waiting.put(gateway="acme", lease_until=rfc3339(NOW - timedelta(seconds=1)))
    result = waiting.process(transaction_id="pi_1")

    assert isinstance(result, Later)
    stored = world.stored()
    assert (stored.status, stored.open_shard is not None) == (Status.PROCESSING, True)
    assert waiting.flair.calls == waiting.stripe.calls == []
    assert world.held(transaction_id="pi_1") == 2500


def test_a_refund_is_reversed_by_its_own_gateways_word_only(both: Both) -> None:
    both.put(status=Status.SUCCEEDED, gateway_refund_id="gw-1", lease_until=None)
    failed = shown(transaction_id="pi_1", status=GatewayStatus.FAILED)
    both.flair.refunds.append(failed)
    both.reconciler.run(both.world.deadline(300))
    assert both.world.stored().status is Status.SUCCEEDED

    both.stripe.refunds.append(failed)
    both.reconciler.run(both.world.deadline(300))
    assert both.world.stored().status is Status.REVERSED


def test_each_gateways_list_is_swept_from_its_own_position(both: Both) -> None:
    both.flair.page_size = both.stripe.page_size = 1
    both.flair.refunds += [shown(gateway_refund_id=f"gw-{number}") for number in range(3)]
    both.stripe.down = True
    swept = both.reconciler.run(both.world.deadline(300)).sweep

    assert (swept.pages, swept.complete, swept.failed) == (3, False, 1)
    assert both.world.control.sweep("flair")["walks"] == []
    (walk,) = both.world.control.sweep("stripe")["walks"]
    assert walk["failures"] == 1


def test_a_flood_in_one_list_leaves_time_for_the_other(both: Both) -> None:
    asked: list[float] = []

    def endless(deadline: Deadline, **filters: object) -> RefundPage:
        both.world.clock.advance(seconds=10)
        asked.append(deadline.left_seconds())
        return RefundPage((), "more")

    both.flair.list_refunds = endless  # type: ignore[method-assign]
    both.reconciler.run(both.world.deadline(120))

    assert len(asked) < 10
    assert "list_refunds" in both.stripe.calls


def test_a_gateway_that_never_takes_money_back_is_not_swept(both: Both) -> None:
    both.stripe.can_reverse = False
    swept = both.reconciler.run(both.world.deadline(300)).sweep

    assert swept.complete
    assert both.stripe.calls == []
