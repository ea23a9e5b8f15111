"""An adapter that declares less than the protocol needs is not opened, and hears why."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

import pytest
from tests.support.builders import FakeClock

from refunds.gateways import flair
from refunds.gateways.contract import Gateway, Stage
from refunds.gateways.flair import FlairGateway
from refunds.gateways.http import PooledTransport
from refunds.gateways.registry import ADAPTERS, open_gateway
from refunds.gateways.requirements import (
    MAX_REFERENCE_CHARACTERS,
    MIN_KEY_LIFETIME,
    unmet_demands,
)


class Key:
    def get(self) -> str:
        return "sk_test_1"

    def forget(self) -> None:
        """It stays."""


def opened(stage: str = "") -> Gateway:
    return open_gateway(
        ADAPTERS["flair"],
        base_url="https://flair.example",
        api_key=Key(),
        transport=PooledTransport(1),
        clock=FakeClock(),
        timeout_seconds=5,
        stage=Stage(stage),
    )


class ShortKeys(FlairGateway):
    key_lifetime = timedelta(minutes=59)


class SlowLookUps(FlairGateway):
    look_up_lag = timedelta(hours=23, minutes=30)


class NegativeLag(FlairGateway):
    look_up_lag = timedelta(seconds=-1)


class OneReference(FlairGateway):
    def reference_for(self, refund_id: str) -> str:
        return super().reference_for(refund_id)[:50]


class NewReferences(FlairGateway):
    def reference_for(self, refund_id: str) -> str:
        return secrets.token_hex(8)


class LongReferences(FlairGateway):
    def reference_for(self, refund_id: str) -> str:
        return refund_id * 5


class NoReferences(FlairGateway):
    def reference_for(self, refund_id: str) -> str:
        return ""


class NoAccount(FlairGateway):
    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.account = ""


class NoFormat(FlairGateway):
    body_format = 0


class NoTimeLimit(FlairGateway):
    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts | {"timeout_seconds": 0.0})


@pytest.mark.parametrize(
    ("adapter", "why"),
    [
        (ShortKeys, "could pay a second time"),
        (SlowLookUps, "nor protect from a second one"),
        (NegativeLag, "negative"),
        (OneReference, "one key for two refunds"),
        (NewReferences, "differs from one call to the next"),
        (LongReferences, "too long"),
        (NoReferences, "empty"),
        (NoAccount, "which account"),
        (NoFormat, "no number"),
        (NoTimeLimit, "no time limit"),
    ],
)
def test_an_adapter_that_declares_too_little_is_not_opened(
    monkeypatch: pytest.MonkeyPatch, adapter: type[FlairGateway], why: str
) -> None:
    monkeypatch.setattr(flair, "FlairGateway", adapter)

    with pytest.raises(ValueError, match=why):
        opened()


class KeysAreJustLongEnough(FlairGateway):
    key_lifetime = MIN_KEY_LIFETIME


class LookUpsAreJustFastEnough(FlairGateway):
    look_up_lag = FlairGateway.key_lifetime - MIN_KEY_LIFETIME


class LongestReferences(FlairGateway):
    def reference_for(self, refund_id: str) -> str:
        return refund_id.rjust(MAX_REFERENCE_CHARACTERS)


class ShortestReferences(FlairGateway):
    def reference_for(self, refund_id: str) -> str:
        return refund_id[-1]


class OneSecond(FlairGateway):
    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts | {"timeout_seconds": 1})


@pytest.mark.parametrize(
    "adapter",
    [
        KeysAreJustLongEnough,
        LookUpsAreJustFastEnough,
        LongestReferences,
        ShortestReferences,
        OneSecond,
    ],
)
def test_an_adapter_that_declares_just_enough_is_opened(
    monkeypatch: pytest.MonkeyPatch, adapter: type[FlairGateway]
) -> None:
    monkeypatch.setattr(flair, "FlairGateway", adapter)
    assert unmet_demands(opened()) == []


@pytest.mark.parametrize("stage", ["", "dev", "x" * 20])
def test_an_adapter_that_declares_enough_is_opened(stage: str) -> None:
    assert unmet_demands(opened(stage)) == []
