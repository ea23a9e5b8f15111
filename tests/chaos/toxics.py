"""Breaks TCP connections with toxiproxy, on request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any
from urllib.parse import urlsplit

import urllib3

from refunds_devkit.local.ports import LOOPBACK, free_port

TOXICS: Mapping[str, Mapping[str, int]] = {
    "latency": {"latency": 800, "jitter": 700},
    "reset_peer": {"timeout": 50},
    # Accepts and passes nothing on: a half-open connection.
    "timeout": {"timeout": 0},
    "bandwidth": {"rate": 2},
    "limit_data": {"bytes": 700},
}


class Proxies:
    """A proxy before each server, by name."""

    def __init__(self, api: str, servers: Mapping[str, str]) -> None:
        self._api = api
        self._http = urllib3.PoolManager(timeout=10, retries=False)
        self._servers = dict(servers)
        self._redirected: set[str] = set()
        self.urls: dict[str, str] = {}
        for name, url in servers.items():
            listen = f"{LOOPBACK}:{free_port()}"
            upstream = urlsplit(url).netloc
            self._post("/proxies", {"name": name, "listen": listen, "upstream": upstream})
            self.urls[name] = f"http://{listen}"

    def break_one(self, random: Random) -> str:
        """Break one direction of one proxy's connections. Returns what was done."""
        name, kind = random.choice(sorted(self.urls)), random.choice(sorted(TOXICS))
        direction = random.choice(("upstream", "downstream"))
        toxic = {"type": kind, "stream": direction, "toxicity": 0.5, "attributes": TOXICS[kind]}
        self._post(f"/proxies/{name}/toxics", {"name": f"{kind}_{direction}", **toxic})
        return f"{kind} {name}"

    def redirect(self, name: str, url: str) -> None:
        """Pass connections on to another server until ``mend``. Closes those that are open."""
        self._redirected.add(name)
        self._set_upstream(name, url)

    def mend(self) -> None:
        self._post("/reset", {})
        while self._redirected:
            name = self._redirected.pop()
            self._set_upstream(name, self._servers[name])

    def _set_upstream(self, name: str, url: str) -> None:
        listen = urlsplit(self.urls[name]).netloc
        self._post(f"/proxies/{name}", {"listen": listen, "upstream": urlsplit(url).netloc})

    def _post(self, path: str, body: Any) -> None:
        # toxiproxy refuses requests of browsers, by their user agent.
        headers = {"Content-Type": "application/json", "User-Agent": "refunds-chaos"}
        answer = self._http.request(
            "POST", self._api + path, body=json.dumps(body).encode(), headers=headers
        )
        # 409: the toxic is there already.
        assert answer.status < 300 or answer.status == 409, answer.data
