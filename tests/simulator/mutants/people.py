"""Faults in what people decide, and in the automatic stop. Scripted histories catch each."""

from __future__ import annotations

from functools import partial

from tests.simulator.mutation import mutant
from tests.simulator.scripts import run_scripted

people_mutant = partial(mutant, play=run_scripted)

MUTANTS = (
    people_mutant(
        "the second person may be the first",
        (
            "processing.review:Reviewer._check_another",
            'if who.is_any_of(proposal["by"]):',
            "if False:",
        ),
    ),
    people_mutant(
        "another role is another person",
        (
            "domain.identity:Identity.is_any_of",
            "or same_person(self.arn, name) or same_person(self.user_id, name)",
            "",
        ),
    ),
    people_mutant(
        "a resend takes the message's word for who sent it",
        (
            "refunds_ops.dead_letters:DeadLetter.sent_by",
            "all_senders(self.attributes.get(FIRST_SENT_BY), self.sender_id)",
            "(self.attributes.get(FIRST_SENT_BY) or self.sender_id)",
        ),
    ),
    people_mutant(
        "a long first sender pushes the real one out",
        (
            "processing.deferral:all_senders",
            "text[-MAX_SENDERS_BYTES:]",
            "text[:MAX_SENDERS_BYTES]",
        ),
    ),
    people_mutant(
        "a refused request forgets who sent it",
        (
            "processing.queue:RefundQueue._refuse",
            "if sent_by := first_sent_by(record):",
            "if sent_by := None:",
        ),
    ),
    people_mutant(
        "one person decides whatever the amount",
        (
            "processing.review:Reviewer._needs_two",
            "return refund.amount_minor is None or refund.amount_minor > above_minor",
            "return False",
        ),
    ),
    people_mutant(
        "what is above the level goes out all the same",
        (
            "breaker.kill_switch:KillSwitch.__call__",
            'raise StoppedError(f"requests are stopped: {after.paused_why}")',
            "return",
        ),
    ),
    people_mutant(
        "the automatic stop pauses nothing",
        (
            "domain.intake:stop_intake",
            "pause_intake(replace(intake, stops={**intake.stops, currency: stop}), by, why, now)",
            "replace(intake, stops={**intake.stops, currency: stop})",
        ),
    ),
    people_mutant(
        "the resume of a person's pause raises a level",
        ("domain.intake:stop_intake", "if intake.paused and not _is_stopped(intake):", "if False:"),
    ),
    people_mutant(
        "a stop outlasts the message of what is reserved",
        ("processing.processor:Processor._admit", "if not message_goes:", "if True:"),
    ),
    people_mutant(
        "a pause is forgotten with the table that has it",
        ("breaker.queue_mapping:IntakeKeeper.keep", "self._keep_stopped()", "pass"),
    ),
    people_mutant(
        "a resume raises no level",
        (
            "domain.intake:_raise_level",
            "if not _is_above(stop):",
            "if True:",
        ),
    ),
    people_mutant(
        "a resume ends the stop for the whole day",
        (
            "domain.intake:_raise_level",
            'int(stop["total_minor"]) + int(stop["step_minor"])',
            "10**12",
        ),
    ),
    people_mutant(
        "a request that is stopped is dropped",
        (
            "processing.processor:Processor.process",
            "return Later(str(exc), STOPPED_SECONDS)",
            'raise RefusedError(ErrorCode.INVALID_FIELD, "stopped")',
        ),
    ),
)
