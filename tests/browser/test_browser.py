"""The browser itself: how it is found, and what every page can rely on."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page
from tests.support.browser import NoBrowserError, chromium_path


def test_a_missing_browser_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoBrowserError, match="apt-get install chromium"):
        chromium_path()


def test_a_browser_of_ones_own_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "my-chromium"
    own.touch(mode=0o755)
    monkeypatch.setenv("CHROMIUM", str(own))
    assert chromium_path() == own


def test_a_file_has_web_crypto(page: Page, tmp_path: Path) -> None:
    """Receipts rely on it: browsers treat file:// as a secure context."""
    (tmp_path / "page.html").write_text("<!doctype html><title>file</title>")
    page.goto((tmp_path / "page.html").as_uri())
    assert page.evaluate("[isSecureContext, typeof crypto.subtle]") == [True, "object"]
