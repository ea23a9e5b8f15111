"""`refunds request --file`: all rows checked first, sent once, followed to their end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.builders import payment, refund, request
from tests.support.command_line import Refunds
from tests.support.world import World

from refunds.domain.refund import Status
from refunds.gateways.contract import PaymentStatus
from refunds.gateways.routing import Gateways
from refunds_ops import bulk
from refunds_ops.audit import sources
from refunds_ops.commands import bulk_request
from refunds_ops.errors import CommandError

HEADING = "transaction_id,user_id,amount,currency,reason,metadata.order\n"
ROWS = "pay_1,ada,25.00,USD,other,A-1\npay_2,bob,,JPY,duplicate,\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "refunds.csv"
    path.write_text(HEADING + ROWS)
    return path


def sent(world: World) -> list[Any]:
    return [json.loads(each["Body"]) for each in world.stack.messages(world.stack.queue_url)]


def results(file: Path) -> dict[str, str]:
    lines = Path(f"{file}.results.jsonl").read_text().splitlines()
    return {row["refund_id"]: row["status"] for row in map(json.loads, lines)}


def test_a_csv_becomes_requests(world: World, refunds: Refunds, file: Path) -> None:
    ran = refunds("request", "--file", str(file), "--requested-by", "agent:x", "--yes")
    assert (ran.status, ran.out.splitlines()[0]) == (0, "2 sent")
    assert "1 in USD: 25.00 USD" in ran.err
    assert "1 in JPY: all that is left" in ran.err
    messages = sorted(sent(world), key=lambda each: each["transaction_id"])
    ids = [each.pop("refund_id") for each in messages]
    assert ids[0] != ids[1]
    assert messages == [
        {
            "transaction_id": "pay_1",
            "user_id": "ada",
            "amount_minor": 2500,
            "currency": "USD",
            "reason": "other",
            "metadata": {"order": "A-1"},
            "requested_by": "agent:x",
        },
        {
            "transaction_id": "pay_2",
            "user_id": "bob",
            "currency": "JPY",
            "reason": "duplicate",
            "requested_by": "agent:x",
        },
    ]


def test_the_same_file_again_is_the_same_requests(
    world: World, refunds: Refunds, file: Path
) -> None:
    assert refunds("request", "--file", str(file), "--yes").status == 0
    first = {each["refund_id"] for each in sent(world)}
    assert refunds("request", "--file", str(file), "--yes").status == 0
    assert sent(world) == []  # the result file knows that they were sent
    Path(f"{file}.results.jsonl").unlink()
    assert refunds("request", "--file", str(file), "--yes", "--requested-by", "sam").status == 0
    assert {each["refund_id"] for each in sent(world)} == first


def test_what_was_not_sent_is_sent_by_the_next_call(
    world: World, refunds: Refunds, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bulk._send_batch

    def fails(stack: Any, batch: Any) -> list[bulk.Result]:
        done = real(stack, batch[:1])
        lost = batch[1].request
        return [*done, bulk.Result(3, lost.refund_id, "failed to be sent", "throttled")]

    monkeypatch.setattr(bulk, "_send_batch", fails)
    assert refunds("request", "--file", str(file), "--yes").status == 3
    assert len(sent(world)) == 1
    monkeypatch.setattr(bulk, "_send_batch", real)
    assert refunds("request", "--file", str(file), "--yes").status == 0
    assert [each["transaction_id"] for each in sent(world)] == ["pay_2"]
    assert set(results(file).values()) == {"sent"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (HEADING + ROWS + "pay_3,ada,1.234,USD,other,\n", "Row 4: USD has 2 decimals"),
        (HEADING + ROWS + "pay_3,ada,1,usd,other,\n", "Row 4"),
        (HEADING + ROWS + "pay 3,ada,1,USD,other,\n", "Row 4: transaction_id"),
        (HEADING + ROWS + "pay_3,ada\n", "Row 4: has 2 columns"),
        ("nonsense\n1\n", "Unknown or repeated columns: nonsense"),
        ("", "no rows"),
        (HEADING, "no rows"),
        ('{"transaction_id": "p"}\n{"x"\n', "Row 2: is not JSON"),
    ],
)
def test_one_wrong_row_sends_nothing(
    world: World, refunds: Refunds, file: Path, content: str, said: str
) -> None:
    file.write_text(content)
    ran = refunds("request", "--file", str(file), "--yes")
    assert (ran.status, said in ran.err) == (1, True), ran.err
    assert sent(world) == []


def test_suspicious_rows_are_pointed_out(refunds: Refunds, file: Path) -> None:
    file.write_text(HEADING + ROWS + "pay_1,ada,25.00,USD,other,A-1\npay_9,ada,900,USD,other,\n")
    ran = refunds("request", "--file", str(file), "--dry-run", "--warn-above", "500")
    assert ran.status == 0
    assert "rows 2, 4 are the same request" in ran.err
    assert "payment pay_1 is refunded 2 times" in ran.err
    assert "row 5 asks for 900.00 USD" in ran.err


@pytest.mark.parametrize(
    ("changes", "row", "finding"),
    [
        ({}, "payment-1,ada,25.00,USD,other,", None),
        ({}, "payment-1,ada,,USD,other,", None),
        ({}, "payment-9,ada,1.00,USD,other,", "payment payment-9 is not known to flair"),
        ({}, "payment-1,ada,1.00,EUR,other,", "payment payment-1 is in USD"),
        (
            {"refunded_minor": 8000},
            "payment-1,ada,25.00,USD,other,",
            "payment payment-1 has 20.00 USD left, 25.00 USD is asked for",
        ),
        (
            {"refunded_minor": 10_000},
            "payment-1,ada,,USD,other,",
            "payment payment-1 has nothing left to refund",
        ),
        (
            {"status": PaymentStatus.AUTHORIZED, "captured_minor": 0},
            "payment-1,ada,1.00,USD,other,",
            "payment payment-1 is authorized, not captured",
        ),
    ],
)
def test_payments_are_looked_up_before_anything_is_sent(  # noqa: PLR0913, PLR0917 - fixtures
    world: World,
    refunds: Refunds,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    row: str,
    finding: str | None,
) -> None:
    monkeypatch.setattr(sources, "gateways", lambda stack: Gateways([world.gateway]))
    world.gateway.payments["payment-1"] = payment(**changes)
    file.write_text(f"{HEADING}{row}\n")
    ran = refunds("request", "--file", str(file), "--check-payments", "--dry-run")
    looks = [line for line in ran.err.splitlines() if "  look: " in line]
    assert (ran.status, looks) == (0, [f"  look: {finding}"] if finding else [])
    assert sent(world) == []


def test_rows_of_one_payment_are_added_up_and_one_request_counts_once(
    world: World, refunds: Refunds, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "gateways", lambda stack: Gateways([world.gateway]))
    row = "payment-1,ada,60.00,USD,other,"
    file.write_text(f"{HEADING}{row}\n{row}\n")
    assert (
        "is asked for"
        not in refunds("request", "--file", str(file), "--check-payments", "--dry-run").err
    )
    file.write_text(f"{HEADING}{row}A-1\n{row}A-2\n")
    assert (
        "has 100.00 USD left, 120.00 USD is asked for"
        in refunds("request", "--file", str(file), "--check-payments", "--dry-run").err
    )


def test_a_gateway_that_is_down_is_said_and_nothing_is_sent(
    world: World, refunds: Refunds, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "gateways", lambda stack: Gateways([world.gateway]))
    monkeypatch.setattr(sources, "GATEWAY_TRIES", 1)
    world.gateway.down = True
    ran = refunds("request", "--file", str(file), "--check-payments", "--yes")
    assert (ran.status, sent(world)) == (3, [])
    assert "flair could not be asked" in ran.err


def test_nobody_to_agree_sends_nothing(world: World, refunds: Refunds, file: Path) -> None:
    ran = refunds.typed("", "request", "--file", str(file))
    assert ran.status == 1
    assert sent(world) == []


def test_json_lines_from_standard_input(
    world: World, refunds: Refunds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = json.dumps(
        {"transaction_id": "p", "user_id": "ü", "amount_minor": 5, "refund_id": "rf_7"}
    )
    defaults = ("--currency", "USD", "--reason", "other")
    ran = refunds.typed(line, "request", "--file", "-", *defaults, "--yes")
    assert ran.status == 0, ran.err
    assert [each["refund_id"] for each in sent(world)] == ["rf_7"]


def test_waiting_notes_what_became_of_each(
    world: World, refunds: Refunds, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_request, "POLL_SECONDS", 0.0)
    assert refunds("request", "--file", str(file), "--yes").status == 0
    paid, failed = results(file)
    world.refunds.put_new(refund(refund_id=paid, status=Status.SUCCEEDED))
    ran = refunds("request", "--file", str(file), "--yes", "--wait", "0")
    assert ran.status == 1
    assert results(file) == {paid: "SUCCEEDED", failed: "sent"}
    world.refunds.put_new(
        refund(refund_id=failed, status=Status.FAILED, failure_code="card_declined")
    )
    ran = refunds("request", "--file", str(file), "--yes", "--wait", "5", "--json")
    assert (ran.status, ran.json["counts"]) == (1, {"SUCCEEDED": 1, "FAILED": 1})
    assert "card_declined" in ran.err


@pytest.mark.parametrize(
    "more",
    [
        ("--amount", "5"),
        ("--metadata", "a=b"),
        ("--note", "a"),
        ("--reason-code", "a"),
        ("--line-item", "a,1,1"),
        ("--expected-refundable", "5"),
        ("--message", "/dev/null"),
        ("--wait", "-1"),
    ],
)
def test_a_single_requests_options_do_not_go_with_a_file(
    refunds: Refunds, file: Path, more: tuple[str, ...]
) -> None:
    assert refunds("request", "--file", str(file), *more).status == 2


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_any_file_is_read_or_refused(text: str) -> None:
    try:
        checked = bulk.read(text.splitlines(keepends=True), {"requested_by": "x"})
    except CommandError:
        return
    assert all((row.wrong is None) != (row.request is None) for row in checked.rows)


def test_an_id_says_what_the_row_says() -> None:
    def ids(*rows: str) -> list[str]:
        return [
            each.refund_id for each in bulk.read([HEADING, *rows], {"requested_by": "x"}).requests
        ]

    same = ids("p,u,25,USD,other,\n", "p,u,25.00,USD,other,\n")
    assert same[0] == same[1]
    others = ids(
        "p,u,25,USD,other,\n",
        "q,u,25,USD,other,\n",
        "p,v,25,USD,other,\n",
        "p,u,26,USD,other,\n",
        "p,u,25,EUR,other,\n",
        "p,u,25,USD,duplicate,\n",
        "p,u,25,USD,other,x\n",
        "p,u,,USD,other,\n",
    )
    assert len(set(others)) == len(others)
    assert request().refund_id not in others
