"""Fixtures for the tests in a real browser."""

from __future__ import annotations

from tests.support.browser import browser, page
from tests.support.receipt_page import one_page, open_page, receipt, signed, tab

__all__ = ["browser", "one_page", "open_page", "page", "receipt", "signed", "tab"]
