"""Verifies a digest's signature with the public key. Needs no AWS."""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)


class NotAPublicKeyError(ValueError):
    """The file is no RSA public key."""


class PublicKey:
    """An RSA key, read from PEM, or from DER as KMS returns it."""

    def __init__(self, content: bytes) -> None:
        """Raises ``NotAPublicKeyError``."""
        try:
            pem = content.lstrip().startswith(b"-----BEGIN")
            key = load_pem_public_key(content) if pem else load_der_public_key(content)
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise NotAPublicKeyError("not a public key in PEM or DER form") from exc
        if not isinstance(key, RSAPublicKey):
            raise NotAPublicKeyError("not an RSA key")
        self._key = key

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the key's DER form, by which digests name their key."""
        der = self._key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(der).hexdigest()

    @property
    def pem(self) -> bytes:
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verifies(self, content: bytes, signature: bytes) -> bool:
        """Whether ``signature`` (SHA256withRSA, PKCS #1 v1.5) is this key's, of ``content``."""
        try:
            self._key.verify(signature, content, PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True
