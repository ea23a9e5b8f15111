"""What the audit commands read of a stack: its tables, failures, backups, keys and gateways."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from refunds.backup.digest import DigestError
from refunds.backup.table_scan import PageReader, ReadLimit
from refunds.domain.clock import Deadline, SystemClock
from refunds.environment import SettingsError
from refunds.gateways.contract import (
    Gateway,
    GatewayRefund,
    GatewayUnavailableError,
    Payment,
    RefundPage,
)
from refunds.gateways.http import PooledTransport
from refunds.gateways.routing import Gateways
from refunds.processing.balance import listed_under
from refunds.settings import GatewaySettings
from refunds.tables.audit_trail import AuditTable
from refunds.wiring.gateways import GatewayAccess, SecretKey, open_gateways
from refunds_ops.audit.failures import FailureReader
from refunds_ops.audit.gateway_check import Ask
from refunds_ops.audit.latest_backup import BackupReader, chosen
from refunds_ops.audit.tables import Tables
from refunds_ops.backup.signatures import NotAPublicKeyError, PublicKey
from refunds_ops.backup.storage import AbsentError, BackupStorage
from refunds_ops.backup.verification import StoredDigest
from refunds_ops.errors import NotReadyError, RefusedError
from refunds_ops.stack.stack import Stack

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Answer = TypeVar("Answer")

GATEWAY_TRIES = 6
MAX_GATEWAY_WAIT_SECONDS = 60.0
MAX_GATEWAY_PAGES = 1_000_000


def tables(stack: Stack, read_units_per_second: int = 0) -> Tables:
    scan_client: DynamoDBClient = stack.new_client("dynamodb")
    return Tables(
        stack.dynamodb,
        PageReader(scan_client, ReadLimit(read_units_per_second)),
        refunds=stack["RefundsTableName"],
        ledger=stack["LedgerTableName"],
        audit=stack["AuditTableName"],
    )


def audit_table(stack: Stack) -> AuditTable:
    return AuditTable(stack.dynamodb, stack["AuditTableName"])


def failures(stack: Stack) -> FailureReader:
    return FailureReader(stack.s3, stack["FailuresBucketName"])


def public_key(stack: Stack, file: Path | None) -> PublicKey | None:
    """The key in ``file``, else the one that KMS names; None when the stack signs nothing."""
    if file is not None:
        return read_public_key(file)
    if arn := stack.outputs.get("BackupSigningKeyArn"):
        return PublicKey(stack.new_client("kms").get_public_key(KeyId=arn)["PublicKey"])
    return None


def read_public_key(file: Path) -> PublicKey:
    try:
        return PublicKey(file.read_bytes())
    except (OSError, NotAPublicKeyError) as exc:
        raise RefusedError(f"{file} can't be read as a public key: {exc}.") from exc


def digest(where: BackupStorage, sequence: int | None) -> StoredDigest | None:
    """The digest with that number, or the newest, or None when there is none at all.

    Raises ``RefusedError`` when the one asked for isn't there, or none can be read.
    """
    try:
        found = chosen(where, sequence)
    except (DigestError, AbsentError) as exc:
        raise RefusedError(
            f"The backup's digest can't be read: {exc}.", "refunds backup verify"
        ) from exc
    if found is None and sequence is not None:
        raise RefusedError(f"There is no digest {sequence}.", "refunds backup list")
    return found


def backup(
    where: BackupStorage, sequence: int | None, key: PublicKey | None
) -> BackupReader | None:
    found = digest(where, sequence)
    return BackupReader(where, found, key) if found else None


def settings_of(stack: Stack) -> dict[str, str]:
    """The environment of ReconcileRefunds."""
    name = stack["ReconcileRefundsFunctionName"]
    configuration = stack.functions.get_function_configuration(FunctionName=name)
    return {**configuration.get("Environment", {}).get("Variables", {}), **stack.settings}


def gateways(stack: Stack) -> Gateways:
    """The gateways of the stack's functions and their routes, by the functions' own settings."""
    settings = settings_of(stack)
    access = GatewayAccess(
        api_key=lambda account: SecretKey(
            account.secret_arn, account.secret_field, client=stack.new_client("secretsmanager")
        ),
        transport=lambda account: PooledTransport(1),
    )
    try:
        found = GatewaySettings.read(settings)
        return Gateways(open_gateways(found, access, SystemClock()), found.routes)
    except SettingsError as exc:
        name = stack["ReconcileRefundsFunctionName"]
        raise NotReadyError(f"The settings of {name} can't be used here: {exc}.") from exc


def configured_accounts(stack: Stack) -> dict[str, str] | None:
    """The account of each configured gateway, by its name; None if the settings can't be read."""
    try:
        return {gateway.name: gateway.account for gateway in gateways(stack)}
    except (NotReadyError, ClientError, BotoCoreError):
        return None


