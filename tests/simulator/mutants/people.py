"""Faults in what people decide, and in the automatic stop. Scripted histories catch each."""

from __future__ import annotations

from tests.simulator.mutation import mutant

MUTANTS = (
    mutant(
        "a decision against the gateway is never corrected when amounts differ",
        (
            "processing.review:Reviewer.correct",
            "if not _undoes_a_decision(refund, live):",
            "if True:",
        ),
        caught_by="test_a_decision_against_the_gateway_can_be_corrected_though_the_amounts_differ",
    ),
    mutant(
        "the second person may be the first",
        (
            "processing.review:Reviewer._check_another",
            'if who.is_any_of(proposal["by"]):',
            "if False:",
        ),
        caught_by="test_one_person_only_proposes_and_another_ends_it",
    ),
    mutant(
        "another role is another person",
        (
            "domain.identity:Identity.is_any_of",
            "or same_person(self.arn, name) or same_person(self.user_id, name)",
            "",
        ),
        caught_by="test_who_sent_a_request_is_known_after_a_resend",
    ),
    mutant(
        "a resend takes the message's word for who sent it",
        (
            "refunds_ops.dead_letters:DeadLetter.sent_by",
            "all_senders(self.attributes.get(FIRST_SENT_BY), self.sender_id)",
            "(self.attributes.get(FIRST_SENT_BY) or self.sender_id)",
        ),
        caught_by="test_who_sent_a_request_is_known_after_a_resend",
    ),
    mutant(
        "a long first sender pushes the real one out",
        (
            "processing.deferral:all_senders",
            "text[-MAX_SENDERS_BYTES:]",
            "text[:MAX_SENDERS_BYTES]",
        ),
        caught_by="test_who_sent_a_request_is_known_after_a_resend",
    ),
    mutant(
        "a refused request forgets who sent it",
        (
            "processing.queue:RefundQueue._refuse",
            "if sent_by := first_sent_by(record):",
            "if sent_by := None:",
        ),
        caught_by="test_who_sent_a_refused_request_is_known_after_a_resend",
    ),
    mutant(
        "one person decides whatever the amount",
        (
            "processing.review:Reviewer._needs_two",
            "return refund.amount_minor is None or refund.amount_minor > above_minor",
            "return False",
        ),
        caught_by="test_one_person_only_proposes_and_another_ends_it",
    ),
    mutant(
        "what is above the level goes out all the same",
        (
            "breaker.kill_switch:KillSwitch.__call__",
            'raise StoppedError(f"requests are stopped: {after.paused_why}")',
            "return",
        ),
        caught_by="test_requests_stop_at_the_level_and_go_on_after_a_resume",
    ),
    mutant(
        "the automatic stop pauses nothing",
        (
            "domain.intake:stop_intake",
            "pause_intake(replace(intake, stops={**intake.stops, currency: stop}), by, why, now)",
            "replace(intake, stops={**intake.stops, currency: stop})",
        ),
        caught_by="test_requests_stop_at_the_level_and_go_on_after_a_resume",
    ),
    mutant(
        "the resume of a person's pause raises a level",
        ("domain.intake:stop_intake", "if intake.paused and not _is_stopped(intake):", "if False:"),
        caught_by="test_the_resume_of_a_persons_pause_raises_no_level",
    ),
    mutant(
        "a stop outlasts the message of what is reserved",
        ("processing.processor:Processor._admit", "if not message_goes:", "if True:"),
        caught_by="test_a_request_that_is_stopped_for_longer_than_its_message_lives_waits_for_a_person",
    ),
    mutant(
        "a pause is forgotten with the table that has it",
        ("breaker.queue_mapping:IntakeKeeper.keep", "self._keep_stopped()", "pass"),
        caught_by="test_a_pause_outlives_the_table_that_has_it",
    ),
    mutant(
        "a resume raises no level",
        (
            "domain.intake:_raise_level",
            "if not _is_above(stop):",
            "if True:",
        ),
        caught_by="test_requests_stop_at_the_level_and_go_on_after_a_resume",
    ),
    mutant(
        "a resume ends the stop for the whole day",
        (
            "domain.intake:_raise_level",
            'int(stop["total_minor"]) + int(stop["step_minor"])',
            "10**12",
        ),
        caught_by="test_it_stops_again_a_step_above_the_total_and_not_before",
    ),
    mutant(
        "a request that is stopped is dropped",
        (
            "processing.processor:Processor.process",
            "return Later(str(exc), STOPPED_SECONDS)",
            'raise RefusedError(ErrorCode.INVALID_FIELD, "stopped")',
        ),
        caught_by="test_requests_stop_at_the_level_and_go_on_after_a_resume",
    ),
)
