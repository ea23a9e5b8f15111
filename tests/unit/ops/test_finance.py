"""`refunds totals` and `refunds statement`: exact, compared with the gateway, provable."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.builders import shown
from tests.support.command_line import Refunds
from tests.support.counted_calls import counted_calls
from tests.support.finished_refunds import NOW, add
from tests.support.world import World

from refunds.domain.refund import Item, Status
from refunds.gateways.contract import GatewayStatus
from refunds.gateways.routing import Gateways
from refunds_ops.audit import receipts, sources
from refunds_ops.backup.data_files import DamagedError
from refunds_ops.backup.storage import AbsentError
from refunds_ops.commands import audit_show
from refunds_ops.dates import zone_of
from refunds_ops.reconciliation import reconcile
from refunds_ops.totals import DIMENSIONS, totals

SINCE = ("--since", "7d")


@pytest.fixture
def refunded(world: World) -> None:
    add(world, "r1", 1, amount_minor=1000)
    add(world, "r2", 2, amount_minor=2001, transaction_id="p2")
    add(world, "r3", 3, amount_minor=5, currency="JPY", transaction_id="p3")
    add(world, "r4", 4, amount_minor=700, became=Status.FAILED, transaction_id="p4")
    add(world, "r5", 80, amount_minor=9, became=Status.IN_REVIEW, transaction_id="p5")


@pytest.mark.usefixtures("refunded")
def test_totals_are_exact_and_never_mix_currencies(refunds: Refunds) -> None:
    ran = refunds("totals", *SINCE, "--json")
    found = {(row["currency"], row["status"]): row for row in ran.lines}
    assert found["USD", "paid out"]["amount_minor"] == 3001
    assert found["USD", "paid out"]["amount"] == "30.01 USD"
    assert found["JPY", "paid out"]["amount_minor"] == 5
    assert found["USD", "failed"]["count"] == 1
    assert found["USD", "in review"]["amount_minor"] == 9
    assert "As of " in ran.err


@pytest.mark.usefixtures("refunded")
def test_totals_by_day_are_in_the_stacks_zone(refunds: Refunds) -> None:
    rows = refunds("totals", *SINCE, "--by", "day", "--json").lines
    assert sum(row["count"] for row in rows) == 5
    assert {row["day"] for row in rows} >= {f"{(NOW - timedelta(hours=80)):%Y-%m-%d}"} or rows
    table = refunds("totals", *SINCE, "--by", "day,status").out
    assert "█" in table
    assert refunds("totals", *SINCE, "--csv").out.startswith("currency,status,count,amount_minor")


def test_totals_of_nothing(refunds: Refunds) -> None:
    assert refunds("totals").out == "No refunds.\n"
    assert refunds("totals", "--by", "weather").status == 2
    assert refunds("totals", "--csv", "--json").status == 2


REFUNDS = st.lists(
    st.fixed_dictionaries(
        {
            "currency": st.sampled_from(["USD", "JPY", "KWD"]),
            "status": st.sampled_from(list(Status)).map(str),
            "amount_minor": st.one_of(st.none(), st.integers(1, 10**12)),
            "created_at": st.datetimes().map(lambda at: f"{at.isoformat()[:10]}T12:00:00Z"),
        }
    )
)


@given(REFUNDS, st.sets(st.sampled_from(DIMENSIONS)))
def test_every_way_to_sum_gives_the_same_sum(refunds: list[Item], by: set[str]) -> None:
    found = totals(refunds, sorted(by), zone_of(None))
    assert sum(each.count for each in found) == len(refunds)
    for currency in ("USD", "JPY", "KWD"):
        expected = sum(
            each["amount_minor"] or 0 for each in refunds if each["currency"] == currency
        )
        parts = [each for each in found if each.key["currency"] == currency]
        assert sum(each.amount_minor for each in parts) == expected


# --- The statement --------------------------------------------------------------------------------


@pytest.fixture
def gateway(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "gateways", lambda stack: Gateways([world.gateway]))


def rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="") as file:
        yield from csv.DictReader(file)


MONTH = f"{NOW:%Y-%m}"


@pytest.mark.usefixtures("gateway")
def test_a_statement_is_compared_with_the_gateway_and_proves_itself(
    world: World, refunds: Refunds, tmp_path: Path
) -> None:
    add(world, "r1", 0, amount_minor=1000)
    add(world, "r2", 0, amount_minor=2001, transaction_id="p2", user_id="=cmd()")
    add(world, "r3", 0, became=Status.FAILED, transaction_id="p3")
    world.gateway.refunds += [
        shown(refund_id="r1", amount_minor=1000),
        shown(refund_id="other", gateway_refund_id="gw-9"),
    ]
    folder = tmp_path / "november"
    ran = refunds("statement", "--month", MONTH, "--output", str(folder), "--json")
    assert ran.status == 1  # r2 is not at the gateway, gw-9 not here
    assert ran.json["reconciliation"] == {
        "matched": 2,
        "only_here": 1,
        "only_there": 1,
        "different": 0,
    }
    listed = {row["refund_id"]: row for row in rows(folder / "refunds.csv")}
    assert (listed["r2"]["amount"], listed["r2"]["user"]) == ("20.01", "'=cmd()")
    assert not {"attempt_token", "fingerprint", "lease_until"} & listed["r1"].keys()
    sums = [row for row in rows(folder / "totals.csv") if row["status"] == "paid out"]
    assert (sums[0]["amount_minor"], sums[0]["amount"]) == ("3001", "30.01")
    result = {row["refund_id"]: row["result"] for row in rows(folder / "reconciliation.csv")}
    assert result == {"r1": "matched", "r2": "only here", "r3": "matched", "other": "only there"}
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    readme = (folder / "README.txt").read_text()
    assert "sha256sum -c SHA256SUMS" in readme
    assert "The month has not ended: later refunds are missing." in readme
    again = refunds("statement", "--month", MONTH, "--output", str(folder))
    assert (again.status, "not empty" in again.err) == (1, True)


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize("error", [DamagedError("x.gz can't be unpacked"), AbsentError("x.gz")])
def test_a_statement_says_that_the_backup_is_damaged(
    world: World,
    refunds: Refunds,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    add(world, "r1", 0, amount_minor=1000)
    world.gateway.refunds.append(shown(refund_id="r1", amount_minor=1000))
    monkeypatch.setattr(sources, "public_key", lambda stack, file: SimpleNamespace(pem=b"key"))
    monkeypatch.setattr(sources, "digest", lambda storage, number: object())

    def damaged(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(receipts, "make_receipts", damaged)
    folder = tmp_path / "november"
    ran = refunds("statement", "--month", MONTH, "--output", str(folder), "--json")
    assert (ran.status, ran.json["receipts"]) == (1, 0)
    assert "The newest backup can't be read" in ran.err
    assert "refunds backup verify" in ran.err
    assert "Receipts are missing" in (folder / "README.txt").read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"refund_id": "r1"},
        {"refund_id": "../../outside"},
        {"refund_id": None},
        {"entry_hash": ["no hash"]},
    ],
)
def test_a_forged_entry_can_choose_no_receipts_file_and_stop_no_statement(
    world: World,
    refunds: Refunds,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
) -> None:
    for number in (1, 2):
        add(world, f"r{number}", 0, amount_minor=1000, transaction_id=f"p{number}")
    digest = SimpleNamespace(content=b"{}", digest=SimpleNamespace(exports=()))
    monkeypatch.setattr(sources, "public_key", lambda stack, file: SimpleNamespace(pem=b"key"))
    monkeypatch.setattr(sources, "digest", lambda storage, number: digest)
    monkeypatch.setattr(receipts, "signature_of", lambda storage, stored: b"")

    def entries_of(tables: Any, refund_id: str, transaction_id: str) -> list[dict[str, Any]]:
        entry = {
            "refund_id": refund_id,
            "transaction_id": transaction_id,
            "entry_id": f"REFUND#{refund_id}#000001",
            "version": 1,
            "entry_hash": "a" * 64,
        }
        forged = entry | change if refund_id == "r2" else entry
        return [{name: value for name, value in forged.items() if value is not None}]

    monkeypatch.setattr(audit_show, "entries_of", entries_of)
    folder = tmp_path / "there" / "november"
    ran = refunds("statement", "--no-gateway", "--month", MONTH, "--output", str(folder), "--json")
    assert (ran.status, ran.json["receipts"]) == (0, 2)
    assert {path.name for path in tmp_path.rglob("*.receipt.json")} == {
        "r1.receipt.json",
        "r2.receipt.json",
    }
    first = json.loads((folder / "proof" / "r1.receipt.json").read_text())
    assert first["transaction_id"] == "p1"


@pytest.mark.parametrize("month", ["2026-13", "november", "0000-01", "2999-12", "9999-12", "1-1"])
def test_a_month_must_be_one(refunds: Refunds, tmp_path: Path, month: str) -> None:
    ran = refunds("statement", "--month", month, "--output", str(tmp_path / "x"))
    assert ran.status == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("status", "amount", "there", "expected"),
    [
        ("SUCCEEDED", 100, [(GatewayStatus.SUCCEEDED, 100)], ["matched"]),
        ("SUCCEEDED", 100, [(GatewayStatus.SUCCEEDED, 200)], ["different"]),
        ("SUCCEEDED", 100, [(GatewayStatus.FAILED, 100)], ["different"]),
        ("SUCCEEDED", 100, [], ["only here"]),
        ("FAILED", 100, [(GatewayStatus.SUCCEEDED, 100)], ["different"]),
        ("FAILED", 100, [], ["matched"]),
        ("REJECTED", 100, [(GatewayStatus.SUCCEEDED, 100)], ["different"]),
        ("PENDING", 100, [(GatewayStatus.SUCCEEDED, 100)], ["matched"]),
        ("SUCCEEDED", 100, [(GatewayStatus.SUCCEEDED, 100)] * 2, ["matched", "different"]),
    ],
)
def test_reconciliation(status: str, amount: int, there: list[Any], expected: list[str]) -> None:
    ours: Item = {
        "refund_id": "r1",
        "status": status,
        "amount_minor": amount,
        "currency": "USD",
        "gateway": "flair",
    }
    theirs = [
        ("flair", shown(refund_id="r1", status=status_, amount_minor=amount_))
        for status_, amount_ in there
    ]
    found = reconcile({"r1": ours}, theirs, lambda ids: (), look_up=lambda refund: ())
    assert [line.result for line in found] == expected


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([(GatewayStatus.SUCCEEDED, 100)], ["matched"]),
        ([(GatewayStatus.FAILED, 100)], ["different"]),
        ([(GatewayStatus.SUCCEEDED, 100)] * 2, ["matched", "different"]),
        ([], ["only here"]),
    ],
)
def test_a_refund_that_the_gateway_does_not_list_is_looked_up(
    there: list[Any], expected: list[str]
) -> None:
    # Stripe lists no refunds of connected accounts.
    ours: Item = {
        "refund_id": "r1",
        "status": "SUCCEEDED",
        "amount_minor": 100,
        "currency": "USD",
        "gateway": "stripe",
    }
    looked_up = [
        shown(refund_id="r1", status=status, amount_minor=amount) for status, amount in there
    ]
    found = reconcile({"r1": ours}, [], lambda ids: (), look_up=lambda refund: looked_up)
    assert [line.result for line in found] == expected


def test_a_refund_of_another_month_is_not_only_there() -> None:
    theirs = [("flair", shown(refund_id="march"))]
    lines = reconcile({}, theirs, lambda ids: {"march"} & {*ids}, lambda refund: ())
    assert list(lines) == []


@pytest.mark.usefixtures("gateway")
def test_refunds_of_other_months_are_looked_up_together(
    world: World, refunds: Refunds, tmp_path: Path
) -> None:
    """The list has all refunds since the month: for an old month most of them."""
    for number in range(12):
        add(world, f"later-{number}", 40)
        world.gateway.refunds.append(shown(refund_id=f"later-{number}", amount_minor=100))
    world.gateway.refunds.append(shown(refund_id="nobody's", amount_minor=100))
    folder = str(tmp_path / "january")
    with counted_calls() as calls:
        ran = refunds("statement", "--month", "2020-01", "--output", folder, "--json")
    assert ran.json["reconciliation"] == {
        "matched": 0,
        "only_here": 0,
        "only_there": 1,
        "different": 0,
    }
    assert (calls["BatchGetItem"], calls["GetItem"]) == (1, 0)
