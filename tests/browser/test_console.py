"""The console in a real browser, over a shop in moto: by mouse, by keyboard, on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect
from tests.support.browser import WAIT_MILLISECONDS
from tests.support.console import served
from tests.support.operators_stack import operators_stack
from tests.support.shop import HOSTILE, Lived, shop_in_moto

from refunds.domain.refund import Status

PAGES = (
    "/",
    "/money",
    "/refunds",
    "/refunds?q=u-1042",
    "/refunds/rf_hostile",
    "/refunds/rf_review",
    "/work",
    "/work/reviews/rf_review",
    "/work/approvals/rf_large",
    "/work/dead-letters",
    "/proof",
    "/refunds/rf_nobody",
)
expect.set_options(timeout=WAIT_MILLISECONDS)
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def lived() -> Iterator[Lived]:
    with shop_in_moto(refunds=60) as made:
        yield made


@pytest.fixture(scope="module")
def signed_in(browser: Browser, lived: Lived) -> Iterator[dict[str, Any]]:
    """A console that allows changes: its address, and the cookies of its session."""
    with served(operators_stack(lived.world.stack), allow_changes=True) as url:
        context = browser.new_context()
        context.new_page().goto(url)
        yield {"base_url": url.split("/enter")[0], "storage_state": context.storage_state()}


class Watched:
    """What pages did that they must not: errors of scripts, violations of the policy, dialogs."""

    def __init__(self, context: BrowserContext) -> None:
        self.wrong: list[str] = []
        context.on("page", self._watch)

    def _watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("dialog", self._dismiss)
        page.on("console", self._console)

    def _dismiss(self, dialog: Any) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, message: Any) -> None:
        # A page that answers 409 or 502 is an error to Chromium's console, and meant.
        if message.type == "error" and "the server responded with a status" not in message.text:
            self.wrong.append(message.text)


@pytest.fixture
def open_console(browser: Browser, signed_in: dict[str, Any]) -> Iterator[Any]:
    """Opens a page with the session: ``open_console(viewport=…, color_scheme=…)``."""
    contexts: list[tuple[BrowserContext, Watched]] = []

    def opened(**options: Any) -> Page:
        context = browser.new_context(**signed_in, **options)
        context.set_default_timeout(WAIT_MILLISECONDS)
        contexts.append((context, Watched(context)))
        return context.new_page()

    yield opened
    for context, watched in contexts:
        context.close()
        assert watched.wrong == []


@pytest.fixture
def page(open_console: Any) -> Page:
    made: Page = open_console()
    return made


# --- The three questions, two clicks each ---------------------------------------------------------


def test_what_happened_to_this_refund(page: Page) -> None:
    page.goto("/")
    page.get_by_role("searchbox").press_sequentially("rf_rev")
    page.get_by_role("link", name="rf_review").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("129.00 EUR")
    expect(page.get_by_text("We are checking your refund")).to_be_visible()
    expect(page.get_by_text("hash checked").first).to_be_visible()


@pytest.mark.parametrize("by", ["re_pending", "pay_pending", "u-1042"])
def test_search_answers_as_one_types(page: Page, by: str) -> None:
    page.goto("/")
    page.get_by_role("searchbox").press_sequentially(by)
    expect(page.locator("[data-results]").get_by_role("link", name="rf_pending")).to_be_visible()
    expect(page.locator("[data-search-status]")).to_contain_text("found")


def test_what_is_stuck(page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="Refunds wait for a person").click()
    page.get_by_role("link", name="rf_review", exact=True).click()
    expect(page.get_by_text("No safe automatic step is left")).to_be_visible()


def test_how_much_went_back_today(page: Page) -> None:
    page.goto("/")
    page.get_by_role("navigation").get_by_role("link", name="Money").click()
    expect(page.get_by_role("heading", name="Paid out today · EUR")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^Bars"))).to_be_visible()


# --- Changes --------------------------------------------------------------------------------------


def test_a_dead_letter_is_dropped(page: Page, lived: Lived) -> None:
    message_id = lived.dead_letter("{", error_code="invalid_json", error_message="not JSON")
    page.goto(f"/work/dead-letters/{message_id}")
    expect(page.get_by_label("Resend")).to_be_disabled()
    page.get_by_label("Drop").check()
    page.get_by_role("textbox", name="Why").fill("A test of the shop.")
    page.get_by_role("button", name="Do it").click()
    expect(page).to_have_url(re.compile("/work/dead-letters$"))
    kept = lived.world.stack.kept(lived.world.stack.failures_bucket).values()
    assert [each["why"] for each in kept] == ["A test of the shop."]


def test_a_review_is_decided(page: Page, lived: Lived) -> None:
    lived.add(
        "rf_to_decide",
        became=Status.IN_REVIEW,
        failure_code="outcome_unknown",
        open_shard="1",
        check_at="2026-01-01T00:00:00.000000Z",
    )
    page.goto("/work")
    page.get_by_role("link", name="Decide rf_to_decide").click()
    page.get_by_label("Not paid").check()
    page.get_by_label("How you know").fill("The gateway has no such refund.")
    page.get_by_label("Where that can be seen").fill("ticket 7")
    page.get_by_role("button", name="Record the decision").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Failed")
    expect(page.get_by_text("The gateway has no such refund.").first).to_be_visible()


def test_a_check_shows_what_it_found(page: Page) -> None:
    page.goto("/proof")
    page.get_by_role("button", name="Check now").last.click()
    expect(page.get_by_role("button", name="Check again")).to_be_visible()


def test_a_receipt_is_downloaded(page: Page, tmp_path: Path) -> None:
    page.goto("/refunds/rf_review")
    with page.expect_download() as download:
        page.get_by_role("link", name="Page that checks itself").click()
    assert download.value.suggested_filename == "rf_review.receipt.html"


# --- Hostile names --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/refunds", "/refunds/rf_hostile", "/refunds?q=rf_hostile"])
def test_a_hostile_name_is_only_text(page: Page, path: str) -> None:
    page.goto(path)
    expect(page.get_by_text(HOSTILE).first).to_be_visible()
    assert page.locator("main script, main img").count() == 0


def test_a_hostile_name_is_only_text_in_search(page: Page) -> None:
    page.goto("/")
    page.get_by_role("searchbox").fill("onerror")
    expect(page.locator("[data-results]").get_by_text(HOSTILE)).to_be_visible()


# --- By keyboard ----------------------------------------------------------------------------------


def test_by_keyboard_alone(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("rf_review")
    found = page.locator("[data-results]").get_by_role("link")
    expect(found).to_have_count(1)
    page.keyboard.press("ArrowDown")
    expect(found).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/refunds/rf_review$"))


def test_escape_closes_the_matches(page: Page) -> None:
    page.goto("/")
    page.get_by_role("searchbox").fill("rf_review")
    expect(page.locator("[data-results]")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("[data-results]")).to_be_hidden()


def test_what_has_the_focus_can_be_seen(page: Page) -> None:
    page.goto("/refunds")
    for _ in range(12):
        page.keyboard.press("Tab")
        width = page.evaluate(
            "getComputedStyle(document.activeElement).outlineStyle + ' ' +"
            "getComputedStyle(document.activeElement).outlineWidth"
        )
        assert width == "solid 3px"


# --- For everybody --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "how",
    [
        {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
        {"color_scheme": "dark", "viewport": PHONE},
    ],
    ids=["light and wide", "dark on a phone"],
)
def test_axe_finds_nothing(open_console: Any, path: str, how: dict[str, Any]) -> None:
    page = open_console(**how)
    page.goto(path)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("path", PAGES)
def test_a_phone_scrolls_in_one_direction(open_console: Any, path: str) -> None:
    page = open_console(viewport=PHONE)
    page.goto(path)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    expect(page.get_by_role("searchbox")).to_be_visible()


def test_without_scripts_forms_and_links_do_it(open_console: Any) -> None:
    page = open_console(java_script_enabled=False)
    page.goto("/")
    page.get_by_role("searchbox").fill("u-1042")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="rf_pending").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("42.00 EUR")


# --- Live, and who gets in ------------------------------------------------------------------------


def test_the_overview_follows_what_happens(page: Page, lived: Lived) -> None:
    page.goto("/")
    station = page.get_by_role("link", name=re.compile("^Dead letters: waiting"))
    before = station.get_attribute("aria-label")
    lived.dead_letter("{", error_code="invalid_json")
    expect(station).not_to_have_attribute("aria-label", str(before), timeout=20_000)
    page.get_by_role("button", name="Pause updates").click()
    expect(page.locator("[data-live]")).to_have_text("Paused")


def test_another_browser_is_not_let_in(browser: Browser, signed_in: dict[str, Any]) -> None:
    with browser.new_context(base_url=signed_in["base_url"]) as context:
        page = context.new_page()
        answer = page.goto("/refunds/rf_review")
        assert answer is not None
        assert answer.status == 401
        expect(page.get_by_role("heading")).to_have_text("This browser has no session here.")
        assert Axe().run(page).violations_count == 0
