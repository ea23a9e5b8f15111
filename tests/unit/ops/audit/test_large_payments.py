"""A payment of thousands of refunds: no check reads or goes through all of them for each."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.client import BaseClient
from tests.support.audit_rows import Trail

from refunds_ops.audit.rebuild import Candidate, payments_in


def test_a_suspect_parses_only_its_own_part_of_the_ledger(
    trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail.edit_ledger("p1", **{f"r#other-{number}": 0 for number in range(50)})
    received: list[dict[str, Any]] = []
    real = BaseClient._make_api_call  # type: ignore[attr-defined]

    def receive(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        answer = real(client, operation, parameters)
        if parameters.get("TableName") == trail.stack.ledger_table:
            received.append(answer["Item"])
        return answer

    monkeypatch.setattr(BaseClient, "_make_api_call", receive)
    read = trail.tables().read("r1", {"p1"})
    assert [{*item} for item in received] == [
        {"transaction_id", "captured", "remaining", "currency", "r#r1"}
    ]
    assert read.story.held == {"p1": 2500}
    assert read.story.ledger is not None
    assert read.story.ledger.captured == 10**8


def test_a_payment_without_a_ledger_holds_nothing(trail: Trail) -> None:
    row, held = trail.tables().reservation_of("p9", "r1")
    assert (row.captured, row.problem, held) == (None, None, None)


def test_lost_refunds_find_their_payments_in_one_pass() -> None:
    seen = {
        (f"r{number}", version): [Candidate({"transaction_id": f"p{number}"}, "audit/x")]
        for number in range(3)
        for version in (1, 2)
    }
    assert payments_in(seen) == {"r0": {"p0"}, "r1": {"p1"}, "r2": {"p2"}}
