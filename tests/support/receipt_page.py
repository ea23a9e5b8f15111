"""A receipt's page in a real browser, opened as an auditor does: from a file, offline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from tests.support.audit_backups import Signer
from tests.support.receipts import Receipt, signed_receipt

from refunds_ops.audit.receipt_page import html_receipt

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
