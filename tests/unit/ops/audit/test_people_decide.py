"""Versions that keep the status, which people make: `verify` takes them for what they are."""

from __future__ import annotations

from dataclasses import replace

from tests.support.audit_rows import Trail, named
from tests.support.builders import person
from tests.support.tampering import change

from refunds.domain.audit_entry import audit_entry
from refunds.domain.clock import rfc3339
from refunds.domain.refund import Refund, Status, approved_version, proposed_version

ADA = person("ada").arn


def before_of(there: Refund) -> dict[str, str]:
    return {"by": ADA, "previous_hash": audit_entry(there.item())["entry_hash"]}


def proposed(trail: Trail) -> None:
    there = trail.finish(trail.begin("r8", "p4", 700), Status.IN_REVIEW)
    new = proposed_version(
        there,
        {"by": ADA, "decision": "paid"},
        at=rfc3339(trail.clock.now()),
        **before_of(there),
    )
    assert trail.refunds.save(there, new)
    trail.deliver()
    trail.clock.advance(hours=1)


def test_a_proposed_decision_is_no_finding(trail: Trail) -> None:
    proposed(trail)
    assert trail.entry("r8", 3)["event"] == "refund.decision_proposed"
    assert [str(each) for each in trail.verify().findings] == []


def test_a_proposal_that_changes_the_status_is_one(trail: Trail) -> None:
    proposed(trail)
    change(trail, "r8", 3, hash_too=True, status="SUCCEEDED", outcome="Refund Successful")
    assert ("transition", "r8", 3) in named(trail.verify().findings)


def test_the_first_of_two_approvals_is_no_finding(trail: Trail) -> None:
    begun = trail.begin("r9", "p4", 700, status=Status.AWAITING_APPROVAL)
    new = approved_version(
        begun,
        ({"decision": "approved", "by": ADA},),
        at=rfc3339(trail.clock.now()),
        **before_of(begun),
    )
    assert trail.refunds.save(begun, replace(new))
    trail.deliver()
    trail.clock.advance(hours=1)
    assert [str(each) for each in trail.verify().findings] == []
