"""Feeds damaged input to everything that reads what others sent. Exit status 1 on a crash.

    python -m tests.fuzz --minutes 1 --seed 7

Each input is a valid one with random damage, to its values or to its bytes. A reader may refuse it
with the errors that it documents, and with no other. The seed and the input's number repeat it.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import secrets
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from tests.support.backup_parts import refund

from refunds.audit.writer import NOT_AN_IMAGE, entry_of
from refunds.backup.digest import Digest, DigestError, Export
from refunds.domain.request import RefusedError, parse_message
from refunds.gateways.webhooks import SIGNATURE_HEADERS, RefusedWebhookError, refund_to_look_at
from refunds.tables.wire import item_to_wire

NOW = datetime(2026, 11, 27, tzinfo=UTC)
SECRET = "whsec_" + "s" * 40
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1 << 80, 0.5, float("nan"), "", "\u2028\ud800", "4111111111111111"),
    *([], {}, [[[[]]]], {"S": 1}, {"N": "NaN"}, {"N": "1e999"}, {"B": "%"}, "9" * 5000),
)
MOST_DAMAGES = 4
MESSAGE = {
    "refund_id": "rf_1",
    "transaction_id": "pay_1",
    "user_id": "user_ada",
    "amount_minor": 100,
    "currency": "USD",
    "reason": "order_cancelled",
    "requested_by": "agent:grace",
    "requested_at": "2026-11-27T00:00:00Z",
    "metadata": {"order": "A-1"},
}


@dataclass(frozen=True)
class Reader:
    """``read`` takes bytes and may raise ``refusals``."""

    name: str
    valid: Any
    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]


def _webhook(body: bytes) -> object:
    at = str(int(NOW.timestamp()))
    signature = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    event = {
        "headers": {SIGNATURE_HEADERS[0]: f"t={at},v1={signature}"},
        "body": body.decode(errors="surrogateescape"),
    }
    return refund_to_look_at(event, SECRET, NOW)


def readers() -> tuple[Reader, ...]:
    image = item_to_wire(refund(1).item())
    digest = Digest(
        sequence=1,
        bucket="backups",
        start_time="2026-11-27T00:00:00Z",
        end_time="2026-11-27T00:01:00Z",
        backup_prefix="refund-backups/2026/11/27/20261127T000000Z",
        fingerprint="0" * 64,
        previous=None,
        exports=(Export("refunds", "arn:aws:x", "root", "2026-11-27T00:00:00Z", 0, (), ()),),
    )
    return (
        Reader("request message", MESSAGE, parse_message, (RefusedError,)),
        Reader(
            "stream record",
            {"eventName": "INSERT", "dynamodb": {"NewImage": image, "OldImage": {}}},
            lambda content: entry_of(json.loads(content)),
            NOT_AN_IMAGE,
        ),
        Reader(
            "webhook",
            {"type": "refund.updated", "data": {"object": {"reference": "dev.rf_1"}}},
            _webhook,
            (RefusedWebhookError,),
        ),
        Reader("backup digest", json.loads(digest.to_bytes()), Digest.from_bytes, (DigestError,)),
    )


def damaged(valid: Any, random: Random) -> bytes:
    """``valid`` as JSON with some of its values, or some of its bytes, replaced."""
    value = json.loads(json.dumps(valid))
    for _ in range(random.randint(1, MOST_DAMAGES)):
        value = _with_damage(value, random)
    content = json.dumps(value, ensure_ascii=random.random() < 0.5).encode(errors="surrogatepass")
    if random.random() < 0.3:
        broken = bytearray(content)
        for _ in range(random.randint(1, MOST_DAMAGES)):
            broken[random.randrange(len(broken))] = random.randrange(256)
        content = bytes(broken[: random.randint(0, len(broken))])
    return content


def _with_damage(value: Any, random: Random) -> Any:
    if isinstance(value, dict) and value and random.random() < 0.9:
        name = random.choice(list(value))
        kind = random.random()
        if kind < 0.15:
            return {each: value[each] for each in value if each != name}
        if kind < 0.25:
            return {**value, f"{name}x": value[name]}
        return {**value, name: _with_damage(value[name], random)}
    if isinstance(value, list) and value and random.random() < 0.7:
        at = random.randrange(len(value))
        return [*value[:at], _with_damage(value[at], random), *value[at + 1 :]]
    return random.choice(ODD_VALUES)


def crash(reader: Reader, content: bytes) -> Exception | None:
    """What ``reader`` raises that it doesn't document."""
    try:
        reader.read(content)
    except reader.refusals:
        return None
    except Exception as exc:
        return exc
    return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int)
    asked = parser.parse_args()
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    ends = time.monotonic() + asked.minutes * 60
    inputs: Counter[str] = Counter()
    crashes: dict[str, str] = {}
    number = 0
    all_readers = readers()
    while time.monotonic() < ends:
        for reader in all_readers:
            content = damaged(reader.valid, Random(f"{seed}/{number}/{reader.name}"))
            inputs[reader.name] += 1
            if (exc := crash(reader, content)) is not None:
                where = traceback.extract_tb(exc.__traceback__)[-1]
                found = f"{reader.name}: {type(exc).__name__} at {where.name}:{where.lineno}"
                crashes.setdefault(found, f"input {number}: {content[:300]!r}")
        number += 1
    for name, count in inputs.items():
        print(f"{count:>9} {name}")
    print(f"crashes: {len(crashes)}")
    for found, example in crashes.items():
        print(f"  {found}\n    {example}")
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
