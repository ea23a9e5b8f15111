"""Who runs a command is asked of STS, once a command; without an answer nothing changes."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import EndpointConnectionError
from tests.support.builders import VISA, refund, shown
from tests.support.command_line import Refunds
from tests.support.people import session_arn, sign_in
from tests.support.world import World

from refunds.domain.refund import Status

DECIDE = ("review", "decide", "refund-1", "--paid", "--why", "seen", "--evidence", "T-7")


@pytest.fixture(autouse=True)
def in_review(world: World, refunds: Refunds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refunds_ops.audit.sources.gateways", lambda stack: world.gateways)
    monkeypatch.setattr("refunds_ops.audit.sources.settings_of", lambda stack: {})
    world.gateway.refunds.append(shown())
    world.put(refund(status=Status.IN_REVIEW))


class Sts:
    """Counts the questions, and fails when it should."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, fails: bool = False) -> None:
        self.asked = 0
        real = BaseClient._make_api_call  # type: ignore[attr-defined]

        def call(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
            if operation == "GetCallerIdentity":
                self.asked += 1
                if fails:
                    raise EndpointConnectionError(endpoint_url="https://sts.example")
            return real(client, operation, parameters)

        monkeypatch.setattr(BaseClient, "_make_api_call", call)


def test_sts_is_asked_once_a_command(refunds: Refunds, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(monkeypatch, "ada")
    sts = Sts(monkeypatch)
    assert refunds(*DECIDE).status == 0
    assert sts.asked == 1


def test_a_command_that_only_shows_something_asks_nobody(
    refunds: Refunds, monkeypatch: pytest.MonkeyPatch
) -> None:
    sts = Sts(monkeypatch, fails=True)
    refunds("show", "refund-1")
    refunds("review", "list")
    assert sts.asked == 0


@pytest.mark.parametrize(
    "command",
    [
        DECIDE,
        ("correct", "refund-1", "--why", "seen", "--evidence", "T-7"),
        ("pause", "--why", "a look"),
        ("resume", "--why", "a look"),
        ("dead-letters", "resend", "--all", "--why", "mended", "--yes"),
        ("dead-letters", "drop", "--all", "--why", "mended", "--yes"),
        ("audit", "close", "key", "--why", "known"),
        ("audit", "rebuild", "--all"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_without_sts_nothing_is_changed(
    refunds: Refunds, world: World, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr("refunds_ops.stack.audit_writer.check_connected", lambda stack: None)
    Sts(monkeypatch, fails=True)
    ran = refunds(*command)
    assert ran.status == 3
    assert "AWS does not say who you are, so nothing was changed" in ran.err
    assert "aws sts get-caller-identity" in ran.err
    assert world.stored().version == 1
    assert not world.control.intake().history


def test_nobody_names_themselves(
    refunds: Refunds, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(monkeypatch, "ada")
    assert refunds(*DECIDE, "--by", "operator:eve").status == 0
    review = world.stored().review
    assert review is not None
    assert (review["by"], review["on_behalf_of"]) == (session_arn("ada"), "operator:eve")
    shown_refund = refunds("show", "refund-1").out
    assert "ada as Reviewer, on behalf of operator:eve" in " ".join(shown_refund.split())


@pytest.mark.parametrize("note", ["  ", f"card {VISA}"])
def test_a_note_that_must_not_be_kept_is_refused(refunds: Refunds, world: World, note: str) -> None:
    assert refunds(*DECIDE, "--on-behalf-of", note).status == 1
    assert world.stored().version == 1


def test_a_hostile_note_cannot_change_the_terminal(refunds: Refunds) -> None:
    assert refunds(*DECIDE, "--on-behalf-of", "the \x1b[31mshop\u202e").status == 0
    out = refunds("show", "refund-1").out
    assert "\x1b[31m" not in out
    assert "\u202e" not in out
