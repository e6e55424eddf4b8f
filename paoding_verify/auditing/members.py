"""Binary members of a bundle: what the checker reads to prove every claim again."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np

from paoding_verify.evidence.claim import Finding
from paoding_verify.evidence.codec import dumps
from paoding_verify.regions import Region, stack_boxes

__all__ = ["binary_members"]


def binary_members(
    shipped: Mapping[str, bytes], regions: Sequence[Region], findings: Sequence[Finding]
) -> dict[str, bytes]:
    """Member name -> bytes: models, boxes, certificates by claim, one witness file per violated claim.

    Equal inputs give equal bytes. regions.npz: lower and upper (N, *input_shape) float64, anchor (N, *input_shape)
    float32, in the order of the result's regions.
    """
    members = {f"models/{role}.onnx": data for role, data in shipped.items()}
    members["regions.npz"] = _boxes(regions)
    certificates = {f.claim.id: f.certificate for f in findings if f.certificate is not None}
    members["certificates/certificates.json"] = dumps(certificates).encode()
    violated = [finding.claim for finding in findings if finding.claim.witness is not None]
    for number, claim in enumerate(violated):
        members[f"witnesses/{number:04d}.json"] = dumps({"claim": claim.id, "witness": claim.witness}).encode()
    return members


def _boxes(regions: Sequence[Region]) -> bytes:
    lower, upper = stack_boxes(regions)
    buffer = io.BytesIO()
    np.savez(buffer, lower=lower, upper=upper, anchor=np.stack([region.centre for region in regions]))
    return buffer.getvalue()
