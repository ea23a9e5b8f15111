"""How the demo looks: the live table while it runs, and the report after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from refunds.domain.refund import Item, Status
from refunds_devkit.local.demo_checks import Check
from refunds_devkit.local.demo_requests import Case, Story
from refunds_devkit.local.demo_run import FINAL, Seen, refused_of
from refunds_ops.amounts import amount_text
from refunds_ops.looks import Moment, moments, status_text, timeline
from refunds_ops.statuses import short_name

HASH_DIGITS = 6
"""How much of a hash the audit trail's table shows: as much as its 100 columns have room for."""
OPERATIONS = {
    "create_refund": "POST /v1/refunds",
    "list_refunds": "GET /v1/refunds?reference=…",
    "get_refund": "GET /v1/refunds/…",
    "get_payment": "GET /v1/payments/…",
}


def opening() -> Panel:
    flow = Text.assemble(
        ("queue", "bold cyan"),
        " → ProcessRefund → ",
        ("gateway", "bold cyan"),
        " + ",
        ("Refunds", "bold cyan"),
        " → stream → WriteAudit → ",
        ("PaymentAuditTrail", "bold cyan"),
        " → ",
        ("bus", "bold cyan"),
        "\n        ReconcileRefunds settles what stays open     BackupRefunds → ",
        ("S3", "bold cyan"),
    )
    return Panel(
        flow,
        title="[bold]Payment refunds: the whole flow, on this machine[/]",
        title_align="left",
        border_style="cyan",
        padding=(1, 2),
    )


