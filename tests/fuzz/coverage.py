"""Which lines of the product an input reached that none before it did."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from tests.support.expanded_template import ROOT

PRODUCT = (str(ROOT / "src/refunds/"), str(ROOT / "ops/refunds_ops/"))


class Coverage:
    """Lines of the product by code object, since the beginning."""

    def __init__(self) -> None:
        self._seen: set[tuple[CodeType, int]] = set()
        self._new = 0
        self._is_ours: dict[CodeType, bool] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def reaches_new_lines(self, call: Callable[[], object]) -> bool:
        """Calls ``call``. True if a line was reached for the first time."""
        self._new = 0
        before = sys.gettrace()
        sys.settrace(self._entered)
        try:
            call()
        finally:
            sys.settrace(before)
        return self._new > 0

    def _entered(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        ours = self._is_ours.get(code)
        if ours is None:
            ours = self._is_ours[code] = code.co_filename.startswith(PRODUCT)
        return self._line if ours else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        line = (frame.f_code, frame.f_lineno)
        if line not in self._seen:
            self._seen.add(line)
            self._new += 1
        return self._line
