"""A backup's bytes and Merkle roots stay what they were: older backups are checked with them."""

from __future__ import annotations

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st
from tests.support.backup_parts import refund

from refunds.backup.digest import audit_leaves
from refunds.backup.merkle import MerkleTree, merkle_root
from refunds.backup.table_scan import _cut
from refunds.domain.audit_entry import audit_entry
from refunds.tables.wire import item_to_wire

ENTRIES = [
    audit_entry(each.item()) | {"recorded_at": each.updated_at} for each in map(refund, range(300))
]


def test_lines_and_root_of_a_page_are_those_of_the_first_release() -> None:
    items = json.dumps([item_to_wire(entry) for entry in ENTRIES], separators=(",", ":"))
    last = '"LastEvaluatedKey":{"transaction_id":{"S":"p"},"entry_id":{"S":"e"}}'
    body = f'{{"Count":300,"Items":{items},{last},"ScannedCount":300}}'.encode()

    cut = _cut(body)

    assert cut is not None
    rest, lines, count = cut
    assert rest == f'{{"Count":300,"Items":[],{last},"ScannedCount":300}}'.encode()
    assert count == 300
    assert hashlib.sha256(lines).hexdigest() == (
        "cfd4f3e271c4f5454527e49eb8dce366ece3d8acc4f8368c456dbc0bec746d32"
    )
    assert merkle_root(audit_leaves(lines, count)).hex() == (
        "0fccbd98d7537208a6a51a5bc6f4eaba3876f9f04dd274b30e86c041846e3751"
    )


@given(st.lists(st.integers(0, 9), max_size=6))
def test_leaves_by_page_have_the_root_of_leaves_one_by_one(pages: list[int]) -> None:
    by_page, one_by_one = MerkleTree(), MerkleTree()
    leaves = [bytes([number]) for number in range(sum(pages))]
    for leaf in leaves:
        one_by_one.add(leaf)
    for size in pages:
        page, leaves = leaves[:size], leaves[size:]
        by_page.extend(page)
    assert by_page.size == one_by_one.size
    assert by_page.root() == one_by_one.root()
