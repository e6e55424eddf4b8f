"""Signatures: whoever holds the key signs, and nothing else passes for it."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from paoding_verify.errors import ConfigError, IntegrityError
from paoding_verify.evidence.envelope import PAYLOAD_TYPE, key_id, seal, unseal

STATEMENT = b'{"_type": "https://in-toto.io/Statement/v1"}\n'


def pem(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    """Private and public key in PEM."""
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    return private, key.public_key().public_bytes(serialization.Encoding.PEM, info)


def keys(seed: int = 1) -> tuple[bytes, bytes]:
    """An Ed25519 pair that is the same every time."""
    return pem(ed25519.Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def test_what_was_signed_comes_back() -> None:
    private, public = keys()
    envelope = seal(STATEMENT, private)
    assert envelope == seal(STATEMENT, private)
    assert unseal(envelope.encode(), public) == STATEMENT
    plain = json.loads(envelope)
    assert plain["payloadType"] == PAYLOAD_TYPE
    assert plain["signatures"][0]["keyid"] == key_id(public)


def test_openssl_verifies_the_same_signature(tmp_path: Path) -> None:
    """The signature is one over DSSE's encoding of payload type and payload, as anybody may compute it."""
    private, public = keys()
    signature = base64.b64decode(json.loads(seal(STATEMENT, private))["signatures"][0]["sig"])
    kind = "application/vnd.in-toto+json"
    encoded = f"DSSEv1 {len(kind)} {kind} {len(STATEMENT)} ".encode() + STATEMENT
    for name, data in (("key.pem", public), ("signed", encoded), ("sig", signature)):
        (tmp_path / name).write_bytes(data)
    words = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "signed"]
    try:
        done = subprocess.run([*words, "-sigfile", "sig"], cwd=tmp_path, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert "Verified Successfully" in done.stdout, done.stderr


def test_changes_and_other_keys_are_refused() -> None:
    private, public = keys()
    envelope = json.loads(seal(STATEMENT, private))
    forged = base64.b64encode(STATEMENT.replace(b"v1", b"v2")).decode()
    false = base64.b64encode(bytes(64)).decode()
    for changed in (
        {**envelope, "payload": forged}, {**envelope, "signatures": []}, {**envelope, "payloadType": "text/plain"},
        {**envelope, "signatures": [{"keyid": key_id(public), "sig": false}]}, {**envelope, "more": 1}, [], "x",
        {**envelope, "signatures": 3}, {**envelope, "payload": "*"},
    ):  # fmt: skip
        with pytest.raises(IntegrityError):
            unseal(json.dumps(changed).encode(), public)
    with pytest.raises(IntegrityError, match="not signed by the key"):
        unseal(json.dumps(envelope).encode(), keys(2)[1])
    with pytest.raises(IntegrityError, match="damaged"):
        unseal(b"\xff", public)


def test_keys_of_other_kinds_are_named() -> None:
    private, public = pem(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ConfigError, match="no Ed25519 key"):
        seal(STATEMENT, private)
    with pytest.raises(ConfigError, match="no Ed25519 key"):
        key_id(public)
    for data in (b"", keys()[1]):
        with pytest.raises(ConfigError, match="cannot be read"):
            seal(STATEMENT, data)
    with pytest.raises(ConfigError, match="cannot be read"):
        key_id(b"nonsense")
