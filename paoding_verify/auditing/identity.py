"""What the results of a run depend on: two runs of one identity give the same results, bit by bit."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from paoding_verify.auditing.config import WORDS, AuditConfig
from paoding_verify.network.digest import canonical_digest
from paoding_verify.network.graph import Network
from paoding_verify.regions import Region, box_digest
from paoding_verify.versions import code_digest, component_versions

__all__ = ["rows_digest", "run_identity"]


def run_identity(
    verb: str, config: AuditConfig, networks: Mapping[str, Network], *, regions: Sequence[Region] = (),
    settings: Mapping[str, object],
) -> dict[str, str]:  # fmt: skip
    """Name -> digest or value of everything that matters: networks, regions, settings, versions, code and machine.

    `settings` are those that stand in no configuration: options by name, and digests of data.
    """
    plain = asdict(config)
    plain |= plain.pop("search")
    return {
        "verb": verb,
        **{name: repr(value) for name, value in {**plain, **settings}.items() if name not in WORDS},
        **{f"{role} network": _network_digest(network) for role, network in networks.items()},
        "regions": _regions_digest(regions),
        "versions": ", ".join(f"{name} {version}" for name, version in component_versions().items()),
        "code": code_digest(),
        "machine": _machine(),
    }


def rows_digest(*arrays: npt.NDArray[Any] | None) -> str:
    """Hex SHA-256 of arrays with their types and shapes; "none" for arrays that are not there."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(b"none" if array is None else f"{array.dtype.str} {array.shape}\n".encode())
        digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _network_digest(network: Network) -> str:
    return f"{canonical_digest(network)} {network.source.sha256 if network.source else 'no file'}"


def _regions_digest(regions: Sequence[Region]) -> str:
    words = [(r.id, box_digest(r.lower, r.upper), rows_digest(r.centre), r.label, r.eps, r.domain) for r in regions]
    return hashlib.sha256(repr(words).encode("utf-8", "surrogatepass")).hexdigest()


def _machine() -> str:
    """Sums depend on how many threads share them."""
    import torch

    return f"{platform.machine()} {platform.system()}, {torch.get_num_threads()} threads on {os.cpu_count()} processors"
