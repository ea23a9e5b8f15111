"""`refunds statement`: a month's refunds for finance and auditors, with their proof."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refunds.domain.clock import from_rfc3339, rfc3339
from refunds.domain.refund import Item
from refunds.tables.refund_indexes import Span
from refunds_ops.amounts import amount_text
from refunds_ops.backup.storage import backup_storage
from refunds_ops.commands.list_refunds import cell
from refunds_ops.dates import Zone, utc_now, zone_of
from refunds_ops.errors import REFUSED, RefusedError
from refunds_ops.json_output import json_option
from refunds_ops.reconciliation import Line, listed_since, reconcile
from refunds_ops.stack.stack import find_stack
from refunds_ops.statuses import outcome_of
from refunds_ops.terminal import print_error, print_json, print_line, print_note
from refunds_ops.totals import from_table, totals

if TYPE_CHECKING:
    from refunds.gateways.contract import GatewayRefund
    from refunds_ops.stack.stack import Stack

README = """\
Refunds created in {month} ({zone}), as of {as_of}

refunds.csv         one line a refund; amount as people write it, amount_minor in minor units
totals.csv          sums by day, currency and what became of the money
reconciliation.csv  each refund compared with the gateway's own list
proof/              receipts: each refund's audit entries, signed with the backups' key
                    .html opens in any browser and checks itself; .json is for programs
SHA256SUMS          digests of all these files

How to check, without the stack and offline:

