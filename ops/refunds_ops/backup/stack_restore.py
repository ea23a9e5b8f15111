"""Restores a backup into a stack's own tables, or into new tables beside them.

For its own tables, the order matters. First the tables are made complete and the audit writer is
connected. Then come the trail, the refunds, whose chains continue from it, and the ledger, which
the gateway corrects.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property

from refunds.backup.digest import Digest, Export
from refunds.backup.table_scan import Source, sources
from refunds.domain.clock import Clock
from refunds.domain.intake import pause_intake
from refunds.domain.refund import Refund
from refunds.gateways.contract import GatewayUnavailableError
from refunds.gateways.routing import Gateways
from refunds.tables.audit_trail import AuditTable
from refunds.tables.ledger import LedgerTable
from refunds.tables.refund_indexes import RefundIndexes
from refunds.tables.refunds import RefundsTable
from refunds.tables.state import MESSAGES_RETURN_WITHIN, Control
from refunds.tables.wire import item_from_wire
from refunds_ops.audit.rows import refund_row
from refunds_ops.audit.tables import Tables
from refunds_ops.backup.audit_chains import AuditChains, Restorer, TrailError
from refunds_ops.backup.data_files import DamagedError
from refunds_ops.backup.ledger_rebuild import LedgerRebuild, open_unfinished
from refunds_ops.backup.lost_rows import LostRows
from refunds_ops.backup.progress import Progress, Rows
from refunds_ops.backup.restore import OnProgress, RestoreError, RowRestore, import_table
from refunds_ops.backup.single_refund import IntactError, RefundRestore
from refunds_ops.backup.storage import AbsentError, BackupStorage
from refunds_ops.backup.tables import TableReader, creation_parameters
from refunds_ops.backup.whole_tables import (
    NotWholeError,
    TableSettings,
    WholeTables,
    create_table,
    user_tags,
)
from refunds_ops.errors import NotReadyError, RefusedError
from refunds_ops.stack import audit_writer
from refunds_ops.stack.stack import Stack

WRITES_AT_ONCE = 10
"""The number of threads: as many as boto3 keeps connections."""

FROM_TRAIL = "refunds of the audit trail"

LEDGER_IS_NEW = ". Exceptions from limits and pauses of single gateways are lost: set them again"
"""Added to what the restore says, and to the reason of the pause, which `refunds status` shows."""


class StackRestore:
    """One restore: of which backup, into which tables, by whom and why."""

    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        stack: Stack,
        storage: BackupStorage,
        digest: Digest,
        *,
        suffix: str = "",
        by_rows: bool = True,
        progress: Progress,
        restorer: Restorer,
        clock: Clock,
        reader: TableReader,
        gateways: Gateways | None,
    ) -> None:
        """``gateways`` None leaves the ledger as the backup has it."""
        self._stack = stack
        self._storage = storage
        self._digest = digest
        self._exports = {export.table: export for export in digest.exports}
        self._suffix = suffix
        self._by_rows = by_rows
        self._progress = progress
        self._restorer = restorer
        self._clock = clock
        self._reader = reader
        self._gateways = gateways
        self.seconds: dict[str, float] = {}
        """How long each step took."""
        self.damaged: list[str] = []
        """Refunds whose record can't be read; a restore leaves it as it is."""

    # --- The tables -------------------------------------------------------------------------------

    def make_whole(self) -> list[str]:
        """Give the stack's tables everything that the template gives them, and connect the audit
        writer.

        Returns what was done. Raises ``RefusedError`` with the steps when that isn't possible.
        """
        done = []
        tables = WholeTables(self._stack.dynamodb, self._settings)
        try:
            if tables.ensure("ledger", self._name("ledger")):
                self._hold_requests()
                done.append(f"created the ledger table, with requests paused{LEDGER_IS_NEW}")
            for kind in ("audit", "refunds"):
                if tables.ensure(kind, self._name(kind)):
                    done.append(f"created the table {self._name(kind)}")
            if audit_writer.connect(self._stack):
                done.append("connected WriteAudit to the new stream of Refunds")
        except (NotWholeError, audit_writer.NotConnectedError) as exc:
            raise RefusedError(f"No row was restored: {exc}.", *exc.steps) from exc
        return done

    @cached_property
    def _settings(self) -> TableSettings:
        """The settings that the template gives this stack's stage, with the tags of a table that
        still exists."""
        dynamodb = self._stack.dynamodb
        tags: dict[str, str] = {}
        for kind in ("refunds", "ledger"):
            try:
                table = dynamodb.describe_table(TableName=self._name(kind))["Table"]
            except dynamodb.exceptions.ResourceNotFoundException:
                continue
            tags |= user_tags(dynamodb, table["TableArn"])
        function = self._stack.functions.get_function_configuration(
            FunctionName=self._stack["BackupRefundsFunctionName"]
        )
        stage = function.get("Environment", {}).get("Variables", {}).get("STAGE")
        return TableSettings(self._stack.outputs.get("DataKeyArn"), stage == "prod", tags)

    def _hold_requests(self) -> None:
        """A new ledger must say that requests wait, and how they are claimed once they don't."""
        now, restorer = self._clock.now(), self._restorer
        Control(self._stack.dynamodb, self._name("ledger")).change_intake(
            lambda intake: pause_intake(
                intake,
                restorer.by,
                f"{restorer.why[:100]}{LEDGER_IS_NEW}",
                now,
                on_behalf_of=restorer.on_behalf_of,
            )
        )
        self._look_up_first()

    def _look_up_first(self) -> None:
        until = self._clock.now() + MESSAGES_RETURN_WITHIN
        Control(self._stack.dynamodb, self._name("ledger")).set_look_up_first(until)

    # --- Rows -------------------------------------------------------------------------------------

    def restore(self, tables: Sequence[str], on_progress: OnProgress) -> None:
        """Restore the tables, the audit trail first: the refunds continue its chains."""
        if not self._suffix:
            # This comes first, so that no claim trusts half-restored tables, however the restore
            # ends.
            self._look_up_first()
        try:
            for name in ("audit", "refunds", "ledger"):
                if name in tables:
                    with self._timed(name):
                        self._table(self._exports[name], on_progress)
                if name == "refunds" and name in tables and not self._suffix:
                    self._from_trail(on_progress)
        except (RestoreError, DamagedError, AbsentError) as exc:
            raise RefusedError(f"Not restored: {exc}.", "refunds backup verify says more.") from exc

    def _table(self, export: Export, on_progress: OnProgress) -> None:
        dynamodb, table = self._stack.dynamodb, self._name(export.table)
        key_arn = self._stack.outputs.get("DataKeyArn")
        if not self._by_rows:
            import_table(
                dynamodb, self._storage, export, table, self._progress, on_progress, key_arn=key_arn
            )
            self._progress.rows[export.table] = Rows({"restored": export.item_count})
            return
        if self._suffix:
            create_table(dynamodb, creation_parameters(export.table, table, key_arn))
        chains = None if self._suffix else self._chains
        with ThreadPoolExecutor(WRITES_AT_ONCE) as pool:
            RowRestore(dynamodb, self._storage, pool, chains).restore(
                export, table, self._progress, on_progress
            )

    def _from_trail(self, on_progress: OnProgress) -> None:
        on_progress("refunds that only the audit trail has", 0, 0)
        with self._timed(FROM_TRAIL):
            names = (self._name(kind) for kind in ("refunds", "ledger", "audit"))
            (audit,) = [source for source in sources(*names) if source.name == "audit"]
            lost = LostRows(self._stack.dynamodb, self._name("refunds"), self._chains)
            if (rows := lost.restore(self._reader.items(audit))).counts:
                self._progress.rows[FROM_TRAIL] = rows

    @property
    def _chains(self) -> AuditChains:
        audit = AuditTable(self._stack.dynamodb, self._name("audit"))
        return AuditChains(audit, self._clock, self._restorer)

    def restore_refund(
        self, refund_id: str, transaction_id: str | None, tables: Tables, on_progress: OnProgress
    ) -> tuple[Refund, bool]:
        """Restore one refund's record, then its payment's ledger. Returns the refund, and whether
        its record needed it.

        If it did not, an earlier restore may have ended before the ledger, so that is rebuilt all
        the same. Raises ``RefusedError``.
        """
        restore = RefundRestore(self._stack.dynamodb, tables, self._chains, self._storage)
        on_progress(f"find {refund_id} in the backup", 0, 0)
        try:
            backup = restore.read(self._digest, refund_id)
            refund, needed = restore.restore(refund_id, backup, transaction_id), True
        except IntactError:
            stored = RefundsTable(self._stack.dynamodb, self._name("refunds")).get(refund_id)
            if stored is None:
                raise RefusedError(
                    f"Not restored: {refund_id} changed meanwhile.", "Run the same command again."
                ) from None
            refund, needed = stored, False
        except (RestoreError, TrailError, DamagedError, AbsentError) as exc:
            raise RefusedError(
                f"Not restored: {exc}.", "refunds verify and refunds backup verify say more."
            ) from exc
        if self._gateways is not None:
            entries = tables.entries_of(refund.transaction_id)
            refund_ids = {entry["refund_id"]["S"] for entry in entries} | {refund_id}
            refunds = RefundIndexes(self._stack.dynamodb, self._name("refunds"))
            of_payment = [Refund.from_item(item) for item in refunds.items(sorted(refund_ids))]
            self._progress.ledger_after = ""
            self._rebuild_ledger(of_payment, self._gateways, on_progress)
        return refund, needed

    # --- Ready for the queue ----------------------------------------------------------------------

    def make_ready(self, on_progress: OnProgress) -> int:
        """Rebuild the ledger with the gateway, and hand unfinished refunds to the reconciler.

        Returns how many refunds were opened for it.
        """
        self._look_up_first()
        if self._gateways is not None:
            with self._timed("rebuild the ledger"):
                self._rebuild_ledger(self._refunds(), self._gateways, on_progress)
        on_progress("open unfinished refunds", 0, 0)
        table = RefundsTable(self._stack.dynamodb, self._name("refunds"))
        with self._timed("open unfinished refunds"):
            return open_unfinished(table, self._refunds(), self._clock)

    def _rebuild_ledger(
        self, refunds: Iterator[Refund] | list[Refund], gateways: Gateways, on_progress: OnProgress
    ) -> None:
        try:
            with ThreadPoolExecutor(WRITES_AT_ONCE) as pool:
                LedgerRebuild(
                    ledger=LedgerTable(self._stack.dynamodb, self._name("ledger")),
                    gateways=gateways,
                    clock=self._clock,
                    pool=pool,
                    sleep=time.sleep,
                ).run(refunds, self._progress, on_progress)
        except GatewayUnavailableError as exc:
            raise NotReadyError(
                f"The gateway did not answer: {exc}.",
                "What is done stays done. Run the same command again when it answers.",
            ) from exc
        except RestoreError as exc:
            raise RefusedError(f"Not restored: {exc}.", "refunds status") from exc

    def _refunds(self) -> Iterator[Refund]:
        self.damaged.clear()
        for wire in self._reader.items(Source("refunds", self._name("refunds"))):
            if refund_row(wire).problem:
                self.damaged.append(wire["refund_id"]["S"])
            else:
                yield Refund.from_item(item_from_wire(wire))

    def _name(self, kind: str) -> str:
        return own_tables(self._stack)[kind] + self._suffix

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - began, 1)


def own_tables(stack: Stack) -> dict[str, str]:
    return {
        "refunds": stack["RefundsTableName"],
        "ledger": stack["LedgerTableName"],
        "audit": stack["AuditTableName"],
    }
