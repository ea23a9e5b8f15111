"""What worker processes do in the tests of them. They import it, so it imports little."""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import replace
from typing import Any

from refunds_ops.audit.page_rows import PageRows, page_rows


def same_after(seconds: float, value: Any) -> Any:
    time.sleep(seconds)
    return value


def die(*_: Any) -> None:
    os._exit(9)


def hang_at_the_audit_trail(table: str, lines: bytes) -> PageRows:
    if table == "audit":
        hang()
    return page_rows(table, lines)


def hang(*_: Any) -> None:
    threading.Event().wait()


def print_and_raise(text: str) -> None:
    print("not a result")
    sys.stdout.flush()
    raise ValueError(text)


def process_id() -> int:
    return os.getpid()


def die_at_the_audit_trail(table: str, lines: bytes) -> PageRows:
    if table == "audit":
        die()
    return page_rows(table, lines)


def lose_an_item(table: str, lines: bytes) -> PageRows:
    rows = page_rows(table, lines)
    return replace(rows, count=rows.count - (table == "audit"))
