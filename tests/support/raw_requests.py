"""Requests to the sandbox gateway over a plain socket, to see each byte of the answer."""

from __future__ import annotations

import json
import socket

from tests.support.flair_client import Flair

DEADLINE_SECONDS = 10


def raw_post(flair: Flair, payment: str, reference: str, timeout: float) -> socket.socket:
    """Send a refund request; the caller reads the answer from the socket."""
    wanted = {
        "transaction_id": payment,
        "amount": 100,
        "currency": "USD",
        "reference": reference,
    }
    body = json.dumps(wanted).encode()
    head = (
        "POST /v1/refunds HTTP/1.1\r\nHost: sandbox\r\nAuthorization: Bearer test_key\r\n"
        f"Idempotency-Key: {reference}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    line = socket.create_connection((flair.gateway.host, flair.gateway.port), timeout=timeout)
    line.sendall(head.encode() + body)
    return line


def read_all(line: socket.socket) -> bytes:
    return b"".join(iter(lambda: line.recv(65536), b""))
