"""What is audited is what ships: networks are read again from the very files of the bundle."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from paoding_verify.network.graph import Network, Source
from paoding_verify.network.onnx_in import read_onnx
from paoding_verify.network.onnx_out import shipped_onnx

__all__ = ["as_shipped"]


def as_shipped(network: Network, role: str) -> Network:
    """The network that the shipped ONNX file of this one holds, node by node as a checker will read it.

    A network without a source (the pruner's) becomes one that was read from "<role>.onnx".
    Raises: ModelError if there is no source and the network equals no float32 file.
    """
    shipped = shipped_onnx(network)
    source = network.source or Source(f"{role}.onnx", "onnx", hashlib.sha256(shipped).hexdigest(), shipped)
    return replace(read_onnx(shipped), source=source)
