"""Faults in what the sweep believes it has looked at. The scripted histories have to catch each."""

from __future__ import annotations

from tests.simulator.mutants.edges import edge_mutant

MUTANTS = (
    edge_mutant(
        "what is sent back is a reversal although its double is paid",
        (
            "processing.reversal_sweep:ReversalSweep.reverse",
            "if is_live(found):",
            "if False:",
        ),
    ),
    edge_mutant(
        "what is sent back is a reversal although the look-up is empty",
        ("processing.reversal_sweep:ReversalSweep.reverse", "if not found:", "if False:"),
    ),
    edge_mutant(
        "what only the account's list shows as sent back is in nobody's sight",
        (
            "processing.reversal_sweep:ReversalSweep.reverse",
            'raise GatewayUnavailableError("no look-up shows what the list shows as failed")',
            "return False",
        ),
    ),
    edge_mutant(
        "what a look-up by reference does not show is not there",
        (
            "processing.settler:Settler.search",
            "return listed_under(gateway, refund.transaction_id, refund.reference, in_time)",
            "return ()",
        ),
    ),
    edge_mutant(
        "a row that can't be read is not ours",
        ("processing.balance:listed_under", "if unreadable:", "if False:"),
    ),
    edge_mutant(
        "a person is told only what the look-up shows",
        (
            "processing.review:Reviewer._ask",
            "self._settler.search(refund, deadline)",
            "self._settler.look_up(refund, deadline)",
        ),
    ),
    edge_mutant(
        "what is paid there is out of sight once the look-up is empty",
        (
            "processing.settler:Settler.is_at_gateway",
            "self.search(refund, deadline)",
            "self.look_up(refund, deadline)",
        ),
    ),
    edge_mutant(
        "a record that comes back late is looked up only once",
        (
            "processing.settler:Settler.close_paid",
            "if not found and now - from_rfc3339(refund.open_since or rfc3339(now)) < PAID_UNSEEN:",
            "if False:",
        ),
    ),
    edge_mutant(
        "what a correction may still hold is reversed",
        (
            "processing.reversal_sweep:ReversalSweep.reverse",
            "or refund.open_shard is not None  # its own look reverses it, once its money is held",
            "",
        ),
    ),
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
            "processing.sweep_walk:Walk.days_read",
            "return range(moved.day + 1, last + 1)",
            "return range(moved.day, last + 1)",
        ),
    ),
    edge_mutant(
        "a walk whose cursor expired is kept for ever",
        (
            "processing.reversal_sweep:ReversalSweep._take_step",
            "pass_.state = pass_.state.without(failed, self._clock.now())",
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
            "return _Step(walk, None, SweepResult().with_failure(exc), unreadable=True)",
            "page = RefundPage((), None)",
        ),
    ),
    edge_mutant(
        "a refund that can't be handled at first is left for another pass",
        (
            "processing.reversal_sweep:ReversalSweep._take_step",
            "step.walk.tries < MAX_PAGE_TRIES - 1",
            "False",
        ),
    ),
    edge_mutant(
        "a day that could not be handled is never due again",
        (
            "processing.sweep_plan:SweepState._urgency",
            "at_most = START_AT if now - at >= TRY_AGAIN_AFTER else 0.0",
            "at_most = 0.0",
        ),
    ),
    edge_mutant(
        "what a clock ahead has written counts",
        (
            "processing.sweep_plan:_instants",
            "if at <= latest",
            "if at",
        ),
    ),
    edge_mutant(
        "an old date at a page's end is where the list is",
        (
            "processing.sweep_walk:Walk.after",
            "elif max(days) < self.day and page.newest_first:\n"
            "            moved = moved._at_older_day(max(days), page)",
            "elif min(days) < self.day and page.newest_first:\n"
            "            moved = moved._at_older_day(min(days), page)",
        ),
    ),
    edge_mutant(
        "a page that the turn did not last for counts as looked at",
        (
            "processing.reversal_sweep:ReversalSweep._take",
            "return result, False",
            "return result, True",
        ),
    ),
    edge_mutant(
        "what failed at the gateway is taken for failed here",
        (
            "processing.reversal_sweep:_may_differ",
            "return status in (Status.SUCCEEDED, None)",
            "return False",
        ),
    ),
)
