"""Faults of what is rebuilt after a loss. The scripted histories have to catch each."""

from __future__ import annotations

from tests.simulator.mutation import mutant

MUTANTS = (
    mutant(
        "a rebuilt record gives back what the gateway kept",
        (
            "processing.lost_records:LostRecords.rebuilt",
            'image | {"fingerprint": request.fingerprint()}',
            'image | {"fingerprint": request.fingerprint(), "kept_minor": None}',
        ),
        caught_by="test_what_the_gateway_kept_is_not_given_back_by_a_rebuilt_record",
    ),
    mutant(
        "a rebuilt record sends today's format",
        (
            "processing.lost_records:LostRecords.rebuilt",
            'image | {"fingerprint": request.fingerprint()}',
            'image | {"fingerprint": request.fingerprint(), "order_format": None}',
        ),
        caught_by="test_a_rebuilt_record_sends_the_same_bytes_for_its_key",
    ),
    mutant(
        "what a list does not show is ours, moved or not",
        (
            "processing.balance:Balance._shown_alone",
            "if any(each.status is not GatewayStatus.FAILED for each in shown):",
            "if shown:",
        ),
        caught_by="test_what_a_list_does_not_show_is_not_taken_for_a_reservation_that_never_moved",
    ),
    mutant(
        "a ledger begins without what is under way",
        (
            "processing.balance:Balance._count",
            "self._held_before(ledger) if ledger.captured is None else {}",
            "{}",
        ),
        caught_by="test_a_ledger_that_was_lost_alone_holds_what_is_under_way",
    ),
    mutant(
        "a rejection begins a second chain",
        (
            "processing.processor:Processor._reject",
            "refund = continue_chain(refund, last)",
            "pass",
        ),
        caught_by="test_a_rejection_continues_a_chain_that_ends_with_a_removal",
    ),
    mutant(
        "what may have been paid before its removal is rejected",
        (
            "processing.processor:Processor._reject",
            'Status(last["status"]) not in ENDED_WITHOUT_MONEY',
            "False",
        ),
        caught_by="test_what_may_have_been_paid_before_its_removal_is_for_a_person_not_rejected",
    ),
    mutant(
        "an adopted refund's key is new",
        (
            "processing.processor:Processor._claim",
            "LONG_AGO if adopted else now",
            "now",
        ),
        caught_by="test_a_ledger_begun_for_another_refund_does_not_hide_that_this_one_was_paid",
    ),
    mutant(
        "a crash before the claim forgets that it was adopted",
        (
            "processing.processor:Processor._seen_before",
            "adopted = self._reserver.is_listed(request, deadline)",
            "adopted = False",
        ),
        caught_by="test_without_limits_too",
    ),
    mutant(
        "the archiver forgets that it was adopted",
        (
            "processing.processor:Processor.resume_reserved",
            "adopted = last is None and self._reserver.is_listed(request, deadline)",
            "adopted = False",
        ),
        caught_by="test_the_archiver_knows_that_it_was_adopted",
    ),
    mutant(
        "a removed refund is called by a later attempt",
        (
            "processing.processor:Processor._claim",
            "refund = replace(refund, key_used_at=LONG_AGO)  # no later attempt calls it either",
            "pass",
        ),
        caught_by="test_a_waiting_refund_that_a_hand_removed_is_not_called_by_a_later_attempt",
    ),
    mutant(
        "a lost counter is given back what it never counted",
        (
            "processing.limit_checks:LimitChecks._announce_back",
            "if read.name != day:",
            'if read.day != day.partition("/")[0]:',
        ),
        caught_by="test_a_lost_counter_is_given_nothing_that_it_never_counted",
    ),
    mutant(
        "a record that comes back late is not looked up",
        (
            "processing.lost_records:LostRecords._sweep_has_passed",
            "return refund.status is Status.SUCCEEDED and age > SWEEP_BACK - SWEEP_MARGIN",
            "return False",
        ),
        caught_by="test_a_reversal_that_the_sweep_no_longer_reads_is_seen_when_its_record_comes_back",
    ),
    mutant(
        "the archiver begins a second chain",
        (
            "processing.processor:Processor.resume_reserved",
            "refund = continue_chain(refund, last)",
            "pass",
        ),
        caught_by="test_the_archiver_continues_a_chain_that_ends_with_a_removal",
    ),
    mutant(
        "a late release takes a correction's money",
        (
            "processing.recorder:Recorder.give_back",
            "self._hold_if_corrected(refund.refund_id)",
            "pass",
        ),
        caught_by="test_a_late_release_takes_nothing_from_a_correction",
    ),
    mutant(
        "what was sent back is still in the payment's sum",
        (
            "processing.balance:Balance._moved_unreserved",
            "and refund_id not in failed",
            "",
        ),
        caught_by="test_what_was_sent_back_does_not_hide_a_row_that_cannot_be_read",
    ),
    mutant(
        "what was sent back is still in the payment's sum at a restore",
        (
            "refunds_ops.backup.ledger_rebuild:rebuilt_ledger",
            "if name in succeeded and name not in failed",
            "if name in succeeded",
        ),
        caught_by="test_a_restore_does_not_take_what_a_list_leaves_out_for_a_refund_that_was_sent_back",
    ),
    mutant(
        "another stage's refund of an id is nobody's",
        (
            "processing.balance:is_named",
            "return _refund_id_of(shown) == refund_id",
            "return shown.refund_id == refund_id",
        ),
        caught_by="test_what_another_stage_paid_is_not_paid_again_by_tables_that_forgot",
    ),
    mutant(
        "what the gateway has under an id is rejected",
        (
            "processing.reserver:Reserver._count_and_hold",
            "(counted.unclear_minor or counted.listed_live)",
            "counted.unclear_minor",
        ),
        caught_by="test_what_another_stage_paid_is_not_paid_again_by_tables_that_forgot",
    ),
    mutant(
        "a message is as young as it says",
        (
            "processing.queue:_delivery",
            "min(first, sent_at)",
            "first",
        ),
        caught_by="test_a_message_at_the_end_of_its_time_is_found_after_a_crash",
    ),
    mutant(
        "what was paid after all holds nothing",
        (
            "processing.settler:Settler.ask_then_review",
            "self.recorder.hold_again(refund)",
            "pass",
        ),
        caught_by="test_what_had_ended_and_was_paid_after_all_holds_its_money_again",
    ),
    mutant(
        "what is shown after all holds nothing",
        (
            "processing.recorder:Recorder.finish",
            "or refund.failure_code == RECORD_LOST",
            "",
        ),
        caught_by="test_what_had_ended_and_was_paid_after_all_holds_its_money_again",
    ),
    mutant(
        "what is paid there is counted by whoever marks it, or never",
        (
            "processing.reversal_sweep:ReversalSweep._mark_paid",
            "self._evidence.count_balance(refund, deadline)\n"
            "        return self._paid.mark(refund)",
            "marked = self._paid.mark(refund)\n"
            "        self._evidence.count_balance(refund, deadline)\n"
            "        return marked",
        ),
        caught_by="test_what_is_paid_there_and_ended_here_counts_though_whoever_found_it_died",
    ),
    mutant(
        "a correction is closed while a release may be under way",
        (
            "processing.recorder:Recorder.hold_corrected",
            "if age < RELEASE_UNDER_WAY_AT_MOST:",
            "if False:",
        ),
        caught_by="test_a_late_release_that_dies_takes_nothing_from_a_correction",
    ),
    mutant(
        "a ledger that was begun for another refund knows of all",
        (
            "processing.processor:_may_have_forgotten",
            "return ledger is not None and ledger.moved_unreserved_minor > 0",
            "return False",
        ),
        caught_by="test_a_ledger_begun_for_another_refund_looks_first_however_old_the_stack_is",
    ),
    mutant(
        "a restore takes what a list leaves out for ours, moved or not",
        (
            "refunds_ops.backup.ledger_rebuild:rebuilt_ledger",
            "if name in succeeded and name not in failed",
            "if name not in failed",
        ),
        caught_by="test_a_restore_does_not_take_what_a_list_leaves_out_for_a_refund_that_never_moved",
    ),
    mutant(
        "a restore counts a payment that changes meanwhile",
        (
            "refunds_ops.backup.ledger_rebuild:LedgerRebuild._rebuild",
            "if unreadable or _live_minor(at_gateway) < payment.refunded_minor:",
            "if False:",
        ),
        caught_by="test_what_is_paid_during_a_restore_does_not_hide_a_row_that_cannot_be_read",
    ),
    mutant(
        "a restored approval was never called",
        (
            "refunds_ops.backup.audit_chains:_as_audited",
            'if entry["status"] not in (Status.AWAITING_APPROVAL, Status.REJECTED):',
            "if False:",
        ),
        caught_by="test_a_backup_from_before_the_approval_does_not_forget_that_a_key_was_used",
    ),
    mutant(
        "a dropped message takes its refund with it",
        (
            "refunds_ops.dead_letters:DeadLetters.drop",
            "if (letter.receipt is not None or not resumed) and (begun := self._begun(letter)):",
            "if (begun := None):",
        ),
        caught_by="test_a_dropped_message_leaves_no_refund_that_nobody_comes_back_to",
    ),
    mutant(
        "what is paid there and ended here is not counted",
        (
            "processing.reversal_sweep:ReversalSweep._mark_paid",
            "self._evidence.count_balance(refund, deadline)",
            "pass",
        ),
        caught_by="test_what_is_paid_there_and_ended_here_counts_against_the_payment",
    ),
    mutant(
        "what ended here holds money again in a lost ledger",
        ("processing.balance:Balance._count", "if adopted and not ended:", "if adopted:"),
        caught_by="test_what_ended_here_holds_nothing_in_a_ledger_that_was_lost",
    ),
    mutant(
        "what a lost record held is given back for another payment's",
        (
            "processing.processor:Processor.give_back_unused",
            "refund.transaction_id != request.transaction_id",
            "False",
        ),
        caught_by="test_an_id_of_two_payments_is_not_paid_twice_and_a_person_hears_of_it",
    ),
    mutant(
        "what only the gateway knows is given back for another payment's",
        (
            "processing.processor:Processor.give_back_unused",
            "if held and (adopted or self._reserver.is_shown(request, deadline)):",
            "if False:",
        ),
        caught_by="test_what_only_the_gateway_knows_stays_held_though_its_id_has_another_record",
    ),
    mutant(
        "another payment's record ends what a ledger held",
        (
            "processing.balance:Balance._held_before",
            "refund is None or refund.transaction_id != ledger.transaction_id",
            "refund is None",
        ),
        caught_by="test_a_ledger_that_begins_again_holds_what_is_under_way_though_its_id_has_another_record",
    ),
    mutant(
        "a ledger begun for another refund proves that this one was not paid",
        (
            "processing.processor:Processor._process",
            "if delivery.look_up_first and ledger and not seen:",
            "if False:",
        ),
        caught_by="test_a_ledger_begun_for_another_refund_does_not_hide_that_this_one_was_paid",
    ),
    mutant(
        "what all that is left came to is forgotten with the record",
        (
            "processing.lost_records:continue_chain",
            'refund.amount_minor or details.get("amount_minor")',
            "refund.amount_minor",
        ),
        caught_by="test_what_all_that_is_left_came_to_is_known_after_a_removal",
    ),
    mutant(
        "an id of another payment is rejected",
        (
            "processing.processor:Processor._reject",
            "elif found := self._settler.evidence.look_up(refund, deadline):",
            "elif delivery.look_up_first and ("
            "found := self._settler.evidence.look_up(refund, deadline)):",
        ),
        caught_by="test_an_id_that_another_payment_was_refunded_with_is_not_rejected",
    ),
    mutant(
        "what the bank sent back was never paid",
        ("processing.balance:Balance._count", "for each in every)", "for each in shown)"),
        caught_by="test_a_refund_that_the_bank_sent_back_is_not_paid_again_by_tables_that_forgot",
    ),
    mutant(
        "what the count has just seen is given back",
        (
            "processing.processor:Processor._claim",
            "return self._resume(request, there, deadline, adopted=adopted)",
            "return self._resume(request, there, deadline)",
        ),
        caught_by="test_what_only_the_gateway_knows_stays_held_though_its_list_lags_after_the_count",
    ),
    mutant(
        "what only the look-up shows is given back",
        (
            "processing.processor:Processor.give_back_unused",
            "self._reserver.is_shown(request, deadline)",
            "self._reserver.is_listed(request, deadline)",
        ),
        caught_by="test_what_only_the_look_up_still_shows_stays_held",
    ),
)
