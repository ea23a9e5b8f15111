"""What may be logged of an exception: where and what kind, never its text.

An error's text may hold a key's value or a customer's name; its type and its place don't.
"""

from __future__ import annotations

import re
import traceback
from pathlib import PurePath


def describe(error: BaseException) -> dict[str, str]:
    """``error`` (type, and AWS's code if it has one), ``at`` (innermost frames), ``cause_…``."""
    fields = {"error": kind_of(error)}
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    if frames:
        fields["at"] = " < ".join(
            f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}"
            for frame in reversed(frames)
        )
    if error.__cause__ is not None:
        fields |= {f"cause_{name}": value for name, value in describe(error.__cause__).items()}
    return fields


def shown_code(code: str | None) -> str | None:
    """A gateway's code as it may be logged or published.

    Text that is not shaped like a code may contain anything: a customer's name, a card number.
    """
    if code is None or re.fullmatch(r"(?!.*\d{5})[A-Za-z][A-Za-z0-9_.-]{0,63}", code):
        return code
    return "(a code that is not shown)"


def kind_of(error: BaseException) -> str:
    """The exception's type, and AWS's code after it: ``ClientError ThrottlingException``."""
    kind = type(error).__name__
    match getattr(error, "response", None):
        case {"Error": {"Code": str(code)}}:  # botocore's ClientError
            return f"{kind} {code}"
    return kind
