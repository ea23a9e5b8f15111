"""What may be logged of an exception: where and what kind, never its text.

An error's text may hold a key's value or a customer's name; its type and its place don't.
"""

from __future__ import annotations

import re
import traceback
from pathlib import PurePath


def describe(error: BaseException) -> dict[str, str]:
    """``error`` (type, and AWS's code if it has one), ``at`` (innermost frames), ``cause``."""
    told = {"error": _kind(error)}
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    if frames:
        told["at"] = " < ".join(
            f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}"
            for frame in reversed(frames)
        )
    if error.__cause__ is not None:
        told |= {f"cause_{name}": value for name, value in describe(error.__cause__).items()}
    return told


def shown_code(code: str | None) -> str | None:
    """A gateway's code as it may leave the tables; one that isn't shaped like a code may say
    anything, a customer's name or a card's number too."""
    if code is None or re.fullmatch(r"(?!.*\d{5})[A-Za-z][A-Za-z0-9_.-]{0,63}", code):
        return code
    return "(a code that is not shown)"


def _kind(error: BaseException) -> str:
    kind = type(error).__name__
    match getattr(error, "response", None):
        case {"Error": {"Code": str(code)}}:  # botocore's ClientError
            return f"{kind} {code}"
    return kind
