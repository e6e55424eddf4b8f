"""SHA-256 of a network's canonical content: what it computes, whatever file it came from."""

from __future__ import annotations

import hashlib
from dataclasses import fields

import numpy as np

from paoding_verify.network.graph import Network

__all__ = ["canonical_digest"]


def canonical_digest(network: Network) -> str:
    """Hex SHA-256 over shapes, operations, wiring and every parameter as little-endian float64; names do not count."""
    digest = hashlib.sha256(b"paoding_verify network 1\n")
    digest.update(f"input {network.input_shape}\n".encode())
    for node in network.nodes:
        digest.update(f"{type(node.op).__name__} {node.inputs}\n".encode())
        for item in fields(node.op):
            value = getattr(node.op, item.name)
            if isinstance(value, np.ndarray):
                array = np.ascontiguousarray(value, dtype="<f8")
                digest.update(f"{item.name} {array.shape}\n".encode())
                digest.update(array.tobytes())
            else:
                digest.update(f"{item.name} {value!r}\n".encode())
    return digest.hexdigest()
