"""What keeps the console to the person who started it.

A page of another website can send requests to 127.0.0.1, and that website's own name can resolve to
this address. So the ``Host`` header is checked, the session cookie is ``SameSite=Strict``, every
change carries a token that only our own pages have, and nothing may frame us or load from
elsewhere.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from refunds_ops.errors import RefusedError

ENTER = "/enter"
STATIC = "/static/"
MAX_QUERY_BYTES = 4096
MAX_FORM_BYTES = 64 * 1024
MAX_FORM_FIELDS = 40

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
    # It is not no-referrer, because browsers then send "Origin: null" with our own forms.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@dataclass
class Session:
    """The one session of a console. The token of the printed address is exchanged for it once."""

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    _key: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    _entered: bool = False

    @property
    def address(self) -> str:
        """Opens the console, once."""
        return f"http://127.0.0.1:{self.port}{ENTER}?token={self.token}"

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset(f"{name}:{self.port}" for name in ("127.0.0.1", "localhost"))

    @property
    def cookie_name(self) -> str:
        # A browser sends a cookie to every port: two consoles must not overwrite each other's.
        return f"refunds_console_{self.port}"

    def enter(self, token: str) -> str | None:
        """The ``Set-Cookie`` for the token's holder; None for a wrong or used token."""
        if self._entered or not hmac.compare_digest(token.encode(), self.token.encode()):
            return None
        self._entered = True
        return f"{self.cookie_name}={self._key}; Path=/; HttpOnly; SameSite=Strict"

    def holds(self, cookie: str) -> bool:
        """Whether a ``Cookie`` header is this session's."""
        # Starlette's parser: SimpleCookie stops at a cookie of another program that it can't read.
        found = cookie_parser(cookie).get(self.cookie_name, "")
        return hmac.compare_digest(found.encode(), self._key.encode())

    @property
    def csrf_token(self) -> str:
        return hmac.new(self._key.encode(), b"change", sha256).hexdigest()

    def allows_change(self, token: str, headers: Headers) -> bool:
        """Whether a form was sent by one of our own pages."""
        origin = headers.get("origin")
        return (
            hmac.compare_digest(token.encode(), self.csrf_token.encode())
            and (origin is None or origin in {f"http://{host}" for host in self.hosts})
            and headers.get("sec-fetch-site", "same-origin") == "same-origin"
        )


class Guard:
    """Accepts only requests with the session, and adds the security headers to every response."""

    def __init__(self, app: ASGIApp, session: Session, refused: ASGIApp) -> None:
        """``refused`` answers whoever isn't let in; ``scope["refused"]`` has the status."""
        self._app = app
        self._session = session
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        if status := self._refusal(scope):
            await self._refused({**scope, "refused": status}, receive, send_guarded)
        else:
            await self._app(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> int | None:
        headers = Headers(scope=scope)
        if headers.get("host") not in self._session.hosts:
            return 421
        if len(scope["query_string"]) > MAX_QUERY_BYTES:
            return 414
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405
        path: str = scope["path"]
        if path == ENTER or path.startswith(STATIC):
            return None
        return None if self._session.holds(headers.get("cookie", "")) else 401


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a small form. Raises ``RefusedError``."""
    kind = request.headers.get("content-type", "").split(";")[0].strip()
    if kind != "application/x-www-form-urlencoded":
        raise RefusedError("This is not a form of the console.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise RefusedError("The form is too large.", f"At most {MAX_FORM_BYTES // 1024} KB.")
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS, errors="strict"
        )
    except ValueError:
        raise RefusedError("The form can't be read.") from None
    return dict(pairs)
