"""The Python in docs/producers.md runs, its outbox loses nothing, and its tables are complete."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from tests.support.builders import payment
from tests.support.producers_guide import GUIDE, REQUEST, examples
from tests.support.world import World

from refunds.domain.refund import Status
from refunds.domain.request import ErrorCode, RefundRequest
from refunds.domain.request_fields import REASONS

SEND, OUTBOX = examples("python")


def test_the_python_example_sends_its_request(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RefundQueueUrl", world.stack.queue_url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", world.stack.clients.sqs.meta.region_name)

    exec(compile(SEND, str(GUIDE), "exec"), {})

    assert json.loads(world.stack.receive()["body"]) == REQUEST


class Shop:
    """The guide's order service, over a database in memory."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.code: dict[str, Any] = {}
        exec(compile(OUTBOX, str(GUIDE), "exec"), self.code)
        self.db = db
        self.db.executescript(self.code["SCHEMA"])
        self.db.execute("INSERT INTO orders VALUES ('1001', 'payment-1', 'paid')")
        self.db.commit()

    def status(self) -> str:
        (status,) = self.db.execute("SELECT status FROM orders").fetchone()
        return str(status)


@pytest.fixture
def shop() -> Iterator[Shop]:
    with closing(sqlite3.connect(":memory:")) as db:
        yield Shop(db)


def test_a_crash_after_sending_sends_again_and_pays_once(world: World, shop: Shop) -> None:
    world.gateway.payments["payment-1"] = payment()
    sent = list[str]()
    shop.code["cancel_order"](shop.db, "1001")
    shop.code["cancel_order"](shop.db, "1001")

    def send_and_crash(body: str) -> None:
        sent.append(body)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        shop.code["send_outbox"](shop.db, send_and_crash)
    shop.code["send_outbox"](shop.db, sent.append)
    shop.code["send_outbox"](shop.db, sent.append)
    for body in sent:
        world.queue.handle(world.stack.send(body), world.deadline())

    assert len(sent) == 2
    assert world.stored("orders-1001-cancelled").status is Status.SUCCEEDED
    assert [order.amount_minor for order in world.gateway.orders] == [10_000]


def test_an_order_is_not_cancelled_without_its_request(shop: Shop) -> None:
    shop.db.execute("DROP TABLE outbox")

    with pytest.raises(sqlite3.OperationalError):
        shop.code["cancel_order"](shop.db, "1001")
    assert shop.status() == "paid"


def first_column(heading: str) -> set[str]:
    """The names in the first column of the first table after a heading or a text."""
    table = GUIDE.read_text().partition(heading)[2]
    rows = re.search(r"(?:^\|.*\n)+", table, re.MULTILINE)
    assert rows is not None
    return {
        name
        for row in rows[0].splitlines()[2:]
        for name in re.findall(r"`(\w+)`", row[: row.index("|", 1)])
    }


def test_the_guide_names_every_field_reason_and_error_code() -> None:
    assert first_column("## The message") == set(RefundRequest.model_fields)
    assert first_column("with the reason in its attributes:") == set(ErrorCode)
    assert all(f"`{reason}`" in GUIDE.read_text() for reason in REASONS)
