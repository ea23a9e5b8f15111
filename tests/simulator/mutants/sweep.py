"""Faults in what the sweep believes it has looked at. The scripted histories have to catch each."""

from __future__ import annotations

from tests.simulator.mutants.edges import edge_mutant

MUTANTS = (
    edge_mutant(
        "a page that could not be handled counts as looked at",
        (
            "processing.reversal_sweep:ReversalSweep._read",
            "handled=not result.failed,",
            "handled=True,",
        ),
    ),
    edge_mutant(
        "a day counts as looked at once it has begun",
        (
            "processing.sweep_plan:Walk.days_read",
            "return range(to if ended else to + 1, last + 1)",
            "return range(to, last + 1)",
        ),
    ),
    edge_mutant(
        "a walk whose cursor expired is kept for ever",
        (
            "processing.reversal_sweep:ReversalSweep._take_step",
            "pass_.state = pass_.state.without(failed)",
            "pass",
        ),
    ),
    edge_mutant(
        "how far the sweep is is not stored",
        (
            "processing.reversal_sweep:ReversalSweep._sweep",
            "self._control.set_sweep(gateway.name, pass_.state.item())",
            "pass",
        ),
    ),
    edge_mutant(
        "a walk begins again in every run",
        (
            "processing.sweep_plan:SweepState.item",
            "[walk.item() for walk in self.walks]",
            "[]",
        ),
    ),
    edge_mutant(
        "a page that can't be read ends its walk",
        (
            "processing.reversal_sweep:ReversalSweep._read",
            "return _Step(walk, None, SweepResult().with_failure(exc))",
            "page = RefundPage((), None)",
        ),
    ),
)
