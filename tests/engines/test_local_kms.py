"""local-kms signs as BackupRefunds asks, and what others wrote verifies it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from tests.support.engines import servers
from tests.support.engines.fixtures import started
from tests.support.expanded_template import load_template

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

ALGORITHM: Final = "RSASSA_PKCS1_V1_5_SHA_256"
DIGEST = hashlib.sha256(b"a digest").digest()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(servers.local_kms, tmp_path_factory) as running:
        yield running


@pytest.fixture
def kms(url: str, credentials: None) -> KMSClient:
    return boto3.client("kms", endpoint_url=url, region_name=servers.REGION)


@pytest.fixture
def key(kms: KMSClient) -> str:
    """As template.yaml makes BackupSigningKey."""
    properties = load_template()["Resources"]["BackupSigningKey"]["Properties"]
    made = kms.create_key(KeySpec=properties["KeySpec"], KeyUsage=properties["KeyUsage"])
    return made["KeyMetadata"]["Arn"]


def test_it_listens_on_this_machine_only(url: str) -> None:
    assert urlsplit(url).hostname == "127.0.0.1"


def test_a_signature_of_a_digest_holds_with_its_public_key(kms: KMSClient, key: str) -> None:
    signed = kms.sign(
        KeyId=key,
        Message=DIGEST,
        MessageType="DIGEST",
        SigningAlgorithm=ALGORITHM,
    )
    public = load_der_public_key(kms.get_public_key(KeyId=key)["PublicKey"])
    assert isinstance(public, RSAPublicKey)
    assert public.key_size == 3072
    public.verify(signed["Signature"], DIGEST, PKCS1v15(), Prehashed(SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(signed["Signature"], bytes(32), PKCS1v15(), Prehashed(SHA256()))


def test_it_verifies_what_it_signed_and_nothing_else(kms: KMSClient, key: str) -> None:
    signed = kms.sign(
        KeyId=key,
        Message=DIGEST,
        MessageType="DIGEST",
        SigningAlgorithm=ALGORITHM,
    )
    assert kms.verify(
        KeyId=key,
        Message=DIGEST,
        MessageType="DIGEST",
        Signature=signed["Signature"],
        SigningAlgorithm=ALGORITHM,
    )["SignatureValid"]
    with pytest.raises(ClientError, match="KMSInvalidSignature"):
        kms.verify(
            KeyId=key,
            Message=bytes(32),
            MessageType="DIGEST",
            Signature=signed["Signature"],
            SigningAlgorithm=ALGORITHM,
        )


def test_a_key_that_signs_does_not_encrypt(kms: KMSClient, key: str) -> None:
    with pytest.raises(ClientError, match="InvalidKeyUsage"):
        kms.encrypt(KeyId=key, Plaintext=b"x")
