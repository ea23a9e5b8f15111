"""`refunds backup …` on a stack in moto: what its tests need around the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from tests.support.backup_parts import BackedUp
from tests.support.builders import NOW
from tests.support.fake_lambda import FakeLambda
from tests.support.moto_stack import REGION

from refunds.domain.intake import pause_intake
from refunds.gateways.contract import Payment, PaymentStatus, RefundPage
from refunds.tables.state import Control

Run = Callable[..., tuple[int, str, str]]
"""Runs a command; returns status, stdout and stderr."""


class OneGateway:
    """Every payment is 10,000; it shows no refunds."""

    name = "flair"
    account = "test"
    timeout_seconds = 5.0

    def get_payment(self, transaction_id: str, deadline: Any) -> Payment:
        return Payment(transaction_id, PaymentStatus.CAPTURED, "EUR", 10_000, 0)

    def list_refunds(self, deadline: Any, **_: Any) -> RefundPage:
        return RefundPage((), None)


def stream(stack: BackedUp) -> str:
    """The stream of the table Refunds, which it has from now on."""
    described = stack.dynamodb.update_table(
        TableName=stack.refunds,
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    return described["TableDescription"]["LatestStreamArn"]


def connect(stack: BackedUp, functions: FakeLambda) -> None:
    """Have WriteAudit read the stream of the table Refunds, once."""
    described = stack.dynamodb.describe_table(TableName=stack.refunds)["Table"]
    if "LatestStreamArn" not in described:
        functions.connect(stream(stack))


def pause(stack: BackedUp) -> None:
    Control(stack.dynamodb, stack.ledger).change_intake(
        lambda intake: pause_intake(intake, "operator:ann", "restore", NOW)
    )


def download(stack: BackedUp, folder: Path) -> None:
    for key in stack.listed():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stack.object(key))


def empty(stack: BackedUp) -> None:
    """Every row of the tables is lost."""
    dynamodb = boto3.client("dynamodb", region_name=REGION)
    for table, keys in (
        (stack.refunds, ["refund_id"]),
        (stack.ledger, ["transaction_id"]),
        (stack.audit, ["transaction_id", "entry_id"]),
    ):
        for item in dynamodb.scan(TableName=table)["Items"]:
            if item["transaction_id"]["S"] == "#intake":
                continue
            dynamodb.delete_item(TableName=table, Key={key: item[key] for key in keys})


class Named:
    def __init__(self, parts: Any) -> None:
        self.functions = parts.functions

    def __getitem__(self, name: str) -> str:
        return name
