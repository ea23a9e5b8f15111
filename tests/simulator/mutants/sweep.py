"""Faults in what the sweep believes it has looked at. The scripted histories have to catch each."""

from __future__ import annotations

from tests.simulator.mutation import mutant

MUTANTS = (
    mutant(
        "what is sent back is a reversal although its double is paid",
        (
            "processing.reversal_sweep:ReversalSweep.reverse",
            "if is_live(found):",
            "if False:",
        ),
        caught_by="test_what_is_sent_back_is_no_reversal_while_its_double_is_paid",
    ),
    mutant(
        "what is sent back is a reversal although the look-up is empty",
        ("processing.reversal_sweep:ReversalSweep.reverse", "if not found:", "if False:"),
        caught_by="test_what_is_sent_back_is_no_reversal_while_its_double_is_paid",
    ),
    mutant(
        "what only the account's list shows as sent back is in nobody's sight",
        (
            "processing.reversal_sweep:ReversalSweep.reverse",
            'raise GatewayUnavailableError("no look-up shows what the list shows as failed")',
            "return False",
        ),
        caught_by="test_a_reversal_that_only_the_accounts_list_shows_has_an_alarm_until_it_is_recorded",
    ),
    mutant(
        "what a look-up by reference does not show is not there",
        (
            "processing.evidence:Evidence.search",
            "return listed_under(gateway, refund.transaction_id, refund.reference, in_time)",
            "return ()",
        ),
        caught_by="test_a_person_is_told_what_the_payments_list_shows",
    ),
    mutant(
        "a row that can't be read is not ours",
        ("processing.balance:listed_under", "if unreadable:", "if False:"),
        caught_by="test_a_row_that_cant_be_read_may_be_the_double",
    ),
    mutant(
        "a person is told only what the look-up shows",
        (
            "processing.review:Reviewer._ask",
            "self._settler.evidence.search(refund, deadline)",
            "self._settler.evidence.look_up(refund, deadline)",
        ),
        caught_by="test_a_person_is_told_what_the_payments_list_shows",
    ),
    mutant(
        "what is paid there is out of sight once the look-up is empty",
        (
            "processing.evidence:Evidence.is_at_gateway",
            "self.search(refund, deadline)",
            "self.look_up(refund, deadline)",
        ),
        caught_by="test_what_is_paid_there_stays_in_sight_although_no_look_up_shows_it",
    ),
    mutant(
        "a record that comes back late is looked up only once",
        (
            "processing.paid_refunds:PaidRefunds.close",
            "if not found and now - from_rfc3339(refund.open_since or rfc3339(now)) < PAID_UNSEEN:",
            "if False:",
        ),
        caught_by="test_an_old_reversal_is_seen_although_the_first_look_shows_nothing",
    ),
    mutant(
        "what a correction may still hold is reversed",
        (
            "processing.reversal_sweep:ReversalSweep.reverse",
            "or refund.open_shard is not None  # its own look reverses it, once its money is held",
            "",
        ),
        caught_by="test_a_corrected_refund_that_is_sent_back_gives_its_money_back_for_good",
    ),
    mutant(
        "a page that could not be handled counts as looked at",
        (
            "processing.reversal_sweep:ReversalSweep._read",
            "handled=not result.failed,",
            "handled=True,",
        ),
        caught_by="test_what_could_not_be_handled_at_first_is_handled_in_the_same_run",
    ),
    mutant(
        "a day counts as looked at once it has begun",
        (
            "processing.sweep_walk:Walk.days_read",
            "return range(moved.day + 1, last + 1)",
            "return range(moved.day, last + 1)",
        ),
        caught_by="test_what_could_not_be_handled_is_looked_at_again_within_an_hour",
    ),
    mutant(
        "a walk whose cursor expired is kept for ever",
        (
            "processing.reversal_sweep:ReversalSweep._take_step",
            "pass_.state = pass_.state.without(failed, self._clock.now())",
            "pass",
        ),
        caught_by="test_a_walk_whose_cursor_expires_in_the_middle_of_a_day_skips_nothing",
    ),
    mutant(
        "how far the sweep is is not stored",
        (
            "processing.reversal_sweep:ReversalSweep._sweep",
            "self._control.set_sweep(gateway.name, pass_.state.item())",
            "pass",
        ),
        caught_by="test_a_sweep_that_crashes_at_any_step_looks_at_every_refund_within_a_day",
    ),
    mutant(
        "a walk begins again in every run",
        (
            "processing.sweep_plan:SweepState.item",
            "[walk.item() for walk in self.walks]",
            "[]",
        ),
        caught_by="test_a_sweep_that_runs_out_of_time_goes_on_in_the_next_run",
    ),
    mutant(
        "a page that can't be read ends its walk",
        (
            "processing.reversal_sweep:ReversalSweep._read",
            "return _Step(walk, None, SweepResult().with_failure(exc), unreadable=True)",
            "page = RefundPage((), None)",
        ),
        caught_by="test_a_walk_whose_cursor_expires_in_the_middle_of_a_day_skips_nothing",
    ),
    mutant(
        "a refund that can't be handled at first is left for another pass",
        (
            "processing.reversal_sweep:ReversalSweep._take_step",
            "step.walk.tries < MAX_PAGE_TRIES - 1",
            "False",
        ),
        caught_by="test_what_could_not_be_handled_at_first_is_handled_in_the_same_run",
    ),
    mutant(
        "a day that could not be handled is never due again",
        (
            "processing.sweep_plan:SweepState._urgency",
            "at_most = START_AT if now - at >= TRY_AGAIN_AFTER else 0.0",
            "at_most = 0.0",
        ),
        caught_by="test_what_could_not_be_handled_is_looked_at_again_within_an_hour",
    ),
    mutant(
        "what a clock ahead has written counts",
        (
            "processing.sweep_plan:_instants",
            "if at <= latest",
            "if at",
        ),
        caught_by="test_a_clock_that_was_days_ahead_hides_no_day",
    ),
    mutant(
        "an old date at a page's end is where the list is",
        (
            "processing.sweep_walk:Walk.after",
            "elif max(days) < self.day and page.newest_first:\n"
            "            moved = moved._at_older_day(max(days), page)",
            "elif min(days) < self.day and page.newest_first:\n"
            "            moved = moved._at_older_day(min(days), page)",
        ),
        caught_by="test_an_old_date_at_the_end_of_a_page_skips_no_day",
    ),
    mutant(
        "a page that the turn did not last for counts as looked at",
        (
            "processing.reversal_sweep:ReversalSweep._take",
            "return result, False",
            "return result, True",
        ),
        caught_by="test_a_page_that_takes_longer_than_a_run_is_handled_by_several",
    ),
    mutant(
        "what failed at the gateway is taken for failed here",
        (
            "processing.reversal_sweep:_may_differ",
            "return status in (Status.SUCCEEDED, None)",
            "return False",
        ),
        caught_by="test_a_refund_of_another_stage_of_ours_counts_once",
    ),
)
