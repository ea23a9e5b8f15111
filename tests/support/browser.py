"""The system's Chromium, driven by Playwright: fixtures for the tests in tests/browser.

A test that needs a browser fails without one. Skipped, it would say nothing about the pages.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
WAIT_MILLISECONDS = 10_000
"""How long Playwright waits for what a test expects. On a quiet machine nothing takes a second."""

HOW_TO_GET_IT = (
    "These tests need Chromium, and none was found.\n"
    "  Debian: apt-get install chromium     Ubuntu: snap install chromium\n"
    "  macOS: brew install --cask chromium\n"
    "  Or name the one you have: CHROMIUM=/path/to/chromium make test-browser"
)


class NoBrowserError(Exception):
    """There is no Chromium. The message says how to get it."""


def chromium_path() -> Path:
    """``CHROMIUM``, or else the first of ``PROGRAMS`` on PATH. Raises ``NoBrowserError``."""
    for name in [os.environ["CHROMIUM"]] if os.environ.get("CHROMIUM") else PROGRAMS:
        if found := shutil.which(name):
            return Path(found)
    raise NoBrowserError(HOW_TO_GET_IT)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests; each page has a profile of its own."""
    try:
        path = chromium_path()
    except NoBrowserError as exc:
        pytest.fail(str(exc), pytrace=False)
    with sync_playwright() as playwright:
        # Chromium's own sandbox can't start as root, as in a container of CI.
        launched = playwright.chromium.launch(
            executable_path=path, chromium_sandbox=os.getuid() != 0, timeout=60_000
        )
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in a new profile. An error of a script that nobody catches fails the test."""
    errors: list[str] = []
    with browser.new_context() as context:
        context.set_default_timeout(WAIT_MILLISECONDS)
        made = context.new_page()
        made.on("pageerror", lambda error: errors.append(str(error)))
        yield made
    assert errors == []
