"""Whatever is stored in place of what was, `verify` ends with a report."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.audit_rows import Trail

KEYS = ("transaction_id", "entry_id", "refund_id")


def of(kind: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return values.map(lambda value: {kind: value})


VALUES = st.recursive(
    st.one_of(
        of("S", st.text(max_size=20)),
        of("S", st.sampled_from(["9999-12-31T23:59:59-23:00", "SUCCEEDED", "x" * 3000])),
        of("N", st.integers(-(10**37), 10**37).map(str)),
        of("N", st.sampled_from(["0", "-1", "0.5", "1E+30", str(2**63)])),
        of("BOOL", st.booleans()),
        of("NULL", st.just(True)),
        of("B", st.binary(min_size=1, max_size=5)),
        of("SS", st.sets(st.text(min_size=1, max_size=5), min_size=1, max_size=3).map(list)),
    ),
    lambda each: st.one_of(
        of("L", st.lists(each, max_size=3)),
        of("M", st.dictionaries(st.text(min_size=1, max_size=5), each, max_size=3)),
    ),
    max_leaves=4,
)
NEW_NAMES = ("r#", "r#r1", "r#ghost", "r#" + "x" * 300, "rebuilt", "open_since")
PLACES = st.tuples(st.integers(0, 50), st.integers(0, 50))


@pytest.mark.long
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.lists(st.tuples(PLACES, VALUES), min_size=1, max_size=4))
def test_no_stored_value_ends_verify_in_an_error(
    trail: Trail, changes: list[tuple[tuple[int, int], Any]]
) -> None:
    rows = [(table, item) for table, items in trail.all_items().items() for item in items]
    try:
        for (row, column), value in changes:
            table, item = rows[row % len(rows)]
            names = [*(name for name in item if name not in KEYS), "transaction_id", *NEW_NAMES]
            if "entry_id" in item or "refund_id" not in item:
                names.remove("transaction_id")  # a key there
            changed = item | {names[column % len(names)]: value}
            # DynamoDB refuses a key of an index that is empty or no text.
            with suppress(trail.client.exceptions.ClientError):
                trail.client.put_item(TableName=table, Item=changed)
        report = trail.verify()
        assert report.as_json()
    finally:
        for table, item in rows:
            trail.client.put_item(TableName=table, Item=item)