def progress(story: Story, seen: Seen, sent: int) -> RenderableType:
    """The requests that were sent so far, each with its status."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), title_justify="left")
    table.add_column("request")
    table.add_column("what it is", style="dim")
    table.add_column("now", no_wrap=True)
    for case in story.cases[:sent]:
        table.add_row(case.refund_id, case.title, _now(case, seen))
    return table


def _now(case: Case, seen: Seen) -> RenderableType:
    if case.refused:
        refusal = refused_of(seen, case)
        return Text("REFUSED", style="red") if refusal else Spinner("dots", "in the queue")
    refund = seen.refunds.get(case.refund_id)
    if refund is None:
        return Spinner("dots", "in the queue")
    if Status(refund["status"]) in FINAL:
        return status_text(refund["status"])
    return Spinner("dots", status_text(refund["status"]))


def report(console: Console, story: Story, seen: Seen, checked: Sequence[Check]) -> None:
    """Everything that happened, and whether it is right."""
    for title, content in (
        ("The outcome of each request", _outcomes(story, seen)),
        (
            "One request in detail: money moved, but the gateway never responded",
            _story(story, seen),
        ),
        ("The audit trail (PaymentAuditTrail)", _trail(seen)),
        ("Money at the gateway", _money(story, seen)),
        ("The backup, in the layout of DynamoDB's own export to S3", _backup(seen)),
        ("Does the backup work? refunds backup verify, refunds backup drill", _proof(seen)),
    ):
        console.print()
        console.print(Rule(f"[bold]{title}[/]", align="left", style="cyan"))
        console.print(content)
    console.print()
    console.print(_verdict(checked))


def _outcomes(story: Story, seen: Seen) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), expand=True)
    table.add_column("request", no_wrap=True)
    table.add_column("what it is", style="dim", no_wrap=True)
    table.add_column("amount", justify="right", no_wrap=True)
    table.add_column("became", no_wrap=True)
    table.add_column("why", ratio=1)
    for case in story.cases:
        amount = case.fields["amount_minor"]
        shown = (
            amount_text(amount, case.fields["currency"])
            if isinstance(amount, int)
            else Text(f'"{amount}"', style="red")
        )
        became, reason = _became(case, seen)
        table.add_row(case.refund_id, case.title, shown, became, reason)
    return table


def _became(case: Case, seen: Seen) -> tuple[Text, Text]:
    if case.refused:
        refusal = refused_of(seen, case)
        if refusal is None:
            return Text("not there", style="bold red"), Text("")
        return Text("REFUSED", style="red"), _because(
            refusal["error_code"], refusal["error_message"]
        )
    refund = seen.refunds.get(case.refund_id)
    if refund is None:
        return Text("not there", style="bold red"), Text("")
    if code := refund.get("failure_code"):
        return status_text(refund["status"]), _because(code, refund.get("failure_message"))
    return status_text(refund["status"]), Text(case.remark)


def _because(code: str, message: str | None) -> Text:
    return Text.assemble(code, (f"\n{message}" if message else "", "dim"))


def _story(story: Story, seen: Seen) -> RenderableType:
    refund_id = story.timed_out.refund_id
    lines = moments([entry for entry in seen.entries if entry["refund_id"] == refund_id])
    for call in seen.calls:
        answered = call["status"] is not None
        lines.append(
            Moment(
                call["at"],
                OPERATIONS[call["operation"]],
                "blue",
                f"→ {call['status']}" if answered else "money moves, and no response ever comes",
                ""
                if answered
                else "The outcome is unknown: the amount stays reserved, the message "
                "returns to the queue.",
                mark="◆",
            )
        )
    legend = Text("◆ call to the gateway   ● audit entry", style="dim")
    return Padding(Group(timeline(lines), legend), (1, 0, 0, 1))


def _trail(seen: Seen) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("payment", "refund", "v", "status", "outcome"):
        table.add_column(name, no_wrap=True)
    for name in ("by", "before", "hash"):
        table.add_column(name, no_wrap=True, style="dim")
    before: Item = {}
    for entry in seen.entries:
        same = {name for name in ("transaction_id", "refund_id") if before.get(name) == entry[name]}
        before = entry
        table.add_row(
            "" if "transaction_id" in same else entry["transaction_id"],
            "" if "refund_id" in same else entry["refund_id"],
            str(entry["version"]),
            status_text(entry["status"]),
            entry["outcome"],
            short_name(entry["processed_by"]).partition(":")[0],
            (entry.get("previous_hash") or "–")[:HASH_DIGITS],
            entry["entry_hash"][:HASH_DIGITS],
        )
    return table


def _money(story: Story, seen: Seen) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), expand=True)
    table.add_column("payment", no_wrap=True)
    table.add_column("captured", justify="right", no_wrap=True)
    table.add_column("movements of money", ratio=1)
    table.add_column("refunded", justify="right", no_wrap=True)
    table.add_column("remaining in our ledger", justify="right", no_wrap=True)
    for payment in story.payments:
        moved = [
            each for each in seen.books.get("movements", []) if each["transaction_id"] == payment.id
        ]
        remaining = seen.ledger.get(payment.id, {}).get("remaining")
        times = Counter(each["reference"] for each in moved)
        table.add_row(
            payment.id,
            amount_text(payment.captured_minor, payment.currency),
            Text(", ".join(f"{reference} ×{count}" for reference, count in times.items()) or "–"),
            amount_text(sum(each["amount"] for each in moved), payment.currency),
            amount_text(remaining, payment.currency),
        )
    return table


def _backup(seen: Seen) -> RenderableType:
    if seen.backup is None:
        return Text("There is none.", style="bold red")
    root = seen.backup.backup_prefix
    tree = Tree(Text(f"{root}/", style="bold"), guide_style="dim")
    folders = {"": tree}
    for file in seen.backup_files:
        folder, _, name = file.key.removeprefix(f"{root}/").rpartition("/")
        _folder(folders, folder).add(Text.assemble(name, (f"  {file.size:,} bytes", "dim")))
    published = Text(f"published by {seen.backup.key}, signed by a key in KMS", style="dim")
    return Padding(Group(tree, published), (1, 0, 0, 1))


def _folder(folders: dict[str, Tree], path: str) -> Tree:
    """The branch of a folder, created with its parents. AWSDynamoDB/<export> is one level."""
    if path not in folders:
        above, _, name = path.rpartition("/")
        if above.endswith("/AWSDynamoDB"):
            above, name = above.removesuffix("/AWSDynamoDB"), f"AWSDynamoDB/{name}"
        folders[path] = _folder(folders, above).add(Text(f"{name}/", style="cyan"))
    return folders[path]


def _proof(seen: Seen) -> RenderableType:
    if seen.verified is None or seen.drill is None:
        return Text("Nobody knows.", style="bold red")
    whole = Text.assemble(
        (
            "✗ not whole" if seen.verified.findings else "✓ whole",
            _colour(not seen.verified.findings),
        ),
        f": {seen.verified.files} files read and compared with the signed digest, "
        f"{seen.verified.items} rows",
    )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), expand=True)
    table.add_column("table", no_wrap=True)
    table.add_column("rows", justify="right")
    table.add_column("restored (ImportTable)", justify="right")
    table.add_column("equal to the backup")
    table.add_column("equal to the live table")
    for each in seen.drill.tables:
        table.add_row(
            each.table,
            str(each.against_backup.rows),
            f"{each.import_seconds:.1f} s",
            _yes(each.against_backup.none),
            _yes(each.against_source.none),
        )
    removed = Text("into temporary tables", style="dim")
    return Padding(Group(whole, table, removed), (1, 0, 0, 1))


def _yes(holds: bool) -> Text:
    return Text("✓ every row" if holds else "✗ no", style=_colour(holds))


def _colour(right: bool) -> str:
    return "green" if right else "bold red"


def _verdict(checked: Sequence[Check]) -> Panel:
    wrong = [check for check in checked if not check.holds]
    if not wrong:
        return Panel(
            f"[bold green]✓ Everything is right:[/] {len(checked)} checks of outcomes, money, "
            "audit trail and backup hold.",
            border_style="green",
        )
    lines = [Text(f"✗ {len(wrong)} of {len(checked)} checks fail:", style="bold red")]
    for check in wrong:
        lines.append(Text(f"  wrong: {check.claim}" + (f" ({check.found})" * bool(check.found))))
    return Panel(Group(*lines), border_style="red")
