"""Passes the settings of the user's pip on to uv, which reads no pip.conf.

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
    """pip's settings from its files and its environment, such as ``{"index-url": "https://…"}``.

    Empty if there is no pip.
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
    # The environment wins, then the settings of `pip install`, then those of pip as a whole.
    return found.get("global", {}) | found.get("install", {}) | found.get(":env:", {})


def uv_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """pip's settings as uv's variables, except for those that the user has set."""
    translated = {
        # pip trusts the system's certificates; uv does so on request.
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
    return {name: value for name, value in translated.items() if value and name not in os.environ}


def _words(value: str | None, separator: str = " ") -> str | None:
    return separator.join(value.split()) if value else None
