"""`refunds backup restore` at a terminal: what it says and how it exits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.backup_commands import Run, download, empty
from tests.support.backup_parts import BackedUp, LocalSigner, ledger_row, refund

from refunds.backup.digest import digest_key, signature_key
from refunds.domain.intake import Intake
from refunds.domain.refund import Status
from refunds.tables.ledger import LedgerTable
from refunds.tables.refunds import RefundsTable
from refunds.tables.state import Control
from refunds_ops.commands import restore
from refunds_ops.commands.backup_options import WORK
from refunds_ops.stack.stack import Stack


@pytest.mark.usefixtures("gateway")
def test_a_restore_makes_the_tables_ready_for_the_queue(stack: BackedUp, refunds: Run) -> None:
    stack.add(refund(1), refund(2, status=Status.PROCESSING))
    stack.back_up()
    empty(stack)
    status, out, _ = refunds("restore", "--json")
    told = json.loads(out)
    assert status == 0
    assert told["tables"] == {name: {"restored": 2} for name in ("audit", "refunds", "ledger")}
    assert told["opened"] == 1
    steps = ["audit", "refunds", "refunds of the audit trail", "ledger"]
    steps += ["rebuild the ledger", "open unfinished refunds"]
    assert list(told["seconds"]) == steps
    ledger = LedgerTable(stack.dynamodb, stack.ledger).get("tx-000001")
    assert ledger is not None
    assert (ledger.captured, ledger.remaining) == (10_000, 10_000 - 101)
    opened = RefundsTable(stack.dynamodb, stack.refunds).get("rf-000002")
    assert opened is not None
    assert opened.open_shard is not None
    control = stack.dynamodb.get_item(
        TableName=stack.ledger, Key={"transaction_id": {"S": "#look-up-first"}}
    )["Item"]
    assert control["look_up_first_until"]["S"] > stack.clock.now().isoformat()
    assert not list(Path(WORK).glob("restore-*"))


@pytest.mark.usefixtures("gateway")
def test_a_restore_into_new_tables_leaves_the_old_ones(stack: BackedUp, refunds: Run) -> None:
    stack.add(refund(1))
    stack.back_up()
    stack.put(stack.refunds, refund(1, version=2).item())
    assert refunds("restore", "--suffix", "-restored")[0] == 0
    restored = RefundsTable(stack.dynamodb, f"{stack.refunds}-restored").get("rf-000001")
    live = RefundsTable(stack.dynamodb, stack.refunds).get("rf-000001")
    assert restored is not None
    assert live is not None
    assert (restored.version, live.version) == (1, 2)


def test_a_single_table_comes_back_as_it_was(stack: BackedUp, refunds: Run) -> None:
    stack.add(refund(1))
    stack.back_up()
    empty(stack)
    status, out, _ = refunds("restore", "--table", "audit", "--json")
    assert (status, json.loads(out)["tables"]) == (0, {"audit": {"restored": 1}})
    assert RefundsTable(stack.dynamodb, stack.refunds).get("rf-000001") is None


@pytest.mark.usefixtures("gateway")
def test_a_restore_says_what_differs_and_exits_1(stack: BackedUp, refunds: Run) -> None:
    stack.add(refund(1))
    stack.back_up()
    stack.put(stack.refunds, refund(1, amount_minor=5).item())
    status, out, _ = refunds("restore")
    assert (status, "different" in out) == (1, True)


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize(
    ("held", "state", "status"),
    [
        (True, "Disabled", 0),
        (True, "Disabling", 1),
        (True, "Enabled", 1),
        (False, "Disabled", 1),  # by the breaker: the reconciler enables it at any time
    ],
)
def test_a_restore_refuses_while_requests_flow_or_may(  # noqa: PLR0913, PLR0917 - pytest passes the cases
    stack: BackedUp,
    refunds: Run,
    monkeypatch: pytest.MonkeyPatch,
    held: bool,
    state: str,
    status: int,
) -> None:
    stack.add(refund(1))
    stack.back_up()
    empty(stack)
    monkeypatch.setattr(Stack.functions, "requests", state)
    if not held:
        Control(stack.dynamodb, stack.ledger).change_intake(lambda _: Intake())
    found, _, err = refunds("restore")
    assert (found, "refunds pause" in err) == (status, bool(status))
    restored = RefundsTable(stack.dynamodb, stack.refunds).get("rf-000001")
    assert (restored is None) == bool(status)


@pytest.mark.usefixtures("gateway")
def test_a_lost_ledger_is_made_anew_with_requests_held(stack: BackedUp, refunds: Run) -> None:
    stack.add(refund(1))
    stack.back_up()
    stack.dynamodb.delete_table(TableName=stack.ledger)
    lost = "Exceptions from limits and pauses of single gateways are lost: set them again"
    why = ("--why", "TICKET-7 " * 60)
    status, _, err = refunds("restore", "--table", "refunds", *why)
    assert (status, lost in " ".join(err.split())) == (0, True)
    control = Control(stack.dynamodb, stack.ledger)
    assert control.intake().paused
    # `refunds status` shows it until the resume.
    assert (control.intake().paused_why or "").endswith(lost)
    assert control.look_up_first(stack.clock.now())


def test_with_a_lost_ledger_the_way_to_stop_requests_is_told(
    stack: BackedUp, refunds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.back_up()
    stack.dynamodb.delete_table(TableName=stack.ledger)
    monkeypatch.setattr(Stack.functions, "requests", "Enabled")
    status, _, err = refunds("restore")
    assert status == 1
    assert "update-event-source-mapping --no-enabled --uuid mapping" in err
    assert "refunds pause" not in err


@pytest.mark.usefixtures("gateway")
def test_whatever_stops_a_restore_claims_look_up_first_from_its_beginning(
    stack: BackedUp, refunds: Run
) -> None:
    stack.add(refund(1))
    stack.back_up()
    key = next(key for key in stack.listed() if "/audit/" in key and "/data/" in key)
    stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=b"damaged")
    status, _, err = refunds("restore")
    assert (status, "hash" in err) == (1, True)
    assert Control(stack.dynamodb, stack.ledger).look_up_first(stack.clock.now())


@pytest.mark.usefixtures("gateway")
def test_a_stopped_restore_goes_on_and_begins_anew_when_asked(
    stack: BackedUp, refunds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.add(refund(1), refund(2))
    stack.back_up()
    stack.put(stack.refunds, refund(1, amount_minor=5).item())
    status, out, err = stopped_then(refunds, monkeypatch, "restore", "--json")
    assert (status, json.loads(out)["different"]) == (1, ["rf-000001"])
    assert "begun at" in err
    assert "--again" in err
    assert "begun at" not in refunds("restore")[2]  # that one had come to its end
    status, out, err = stopped_then(refunds, monkeypatch, "restore", "--again", "--json")
    assert json.loads(out)["tables"]["audit"] == {"same": 2}
    assert "begun at" not in err


def stopped_then(refunds: Run, monkeypatch: pytest.MonkeyPatch, *command: str) -> Any:
    """The command after the same one was stopped when its rows were restored."""
    with monkeypatch.context() as patched:

        def stopped(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr("refunds_ops.backup.stack_restore.open_unfinished", stopped)
        assert refunds("restore")[0] == 130
    return refunds(*command)


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize("more", [(), ("--backup-folder", "downloaded")])
def test_a_restore_into_new_tables_row_by_row(
    stack: BackedUp, refunds: Run, tmp_path: Path, more: tuple[str, ...]
) -> None:
    stack.add(refund(1), refund(2, status=Status.PENDING))
    stack.back_up()
    download(stack, tmp_path / "downloaded")
    status, out, _ = refunds("restore", "--suffix", "-rows", "--row-by-row", *more, "--json")
    told = json.loads(out)
    assert (status, told["opened"]) == (0, 1)
    assert told["tables"] == {name: {"restored": 2} for name in ("audit", "refunds", "ledger")}
    assert RefundsTable(stack.dynamodb, f"{stack.refunds}-rows").get("rf-000001") == refund(1)
    live = RefundsTable(stack.dynamodb, stack.refunds).get("rf-000002")
    assert live is not None
    assert live.open_shard is None  # the stack's own table is as it was
    assert refunds("restore", "--suffix", "-imported", *more)[0] == (2 if more else 0)


def test_a_ledger_row_that_differs_is_said_unless_it_is_rebuilt(
    stack: BackedUp, refunds: Run, gateway: None
) -> None:
    stack.add(refund(1))
    stack.back_up()
    stack.put(stack.ledger, ledger_row([refund(1)], captured=5))
    for options in (("--without-gateway",), ("--table", "ledger", "--without-gateway")):
        status, out, _ = refunds("restore", *options, "--json")
        assert (status, json.loads(out)["different"]) == (1, ["tx-000001"])
    status, out, _ = refunds("restore", "--json")
    assert (status, json.loads(out)["different"]) == (0, [])


def test_an_older_backup_under_a_newer_number_is_not_restored(
    stack: BackedUp, refunds: Run
) -> None:
    stack.back_up()
    stack.back_up()
    older = {key(2): stack.object(key(1)) for key in (digest_key, signature_key)}
    for key, content in older.items():
        stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=content)
    status, _, err = refunds("restore")
    assert (status, digest_key(1) in err) == (1, True)
    assert refunds("cat")[0] == 1


def test_a_restore_needs_the_keys_signature(
    stack: BackedUp, refunds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.back_up()
    monkeypatch.setattr(restore, "keys_of", lambda *_: [LocalSigner("another").public_key])
    status, _, err = refunds("restore")
    assert (status, "not signed" in err) == (1, True)
