"""Reads single settings. Imports little: every function's cold start loads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Environment = Mapping[str, str]


class SettingsError(Exception):
    """A setting is missing or its value is not allowed."""


class TableNames(NamedTuple):
    refunds: str
    ledger: str
    audit: str

    @classmethod
    def read(cls, environment: Environment) -> TableNames:
        return cls(
            refunds=text(environment, "REFUNDS_TABLE"),
            ledger=text(environment, "LEDGER_TABLE"),
            audit=text(environment, "AUDIT_TABLE"),
        )


def text(environment: Environment, name: str) -> str:
    """A setting that must be there. Raises ``SettingsError``."""
    if value := environment.get(name):
        return value
    raise SettingsError(f"{name} is not set: see template.yaml for what it should be")


def number(environment: Environment, name: str, least: int, most: int) -> int:
    """A whole number within bounds. Raises ``SettingsError``."""
    value = text(environment, name)
    if value.isascii() and value.isdigit() and least <= int(value) <= most:
        return int(value)
    raise SettingsError(f"{name} must be a whole number from {least} to {most}")


def function_identity(environment: Environment) -> str:
    """Who processes, for the audit trail: the function's name and version."""
    name = text(environment, "AWS_LAMBDA_FUNCTION_NAME")
    return f"{name}:{text(environment, 'AWS_LAMBDA_FUNCTION_VERSION')}"