1. No file was changed:              sha256sum -c SHA256SUMS
2. A refund's story was not changed: open proof/REFUND_ID.receipt.html in a browser, and give it
                                     the public key. Or on the command line:
                                     refunds audit check-receipt proof/REFUND_ID.receipt.html \\
                                       --public-key proof/public-key.pem
   Compare public-key.pem with the copy that was kept outside of the account when backups began.
   An entry that no backup covers yet is not proven: make the statement again after the next one.
{notes}"""

RECEIPTS_AT_ONCE = 500
"""The number of receipts that are made with one reading of the backup, all of them in memory."""

COLUMNS = (
    "refund_id",
    "payment",
    "user",
    "amount",
    "amount_minor",
    "currency",
    "outcome",
    "status",
    "reason",
    "requested_by",
    "gateway",
    "gateway_refund_id",
    "failure_code",
    "created_utc",
    "created_local",
    "last_change_utc",
    "last_change_local",
)


@click.command()
@click.option("--month", required=True, metavar="YYYY-MM", help="Of creation, in the stack's zone.")
@click.option(
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="A new folder for the files.",
)
@click.option("--no-gateway", is_flag=True, help="Do not compare with the gateway's list.")
@click.option(
    "--receipts",
    type=click.IntRange(0, 10_000),
    default=50,
    show_default=True,
    help="Write receipts for at most this many refunds, succeeded ones first.",
)
@json_option(
    {
        "month": "",
        "as_of": "RFC 3339, UTC",
        "refunds": "how many",
        "totals": "by currency and status: count, amount_minor",
        "reconciliation": "how many are matched, only_here, only_there, different; null without",
        "receipts": "how many were written",
        "folder": "",
    }
)
@click.pass_obj
def statement(stack_name: str | None, /, **options: Any) -> None:
    """Write a month's refunds and proof to a folder.

    CSV files of refunds and totals, the comparison with the gateway's list, receipts, and a README
    that says how to check them offline. Exit status 1 when not everything matches, or when the
    newest backup can't be read.
    """
    month, folder = options["month"], options["output"]
    stack = find_stack(stack_name)
    zone = zone_of(stack)
    span = _month(month, zone)
    now = rfc3339(utc_now())
    if span.since > now:
        raise RefusedError(f"{month} has not begun.", "Name a month that has: --month YYYY-MM")
    if folder.exists() and any(folder.iterdir()):
        raise RefusedError(f"{folder} is not empty.", "Name a new folder: --output FOLDER")
    source = from_table(stack, span)
    refunds = list(source.refunds)
    (folder / "proof").mkdir(parents=True, exist_ok=True)
    _write_refunds(folder / "refunds.csv", refunds, zone)
    _write_totals(folder / "totals.csv", refunds, zone)
    notes = ["The month has not ended: later refunds are missing."] if span.until > now else []
    compared = None
    if options["no_gateway"]:
        notes.append("The gateway was not asked: there is no reconciliation.csv.")
    else:
        compared = _write_reconciliation(folder / "reconciliation.csv", stack, refunds, span)
    written, damage = _write_receipts(folder / "proof", stack, refunds, options["receipts"], notes)
    (folder / "README.txt").write_text(
        README.format(
            month=month,
            zone=zone.name,
            as_of=zone.show(source.as_of),
            notes="".join(f"\n{note}\n" for note in notes),
        )
    )
    _write_sums(folder)
    summary = {
        "month": month,
        "as_of": source.as_of,
        "refunds": len(refunds),
        "totals": [
            {**each.key, "count": each.count, "amount_minor": each.amount_minor}
            for each in totals(refunds, ("status",), zone)
        ],
        "reconciliation": compared,
        "receipts": written,
        "folder": str(folder),
    }
    if options["as_json"]:
        print_json(summary)
    else:
        _print(summary, refunds, zone, notes)
    differ = compared and any(count for name, count in compared.items() if name != "matched")
    if differ:
        print_note(f"Not all of them match: {folder}/reconciliation.csv")
    if damage:
        print_error(damage, "What is wrong with it: refunds backup verify")
    if differ or damage:
        raise click.exceptions.Exit(REFUSED)


def _month(text: str, zone: Zone) -> Span:
    found = re.fullmatch(r"(\d{4})-(\d{2})", text, re.ASCII)
    try:
        first = date(int(found[1]), int(found[2]), 1) if found else None
        after = (first + timedelta(days=32)).replace(day=1) if first else None
    except (ValueError, OverflowError):
        first = after = None
    if first is None or after is None:
        raise RefusedError(f"{text} is not a month.", "Write it as 2026-11.")
    try:
        return Span(rfc3339(zone.start_of(first)), rfc3339(zone.start_of(after)))
    except (ValueError, OverflowError):
        raise RefusedError(f"{text} is out of range.") from None


def _write_csv(path: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([cell(value) for value in row] for row in rows)


def _write_refunds(path: Path, refunds: list[Item], zone: Zone) -> None:
    _write_csv(path, COLUMNS, (list(_columns(refund, zone)) for refund in refunds))


def _columns(refund: Item, zone: Zone) -> Iterator[object]:
    minor = refund.get("amount_minor")
    yield refund["refund_id"]
    yield refund["transaction_id"]
    yield refund["user_id"]
    yield "" if minor is None else amount_text(minor, refund["currency"]).split(" ")[0]
    yield "" if minor is None else minor
    yield refund["currency"]
    yield outcome_of(refund["status"])
    for name in ("status", "reason", "requested_by", "gateway", "gateway_refund_id"):
        yield refund.get(name, "")
    yield refund.get("failure_code", "")
    for name in ("created_at", "updated_at"):
        yield refund[name]
        yield zone.local(refund[name]).isoformat(timespec="seconds")


def _write_totals(path: Path, refunds: list[Item], zone: Zone) -> None:
    _write_csv(
        path,
        ("day", "currency", "status", "refunds", "amount", "amount_minor"),
        (
            (
                total.key["day"],
                total.key["currency"],
                total.key["status"],
                total.count,
                total.amount.split(" ")[0],
                total.amount_minor,
            )
            for total in totals(refunds, ("day", "status"), zone)
        ),
    )


def _write_reconciliation(
    path: Path, stack: Stack, refunds: list[Item], span: Span
) -> dict[str, int]:
    from refunds_ops.audit import sources
    from refunds_ops.open_refunds import indexes_of

    since = from_rfc3339(span.since)
    gateways = sources.gateways(stack)
    theirs = (
        (gateway.name, shown) for gateway in gateways for shown in listed_since(gateway, since)
    )
    ask, indexes = sources.ask_again([*gateways]), indexes_of(stack)
    counts = {"matched": 0, "only_here": 0, "only_there": 0, "different": 0}

    def look_up(refund: Item) -> Sequence[GatewayRefund]:
        reference = refund.get("gateway_reference") or refund["refund_id"]
        return ask(str(refund["gateway"]), reference, refund["transaction_id"]) or ()

    def lines() -> Iterator[Line]:
        ours = {refund["refund_id"]: refund for refund in refunds}
        for line in reconcile(
            ours,
            theirs,
            ours_among=lambda ids: {item["refund_id"] for item in indexes.items(ids)},
            look_up=look_up,
        ):
            counts[line.result.replace(" ", "_")] += 1
            yield line

    names = ("result", "refund_id", "gateway", "gateway_refund_id", "here", "there")
    _write_csv(
        path,
        names,
        (
            (
                each.result,
                each.refund_id,
                each.gateway,
                each.gateway_refund_id,
                each.ours,
                each.theirs,
            )
            for each in lines()
        ),
    )
    return counts


def _write_receipts(
    folder: Path, stack: Stack, refunds: list[Item], most: int, notes: list[str]
) -> tuple[int, str | None]:
    """How many were written, and what is wrong with the backup if that ended the writing early."""
    from refunds_ops.audit import sources
    from refunds_ops.audit.receipt_page import html_receipt
    from refunds_ops.audit.receipts import make_receipts
    from refunds_ops.backup.data_files import DamagedError
    from refunds_ops.backup.storage import AbsentError
    from refunds_ops.commands.audit_show import entries_of

    key = sources.public_key(stack, None)
    storage = backup_storage(stack, None)
    stored = sources.digest(storage, None)
    if key is not None:
        (folder / "public-key.pem").write_bytes(key.pem)
    if key is None or stored is None:
        notes.append("There is no signed backup yet: there are no receipts.")
        return 0, None
    chosen = sorted(refunds, key=lambda refund: refund["status"] != "SUCCEEDED")[:most]
    tables = sources.tables(stack)
    written = 0
    for start in range(0, len(chosen), RECEIPTS_AT_ONCE):
        stories: dict[str, list[Item]] = {}
        for refund in chosen[start : start + RECEIPTS_AT_ONCE]:
            if entries := entries_of(tables, refund["refund_id"], refund["transaction_id"]):
                stories[refund["refund_id"]] = entries
            else:
                notes.append(f"{refund['refund_id']} has no audit entry yet, and so no receipt.")
        try:
            receipts = make_receipts(
                [*stories.values()],
                made_at=rfc3339(utc_now()),
                storage=storage,
                stored=stored,
                public_key=key,
            )
        except (DamagedError, AbsentError) as exc:
            notes.append("Receipts are missing: the newest backup can't be read.")
            return written, f"The newest backup can't be read, so receipts are missing: {exc}."
        # An entry may contain anything, so the file is named after the refund's own id.
        for refund_id, made in zip(stories, receipts, strict=True):
            name = f"{refund_id}.receipt"
            (folder / f"{name}.json").write_text(json.dumps(made, indent=1) + "\n")
            (folder / f"{name}.html").write_text(html_receipt(made))
        written += len(receipts)
    if written < len(refunds):
        notes.append(
            f"There are receipts for {written} of {len(refunds)} refunds. For another: "
            "refunds audit receipt REFUND_ID --html. For all: refunds statement --receipts 10000"
        )
    return written, None


def _write_sums(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in files
    ]
    (folder / "SHA256SUMS").write_text("".join(sums))


def _print(summary: dict[str, Any], refunds: list[Item], zone: Zone, notes: Sequence[str]) -> None:
    print_line(f"{len(refunds):,} refunds of {summary['month']} in {summary['folder']}")
    for total in totals(refunds, ("status",), zone):
        print_line(f"  {total.key['status']}: {total.count:,}, {total.amount}")
    if compared := summary["reconciliation"]:
        shown = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in compared.items())
        print_line(f"  compared with the gateway: {shown}")
    for note in notes:
        print_note(note)
    print_note(f"How to check it: {summary['folder']}/README.txt")
