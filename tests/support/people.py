"""People who have assumed a role, in moto or on the local stack."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest

ACCOUNT = "123456789012"
MOTO = f"arn:aws:sts::{ACCOUNT}:user/moto"
"""Who moto says the caller is, unless somebody has signed in."""


def session_arn(name: str, role: str = "Reviewer") -> str:
    return f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{name}"


def sign_in(monkeypatch: pytest.MonkeyPatch, name: str, role: str = "Reviewer") -> None:
    """From here on commands run as ``name``, who has assumed ``role`` in moto."""
    for variable, value in credentials_of(name, role, region_name="eu-central-1").items():
        monkeypatch.setenv(variable, value)


def credentials_of(
    name: str, role: str = "Reviewer", account: str = ACCOUNT, **client: Any
) -> dict[str, str]:
    """The environment of ``name``'s session of a role. ``client``: where STS is."""
    sts: Any = botocore.session.Session().create_client("sts", **client)
    answer = sts.assume_role(RoleArn=f"arn:aws:iam::{account}:role/{role}", RoleSessionName=name)[
        "Credentials"
    ]
    return {
        "AWS_ACCESS_KEY_ID": answer["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": answer["SecretAccessKey"],
        "AWS_SESSION_TOKEN": answer["SessionToken"],
    }
