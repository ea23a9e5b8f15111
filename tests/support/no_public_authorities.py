"""TLS without the authorities that the machine trusts: half of the conformance suite's CPU time.

Each transport to a gateway loads all of them, 140 certificates. Tests call servers on 127.0.0.1
only, none of which they vouch for. A test that has its own authority names it in ``SSL_CERT_FILE``.
"""

from __future__ import annotations

import os
import ssl
from typing import Any

from tests.support.quick_clients import replace

_OF_THE_MACHINE = os.environ.get("SSL_CERT_FILE")


@replace(ssl.SSLContext, "load_default_certs")
def _load_own(original: Any, context: ssl.SSLContext, *purpose: ssl.Purpose) -> None:
    if os.environ.get("SSL_CERT_FILE") != _OF_THE_MACHINE:
        original(context, *purpose)
