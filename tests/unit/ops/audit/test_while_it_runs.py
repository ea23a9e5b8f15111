"""What is written while `verify` runs, or is on its way through the stream, is no finding."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import Mock, patch

import pytest
from tests.support.audit_rows import Trail, named, verify_while

from refunds.domain.refund import Status
from refunds_ops.audit.cross_check import CrossCheck
from refunds_ops.audit.verify import Verification


@pytest.mark.parametrize("moment", ["refunds", "ledger", "audit", "chains"])
def test_a_refund_made_meanwhile(trail: Trail, moment: str) -> None:
    def between(name: str) -> None:
        if name == moment:
            trail.paid("r5", "p1", 700)
            trail.finish(trail.refunds.get("r3"), Status.REVERSED, failure_code="x")  # type: ignore[arg-type]
            trail.deliver()

    assert verify_while(trail, between).findings == []


def test_an_entry_that_is_some_seconds_late(trail: Trail) -> None:
    trail.paid("r5", "p1", 700)

    def sleep(seconds: float) -> None:
        trail.clock.advance(seconds=seconds)
        trail.deliver()

    report = Verification(
        trail.tables(),
        clock=trail.clock,
        progress=lambda name, pages, about: iter(pages),
        sleep=sleep,
    ).run()
    assert report.findings == []


def test_a_first_entry_that_comes_after_the_second(trail: Trail) -> None:
    trail.paid("r5", "p1", 700)
    first, second = trail.stream.records[trail.delivered :]
    trail.deliver([second])

    def sleep(seconds: float) -> None:
        trail.clock.advance(seconds=seconds)
        trail.deliver([first])

    report = Verification(
        trail.tables(),
        clock=trail.clock,
        progress=lambda name, pages, about: iter(pages),
        sleep=sleep,
    ).run()
    assert report.findings == []


def test_an_entry_that_never_comes_is_a_gap(trail: Trail) -> None:
    begun = trail.begin("r5", "p1", 700)
    trail.deliver()
    trail.finish(begun, Status.SUCCEEDED)
    began = trail.clock.now()
    assert named(trail.verify().findings) == {("gap", "r5", 2)}
    assert trail.clock.now() - began < timedelta(minutes=2)


def test_money_that_is_on_its_way_back(trail: Trail) -> None:
    there = trail.finish(trail.begin("r5", "p1", 700), Status.PENDING)
    at = there.updated_at
    trail.edit_refund("r5", open_since=at, open_shard="0", check_at=at)
    trail.deliver()
    stored = trail.refunds.get("r5")
    assert stored is not None
    # Recorded as failed, and the process died before the release.
    release = trail.ledger.release
    trail.ledger.release = lambda *_, **more: False  # type: ignore[method-assign]
    trail.finish(stored, Status.FAILED, failure_code="declined")
    trail.ledger.release = release  # type: ignore[method-assign]
    trail.deliver()
    assert trail.verify().findings == []
    trail.clock.advance(hours=2)
    assert named(trail.verify().findings) == {("reservation_left", "r5", 3)}


def test_money_held_between_reserving_and_claiming(trail: Trail) -> None:
    assert trail.ledger.reserve("p1", "r5", 700)

    def claim(seconds: float) -> None:
        trail.clock.advance(seconds=seconds)
        if trail.refunds.get("r5") is None:
            trail.ledger.reserve = lambda *_: True  # type: ignore[method-assign]
            trail.begin("r5", "p1", 700)
            trail.deliver()

    report = Verification(
        trail.tables(),
        clock=trail.clock,
        progress=lambda name, pages, about: iter(pages),
        sleep=claim,
    ).run()
    assert report.findings == []


def test_no_more_than_asked_for_is_read(trail: Trail) -> None:
    for number in range(6):
        trail.paid(f"many-{number}", "p1", 1)
    trail.clock.advance(hours=1)
    report = trail.verify(max_findings=3)
    assert len(report.findings) == 3
    assert report.more
    assert not report.clean


def test_whoever_waits_for_an_entry_stops_when_the_run_ends(trail: Trail) -> None:
    trail.paid("r5", "p1", 700)
    check = CrossCheck(trail.tables(), clock=trail.clock)  # It would wait for a minute.
    with check:
        pass
    reads = Mock(wraps=check._unmoving)
    with patch.object(check, "_unmoving", reads):
        check.settled("r5", {"p1"})
    assert reads.call_count == 1