def gateway_refunds(gateways: Sequence[Gateway]) -> Iterator[Sequence[GatewayRefund]]:
    """All that the gateways list. Raises ``NotReadyError`` when one stays out of reach."""
    for gateway in gateways:
        cursor: str | None = None
        for _ in range(MAX_GATEWAY_PAGES):
            page: RefundPage = answer(gateway, partial(gateway.list_refunds, cursor=cursor))
            yield page.refunds
            if (cursor := page.next_cursor) is None:
                break


def ask_again(gateways: Sequence[Gateway]) -> Ask:
    """What one of the gateways shows of a single refund now."""
    by_name = {gateway.name: gateway for gateway in gateways}

    def ask(name: str, reference: str, transaction_id: str) -> Sequence[GatewayRefund] | None:
        if (gateway := by_name.get(name)) is None:
            return None
        return answer(gateway, partial(gateway.find_refunds, reference, transaction_id))

    return ask


def captured_by(gateways: Sequence[Gateway]) -> Callable[[str], int | None]:
    """What was captured of a payment, by the word of the gateway that knows it."""

    def captured(transaction_id: str) -> int | None:
        for gateway in gateways:
            if payment := answer(gateway, partial(gateway.get_payment, transaction_id)):
                return payment.captured_minor
        return None

    return captured


def payment_at(
    gateways: Gateways, name: str, transaction_id: str, account: str | None = None
) -> Payment | None:
    """A payment as one gateway shows it. ``account``: the account that must be asked; None: the
    configured one. Raises ``NotReadyError`` when it can't be asked."""
    gateway = _named(gateways, name, account)
    return answer(gateway, partial(gateway.get_payment, transaction_id))


def refunds_at(
    gateways: Gateways, name: str, reference: str, transaction_id: str, account: str | None
) -> Sequence[GatewayRefund]:
    """What the account that a refund began with has under its stored reference. Raises
    ``NotReadyError``."""
    gateway = _named(gateways, name, account)
    found = answer(gateway, partial(gateway.find_refunds, reference, transaction_id))
    # A look-up may lag behind the payment's list.
    return found or answer(gateway, partial(listed_under, gateway, transaction_id, reference))


def _named(gateways: Gateways, name: str, account: str | None) -> Gateway:
    try:
        return gateways.named(name, account)
    except GatewayUnavailableError as exc:
        raise NotReadyError(f"{exc}.", "See the stack's GatewayName and GatewayRoutes.") from exc


def answer(gateway: Gateway, question: Callable[[Deadline], Answer]) -> Answer:
    clock = SystemClock()
    for attempt in range(GATEWAY_TRIES):
        try:
            return question(Deadline.after(clock, gateway.timeout_seconds))
        except GatewayUnavailableError as exc:
            if attempt == GATEWAY_TRIES - 1:
                raise NotReadyError(
                    f"The gateway {gateway.name} could not be asked: {exc}.",
                    "Leave --gateway out to do without it.",
                ) from exc
            wait = exc.retry_after_seconds or 2.0**attempt
            time.sleep(min(wait, MAX_GATEWAY_WAIT_SECONDS))
    raise AssertionError("unreachable")
