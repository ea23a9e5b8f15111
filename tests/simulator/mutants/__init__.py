"""Deliberate faults of the protocol, to see whether the simulator notices each."""

from __future__ import annotations

from tests.simulator.mutants import (
    calls,
    edges,
    flow,
    limits,
    lost,
    money,
    outages,
    people,
    sweep,
    two_gateways,
)

MUTANTS = (
    *calls.MUTANTS,
    *money.MUTANTS,
    *flow.MUTANTS,
    *two_gateways.MUTANTS,
    *outages.MUTANTS,
    *edges.MUTANTS,
    *people.MUTANTS,
    *limits.MUTANTS,
    *lost.MUTANTS,
    *sweep.MUTANTS,
)
