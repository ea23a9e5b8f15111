"""Backups and proof: the chain of digests, the drills, and what `refunds verify` finds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from refunds.backup.digest import Digest
from refunds.domain.clock import from_rfc3339, rfc3339
from refunds_console.jobs import Job, OnProgress
from refunds_console.rendering import Pages, go_to
from refunds_console.routes import Routes, get, post
from refunds_console.state import Console
from refunds_ops.audit.verify import Report
from refunds_ops.backup.storage import Bucket
from refunds_ops.backup.verification import BackupReport, BackupVerification, Link, published
from refunds_ops.commands.verify import run_verification
from refunds_ops.dates import age, utc_now
from refunds_ops.stack.stack import Stack

LINKS = 14
OLD = timedelta(hours=30)
"""The age from which on a daily backup has missed a day."""
DRILL_DAYS = 35


@dataclass(frozen=True)
class NewestBackup:
    """``signed``: whether the stack's key signed its digest; None when there is no key to ask."""

    sequence: int
    started_at: str
    age: str
    old: bool
    rows: int
    signed: bool | None


@dataclass(frozen=True)
class DrillRun:
    at: str
    passed: bool
    seconds: int | None


def newest_backup(console: Console) -> NewestBackup | None:
    """The last published backup; None before the first."""
    links = chain(console, at_most=1)
    if not links:
        return None
    [link] = links
    if (digest := link.digest) is None:
        return NewestBackup(link.sequence, "", "?", True, 0, False)
    now = utc_now()
    return NewestBackup(
        digest.sequence,
        digest.start_time,
        age(digest.start_time, now),
        now - from_rfc3339(digest.start_time) > OLD,
        rows_of(digest),
        None if console.signing_key() is None else not link.findings,
    )


def rows_of(digest: Digest) -> int:
    return sum(export.item_count for export in digest.exports)


def items_of(digest: Digest) -> Mapping[str, int]:
    return {export.table: export.item_count for export in digest.exports}


def bytes_of(digest: Digest) -> int:
    return sum(file.size for export in digest.exports for file in export.files)


def chain(console: Console, at_most: int = LINKS) -> Sequence[Link]:
    """The newest digests, and what is wrong with each."""
    key = console.signing_key()
    check = BackupVerification(_bucket(console.stack), [key] if key else [])
    links = check.links(at_most, console.inner_pool)
    if key is not None:
        return links
    # Without a key no signature can be checked.
    return [
        Link(
            link.sequence,
            link.digest,
            [finding for finding in link.findings if finding.kind != "signature"],
        )
        for link in links
    ]


def _bucket(stack: Stack) -> Bucket:
    return Bucket(stack.s3, stack["BackupBucketName"])


def drills(stack: Stack, cloudwatch: Any, now: datetime) -> list[DrillRun]:
    """What `refunds backup drill` reported to CloudWatch, newest first."""

    def points(name: str, statistic: str) -> dict[datetime, float]:
        answer = cloudwatch.get_metric_statistics(
            Namespace="Refunds",
            MetricName=name,
            Dimensions=[{"Name": "service", "Value": stack.name}],
            StartTime=now - timedelta(days=DRILL_DAYS),
            EndTime=now,
            Period=3600,
            Statistics=[statistic],
        )
        return {point["Timestamp"]: point[statistic] for point in answer["Datapoints"]}

    failed, seconds = (
        points("BackupDrillFailed", "Maximum"),
        points("BackupDrillSeconds", "Average"),
    )
    return [
        DrillRun(rfc3339(at), not failed[at], int(seconds[at]) if at in seconds else None)
        for at in sorted(failed, reverse=True)
    ]


# --- Checks ---------------------------------------------------------------------------------------


def check_everything(console: Console, on_progress: OnProgress) -> Report:
    """As `refunds verify`."""

    def counted(name: str, pages: Iterable[list[Any]], about: int) -> Iterator[list[Any]]:
        done = 0
        for page in pages:
            yield page
            done += len(page)
            on_progress(name, done, max(done, about) if about else 0)

    return run_verification(console.stack, counted)


def check_newest_files(console: Console, on_progress: OnProgress) -> BackupReport:
    """As `refunds backup verify --latest`."""
    storage = _bucket(console.stack)
    key = console.signing_key()
    newest = (published(storage) or [0])[-1]
    return BackupVerification(storage, [key] if key else [], on_progress=on_progress).run(
        data_of=lambda digest: digest.sequence == newest
    )


def routes(console: Console, pages: Pages) -> Routes:
    checks = console.checks
    checks["records"] = Job(partial(check_everything, console))
    checks["backup"] = Job(partial(check_newest_files, console))

    def proof(request: Request) -> Response:
        cloudwatch = console.client("cloudwatch")
        parts = console.read(
            {
                "chain": partial(chain, console),
                "drills": partial(drills, console.stack, cloudwatch, utc_now()),
            }
        )
        return pages.render(
            "proof.html", parts=parts, checks=checks, items_of=items_of, bytes_of=bytes_of
        )

    def running(request: Request) -> Response:
        return pages.render("fragments/checks.html", checks=checks)

    def start(request: Request, form: Mapping[str, str]) -> Response:
        if (job := checks.get(form.get("check", ""))) is not None:
            job.start()
        return go_to("/proof#checks")

    return [
        get("/proof", pages.view(proof)),
        get("/fragments/checks", pages.view(running)),
        # It only reads, so a read-only console has it, too.
        post("/proof/check", pages.change(start, always=True)),
    ]
