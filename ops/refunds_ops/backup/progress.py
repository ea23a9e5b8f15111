"""What a restore has done and found, in a file, so that a stopped restore can continue."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

from refunds.domain.clock import from_rfc3339, rfc3339

GOOD_FOR = timedelta(hours=24)
"""After this long, the restored rows may have changed."""
MAX_LISTED_KEYS = 1000


@dataclass
class Rows:
    """What became of an export's rows. At most 1,000 keys of each list are kept."""

    counts: dict[str, int] = field(default_factory=dict)
    """``restored``; ``continued`` (restored, as the version after the trail's latest); ``same`` and
    ``newer`` (the table has it, and keeps it); ``different``; ``blocked`` (not written, because its
    audit trail is damaged)."""
    different: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)

    def count(self, result: str, key: str) -> None:
        self.counts[result] = self.counts.get(result, 0) + 1
        keys = {"different": self.different, "blocked": self.blocked}.get(result)
        if keys is not None and len(keys) < MAX_LISTED_KEYS:
            keys.append(key)

    def add(self, more: Rows) -> None:
        for result, count in more.counts.items():
            self.counts[result] = self.counts.get(result, 0) + count
        self.different = (self.different + more.different)[:MAX_LISTED_KEYS]
        self.blocked = (self.blocked + more.blocked)[:MAX_LISTED_KEYS]


@dataclass
class Rebuilt:
    """The rebuilt ledger: how many transactions, and which of them need a person.

    At most 1,000 transactions of each list are kept: the progress is stored every few seconds, and
    all payments of a gateway that is no longer configured are unknown.
    """

    transactions: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """How many belong in each list, by its name."""
    over_refunded: list[str] = field(default_factory=list)
    """The gateway shows that more was refunded than captured."""
    unknown: list[str] = field(default_factory=list)
    """No gateway, or more than one, knows the payment; the ledger stays as it was in the backup."""
    doubled: list[str] = field(default_factory=list)
    """The gateway has two refunds under one reference: one may have paid twice."""

    def add(self, finding: str, transaction_id: str) -> None:
        """``finding``: the name of a list."""
        self.counts[finding] = self.counts.get(finding, 0) + 1
        transactions: list[str] = getattr(self, finding)
        if len(transactions) < MAX_LISTED_KEYS:
            transactions.append(transaction_id)


@dataclass
class Progress:
    """``of``: which backup is restored, from where and how. The progress of another restore is
    ignored."""

    path: Path
    of: str = ""
    begun_at: str = ""
    tables: dict[str, str] = field(default_factory=dict)
    """The tables that were filled, each with the identity that distinguishes it from a later table
    of its name."""
    tokens: dict[str, str] = field(default_factory=dict)
    """By table, the token of its import. Another call with the same token finds the same import."""
    imports: dict[str, str] = field(default_factory=dict)
    """Import ARNs by table."""
    files: list[str] = field(default_factory=list)
    """Data files that are restored, with the table that they were written to."""
    rows: dict[str, Rows] = field(default_factory=dict)
    """What became of the rows of those files, by the backup's name for the table."""
    ledger_after: str = ""
    """The last transaction whose ledger is rebuilt."""
    ledger: Rebuilt = field(default_factory=Rebuilt)

    @classmethod
    def load(
        cls, path: Path, of: str, now: datetime, identity: Callable[[str], str | None]
    ) -> Progress:
        """The progress stored at ``path``, if it is this restore's, at most a day old, and its
        tables still exist (by ``identity``). Otherwise a new one."""
        new = cls(path, of, rfc3339(now))
        try:
            payload = json.loads(path.read_text())
            kept = cls(
                path,
                **payload
                | {
                    "rows": {table: Rows(**each) for table, each in payload["rows"].items()},
                    "ledger": Rebuilt(**payload["ledger"]),
                },
            )
            age = now - from_rfc3339(kept.begun_at)
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return new
        same = all(identity(table) == known for table, known in kept.tables.items())
        return kept if kept.of == of and age < GOOD_FOR and same else new

    def token(self, table: str) -> str:
        """The token to import ``table`` with, kept before it is used."""
        token = self.tokens.setdefault(table, uuid4().hex)
        self.save()
        return token

    def forget_import(self, table: str) -> None:
        """Forget a failed import, so that the next attempt begins another one."""
        self.tokens.pop(table, None)
        self.imports.pop(table, None)
        self.save()

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        payload = asdict(self)
        del payload["path"]
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(payload, indent=1))
        new.replace(self.path)

    def end(self) -> None:
        self.path.unlink(missing_ok=True)
