"""Fixtures for the tests in a real browser."""

from __future__ import annotations

from tests.support.browser import browser, page

__all__ = ["browser", "page"]
