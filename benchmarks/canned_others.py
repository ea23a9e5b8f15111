"""The other canned servers: the gateway, S3 and AWS's small JSON services."""

from __future__ import annotations

import base64
import json
from typing import Any, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

API_KEY = "bench_key"
CAPTURED_MINOR = 10_000

# An RSA public key (2048 bits, DER). Nobody here checks its signatures.
_PUBLIC_KEY = bytes.fromhex(
    "30820122300d06092a864886f70d01010105000382010f003082010a0282010100"
) + (b"\xc5" * 256 + bytes.fromhex("0203010001"))


def aws_answer(operation: str, request: dict[str, Any]) -> dict[str, Any]:
    """The responses of Secrets Manager, EventBridge, SQS and KMS."""
    match operation:
        case "GetSecretValue":
            return {"Name": "gateway", "SecretString": API_KEY, "VersionId": "1"}
        case "PutEvents":
            entries = [{"EventId": str(number)} for number in range(len(request["Entries"]))]
            return {"FailedEntryCount": 0, "Entries": entries}
        case "GetPublicKey":
            return {"KeyId": "key", "PublicKey": base64.b64encode(_PUBLIC_KEY).decode()}
        case "Sign":
            return {"KeyId": "key", "Signature": base64.b64encode(bytes(256)).decode()}
    return {}


def gateway_answer(method: str, path: str, body: bytes) -> tuple[int, bytes]:
    """Flair, with every payment captured and every refund successful."""
    if method == "POST":
        order = json.loads(body)
        refund = {
            "id": f"re_{order['reference']}"[:40],
            "transaction_id": order["transaction_id"],
            "reference": order["reference"],
            "amount": order["amount"],
            "currency": order["currency"],
            "status": "succeeded",
            "failure_code": None,
            "failure_message": None,
            "created_at": "2026-11-23T07:10:00Z",
        }
        return 201, json.dumps(refund).encode()
    if "/payments/" in path:
        payment = {
            "id": unquote(path.rpartition("/")[2]),
            "status": "captured",
            "currency": "USD",
            "amount_captured": CAPTURED_MINOR,
            "amount_refunded": 0,
        }
        return 200, json.dumps(payment).encode()
    return 200, b'{"data": [], "next_cursor": null}'


BYTES_KEPT = 65_536

Answer: TypeAlias = tuple[int, dict[str, str], bytes]
_XML = {"content-type": "application/xml"}
_NO_SUCH_KEY: Answer = (404, _XML, b"<Error><Code>NoSuchKey</Code></Error>")


class Buckets:
    """S3 that keeps each object's size, and the bytes of objects under ``BYTES_KEPT``."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._contents: dict[str, bytes] = {}

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        url = urlsplit(path)
        query = parse_qs(url.query, keep_blank_values=True)
        match method:
            case "PUT":
                return self._put(url.path, "partNumber" in query, headers, body)
            case "POST":
                return self._post(url.path, starts_upload="uploads" in query)
            case "GET" if "list-type" in query:
                return 200, _XML, b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>"
            case "GET" | "HEAD":
                return self._read(method, url.path)
            case "DELETE":
                return 204, {}, b""
        return _NO_SUCH_KEY

    def _put(self, key: str, is_part: bool, headers: dict[str, str], body: bytes) -> Answer:
        size = _plain_length(headers, body)
        if is_part:
            self._sizes[key] = self._sizes.get(key, 0) + size
            return 200, {"etag": '"part"'}, b""
        self._sizes[key] = size
        if len(body) < BYTES_KEPT:
            self._contents[key] = body
        return 200, {"etag": '"whole"'}, b""

    def _post(self, key: str, *, starts_upload: bool) -> Answer:
        if starts_upload:
            self._sizes[key] = 0
            result = "<InitiateMultipartUploadResult><UploadId>u</UploadId>"
            return 200, _XML, f"{result}</InitiateMultipartUploadResult>".encode()
        result = "<CompleteMultipartUploadResult><ETag>&quot;whole&quot;</ETag>"
        return 200, _XML, f"{result}</CompleteMultipartUploadResult>".encode()

    def _read(self, method: str, key: str) -> Answer:
        if method == "HEAD" and key in self._sizes:
            return 200, {"content-length": str(self._sizes[key]), "etag": '"whole"'}, b""
        if method == "GET" and key in self._contents:
            return 200, {}, self._contents[key]
        return _NO_SUCH_KEY


def _plain_length(headers: dict[str, str], body: bytes) -> int:
    """The uploaded size, with or without signed chunks."""
    if "x-amz-decoded-content-length" in headers:
        return int(headers["x-amz-decoded-content-length"])
    return len(body)
