"""Whether the audit entries of one refund follow from each other, and the refund from its last."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from refunds.domain.audit_entry import audit_entry, entry_hash
from refunds.domain.refund import AUDITED, Item

UNREADABLE = (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading a damaged entry or refund can raise."""


def broken_links(entries: Sequence[Item]) -> dict[int, str]:
    """The versions whose entry is damaged, and what is wrong with each."""
    broken: dict[int, str] = {}
    for entry in entries:
        try:
            if entry_hash(entry) != entry["entry_hash"]:
                broken[entry["version"]] = "changed"
        except UNREADABLE:
            broken[entry["version"]] = "unreadable"
    if entries[0]["version"] != 1:
        broken.setdefault(entries[0]["version"], f"{entries[0]['version'] - 1} before it missing")
    for before, after in pairwise(entries):
        if after["version"] != before["version"] + 1:
            missing = after["version"] - before["version"] - 1
            broken.setdefault(after["version"], f"{missing} before it missing")
        elif after["previous_hash"] != before["entry_hash"]:
            broken.setdefault(after["version"], "does not follow")
    return broken


def changed_fields_of(refund: Item, last: Item) -> list[str]:
    """The fields in which a refund differs from the audit entry of its own version.

    ``[]`` means that it is what the entry says. An entry of another version says nothing.
    """
    if refund.get("version") != last.get("version"):
        return []
    try:
        expected = audit_entry({name: refund[name] for name in AUDITED if name in refund})
        if expected["entry_hash"] == last["entry_hash"]:
            return []
    except UNREADABLE:
        return ["an unreadable field"]
    fields = {**last, **last.get("details", {})}
    known = [name for name in AUDITED if name in refund or name in fields]
    different = [name for name in known if refund.get(name) != _audited(name, fields)]
    return different or ["a field that the entry does not show"]


def _audited(name: str, entry: Item) -> object:
    return entry.get("occurred_at" if name == "updated_at" else name)
