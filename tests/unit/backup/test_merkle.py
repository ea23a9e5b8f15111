"""The trees are RFC 6962's: an auditor's own code gets the same root and accepts the same paths."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.backup_parts import refund

from refunds.backup import digest
from refunds.backup.digest import audit_leaf, audit_leaves
from refunds.backup.merkle import MerkleTree, inclusion_path, is_included, merkle_root
from refunds.domain.audit_entry import audit_entry
from refunds.tables.wire import item_to_wire

# The test vectors of Google's Certificate Transparency code (merkletree/merkle_tree_test.cc).
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def recursive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = recursive_root(leaves[:split]), recursive_root(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert merkle_root(LEAVES[:size]).hex() == ROOTS[size - 1]


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert MerkleTree().root() == hashlib.sha256().digest()


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_the_root_grown_leaf_by_leaf_is_the_rfcs(leaves: list[bytes]) -> None:
    assert merkle_root(leaves) == recursive_root(leaves)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=70), st.data())
def test_a_path_proves_its_leaf_and_nothing_else(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path, root, size = inclusion_path(leaves, index), merkle_root(leaves), len(leaves)
    assert is_included(leaves[index], index, size, path, root)
    assert not is_included(leaves[index] + b"!", index, size, path, root)
    assert not is_included(leaves[index], index, size, [*path, bytes(32)], root)
    assert not is_included(leaves[index], size, size, path, root)
    if path:
        assert not is_included(leaves[index], index, size, path[:-1], root)
        assert not is_included(leaves[index], index, size, [bytes(32), *path[1:]], root)


def test_there_is_no_path_for_a_leaf_that_is_not_there() -> None:
    with pytest.raises(IndexError):
        inclusion_path(LEAVES, 8)


HASHES = st.sampled_from(
    ["a" * 64, "0" * 64, "B" * 64, "c" * 63, "c" * 65, "c" * 62 + "}}", "c" * 62 + "  ", ""]
)
ATTRIBUTES = {
    "refund_id": st.just({"S": "r1"}),
    "entry_hash": HASHES.map(lambda text: {"S": text}),
    "note": st.sampled_from(['"entry_hash":{"S":"' + "d" * 64 + '"}', "}}", "}}}\n", '"M":{']).map(
        lambda text: {"S": text}
    ),
    "details": st.sampled_from(
        [
            {"M": {"metadata": {"M": {"entry_hash": {"S": "e" * 64}}}}},
            {"M": {"other": {"M": {"entry_hash": {"S": "f" * 64}}}, "last": {"N": "1"}}},
            {"M": {"entry_hash": {"N": "1"}}},
            {"M": {"metadata": {"M": {"order": {"S": "o-1"}}}}},
            {"L": [{"M": {"entry_hash": {"S": "9" * 64}}}]},
            {"M": {}},
        ]
    ),
    "recorded_at": st.just({"S": "2026-11-23T07:10:00.000000Z"}),
}


@st.composite
def entries(draw: st.DrawFn) -> dict[str, object]:
    """Some of the attributes, in any order: DynamoDB promises none."""
    names = draw(st.permutations(sorted(ATTRIBUTES)))
    left_out = draw(st.sets(st.sampled_from(names), max_size=3))
    return {name: draw(ATTRIBUTES[name]) for name in names if name not in left_out}


def leaf_by_definition(item: dict[str, object]) -> bytes:
    """The hash at the item's top level, or 32 zero bytes."""
    value = item.get("entry_hash")
    text = value["S"] if isinstance(value, dict) else ""
    return bytes.fromhex(text) if re.fullmatch("[0-9a-f]{64}", text) else bytes(32)


def data_line(item: dict[str, object]) -> bytes:
    return json.dumps({"Item": item}, separators=(",", ":")).encode() + b"\n"


@given(st.lists(entries(), max_size=4))
@example([{"entry_hash": {"S": "B" * 64}}])
@example([{"entry_hash": {"S": "c" * 62 + "}}"}}])
@example([{"entry_hash": {"S": "c" * 62 + "  "}}])
@example([{"entry_hash": {"S": "c" * 65}}])
@example([{"entry_hash": {"S": "c" * 66}}, {"entry_hash": {"S": "c" * 62}}])
@example([{"entry_hash": {"S": "a" * 64}, "details": {"M": {}}}, {"note": {"S": "x"}}])
def test_a_pages_leaves_are_those_of_its_lines(items: list[dict[str, object]]) -> None:
    lines = [data_line(item) for item in items]
    leaves = [leaf_by_definition(item) for item in items]
    assert [audit_leaf(line) for line in lines] == leaves
    assert [audit_leaf(line.rstrip(b"\n")) for line in lines] == leaves
    assert audit_leaves(b"".join(lines), len(lines)) == leaves


@pytest.mark.parametrize("order", [None, lambda name: name, lambda name: name[::-1]])
def test_usual_entries_are_read_without_parsing(
    order: Callable[[str], str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = item_to_wire(audit_entry(refund(1).item()) | {"recorded_at": "now"})
    ordered = {name: item[name] for name in (sorted(item, key=order) if order else item)}
    page = data_line(ordered) * 3
    leaves = [leaf_by_definition(ordered)] * 3
    monkeypatch.setattr(json, "loads", lambda _: pytest.fail("parsed"))
    assert [audit_leaf(line) for line in page.splitlines()] == leaves
    monkeypatch.setattr(digest, "audit_leaf", lambda _: pytest.fail("read line by line"))
    assert audit_leaves(page, 3) == leaves
