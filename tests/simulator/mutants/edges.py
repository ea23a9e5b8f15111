"""Faults at the edges of the protocol. The scripted histories have to catch each."""

from __future__ import annotations

from tests.simulator.mutation import mutant

MUTANTS = (
    mutant(
        "a new ledger is begun without a look",
        (
            "processing.reserver:Reserver._from_gateway",
            "if payment.refunded_minor or look_up_first:",
            "if False:",
        ),
        (
            "processing.processor:Processor._process",
            "ask_first = seen or delivery.look_up_first",
            "ask_first = False",
        ),
        caught_by="test_a_batch_that_has_read_no_ledger_looks_first_once_another_has_begun_it",
    ),
    mutant(
        "a new stack calls unasked",
        (
            "tables.state:Control.look_up_first",
            "return rfc3339(now) < until",
            "return False",
        ),
        caught_by="test_a_ledger_that_was_lost_alone_holds_what_is_under_way",
    ),
    mutant(
        "a resent message is like any other",
        (
            "processing.processor:Processor._process",
            "ask_first = seen or delivery.look_up_first",
            "ask_first = False",
        ),
        caught_by="test_a_batch_that_has_read_no_ledger_looks_first_once_another_has_begun_it",
    ),
    mutant(
        "what the trail says of a lost record is ignored",
        (
            "processing.processor:Processor._claim",
            "if (known := self._lost.rebuilt(request, last)) is not None:",
            "if (known := None) is not None:",
        ),
        caught_by="test_a_refund_that_ended_and_lost_its_record_is_never_claimed_again",
    ),
    mutant(
        "a key is as young as its lost record's successor",
        (
            "processing.lost_records:LostRecords.rebuilt",
            "key_used_at=recorded.created_at,",
            "key_used_at=rfc3339(self._clock.now()),",
        ),
        caught_by="test_the_first_use_of_a_key_is_known_from_the_trail",
    ),
    mutant(
        "without a stage every reference is a refund's id",
        (
            "gateways.contract:Stage.refund_id",
            'refund_id = (reference or "").rpartition(".")[2]',
            'refund_id = (reference or "") if not self.name else str(reference).rpartition(".")[2]',
        ),
        caught_by="test_what_began_in_a_stage_that_was_taken_away_is_found_when_the_bank_sends_it_back",
    ),
    mutant(
        "today's stage makes the key",
        (
            "processing.settler:_order",
            "reference=refund.reference,",
            'reference=refund.reference if refund.called_at is None else "green.r1",',
        ),
        caught_by="test_what_a_list_does_not_show_is_not_taken_for_a_reservation_that_never_moved",
    ),
    mutant(
        "refunds of our other stages are others'",
        (
            "processing.balance:Balance._of_other_stages",
            "and refund.reference == reference",
            "and False",
        ),
        caught_by="test_a_refund_of_another_stage_of_ours_counts_once",
    ),
    mutant(
        "another account is called",
        (
            "gateways.routing:Gateways.named",
            "if account not in (None, gateway.account):",
            "if False:",
        ),
        caught_by="test_another_account_is_reported_and_never_called",
    ),
    mutant(
        "a decline is trusted though a call may arrive",
        ("processing.settler:Settler._after_decline", "self._may_arrive(unanswered)", "False"),
        caught_by="test_a_decline_counts_only_when_no_earlier_call_can_arrive",
    ),
    mutant(
        "a decline is trusted though the gateway shows a pending refund",
        (
            "processing.settler:Settler._after_decline",
            "if found:",
            "if found and found[0].status is not GatewayStatus.PENDING:",
        ),
        caught_by="test_a_decline_of_a_repeated_call_is_nothing_beside_a_pending_refund",
    ),
    mutant(
        "a double is not counted",
        (
            "processing.balance:Balance._moved_unreserved",
            "moved_minor = others + excess",
            "moved_minor = others",
        ),
        caught_by="test_what_a_gateway_doubled_is_nobody_elses_to_refund",
    ),
    mutant(
        "a count trusts a sum that changed meanwhile",
        (
            "processing.balance:Balance._count",
            "if unreadable or unlisted_minor:",
            "if False:",
        ),
        caught_by="test_what_is_paid_during_a_count_does_not_hide_a_row_that_cannot_be_read",
    ),
    mutant(
        "the rest is what the ledger says",
        (
            "processing.reserver:Reserver._from_ledger",
            "if not _depends_on_balance(request):",
            "if True:",
        ),
        caught_by="test_what_a_list_does_not_show_is_not_taken_for_a_reservation_that_never_moved",
    ),
    mutant(
        "the sender's expectation is not compared",
        (
            "processing.reserver:_amount_of",
            "if expected is not None and expected != left_minor:",
            "if False:",
        ),
        caught_by="test_a_sender_that_is_wrong_about_what_is_left_is_told",
    ),
    mutant(
        "a payment that is not ready is rejected at once",
        (
            "processing.processor:Processor._may_pass",
            "return self._clock.now() - delivery.sent_at < self._not_ready_for",
            "return False",
        ),
        caught_by="test_a_payment_that_is_not_ready_is_waited_for_and_not_for_ever",
    ),
    mutant(
        "a payment that is not ready is waited for without end",
        (
            "processing.processor:Processor._may_pass",
            "return self._clock.now() - delivery.sent_at < self._not_ready_for",
            "return True",
        ),
        caught_by="test_what_may_have_been_paid_before_its_removal_is_for_a_person_not_rejected",
    ),
    mutant(
        "a day unseen counts from the beginning",
        (
            "processing.settler:Settler._not_shown",
            "refund.shown_at or refund.open_since",
            "refund.open_since",
        ),
        caught_by="test_one_empty_look_up_sends_nobody_to_a_person",
    ),
    mutant(
        "a review that the gateway has answered stays",
        (
            "processing.open_refunds:OpenRefunds._next_step_in_review",
            "refund.failure_code in MAY_BE_SHOWN_LATER",
            "False",
        ),
        caught_by="test_the_gateway_is_asked_less_often_and_its_answer_still_counts",
    ),
    mutant(
        "an old review is asked about as often as a new one",
        (
            "processing.open_refunds:_is_time_to_ask",
            "return since_asked >= min(",
            "return True or min(",
        ),
        caught_by="test_the_gateway_is_asked_less_often_and_its_answer_still_counts",
    ),
    mutant(
        "a review is asked about once",
        (
            "processing.open_refunds:_is_time_to_ask",
            "return since_asked >= min(",
            "return False and min(",
        ),
        caught_by="test_the_gateway_is_asked_less_often_and_its_answer_still_counts",
    ),
    mutant(
        "a failed attempt to ask about a review counts as an answer",
        (
            "processing.open_refunds:OpenRefunds._put_off",
            "self._settler.recorder.recheck(refund)",
            "self._settler.recorder.recheck(refund, asked_at=rfc3339(self._clock.now()))",
        ),
        caught_by="test_a_day_of_outage_costs_a_review_an_hour_and_not_a_turn",
    ),
    mutant(
        "a clock ahead silences the questions about a review",
        (
            "processing.open_refunds:_is_time_to_ask",
            "if since_asked < -CLOCK_SKEW:",
            "if False:",
        ),
        caught_by="test_a_clock_that_was_days_ahead_does_not_silence_the_questions",
    ),
    mutant(
        "a webhook of a review asks nobody",
        (
            "processing.reconciler:Reconciler.look_at",
            "if refund.status is Status.IN_REVIEW:",
            "if False:",
        ),
        caught_by="test_a_webhook_asks_at_once",
    ),
    mutant(
        "a message at the end of its time is like any other",
        (
            "processing.processor:Processor._claim",
            "if delivery.is_old(self._clock.now()):",
            "if False:",
        ),
        caught_by="test_a_message_at_the_end_of_its_time_is_found_after_a_crash",
    ),
    mutant(
        "a reservation leaves with its message",
        (
            "processing.dead_letters:DeadLetterArchiver._keep_open",
            "refund = self._processor.resume_reserved(request, deadline)",
            "refund = None",
        ),
        caught_by="test_a_dropped_message_leaves_no_refund_that_nobody_comes_back_to",
    ),
    mutant(
        "a failed refund leaves the index before its money is back",
        (
            "processing.recorder:Recorder.finish",
            "closes = to is Status.SUCCEEDED and not corrects",
            "closes = to in (Status.SUCCEEDED, Status.FAILED)",
        ),
        caught_by="test_a_late_release_that_dies_takes_nothing_from_a_correction",
    ),
    mutant(
        "what is paid at the gateway and failed here is overlooked",
        (
            "processing.reversal_sweep:ReversalSweep._mark_paid",
            "return self._paid.mark(refund)",
            "return False",
        ),
        caught_by="test_what_is_paid_there_and_ended_here_counts_though_whoever_found_it_died",
    ),
)
