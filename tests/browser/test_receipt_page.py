"""What a receipt's page shows, to whom, and what it is allowed to do."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect
from tests.support.audit_backups import Signer
from tests.support.audit_rows import rehashed
from tests.support.receipt_page import (
    HOSTILE,
    Open,
    give_key,
    give_receipt,
    show,
    verdict_on,
    wait_until_checked,
)
from tests.support.receipts import FORGERIES, Receipt, rewrite_chain

from refunds.domain.audit_entry import PROPOSED_EVENT, RESTORED_EVENT
from refunds.domain.refund import Status
from refunds_ops.audit.receipt_page import html_receipt
from refunds_ops.story import sentence

# --- What it shows --------------------------------------------------------------------------------


@pytest.mark.parametrize(("minor", "currency"), [(5, "USD"), (1200, "JPY"), (1, "KWD"), (1, "XXX")])
def test_entries_are_told_as_the_command_line_tells_them(
    one_page: Page, receipt: Receipt, minor: int, currency: str
) -> None:
    decided = {"by": "anna", "why": "seen", "evidence": "T-1"}
    shown = {"gateway": "flair: not paid", "balance": "5.00 USD left", "proposed_by": "ben"}
    statuses = [*Status, "constructor", Status.SUCCEEDED, Status.IN_REVIEW, Status.IN_REVIEW]
    entries = [deepcopy(receipt["entries"][0]) for _ in statuses]
    for entry, status in zip(entries, statuses, strict=True):
        entry["status"] = status
        entry["details"] |= {
            "amount_minor": minor,
            "currency": currency,
            "failure_code": "card_declined",
            "failure_message": "{asker} $& was declined",
            "changed_fields": ["review"],
            "review": decided,
        }
    entries[0]["details"] |= {"failure_code": None, "failure_message": None, "amount_minor": None}
    awaiting = {"over": "user_day", "limit": "500", "approvers": "2", "expires_at": "tomorrow"}
    approved = {"decision": "approved", "by": "eve", "why": "known customer"}
    waiting = deepcopy(entries[0])
    waiting["status"] = Status.AWAITING_APPROVAL
    waiting["details"] |= {"awaiting": awaiting, "approvals": [approved]}
    going_on = deepcopy(entries[-1])
    going_on["details"]["approvals"] = [approved | {"evidence": "T-2"}]
    going_on["details"]["changed_fields"] = ["approvals", "status"]
    updated = deepcopy(going_on)
    updated["previous_status"] = updated["status"] = Status.SUCCEEDED
    updated["details"]["changed_fields"] = ["note"]
    restored = deepcopy(going_on)
    restored["event"] = RESTORED_EVENT
    restored["details"]["restored"] = {"source": "backup 3", "by": "carl", "why": "it was lost"}
    kept = deepcopy(entries[statuses.index(Status.FAILED)])
    kept["details"]["kept_minor"] = minor
    entries = [waiting, going_on, updated, restored, kept, *entries]
    entries[-1]["event"] = "refund.deleted"
    entries[-2]["event"] = PROPOSED_EVENT
    entries[-2]["details"]["proposal"] = decided | shown | {"decision": "paid"}
    entries[-3]["details"]["review"] = decided | shown | {"on_behalf_of": "carl"}
    give_receipt(one_page, json.dumps(receipt | {"entries": entries}).encode())
    told = one_page.locator("#entries > li .what").all_text_contents()
    assert told == [sentence(entry) for entry in entries]


def test_a_chain_of_strange_values_is_shown(one_page: Page, receipt: Receipt) -> None:
    """They are well hashed, so nothing is wrong with the chain but that nobody signed it."""
    strange = {"toString": 1, "valueOf": []}
    members = ("outcome", "user_id", "requested_by", "event", "status", "processed_by", "details")
    receipt |= {"digest": None, "proofs": [], "made_at": strange}
    rewrite_chain(receipt, **dict.fromkeys(members, strange))
    give_receipt(one_page, json.dumps(receipt).encode())
    assert verdict_on(one_page)[0] == "open"
    expect(one_page.locator("#entries > li")).to_have_count(3)
    expect(one_page.locator("#facts")).to_contain_text('{"toString":1,"valueOf":[]}')


def test_names_are_text_and_hidden_characters_are_written_out(
    open_page: Open, receipt: Receipt, page: Page
) -> None:
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("dialog", lambda dialog: messages.append(dialog.message))
    receipt["entries"][0] = rehashed(
        receipt["entries"][0]
        | {"requested_by": HOSTILE, "processed_by": HOSTILE, "user_id": HOSTILE}
    )
    receipt |= {"made_at": HOSTILE}
    opened = open_page(receipt)
    assert opened.locator("img").count() == 0
    assert opened.locator("main b").count() == 0
    text = opened.text_content("#entries") or ""
    assert "</script><img src=x onerror=alert(1)>\\u{202e}\\u{200b}evil" in text
    assert "\u202e" not in (opened.text_content("main") or "")
    assert messages == []


# --- What it is allowed to do ---------------------------------------------------------------------


def test_it_asks_for_nothing_from_elsewhere(open_page: Open, receipt: Receipt, page: Page) -> None:
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    page.on("request", note)
    opened = open_page(receipt)
    give_key(opened)
    assert [url.partition(":")[0] for url in asked] == ["file"]
    assert opened.evaluate("fetch('https://example.com').then(() => 1, () => 0)") == 0


def test_no_other_script_may_run_in_it(receipt: Receipt, page: Page, tmp_path: Path) -> None:
    blocked: list[str] = []

    def note(message: ConsoleMessage) -> None:
        blocked.append(message.text)

    page.on("console", note)
    path = tmp_path / "receipt.html"
    html = html_receipt(receipt).replace("<main>", "<script>document.title = 'mine'</script><main>")
    path.write_text(html.replace("<header>", "<header style='color: red'>"))
    page.goto(path.as_uri())
    wait_until_checked(page)
    assert page.title() != "mine"
    assert len([text for text in blocked if "Content Security Policy" in text]) == 2


def test_where_the_browser_can_not_check_it_says_so(
    open_page: Open, receipt: Receipt, page: Page
) -> None:
    page.add_init_script("Object.defineProperty(crypto, 'subtle', {value: undefined})")
    opened = open_page(receipt)
    assert verdict_on(opened) == ("open", "Not checked: this browser has no WebCrypto here")
    page.get_by_label("Public key", exact=True).fill(Signer().public.pem.decode())
    wait_until_checked(opened)
    assert verdict_on(opened)[0] == "open"
    expect(opened.locator("#story")).to_be_hidden()


def test_without_javascript_it_says_that_nothing_was_checked(
    browser: Browser, receipt: Receipt, tmp_path: Path
) -> None:
    path = tmp_path / "receipt.html"
    path.write_text(html_receipt(receipt))
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(path.as_uri())
        expect(page.locator("#verdict")).to_contain_text("Not checked yet")
        expect(page.locator("#verdict")).to_contain_text("JavaScript is off")


# --- For everyone ---------------------------------------------------------------------------------


def test_a_phone_shows_it_without_scrolling_sideways(
    open_page: Open, receipt: Receipt, page: Page
) -> None:
    page.set_viewport_size({"width": 320, "height": 640})
    receipt["entries"][0]["user_id"] = "x" * 128
    opened = open_page(receipt)
    for summary in opened.locator("summary").all():
        summary.click()
    assert opened.evaluate("document.documentElement.scrollWidth") == 320


def test_the_keyboard_reaches_everything(open_page: Open, receipt: Receipt) -> None:
    page = open_page(receipt)
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert reached[:2] == ["key", "key-file"]
    assert reached.count("SUMMARY") == 3
    assert "other-file" in reached


def test_printed_it_shows_the_records_and_no_controls(open_page: Open, receipt: Receipt) -> None:
    page = open_page(receipt)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(page.locator("#trust")).to_be_hidden()
    expect(page.locator("#other-file")).to_be_hidden()
    expect(page.locator("#entries pre").first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("forged", [False, True])
def test_axe_finds_nothing(
    tab: Page, receipt: Receipt, tmp_path: Path, scheme: Literal["light", "dark"], forged: bool
) -> None:
    if forged:
        FORGERIES["an amount"].forge(receipt)
    tab.emulate_media(color_scheme=scheme)
    show(tab, tmp_path, receipt)
    for given in (False, True):
        if given:
            give_key(tab)
        found = Axe().run(tab)
        assert found.response["violations"] == [], found.generate_report()
        assert len(found.response["passes"]) > 10
