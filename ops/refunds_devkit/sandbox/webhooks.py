"""Webhooks of the sandbox gateway: a thread reads the server's list of refunds and posts a signed
event for each refund that has changed since its creation.

As with a real gateway, an event can come late, twice (after a lost response) or not at all (after
three attempts): docs/webhooks.md.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections import OrderedDict
from http import HTTPStatus
from typing import Any

import urllib3

LOOK_EVERY_SECONDS = 0.5
LOOKED_AT = 100
"""Only the newest refunds are read. Changes of older ones send no event."""
REMEMBERED = 1000
TRIES = 3
TIMEOUT_SECONDS = 5.0


def sign(secret: str, body: bytes, at_seconds: int) -> str:
    """The signature header's value."""
    signed = str(at_seconds).encode() + b"." + body
    return f"t={at_seconds},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


class WebhookSender:
    """Posts to ``url``, signed with ``secret``, about refunds of the gateway at ``gateway_url``.

    ``api``: ``flair`` or ``stripe``; the event's refund is as that API shows it.
    """

    def __init__(self, *, gateway_url: str, api: str, api_key: str, url: str, secret: str) -> None:
        self._list_url = f"{gateway_url}/v1/refunds?limit={LOOKED_AT}"
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._api = api
        self._url = url
        self._secret = secret
        self._seen: OrderedDict[str, str] = OrderedDict()
        self._http = urllib3.PoolManager(timeout=TIMEOUT_SECONDS, retries=False)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sandbox-webhooks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(TRIES * TIMEOUT_SECONDS + 1)
        self._http.clear()

    def look(self) -> int:
        """Post an event for each change since the last call. Returns how many were accepted."""
        listed = self._http.request("GET", self._list_url, headers=self._headers)
        sent = 0
        for refund in json.loads(listed.data)["data"] if listed.status == HTTPStatus.OK else []:
            before = self._seen.get(refund["id"])
            self._seen[refund["id"]] = refund["status"]
            self._seen.move_to_end(refund["id"])
            if before is not None and before != refund["status"]:
                sent += self._post(event_of(refund, self._api))
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return sent

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_SECONDS):
            try:
                self.look()
            except (urllib3.exceptions.HTTPError, ValueError, LookupError):
                continue  # a scripted fault, or the server is starting or stopping

    def _post(self, event: dict[str, Any]) -> bool:
        body = json.dumps(event).encode()
        for _ in range(TRIES):
            headers = {
                "Content-Type": "application/json",
                f"{self._api}-signature": sign(self._secret, body, int(time.time())),
            }
            try:
                answer = self._http.request("POST", self._url, body=body, headers=headers)
            except urllib3.exceptions.HTTPError:
                continue
            if answer.status < HTTPStatus.MULTIPLE_CHOICES:
                return True
        return False


_STRIPES_EVENT = {
    "object": "event",
    "api_version": None,
    "livemode": False,
    "pending_webhooks": 1,
    "request": None,
}


def event_of(refund: dict[str, Any], api: str) -> dict[str, Any]:
    """The event for a refund's change. ``refund`` is as the API shows it."""
    kind = "refund.failed" if refund["status"] == "failed" else "refund.updated"
    digest = hashlib.sha256(f"{refund['id']} {refund['status']}".encode()).hexdigest()
    return {
        "id": f"evt_{digest[:24]}",
        "type": kind,
        "created": int(time.time()),
        "data": {"object": refund},
        **(_STRIPES_EVENT if api == "stripe" else {}),
    }
