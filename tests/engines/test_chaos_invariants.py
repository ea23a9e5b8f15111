"""The chaos run's own checks notice what they are there for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
import urllib3
from tests.chaos.aws_errors import ERRORS, ErrorProxy
from tests.chaos.invariants import compare, compare_alarms
from tests.support.engines.worker import wrong_clock

from refunds.domain.clock import SystemClock

REFUND = {"refund_id": "r", "status": "SUCCEEDED", "version": 2}
MOVEMENT = {"reference": "r", "transaction_id": "p", "amount": 100}
ENTRIES = [{"refund_id": "r"}, {"refund_id": "r"}]


def found(**changes: Any) -> list[str]:
    rows: Any = {"refunds": [REFUND], "entries": ENTRIES, "movements": [MOVEMENT]} | changes
    return [each.split()[0] for each in compare({"r": "p"}, 150, **rows)]


def test_a_run_that_went_well_has_no_violation() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "invariants"),
    [
        ({"movements": [MOVEMENT, MOVEMENT]}, ["I1", "I2"]),
        ({"movements": [MOVEMENT | {"amount": 151}]}, ["I2"]),
        ({"refunds": [], "entries": []}, ["I3"]),
        ({"refunds": [REFUND | {"status": "PROCESSING"}]}, ["I3"]),
        ({"movements": []}, ["I6"]),
        ({"refunds": [REFUND | {"status": "FAILED"}]}, ["I6"]),
        ({"entries": ENTRIES[:1]}, ["I4"]),
        ({"entries": [*ENTRIES, ENTRIES[0]]}, ["I4"]),
    ],
)
def test_each_violation_is_named(changes: Any, invariants: list[str]) -> None:
    assert found(**changes) == invariants


RAN = {
    "ReconcilerRuns": [1.0],
    "RefundsInReview": [0.0],
    "OldestOpenRefundAgeSeconds": [0.0],
    "OldestReviewAgeSeconds": [0.0],
}


def test_an_alarm_that_is_missing_or_for_nothing_is_named() -> None:
    reviewed = RAN | {"RefundsInReview": [2.0]}
    assert compare_alarms(RAN, in_review=0) == []
    assert compare_alarms(reviewed, in_review=2) == []
    assert compare_alarms(RAN, in_review=1) == ["I9 RefundsToReview is not on"]
    assert compare_alarms(reviewed, in_review=0) == [
        "I9 RefundsToReview is on, and nothing is wrong"
    ]
    assert compare_alarms({}, in_review=0) == ["I9 the reconciler reported no run"]


class Sent:
    """An engine that counts what reaches it."""

    def __init__(self) -> None:
        self.proxy = ErrorProxy("DYNAMODB", "")
        self.reached: list[tuple[str, bytes]] = []
        self.proxy._http = self  # type: ignore[assignment]

    def request(self, method: str, url: str, *, body: bytes, **_: Any) -> urllib3.HTTPResponse:
        self.reached.append((f"{method} {url}", body))
        headers = {"X-From": "engine", "Content-Length": "4"}
        return urllib3.HTTPResponse(b"done", headers, status=200, preload_content=True)

    def put(self) -> urllib3.BaseHTTPResponse:
        return urllib3.request("POST", f"{self.proxy.url}/x", body=b"item", retries=False)


@pytest.fixture
def sent() -> Iterator[Sent]:
    engine = Sent()
    yield engine
    engine.proxy.close()


def test_an_error_proxy_passes_everything_on(sent: Sent) -> None:
    answer = sent.put()
    assert (answer.status, answer.data, answer.headers["X-From"]) == (200, b"done", "engine")
    assert sent.reached == [("POST /x", b"item")]


@pytest.mark.parametrize("seed", range(12))
def test_an_error_proxy_refuses_or_loses_the_answer_until_it_is_mended(
    sent: Sent, seed: int
) -> None:
    done = sent.proxy.fail(Random(seed))
    answer = sent.put()
    assert answer.status in {status for status, _ in ERRORS["DYNAMODB"].values()}
    assert len(sent.reached) == ("nevertheless" in done)
    sent.proxy.mend()
    assert sent.put().status == 200


def test_both_kinds_of_error_come() -> None:
    proxy = ErrorProxy("DYNAMODB", "")
    kinds = {proxy.fail(Random(seed)) for seed in range(60)}
    proxy.close()
    assert kinds > {"DYNAMODB throttled", "DYNAMODB 500", "DYNAMODB 500, done nevertheless"}


def test_a_wrong_clock_jumps_and_is_right_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SystemClock, "now", SystemClock.now)
    file = tmp_path / "clock"
    wrong_clock(file)
    clock = SystemClock()
    for seconds in (0, -90, 90):
        file.write_text(str(seconds))
        wrong_by = clock.now() - datetime.now(UTC) - timedelta(seconds=seconds)
        assert abs(wrong_by) < timedelta(seconds=5)
    file.unlink()
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
