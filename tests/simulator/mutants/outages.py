"""Faults in the breaker. A gateway's outage has to catch each."""

from __future__ import annotations

from functools import partial

from tests.simulator.mutation import mutant
from tests.simulator.outages import run_outage

outage_mutant = partial(mutant, play=run_outage)

MUTANTS = (
    outage_mutant(
        "the breaker never opens",
        ("domain.intake:open_breaker", "if intake.breaker is BreakerState.OPEN:", "if True:"),
    ),
    outage_mutant(
        "the breaker never closes",
        ("domain.intake:after_probe", "if trouble is not None:", "if True:"),
    ),
    outage_mutant(
        "resumed though a person has paused",
        (
            "domain.intake:desired_mapping",
            "DesiredMapping(intake.flows,",
            "DesiredMapping(intake.breaker is not BreakerState.OPEN,",
        ),
    ),
    outage_mutant(
        "the mapping is not made to follow after a crash",
        (
            "breaker.queue_mapping:Switch._set",
            'if state == "Disabled" and not desired.enabled:',
            'if state == "Disabled":',
        ),
    ),
    outage_mutant(
        "recovery stays at its first step",
        (
            "domain.intake:after_probe",
            "more = (intake.concurrency or FIRST_CONCURRENCY) * STEP_FACTOR",
            "more = FIRST_CONCURRENCY",
        ),
    ),
)
