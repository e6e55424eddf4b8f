"""Signatures: a DSSE envelope, by an Ed25519 key, around a statement about all files of a bundle.

The statement is the bundle's attestation with every file among its subjects, so that none can be exchanged: the
attestation alone says nothing of files that do not follow from the result (a specification's properties, times).

Sources: DSSE v1.0 (github.com/secure-systems-lab/dsse, protocol.md and envelope.md); RFC 8032 (Ed25519).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from paoding_verify.errors import ConfigError, IntegrityError, MissingComponentError
from paoding_verify.evidence.codec import unique_keys
from paoding_verify.evidence.members import ATTESTATION, SIGNATURE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["PAYLOAD_TYPE", "key_id", "seal", "statement", "unseal"]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_FIELDS = {"payload", "payloadType", "signatures"}


def statement(files: Mapping[str, bytes]) -> bytes:
    """The attestation of a bundle, its subjects being all files but the signature, in the order of their names.

    files: name -> content of every file that the manifest names.
    Raises: IntegrityError if there is no attestation among them, or it is no JSON object.
    """
    try:
        plain: Any = json.loads(files[ATTESTATION], object_pairs_hook=unique_keys)
        plain["subject"] = [
            {"name": name, "digest": {"sha256": hashlib.sha256(files[name]).hexdigest()}}
            for name in sorted(files.keys() - {SIGNATURE})
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{ATTESTATION} is missing or damaged, so there is nothing to sign") from error
    return (json.dumps(plain, indent=2) + "\n").encode()


def seal(payload: bytes, private_key: bytes) -> str:
    """The envelope of a statement, as JSON text; equal arguments give equal text.

    private_key: Ed25519, PKCS#8 in PEM, without a passphrase (`openssl genpkey -algorithm ed25519`).
    Raises: ConfigError if it is no such key; MissingComponentError if `cryptography` is not installed.
    """
    key = _private(private_key)
    signature = key.sign(_authenticated(payload))
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": _fingerprint(key.public_key()), "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps(envelope, indent=2) + "\n"


def unseal(envelope: bytes, public_key: bytes) -> bytes:
    """The statement that the owner of this key signed.

    public_key: Ed25519, in PEM (`openssl pkey -pubout`).
    Raises: IntegrityError if the envelope is damaged or not signed by it; ConfigError if it is no such key;
    MissingComponentError if `cryptography` is not installed.
    """
    key = _public(public_key)
    from cryptography.exceptions import InvalidSignature

    try:
        plain: Any = json.loads(envelope, object_pairs_hook=unique_keys)
        if set(plain) != _FIELDS or plain["payloadType"] != PAYLOAD_TYPE:
            raise ValueError("it is no envelope of an in-toto statement")
        payload = base64.b64decode(plain["payload"], validate=True)
        signatures = [base64.b64decode(each["sig"], validate=True) for each in plain["signatures"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"the signature is damaged: {str(error)[:120]}") from error
    for signature in signatures:
        try:
            key.verify(signature, _authenticated(payload))
        except InvalidSignature:
            continue
        return payload
    raise IntegrityError(f"the bundle is not signed by the key {_fingerprint(key)[:16]}")


def key_id(public_key: bytes) -> str:
    """SHA-256 of the raw public key, in hex. Raises: as `unseal`."""
    return _fingerprint(_public(public_key))


def _authenticated(payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _fingerprint(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def _private(pem: bytes) -> Ed25519PrivateKey:
    serialization, ed25519 = _library()
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"the key to sign with cannot be read: {str(error)[:120]}") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ConfigError("the key to sign with is no Ed25519 key: make one with openssl genpkey -algorithm ed25519")
    return key


def _public(pem: bytes) -> Ed25519PublicKey:
    serialization, ed25519 = _library()
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"the public key cannot be read: {str(error)[:120]}") from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ConfigError("the public key is no Ed25519 key")
    return key


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingComponentError("signatures need the package cryptography: pip install cryptography") from error
    return serialization, ed25519
