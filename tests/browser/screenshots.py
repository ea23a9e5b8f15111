"""Writes docs/images/console-*.png: `make screenshots`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from tests.support.browser import NoBrowserError, chromium_path
from tests.support.console import served
from tests.support.operators_stack import operators_stack
from tests.support.shop import shop_in_moto

FOLDER = Path(__file__).parents[2] / "docs/images"
WIDE = {"width": 1280, "height": 1040}
PHONE = {"width": 390, "height": 844}

PICTURES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("overview", "/", {"viewport": WIDE}),
    ("overview-dark", "/", {"viewport": WIDE, "color_scheme": "dark"}),
    ("refund", "/refunds/rf_pending", {"viewport": WIDE}),
    ("review", "/work/reviews/rf_review?gateway=1", {"viewport": {**WIDE, "height": 900}}),
    ("proof", "/proof", {"viewport": {**WIDE, "height": 700}}),
    ("phone", "/", {"viewport": PHONE, "device_scale_factor": 2}),
)
"""A name, the page, and how it is looked at."""


def main() -> int:
    try:
        program = chromium_path()
    except NoBrowserError as exc:
        print(exc, file=sys.stderr)
        return 3
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        shop_in_moto(refunds=240) as lived,
        served(operators_stack(lived.world.stack), allow_changes=True) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=program, chromium_sandbox=os.getuid() != 0
        )
        first = browser.new_context()
        first.new_page().goto(url)
        session: Any = first.storage_state()
        for name, path, how in PICTURES:
            with browser.new_context(storage_state=session, **how) as context:
                page = context.new_page()
                address = url.split("/enter")[0]
                page.goto(f"{address}/money")
                page.get_by_text("of the last 14 days").wait_for()
                page.goto(f"{address}{path}")
                file = FOLDER / f"console-{name}.png"
                page.screenshot(path=file)
                print(file)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
