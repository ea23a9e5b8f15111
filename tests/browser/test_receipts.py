"""A receipt's page in a real browser, opened as an auditor does: from a file, offline."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import pytest
import rfc8785
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect
from tests.support.audit_backups import Signer
from tests.support.audit_rows import rehashed
from tests.support.receipts import FORGERIES, Receipt, rewrite_chain, signed_receipt

from refunds.backup.merkle import inclusion_path, merkle_root
from refunds.domain.audit_entry import PROPOSED_EVENT, RESTORED_EVENT
from refunds.domain.refund import Status
from refunds_ops.audit.receipt_check import check_receipt
from refunds_ops.audit.receipt_page import html_receipt
from refunds_ops.story import sentence

Open = Callable[[Receipt], Page]
HOSTILE = "</script><img src=x onerror=alert(1)>\u202e\u200bevil\n<b>"


@pytest.fixture(scope="session")
def signed() -> Receipt:
    return signed_receipt()


@pytest.fixture
def receipt(signed: Receipt) -> Receipt:
    return deepcopy(signed)


@pytest.fixture
def open_page(page: Page, tmp_path: Path) -> Open:
    def opened(receipt: Receipt) -> Page:
        show(page, tmp_path, receipt)
        return page

    return opened


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Page]:
    """One for many receipts: a new profile for each would take most of the time."""
    errors: list[str] = []
    with browser.new_context() as context:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    assert errors == []


@pytest.fixture
def one_page(tab: Page, signed: Receipt, tmp_path: Path) -> Page:
    """The page of a sound receipt, with the trusted key given: it can check others."""
    show(tab, tmp_path, signed)
    give_key(tab)
    return tab


def show(page: Page, folder: Path, receipt: Receipt) -> None:
    path = folder / "receipt.html"
    path.write_text(html_receipt(receipt), encoding="ascii")
    page.goto(path.as_uri())
    wait_until_checked(page)


def wait_until_checked(page: Page) -> None:
    page.wait_for_selector("#verdict[aria-busy=false]")


def give_key(page: Page, content: bytes | None = None) -> None:
    page.set_input_files("#key-file", file("key.pem", content or Signer().public.pem))
    wait_until_checked(page)


def give_receipt(page: Page, content: bytes) -> None:
    page.set_input_files("#other-file", file("other.json", content))
    wait_until_checked(page)


def file(name: str, content: bytes) -> Any:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def problems_on(page: Page) -> list[str]:
    return page.locator("#problems > li").all_text_contents()


def verdict_on(page: Page) -> tuple[str | None, str | None]:
    return page.get_attribute("#verdict", "class"), page.text_content("#verdict-title")


# --- What it proves -------------------------------------------------------------------------------


def test_without_a_key_it_says_what_is_not_proven(open_page: Open, receipt: Receipt) -> None:
    page = open_page(receipt)
    assert verdict_on(page) == ("open", "Consistent, but not proven: give the public key")
    expect(page.locator("#verdict-text")).to_contain_text("the key that came with this file")
    expect(page.locator("#checks")).to_contain_text(Signer().fingerprint())
    expect(page.locator("#entries")).not_to_contain_text("in the signed digest")


def test_with_the_key_that_is_trusted_everything_checks(open_page: Open, receipt: Receipt) -> None:
    page = open_page(receipt)
    give_key(page)
    assert verdict_on(page) == ("good", "Everything checks")
    assert problems_on(page) == []
    expect(page.locator("#entries")).to_contain_text("5.00 USD was paid back through flair.")
    expect(page.locator(".marks").get_by_text("in the signed digest")).to_have_count(3)
    expect(page.locator("#key-says")).to_contain_text(Signer().fingerprint())


def test_a_key_can_be_pasted_and_taken_away(open_page: Open, receipt: Receipt) -> None:
    page = open_page(receipt)
    page.get_by_label("Public key", exact=True).fill(Signer().public.pem.decode())
    wait_until_checked(page)
    assert verdict_on(page)[0] == "good"
    page.get_by_label("Public key", exact=True).fill("")
    wait_until_checked(page)
    assert verdict_on(page)[0] == "open"


def test_a_key_and_a_receipt_can_be_dropped(open_page: Open, receipt: Receipt) -> None:
    page = open_page(receipt)
    drop = """text => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([text], "dropped"));
        document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
    }"""
    page.evaluate(drop, Signer().public.pem.decode())
    wait_until_checked(page)
    assert verdict_on(page)[0] == "good"
    FORGERIES["an amount"].forge(receipt)
    page.evaluate(drop, html_receipt(receipt))
    wait_until_checked(page)
    assert "entry 2 was changed" in problems_on(page)[0]


def test_the_keys_der_form_is_taken(open_page: Open, receipt: Receipt) -> None:
    page = open_page(receipt)
    give_key(page, Signer().der)
    assert verdict_on(page)[0] == "good"


def test_anothers_key_is_refused(open_page: Open, receipt: Receipt) -> None:
    page = open_page(receipt)
    give_key(page, Signer("mallory").public.pem)
    assert verdict_on(page) == ("bad", "The digest's signature is not by this public key")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"hello", "This is not a public key"),
        (Signer().public.pem.replace(b"M", b"?", 1), "This is not a public key"),
        (Signer().public.pem.replace(b"MII", b"MIX", 1), "This is not an RSA public key"),
        (b"-----BEGIN PUBLIC KEY-----\nabc=d\n-----END PUBLIC KEY-----", "cut or changed"),
        (b"-----BEGIN PRIVATE KEY-----\nMII=\n-----END PRIVATE KEY-----", "This is a private key"),
        (b"-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----", "This is a certificate"),
        (b"0\x82\x00", "This is not an RSA public key"),
    ],
)
def test_what_is_no_key_is_named_and_proves_nothing(
    open_page: Open, receipt: Receipt, content: bytes, says: str
) -> None:
    page = open_page(receipt)
    give_key(page)
    give_key(page, content)
    assert verdict_on(page) == ("open", "Not proven: the public key can't be read")
    expect(page.locator("#verdict-text")).to_contain_text(says)


def test_what_came_after_the_backup_is_not_proven(open_page: Open, receipt: Receipt) -> None:
    del receipt["proofs"][2]
    page = open_page(receipt)
    give_key(page)
    assert verdict_on(page) == ("open", "Not proven: version 3")
    expect(page.get_by_text("no signature covers it")).to_have_count(1)


def test_a_refund_that_no_backup_covers_is_not_proven(open_page: Open, receipt: Receipt) -> None:
    receipt |= {"digest": None, "proofs": []}
    page = open_page(receipt)
    assert verdict_on(page)[0] == "open"
    give_key(page)
    assert verdict_on(page) == ("open", "Not proven: versions 1, 2 and 3")


# --- What it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_receipt_is_refused_and_the_forgery_named(
    tab: Page, receipt: Receipt, tmp_path: Path, what: str
) -> None:
    FORGERIES[what].forge(receipt)
    show(tab, tmp_path, receipt)
    assert verdict_on(tab)[0] != "good"
    give_key(tab)
    kind, title = verdict_on(tab)
    expected = check_receipt(json.dumps(receipt).encode(), Signer().public).problems
    assert problems_on(tab) == expected
    assert FORGERIES[what].says in expected[0]
    assert kind == ("open" if expected[0].startswith("not proven") else "bad")
    assert title is not None
    assert title.lower() == expected[0].lower()


@pytest.mark.parametrize("seed", range(4))
def test_the_page_and_the_command_agree_on_damaged_receipts(
    one_page: Page, receipt: Receipt, seed: int
) -> None:
    """Both read the same bytes, with one change at random, or two."""
    rng = random.Random(seed)
    for _ in range(60):
        damaged = deepcopy(receipt)
        for _ in range(rng.choice((1, 1, 2))):
            damage(damaged, rng)
        content = json.dumps(damaged).encode()
        give_receipt(one_page, content)
        expected = check_receipt(content, Signer().public)
        assert problems_on(one_page) == expected.problems, content
        assert (verdict_on(one_page)[0] == "good") == expected.proven, content


def damage(receipt: Receipt, rng: random.Random) -> None:
    """Change, remove, repeat or add one value anywhere."""
    places = list(places_in(receipt))
    where, name = rng.choice(places)
    others = [
        0,
        1,
        -1,
        2**31,
        2**32,
        "",
        "x",
        HOSTILE,
        None,
        True,
        [],
        {},
        "0" * 64,
        {"toString": 1},
    ]
    match rng.randrange(4):
        case 0:
            del where[name]
        case 1 if isinstance(where, list):
            where.insert(name, deepcopy(where[name]))
        case 2:
            source, member = rng.choice(places)
            where[name] = deepcopy(source[member])
        case _:
            where[name] = rng.choice(others)


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    names = value if isinstance(value, dict) else range(len(value))
    for name in names:
        yield value, name
        if isinstance(value[name], dict | list):
            yield from places_in(value[name])


def test_merkle_paths_are_checked_in_trees_of_every_shape(one_page: Page) -> None:
    cases = []
    for size in range(1, 18):
        leaves = [bytes([number]) * 32 for number in range(size)]
        root = merkle_root(leaves).hex()
        for index, leaf in enumerate(leaves):
            path = [each.hex() for each in inclusion_path(leaves, index)]
            for claimed in range(size):
                cases.append([leaf.hex(), claimed, size, path, root, claimed == index])
    wrong = one_page.evaluate(
        """async cases => {
            const wrong = [];
            for (const [leaf, index, size, path, root, holds] of cases) {
                const found = await isIncluded(bytesOf(leaf), index, size, path, root);
                if (found !== holds) wrong.push([index, size]);
            }
            return wrong;
        }""",
        cases,
    )
    assert wrong == []


def test_canonical_json_is_rfc_8785(one_page: Page) -> None:
    texts = [
        "",
        "é",
        "\u2028",
        "\x00\x1f\x7f",
        '"\\/',
        "😀",
        "\ufb33",
        "z",
        "a",
        "10",
        "2",
        "__proto__",
    ]
    values = [None, True, False, 0, -1, 2**53 - 1, -(2**53) + 1, *texts]
    document: Receipt = {"list": [*values, {}, [], {"deep": [dict.fromkeys(texts, 1)]}]} | dict(
        zip(texts, values, strict=False)
    )
    text = json.dumps(document)
    assert one_page.evaluate("text => canonical(JSON.parse(text))", text) == (
        rfc8785.dumps(json.loads(text)).decode()
    )


@pytest.mark.parametrize("content", [b"", b"NaN", b"[]", b"{}", b"\xff", b"\xef\xbb\xbf{}"])
def test_what_is_no_receipt_is_refused(one_page: Page, content: bytes) -> None:
    give_receipt(one_page, content)
    assert verdict_on(one_page)[0] == "bad"
    assert problems_on(one_page) == check_receipt(content, Signer().public).problems


def test_a_receipt_is_refused_after_another_one_was_proven(
    one_page: Page, receipt: Receipt
) -> None:
    give_receipt(one_page, json.dumps(receipt).encode())
    assert verdict_on(one_page)[0] == "good"
    give_receipt(one_page, b"{}")
    assert verdict_on(one_page)[0] == "bad"
    expect(one_page.locator("#story")).to_be_hidden()
    expect(one_page.locator("#checks")).to_be_empty()


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
