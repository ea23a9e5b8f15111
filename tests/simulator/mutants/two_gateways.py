"""Faults in what keeps two gateways apart. An outage of one of them has to catch each."""

from __future__ import annotations

from functools import partial

from tests.simulator.mutation import mutant
from tests.simulator.two_gateways import run_one_of_two_down

two_gateways_mutant = partial(mutant, play=run_one_of_two_down)

MUTANTS = (
    two_gateways_mutant(
        "an outage of one gateway holds every gateway's requests",
        (
            "breaker.breaker:Breaker.hold",
            "name = self._gateways.for_new(transaction_id).name",
            "name = 'second'",
        ),
    ),
    two_gateways_mutant(
        "what waits for a gateway is put back and uses up its receives",
        ("processing.queue:RefundQueue.handle", "if hold.send_again:", "if False:"),
    ),
    two_gateways_mutant(
        "an outage of one gateway stops the queue",
        ("breaker.queue_mapping:IntakeKeeper.keep", "all_down = all(", "all_down = any("),
    ),
    two_gateways_mutant(
        "failures at one gateway are forgotten for a success at the other",
        (
            "breaker.breaker:Breaker._after_calls",
            "item = name if self._several else None",
            "item = None",
        ),
    ),
    two_gateways_mutant(
        "a gateway among several never recovers",
        (
            "breaker.queue_mapping:IntakeKeeper.keep",
            "self._probe(gateway, gateway.name, deadline)",
            "None",
        ),
    ),
)
