"""RFC 6962 Merkle trees: one root for many leaves, and short proofs that a leaf is among them.

A leaf's hash is SHA-256(0x00 || data), a node's SHA-256(0x01 || left || right); a tree of n > 1
leaves splits at the largest power of two below n. docs/backup.md says what a leaf's data is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

_LEAF, _NODE = hashlib.sha256(b"\x00"), hashlib.sha256(b"\x01")
"""Copied for each hash, which is faster than to make a new object and give it the first byte."""


def leaf_hash(data: bytes) -> bytes:
    sha256 = _LEAF.copy()
    sha256.update(data)
    return sha256.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    sha256 = _NODE.copy()
    sha256.update(left)
    sha256.update(right)
    return sha256.digest()


class MerkleTree:
    """The root of leaves that come one by one; keeps one hash for each power of two."""

    def __init__(self) -> None:
        self.size = 0
        self._whole: list[bytes] = []
        """Roots of complete subtrees, largest first: one for each 1 in ``size``'s binary form."""

    def add(self, data: bytes) -> None:
        """Append a leaf."""
        self.extend((data,))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append leaves, one level of the tree after the other."""
        # Without calls of leaf_hash() and node_hash(), which would add to each hash.
        nodes = list[bytes]()
        for data in leaves:
            (leaf := _LEAF.copy()).update(data)
            nodes.append(leaf.digest())
        size, single = self.size, list[bytes]()
        self.size += len(nodes)
        while nodes:
            if size & 1:  # A subtree of this level waits for its right neighbour.
                nodes.insert(0, self._whole.pop())
            if len(nodes) & 1:
                single.append(nodes.pop())
            level, nodes = nodes, []
            for left, right in zip(level[::2], level[1::2], strict=True):
                (node := _NODE.copy()).update(left + right)
                nodes.append(node.digest())
            size >>= 1
        self._whole += reversed(single)

    def root(self) -> bytes:
        """The tree's hash. The hash of an empty tree is SHA-256 of no bytes."""
        if not self._whole:
            return hashlib.sha256().digest()
        node = self._whole[-1]
        for left in reversed(self._whole[:-1]):
            node = node_hash(left, node)
        return node


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """The root over leaves' data, in order."""
    tree = MerkleTree()
    tree.extend(leaves)
    return tree.root()


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes that, with leaf ``index``, make the root: the leaf's sibling first.

    Raises ``IndexError`` when there is no such leaf.
    """
    return inclusion_paths(leaves, [index])[index]


def inclusion_paths(leaves: Sequence[bytes], indexes: Iterable[int]) -> dict[int, list[bytes]]:
    """The paths of several leaves, for one computation of the tree. Raises ``IndexError``."""
    paths: dict[int, list[bytes]] = {index: [] for index in indexes}
    for index in paths:
        if not 0 <= index < len(leaves):
            raise IndexError(f"no leaf {index} among {len(leaves)}")
    level, height = [leaf_hash(data) for data in leaves] if paths else [], 0
    while len(level) > 1:
        for index, path in paths.items():
            sibling = (index >> height) ^ 1
            if sibling < len(level):
                path.append(level[sibling])
        above = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            above.append(level[-1])
        level, height = above, height + 1
    return paths


def is_included(data: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether ``data`` is leaf ``index`` of the tree of ``size`` leaves whose root is ``root``.

    The algorithm of RFC 9162, 2.1.3.2.
    """
    if not 0 <= index < size:
        return False
    node, last = leaf_hash(data), size - 1
    for sibling in path:
        if last == 0:
            return False
        if index & 1 or index == last:
            node = node_hash(sibling, node)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        index, last = index >> 1, last >> 1
    return last == 0 and node == root
