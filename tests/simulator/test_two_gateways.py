"""An outage of one gateway never delays another's requests, whatever its length.

`make mutants` shows that breakers which do not stand apart are noticed.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.simulator.functions import GATEWAYS
from tests.simulator.second_gateway import second_gateway_registered
from tests.simulator.two_gateways import HOUR, OUTAGE_SECONDS, OUTAGES, play_day

from refunds.breaker.breaker import Breaker

SHORTER_SECONDS = 8 * HOUR
"""A third of the day's CPU time, and still longer than a message lives without a breaker."""


@pytest.fixture
def second_gateway() -> Iterator[None]:
    with second_gateway_registered():
        yield


@pytest.mark.usefixtures("second_gateway")
@pytest.mark.parametrize(
    ("outage", "seconds"),
    [
        ("refuses", SHORTER_SECONDS),
        *(pytest.param(each, OUTAGE_SECONDS, marks=pytest.mark.long) for each in OUTAGES),
    ],
)
def test_a_day_without_one_gateway_leaves_the_others_waits_as_they_were(
    outage: str, seconds: float
) -> None:
    quiet, day = (play_day(1, outage=how, outage_seconds=seconds) for how in (None, outage))

    # A batch that has called a silent gateway ends with that call's timeout. Only the first few do.
    assert day.longest_wait_seconds <= quiet.longest_wait_seconds + GATEWAYS.timeout_seconds
    assert (quiet.deferred, quiet.faults) == (0, [])
    assert day.deferred > 500 * seconds / OUTAGE_SECONDS
    # Among them: no receive is used up, and all is paid within the hour after the outage.
    assert day.faults == []


@pytest.mark.usefixtures("second_gateway")
def test_without_it_a_long_outage_makes_dead_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Breaker, "hold", lambda self, transaction_id: None)
    day = play_day(1, outage="refuses", outage_seconds=SHORTER_SECONDS)

    assert day.dead_letters > 0
    assert "dead letters" in day.faults
