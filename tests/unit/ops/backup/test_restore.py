"""A restored table equals its source, and newer rows stay."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from tests.support.backup_parts import BackedUp, latest, refund
from tests.support.builders import NOW
from tests.support.expanded_template import ExpandedTemplate, load_template
from tests.support.moto_stack import REGION, create_tables
from tests.support.restored_tables import LATER, NUMBERS, again, all_items, quiet

from refunds.backup.digest import Digest, Export
from refunds.backup.table_scan import sources
from refunds.domain.refund import Status
from refunds.tables.wire import item_from_wire
from refunds_ops.backup.data_files import DamagedError
from refunds_ops.backup.progress import GOOD_FOR, Progress, Rows
from refunds_ops.backup.restore import ROWS_AT_ONCE, RestoreError, RowRestore, import_table
from refunds_ops.backup.storage import Bucket
from refunds_ops.backup.tables import KEYS, compare, creation_parameters


@pytest.fixture
def into(backed_up: BackedUp) -> dict[str, str]:
    """Empty tables to restore into."""
    number = next(NUMBERS)
    names = {kind: f"{kind}-restored-{number}" for kind in KEYS}
    create_tables(backed_up.dynamodb, *names.values())
    return names


def export_of(digest: Digest, table: str) -> Export:
    (found,) = [export for export in digest.exports if export.table == table]
    return found


def restore(stack: BackedUp, table: str, into: str, progress: Progress) -> Rows:
    storage = Bucket(stack.s3, stack.bucket)
    with ThreadPoolExecutor(2) as pool:
        restorer = RowRestore(stack.dynamodb, storage, pool)
        restorer.restore(export_of(latest(stack), table), into, progress, quiet)
    return progress.rows[table]


def imported(stack: BackedUp, export: Export, name: str, progress: Progress) -> None:
    storage = Bucket(stack.s3, stack.bucket)
    import_table(stack.dynamodb, storage, export, name, progress, quiet)


def get(stack: BackedUp, table: str, **key: str) -> dict[str, Any]:
    wire = {name: {"S": value} for name, value in key.items()}
    return item_from_wire(stack.dynamodb.get_item(TableName=table, Key=wire)["Item"])


# --- Whole tables ---------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["refunds", "ledger", "audit"])
def test_import_table_makes_the_same_table(
    backed_up: BackedUp, table: str, progress: Progress
) -> None:
    export = export_of(latest(backed_up), table)
    name = f"imported-{next(NUMBERS)}"
    imported(backed_up, export, name, progress)
    source = {s.name: s for s in sources(backed_up.refunds, backed_up.ledger, backed_up.audit)}
    found = compare(table, lambda: all_items(source[table].table), lambda: all_items(name))
    assert found.none
    assert found.rows == 8


def test_an_import_that_lacks_an_item_is_an_error(backed_up: BackedUp, progress: Progress) -> None:
    export = export_of(latest(backed_up), "refunds")
    with pytest.raises(RestoreError, match="8 of 9 items"):
        imported(backed_up, replace(export, item_count=9), f"imported-{next(NUMBERS)}", progress)


def test_an_import_that_was_begun_is_followed_not_begun_again(
    backed_up: BackedUp, progress: Progress
) -> None:
    export, name = export_of(latest(backed_up), "refunds"), f"imported-{next(NUMBERS)}"
    imported(backed_up, export, name, progress)
    there = again(backed_up, progress)
    assert there.imports == progress.imports
    imported(backed_up, export, name, there)


def test_an_import_whose_answer_was_lost_is_asked_for_with_the_same_token(
    backed_up: BackedUp, progress: Progress
) -> None:
    export, name = export_of(latest(backed_up), "refunds"), f"imported-{next(NUMBERS)}"
    tokens: list[str] = []

    def lost(params: dict[str, Any], **_: Any) -> None:
        tokens.append(params["ClientToken"])
        if len(tokens) == 1:
            raise KeyboardInterrupt

    backed_up.dynamodb.meta.events.register("provide-client-params.dynamodb.ImportTable", lost)
    with pytest.raises(KeyboardInterrupt):
        imported(backed_up, export, name, progress)
    imported(backed_up, export, name, again(backed_up, progress))
    assert tokens[0] == tokens[1]


def test_a_failed_import_tells_why_and_the_next_try_is_another_one(
    backed_up: BackedUp, progress: Progress
) -> None:
    export, name = export_of(latest(backed_up), "refunds"), f"imported-{next(NUMBERS)}"

    def failed(parsed: dict[str, Any], **_: Any) -> None:
        told = {"ImportStatus": "FAILED", "FailureMessage": "no access to the key"}
        parsed["ImportTableDescription"].update(told)

    events = backed_up.dynamodb.meta.events
    events.register("after-call.dynamodb.DescribeImport", failed)
    # The table that it should have made never comes: nobody waits for it.
    events.register("before-call.dynamodb.DescribeTable", no_answer)
    with pytest.raises(RestoreError, match=r"FAILED .* no access to the key"):
        imported(backed_up, export, name, progress)
    there = again(backed_up, progress)
    assert not there.imports
    assert not there.tokens


def no_answer(**_: Any) -> None:
    raise AssertionError("nobody should ask")


def test_what_import_table_would_read_is_checked_before(
    backed_up: BackedUp, progress: Progress
) -> None:
    export, name = export_of(latest(backed_up), "refunds"), f"imported-{next(NUMBERS)}"
    backed_up.dynamodb.meta.events.register("before-call.dynamodb.ImportTable", no_answer)
    key = f"{export.data_prefix}more.json.gz"
    content = backed_up.object(export.files[0].key)
    backed_up.s3.put_object(Bucket=backed_up.bucket, Key=key, Body=content)
    with pytest.raises(DamagedError, match=r"more\.json\.gz"):
        imported(backed_up, export, name, progress)
    backed_up.s3.delete_object(Bucket=backed_up.bucket, Key=key)
    lines = gzip.decompress(content).replace(b'"EUR"', b'"USD"')
    backed_up.s3.put_object(
        Bucket=backed_up.bucket, Key=export.files[0].key, Body=gzip.compress(lines)
    )
    with pytest.raises(DamagedError, match="hash"):
        imported(backed_up, export, name, progress)


def test_restored_tables_have_the_templates_keys_and_index(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    template = ExpandedTemplate(load_template())
    logical = {"refunds": "Refunds", "ledger": "Ledger", "audit": "PaymentAuditTrail"}
    for kind, resource in logical.items():
        ours, theirs = creation_parameters(kind, "any"), template[resource]
        for name in ("KeySchema", "BillingMode", "GlobalSecondaryIndexes"):
            assert ours.get(name) == theirs.get(name), (kind, name)
        attributes = [
            sorted(each["AttributeDefinitions"], key=lambda a: str(a["AttributeName"]))
            for each in (ours, theirs)
        ]
        assert attributes[0] == attributes[1]


# --- Row by row -----------------------------------------------------------------------------------


def test_rows_go_into_an_empty_table(
    backed_up: BackedUp, into: dict[str, str], progress: Progress
) -> None:
    for kind, table in into.items():
        assert restore(backed_up, kind, table, progress).counts == {"restored": 8}
    assert compare(
        "audit", lambda: all_items(backed_up.audit), lambda: all_items(into["audit"])
    ).none


def test_newer_rows_stay_and_older_ones_are_replaced(
    backed_up: BackedUp, into: dict[str, str], progress: Progress
) -> None:
    backed_up.put(backed_up.refunds, refund(3, version=2, updated_at=LATER).item())
    backed_up.back_up()
    newer = refund(1, version=5, status=Status.REVERSED)
    older = refund(3, version=1)
    same = refund(2)
    for each in (newer, older, same):
        backed_up.put(into["refunds"], each.item())
    rows = restore(backed_up, "refunds", into["refunds"], progress)
    assert rows.counts == {"restored": 6, "newer": 1, "same": 1}
    assert get(backed_up, into["refunds"], refund_id="rf-000001")["status"] == "REVERSED"
    assert get(backed_up, into["refunds"], refund_id="rf-000003")["version"] == 2


def test_what_differs_is_said_and_stays(
    backed_up: BackedUp, into: dict[str, str], progress: Progress
) -> None:
    backed_up.put(into["refunds"], refund(1, amount_minor=1).item())
    backed_up.put(into["refunds"], refund(2, check_at=LATER, open_shard="1").item())
    entry = get(
        backed_up, backed_up.audit, transaction_id="tx-000004", entry_id="REFUND#rf-000004#000001"
    )
    backed_up.put(into["audit"], entry | {"user_id": "somebody else"})
    replayed = get(
        backed_up, backed_up.audit, transaction_id="tx-000005", entry_id="REFUND#rf-000005#000001"
    )
    backed_up.put(into["audit"], replayed | {"recorded_at": LATER})
    refunds = restore(backed_up, "refunds", into["refunds"], progress)
    audit = restore(backed_up, "audit", into["audit"], progress)
    assert refunds.different == ["rf-000001"]
    assert refunds.counts["same"] == 1  # what the protocol adds is no difference
    assert audit.different == ["tx-000004 REFUND#rf-000004#000001"]
    assert audit.counts["same"] == 1
    assert get(backed_up, into["refunds"], refund_id="rf-000001")["amount_minor"] == 1


def test_a_restore_that_was_stopped_goes_on_and_keeps_what_it_found(
    backed_up: BackedUp, into: dict[str, str], progress: Progress
) -> None:
    backed_up.put(into["refunds"], refund(1, amount_minor=1).item())
    found = restore(backed_up, "refunds", into["refunds"], progress)
    backed_up.dynamodb.meta.events.register("before-call.dynamodb.PutItem", no_answer)
    resumed = again(backed_up, progress)
    assert restore(backed_up, "refunds", into["refunds"], resumed) == found
    assert (found.counts, found.different) == ({"restored": 7, "different": 1}, ["rf-000001"])
    backed_up.dynamodb.meta.events.unregister("before-call.dynamodb.PutItem", no_answer)
    assert restore(backed_up, "ledger", into["ledger"], resumed).counts == {"restored": 8}


def test_a_file_that_was_stopped_within_is_counted_once(
    backed_up: BackedUp, into: dict[str, str], progress: Progress
) -> None:
    puts = count(1)

    def stopped(**_: Any) -> None:
        if next(puts) == 5:
            raise KeyboardInterrupt

    backed_up.dynamodb.meta.events.register("before-call.dynamodb.PutItem", stopped)
    with pytest.raises(KeyboardInterrupt):
        restore(backed_up, "refunds", into["refunds"], progress)
    backed_up.dynamodb.meta.events.unregister("before-call.dynamodb.PutItem", stopped)
    rows = restore(backed_up, "refunds", into["refunds"], again(backed_up, progress))
    assert sum(rows.counts.values()) == 8


def test_a_table_that_was_made_anew_is_restored_anew(
    backed_up: BackedUp, into: dict[str, str], progress: Progress
) -> None:
    restore(backed_up, "ledger", into["ledger"], progress)
    backed_up.dynamodb.delete_table(TableName=into["ledger"])
    assert not again(backed_up, progress).files
    create_tables(backed_up.dynamodb, f"{into['refunds']}-", into["ledger"], f"{into['audit']}-")
    anew = again(backed_up, progress)
    assert restore(backed_up, "ledger", into["ledger"], anew).counts == {"restored": 8}


@pytest.mark.parametrize(
    "other", [{"of": "another digest in another bucket"}, {"now": NOW + GOOD_FOR}]
)
def test_progress_of_another_restore_or_of_yesterday_is_of_no_use(
    backed_up: BackedUp, into: dict[str, str], progress: Progress, other: dict[str, Any]
) -> None:
    restore(backed_up, "refunds", into["refunds"], progress)
    assert again(backed_up, progress).files
    anew = again(backed_up, progress, **other)
    # It does no harm either.
    assert restore(backed_up, "refunds", into["refunds"], anew).counts == {"same": 8}


@pytest.mark.parametrize("content", ["", "[]", '{"files": 1}', '{"rows": {}, "ledger": {}}'])
def test_a_damaged_progress_file_is_none(
    backed_up: BackedUp, progress: Progress, content: str
) -> None:
    progress.path.write_text(content)
    assert again(backed_up, progress) == progress


def test_no_row_of_a_tampered_file_reaches_a_table(
    stack: BackedUp, into: dict[str, str], progress: Progress
) -> None:
    for number in range(ROWS_AT_ONCE + 100):
        stack.put(stack.refunds, refund(number).item())
    stack.back_up()
    (file,) = export_of(latest(stack), "refunds").files
    lines = gzip.decompress(stack.object(file.key)).replace(b'"user-7"', b'"thief"')
    stack.s3.put_object(Bucket=stack.bucket, Key=file.key, Body=gzip.compress(lines))
    with pytest.raises(DamagedError):
        restore(stack, "refunds", into["refunds"], progress)
    assert not list(all_items(into["refunds"]))
    assert not again(stack, progress).files


def test_every_attribute_type_goes_through(
    stack: BackedUp, into: dict[str, str], progress: Progress
) -> None:
    every: dict[str, Any] = {
        "refund_id": {"S": "every-type"},
        "version": {"N": "1"},
        "text": {"S": '"}},{\u2028é😀\\'},
        "empty": {"S": ""},
        "fraction": {"N": "3.14159265358979323846264338327950288"},
        "negative": {"N": "-7"},
        "bytes": {"B": b"\x00\xff"},
        "yes": {"BOOL": True},
        "nothing": {"NULL": True},
        "list": {"L": [{"M": {"a": {"S": "x"}}}, {"M": {"b": {"B": b"\x01"}}}, {"L": []}]},
        "map": {"M": {"deep": {"M": {"SS": {"SS": ["b", "a"]}}}}},
        "texts": {"SS": ["b", "a"]},
        "numbers": {"NS": ["1", "2.5"]},
        "binaries": {"BS": [b"\x02", b"\x01"]},
    }
    stack.dynamodb.put_item(TableName=stack.refunds, Item=every)
    stack.back_up()
    assert restore(stack, "refunds", into["refunds"], progress).counts["restored"] >= 1
    # By ImportTable too, in tests/engines: moto's own reader of JSON stumbles over such text.
    found = compare("refunds", lambda: all_items(stack.refunds), lambda: all_items(into["refunds"]))
    assert found.none
