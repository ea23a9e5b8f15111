"""What the pages say, and that nothing in a refund can break out of them."""

from __future__ import annotations

import re
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from tests.support.audit_backups import Signer
from tests.support.builders import SECRET
from tests.support.console import Client, console_over
from tests.support.operators_stack import operators_stack
from tests.support.shop import HOSTILE, HOSTILE_USER, Lived
from tests.support.world import World

from refunds.domain.refund import Status
from refunds_console import state
from refunds_console.pages import overview
from refunds_ops.audit.lag import AuditLag
from refunds_ops.errors import RefusedError
from refunds_ops.stack.alarms import Alarm


def text_of(page: str) -> str:
    """What a reader sees, in one line."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


# --- Overview -------------------------------------------------------------------------------------


def test_the_overview_has_the_numbers_of_the_pipeline(console: Client, lived: Lived) -> None:
    lived.add("rf_1", amount_minor=123_456)
    lived.add(
        "rf_2", became=Status.IN_REVIEW, open_shard="1", check_at="2026-01-01T00:00:00.000000Z"
    )
    lived.waits_for_approval("rf_3")
    lived.dead_letter("{", error_code="invalid_json")
    shown = console.read_all().get("/").text
    assert 'aria-label="Dead letters: waiting 1"' in shown
    assert 'aria-label="Refunds: open 2, in review 1, to approve 1"' in shown
    assert 'aria-label="Audit trail: lag none"' in shown
    assert 'aria-label="Gateway: breaker closed"' in shown
    assert "1,234.56 USD" in shown
    assert '<a href="/work">Refunds wait for a person: 1</a>' in shown


def test_a_quiet_stack_needs_nobody(console: Client, lived: Lived) -> None:
    lived.add("rf_1")
    assert "Nothing needs a person" in text_of(console.get("/").text)


def test_a_backup_signed_by_another_key_needs_a_person(console: Client, lived: Lived) -> None:
    lived.add("rf_1")
    lived.backups(2, Signer("another"))
    shown = console.get("/").text
    assert "The newest backup is not signed by the stack&#39;s key" in shown


def test_a_missing_audit_entry_needs_a_person(console: Client, lived: Lived) -> None:
    made = lived.add("rf_1")
    dynamodb, table = lived.world.stack.clients.dynamodb, lived.world.stack.audit_table
    key: Any = {
        "transaction_id": {"S": made.transaction_id},
        "entry_id": {"S": "REFUND#rf_1#000002"},
    }
    dynamodb.delete_item(TableName=table, Key=key)
    shown = console.get("/").text
    assert 'aria-label="Audit trail: lag 59 min"' in shown
    assert '<a href="/refunds/rf_1">1 of the newest refunds lack' in shown


def test_an_alarm_is_shown_with_its_first_command(
    console: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    alarm = Alarm(
        "DeadLetters", "Requests were refused.", "refunds dead-letters list", "2026-11-27T10:00:00Z"
    )
    monkeypatch.setattr(overview, "raised_alarms", lambda stack, cloudwatch: [alarm])
    shown = text_of(console.get("/").text)
    assert "Alarm DeadLetters" in shown
    assert "refunds dead-letters list" in shown


def test_what_cannot_be_read_is_said_and_the_rest_shown(
    console: Client, lived: Lived, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived.add("rf_1")

    def refused(stack: Any, cloudwatch: Any) -> list[Alarm]:
        raise RefusedError("Nothing to see.")

    monkeypatch.setattr(overview, "raised_alarms", refused)
    shown = text_of(console.get("/").text)
    assert "The alarms can't be read. Nothing to see" in shown.replace("&#39;", "'")
    assert "Audit trail" in shown


def test_a_slow_part_does_not_hold_the_overview_up(
    console: Client, lived: Lived, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived.add("rf_1")
    go_on = Event()

    def slow(stack: Any, now: Any, pool: Any) -> AuditLag:
        assert go_on.wait(30)
        return AuditLag(1)

    monkeypatch.setattr(overview, "audit_lag", slow)
    monkeypatch.setattr(state, "PATIENCE_SECONDS", 0.01)
    first = console.get("/").text
    assert "Reading …" in first
    assert "Nothing needs a person" not in first
    assert 'aria-label="Audit trail: lag –"' in first
    go_on.set()
    monkeypatch.setattr(state, "PATIENCE_SECONDS", 30.0)
    assert 'aria-label="Audit trail: lag none"' in console.get("/fragments/live").text


# --- Refunds --------------------------------------------------------------------------------------


def test_a_refunds_page_tells_its_story(console: Client, lived: Lived) -> None:
    lived.add("rf_1", amount_minor=2500, gateway_refund_id="re_77")
    page = console.get("/refunds/rf_1").text
    shown = text_of(page)
    assert "We have refunded you." in shown
    assert "25.00 USD was paid back through flair." in shown
    assert shown.count("✓ hash checked") == 2
    assert "The audit trail is whole: 2 of 2 entries" in shown
    assert "still refundable 75.00 USD" in shown
    assert re.search(r'<time datetime="[^"]+Z" title="[^"]+ UTC, \d+ min ago">', page)


def test_a_changed_refund_is_named(console: Client, lived: Lived) -> None:
    lived.add("rf_1")
    lived.world.stack.clients.dynamodb.update_item(
        TableName=lived.world.stack.refunds_table,
        Key={"refund_id": {"S": "rf_1"}},
        UpdateExpression="SET amount_minor = :more",
        ExpressionAttributeValues={":more": {"N": "9999"}},
    )
    shown = text_of(console.get("/refunds/rf_1").text)
    assert "The refund differs from its last audit entry in amount_minor" in shown
    assert "can't be relied on" in shown


def test_a_changed_entry_is_marked(console: Client, lived: Lived) -> None:
    made = lived.add("rf_1")
    lived.world.stack.clients.dynamodb.update_item(
        TableName=lived.world.stack.audit_table,
        Key={
            "transaction_id": {"S": made.transaction_id},
            "entry_id": {"S": "REFUND#rf_1#000001"},
        },
        UpdateExpression="SET user_id = :other",
        ExpressionAttributeValues={":other": {"S": "mallory"}},
    )
    assert "✗ changed" in text_of(console.get("/refunds/rf_1").text)


def test_what_the_protocol_keeps_to_itself_is_not_shown(console: Client, lived: Lived) -> None:
    lived.add("rf_1", became=Status.PROCESSING, attempt_token=SECRET)
    page = console.get("/refunds/rf_1").text
    assert SECRET not in page
    assert "fingerprint" not in page


def test_an_unknown_refund_says_where_it_may_be(console: Client, lived: Lived) -> None:
    lived.dead_letter("{", error_code="invalid_json")
    answer = console.get("/refunds/rf_none")
    assert answer.status == 409
    assert "There is no refund rf_none." in text_of(answer.text)
    assert "Dead letters, refused or failed: 1." in text_of(answer.text)


@pytest.mark.parametrize("path", ["/refunds/..%2f..", "/refunds/a b", "/refunds/é", "/x/y"])
def test_an_odd_address_is_no_page(console: Client, path: str) -> None:
    assert console.get(path).status in (404, 409)


def test_hostile_names_stay_text(console: Client, lived: Lived) -> None:
    lived.add(
        "rf_1",
        user_id=HOSTILE_USER,
        requested_by=HOSTILE,
        note=HOSTILE,
        metadata={HOSTILE[:40]: HOSTILE},
        became=Status.FAILED,
        failure_code=HOSTILE,
        failure_message=HOSTILE,
    )
    lived.dead_letter(HOSTILE, error_code=HOSTILE, error_message=HOSTILE)
    for path in (
        "/",
        "/refunds",
        "/refunds/rf_1",
        f"/refunds?q={'%3Cscript%3E'}",
        f"/refunds?user_id={'%22%3E%3Cscript%3E'}",
        "/fragments/search?q=onerror",
        "/work/dead-letters",
    ):
        page = console.get(path).text
        assert "<script>" not in page
        assert "<img" not in page
        assert "\u202e" not in page
    assert "&lt;script&gt;" in console.get("/refunds/rf_1").text


# --- Search and lists -----------------------------------------------------------------------------


def test_search_finds_a_refund_by_each_of_its_names(console: Client, lived: Lived) -> None:
    lived.add(
        "rf_abc",
        transaction_id="pay_77",
        user_id="u-9",
        gateway_refund_id="re_GATE",
        gateway_trace="ARN0042",
    )
    lived.add("rf_other")
    for text, by in (
        ("rf_abc", ""),
        ("pay_77", "by payment"),
        ("u-9", "by user"),
        ("re_gate", "by gateway&#39;s id"),
        ("N0042", "by trace number"),
    ):
        found = console.get(f"/fragments/search?q={text}").text
        assert 'data-count="1"' in found, text
        assert 'href="/refunds/rf_abc"' in found
        assert by in found


def test_search_finds_whole_names_of_any_age(console: Client, lived: Lived) -> None:
    lived.add("rf_old", timedelta(days=400), transaction_id="pay_old", user_id="u-old")
    for text in ("rf_old", "pay_old", "u-old"):
        assert "/refunds/rf_old" in console.get(f"/fragments/search?q={text}").text
    assert "Nothing has" in console.get("/fragments/search?q=f_ol").text


def test_search_for_nothing_says_so(console: Client) -> None:
    assert "Nothing has “x9” in its name." in console.get("/fragments/search?q=x9").text
    assert console.get("/fragments/search?q=").text.strip() == ""


def test_filters_are_in_the_address(console: Client, lived: Lived) -> None:
    lived.add("rf_1", user_id="u-1", amount_minor=2500)
    lived.add("rf_2", user_id="u-1", became=Status.FAILED, failure_code="card_declined")
    lived.add("rf_3", user_id="u-2")
    shown = console.get("/refunds?user_id=u-1&status=FAILED").text
    assert "rf_2" in shown
    assert "rf_1" not in shown
    assert 'name="user_id" value="u-1"' in shown
    assert '<option value="FAILED" selected>' in shown
    by_amount = console.get("/refunds?amount=25.00&currency=USD").text
    assert "rf_1" in by_amount


def test_a_list_goes_on_where_its_page_ended(console: Client, lived: Lived) -> None:
    for number in range(60):
        lived.add(f"rf_{number:02}", timedelta(hours=2, seconds=-number))
    first = console.get("/refunds").text
    [more] = re.findall(r'rel="next" class="next" href="([^"]+)"', first)
    second = console.get(more.replace("&amp;", "&")).text
    seen = [re.findall(r'class="id" href="/refunds/(rf_\d\d)"', page) for page in (first, second)]
    assert [len(each) for each in seen] == [50, 10]
    assert [*seen[0], *seen[1]] == [f"rf_{number:02}" for number in reversed(range(60))]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("day=yesterday", "not a day"),
        ("since=x", "not a time"),
        ("amount=1.5", "needs a currency"),
        ("status=DONE", "no status DONE"),
        ("after=x", "--after"),
        ("day=2026-11-01&since=7d", "--since"),
    ],
)
def test_a_filter_that_cannot_be_read_is_explained(console: Client, query: str, said: str) -> None:
    answer = console.get(f"/refunds?{query}")
    assert answer.status == 200
    assert said in answer.text


# --- Money ----------------------------------------------------------------------------------------


def test_how_much_went_back_today(console: Client, lived: Lived) -> None:
    lived.add("rf_1", timedelta(seconds=5), amount_minor=2500)
    lived.add("rf_2", timedelta(seconds=5), amount_minor=1500, currency="JPY")
    lived.add("rf_3", timedelta(seconds=5), became=Status.FAILED, failure_code="x")
    shown = text_of(console.read_all().get("/money").text)
    assert "Paid out today · USD 25.00 USD 1 refund" in shown
    assert "Paid out today · JPY 1,500 JPY 1 refund" in shown
    assert "failed 25.00 USD (1)" in shown


def test_today_is_compared_with_the_days_before(console: Client, lived: Lived) -> None:
    lived.add("rf_now", timedelta(seconds=5), amount_minor=3000)
    # One at this time of the day, for the first hour after midnight, and one an hour earlier.
    for day in range(1, 8):
        for hours in (0, 1):
            before = timedelta(days=day, hours=hours)
            lived.add(f"rf_{day}_{hours}", before, amount_minor=1000)
    assert "of the usual" in console.read_all().get("/money").text


# --- Work, proof ----------------------------------------------------------------------------------


def test_a_review_waits_with_its_reason(console: Client, lived: Lived) -> None:
    lived.add(
        "rf_1",
        timedelta(hours=9),
        became=Status.IN_REVIEW,
        failure_code="outcome_unknown",
        open_shard="1",
        check_at="2026-01-01T00:00:00.000000Z",
    )
    shown = text_of(console.get("/work").text)
    assert "rf_1" in shown
    assert "outcome_unknown" in shown


def test_a_dead_letter_says_what_a_resend_would_do(console: Client, lived: Lived) -> None:
    lived.dead_letter("{", error_code="invalid_json", error_message="not JSON")
    shown = text_of(console.get("/work/dead-letters").text)
    assert "invalid_json: not JSON" in shown
    assert "A resend would be refused again" in shown


def test_the_chain_of_digests_is_checked(console: Client, lived: Lived) -> None:
    lived.add("rf_1")
    lived.backups(3, Signer())
    shown = text_of(console.get("/proof").text)
    assert shown.count("✓ signed") == 3
    assert shown.count("follows the one before") == 2


def test_a_changed_digest_is_named(console: Client, lived: Lived) -> None:
    lived.add("rf_1")
    lived.backups(3, Signer())
    s3, bucket = lived.world.stack.clients.s3, lived.world.stack.backup_bucket
    key = "refund-backups/digests/000000000002.json"
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    s3.put_object(Bucket=bucket, Key=key, Body=body.replace(b'"itemCount": 1', b'"itemCount": 2'))
    shown = text_of(console.get("/proof").text)
    assert "✗ modified" in shown
    assert "✗ chain: the digest before is not the one that it followed" in shown


@pytest.mark.parametrize(
    ("check", "said"),
    [("records", "Everything is intact"), ("backup", "extra")],
)
def test_a_check_runs_in_the_background(
    console: Client, lived: Lived, check: str, said: str
) -> None:
    lived.add("rf_1")
    lived.backups(1, Signer())
    answer = console.change("/proof/check", check=check)
    assert (answer.status, answer.headers["location"]) == (303, "/proof#checks")
    job = console.app.state.console.checks[check]
    job.join(30)
    assert said in text_of(console.get("/fragments/checks").text)


def test_a_read_only_console_says_so(console: Client, world: World) -> None:
    assert "read-only" in console.get("/work").text
    changing = console_over(operators_stack(world.stack), allow_changes=True).enter()
    assert "changes allowed" in changing.get("/work").text
