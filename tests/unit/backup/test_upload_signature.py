"""A data file is read and hashed once, and S3 still refuses other bytes."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore.awsrequest import AWSResponse

from refunds.backup.write_once import put_new_file
from refunds.wiring.backup_refunds import PATIENT_CLIENT_CONFIG

CONTENT = b"packed" * 1000


class EmptyBody:
    def stream(self) -> Iterator[bytes]:
        yield b""


class CountedReads(io.BytesIO):
    was_read = False

    def read(self, size: int | None = -1, /) -> bytes:
        self.was_read = True
        return super().read(size)


def test_a_data_file_is_not_read_to_be_signed_but_its_hash_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    client: Any = botocore.session.get_session().create_client(
        "s3", "eu-central-1", config=PATIENT_CLIENT_CONFIG, endpoint_url="https://s3.invalid"
    )
    sent: list[dict[str, str]] = []
    file = CountedReads(CONTENT)

    def answer(request: Any, **_: Any) -> AWSResponse:
        assert not file.was_read
        sent.append({name.lower(): _text(value) for name, value in request.headers.items()})
        headers: Any = {"ETag": '"e"'}
        return AWSResponse(request.url, 200, headers, EmptyBody())

    client.meta.events.register_first("before-send.s3.PutObject", answer)
    sha256 = hashlib.sha256(CONTENT).digest()
    assert put_new_file(client, "backups", "a", file, len(CONTENT), sha256) == '"e"'
    (headers,) = sent
    assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert headers["x-amz-checksum-sha256"] == base64.b64encode(sha256).decode()
    signed = re.search("SignedHeaders=([^,]+)", headers["authorization"])
    assert signed is not None
    assert "x-amz-checksum-sha256" in signed[1].split(";")


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
