"""An outage of one gateway never delays another's requests, whatever its length."""

from __future__ import annotations

import pytest
from tests.simulator.functions import GATEWAYS
from tests.simulator.two_gateways import play_day

from refunds.breaker.breaker import Breaker
from refunds.gateways import registry

OUTAGES = ("refuses", "is silent", "answers 503")


@pytest.fixture(autouse=True)
def acme(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = registry.Adapter("tests.simulator.two_gateways:AcmeGateway")
    monkeypatch.setitem(registry.ADAPTERS, "acme", adapter)


@pytest.mark.parametrize("outage", OUTAGES)
def test_a_day_without_one_gateway_leaves_the_others_waits_as_they_were(outage: str) -> None:
    quiet, day = play_day(1, outage=None), play_day(1, outage=outage)

    # A batch that has called a silent gateway ends with that call's timeout. Only the first few do.
    assert day.longest_wait_seconds <= quiet.longest_wait_seconds + GATEWAYS.timeout_seconds
    assert quiet.deferred == 0
    assert day.deferred > 500
    assert day.mapping_stopped == 0
    assert (day.dead_letters, day.unpaid) == (0, 0)
    assert day.all_closed


def test_without_it_a_long_outage_makes_dead_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Breaker, "hold", lambda self, transaction_id: None)
    day = play_day(1, outage="refuses")

    assert day.dead_letters > 0


def test_what_waited_is_paid_soon_after_the_gateway_is_back() -> None:
    day = play_day(2, outage="refuses")

    # A probe every five minutes, then three steps of a recovery, then the longest delay.
    assert day.longest_wait_after_outage_seconds < 3_600
    # Waiting used up no receives: those that were tried before the breaker opened have a few.
    assert day.most_receives < 10
