"""A database for what does not fit into memory."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager


@contextmanager
def scratch_database() -> Iterator[sqlite3.Connection]:
    """An empty SQLite database in a temporary file, deleted at the end."""
    with (
        tempfile.NamedTemporaryFile(prefix="refunds-", suffix=".sqlite3") as file,
        closing(sqlite3.connect(file.name)) as database,
    ):
        # The file is temporary, so nothing needs to survive a crash.
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        yield database
