"""Makes a receipt's page: one HTML file that verifies itself in a browser, offline.

The page's program (web/check.js, web/page.js) is the same in every receipt. It recomputes every
hash with the browser's WebCrypto; nothing that it shows is written by Python. The page's Content
Security Policy lets it run that program and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path

from refunds.domain.audit_entry import DELETED_EVENT, PROPOSED_EVENT, RESTORED_EVENT
from refunds.domain.money import EXPONENTS
from refunds.domain.refund import Item
from refunds_ops.story import (
    ALL_THAT_IS_LEFT,
    DECIDED_FAILED,
    DECIDED_FAILED_MOVED,
    DELETED,
    NO_REASON,
    NOTHING_SHOWN,
    OTHER_STATUS,
    RULES,
    SENTENCES,
    UPDATED,
)

_WEB = Path(__file__).with_name("web")


def html_receipt(receipt: Item) -> str:
    """The page of what ``make_receipt`` made. ASCII only: no encoding can change it."""
    before, _, after = _file("receipt.html").partition("{receipt}")
    before = before.replace("{policy}", _policy()).replace("{style}", _style())
    return f"{before}{embedded_json(receipt)}{after.replace('{script}', script())}"


def embedded_json(value: Item) -> str:
    """JSON that can't end the ``script`` element it stands in."""
    return json.dumps(value, indent=1, ensure_ascii=True).replace("<", "\\u003c")


@cache
def script() -> str:
    """The page's whole program."""
    words = {
        "sentences": dict(SENTENCES),
        "other_status": OTHER_STATUS,
        "decided_failed": DECIDED_FAILED,
        "decided_failed_moved": DECIDED_FAILED_MOVED,
        "deleted": DELETED,
        "deleted_event": DELETED_EVENT,
        "proposed_event": PROPOSED_EVENT,
        "restored_event": RESTORED_EVENT,
        "updated": UPDATED,
        "nothing_shown": NOTHING_SHOWN,
        "rules": dict(RULES),
        "no_reason": NO_REASON,
        "all_that_is_left": ALL_THAT_IS_LEFT,
        "exponents": dict(EXPONENTS),
    }
    constants = f"const WORDS = {json.dumps(words, separators=(',', ':'))};"
    return "\n".join(('"use strict";', constants, _file("check.js"), _file("page.js")))


def script_hash() -> str:
    """The program's hash as the policy names it: docs/audit.md publishes it."""
    return _source_hash(script())


@cache
def _policy() -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{script_hash()}'",
            f"style-src '{_source_hash(_style())}'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        )
    )


def _source_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _style() -> str:
    return _file("receipt.css")


def _file(name: str) -> str:
    return (_WEB / name).read_text(encoding="utf-8")
