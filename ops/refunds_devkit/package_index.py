"""Where packages come from: what the user's pip is told, passed on to uv, which reads no pip.conf.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

CONFIG_SECONDS = 60


def pip_settings(python: Path) -> dict[str, str]:
    """What pip's files and environment say together, such as ``{"index-url": "https://…"}``.

    Empty when there is no pip to ask.
    """
    try:
        listed = subprocess.run(
            [python, "-m", "pip", "--disable-pip-version-check", "config", "list"],
            capture_output=True,
            text=True,
            timeout=CONFIG_SECONDS,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    found: dict[str, dict[str, str]] = {}
    for line in listed.splitlines():
        key, _, shown = line.partition("=")
        section, _, name = key.rpartition(".")
        try:
            found.setdefault(section, {})[name] = str(ast.literal_eval(shown))
        except (SyntaxError, ValueError):
            continue
    # The environment wins, then what is said for `pip install`, then what for all of pip.
    return found.get("global", {}) | found.get("install", {}) | found.get(":env:", {})


def uv_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """pip's settings as uv's variables. One that the user has set for uv itself is left out."""
    wanted = {
        # pip trusts the system's certificates.
        "UV_SYSTEM_CERTS": "true",
        "UV_DEFAULT_INDEX": settings.get("index-url"),
        "UV_INDEX": _words(settings.get("extra-index-url")),
        "UV_FIND_LINKS": _words(settings.get("find-links"), ","),
        "UV_NO_INDEX": "true" if settings.get("no-index") in ("1", "true", "yes") else None,
        "UV_INSECURE_HOST": _words(settings.get("trusted-host")),
        "SSL_CERT_FILE": settings.get("cert"),
        "UV_HTTP_TIMEOUT": settings.get("default-timeout") or settings.get("timeout"),
        "ALL_PROXY": settings.get("proxy"),
    }
    return {name: value for name, value in wanted.items() if value and name not in os.environ}


def _words(value: str | None, separator: str = " ") -> str | None:
    return separator.join(value.split()) if value else None
