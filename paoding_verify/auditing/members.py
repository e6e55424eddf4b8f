"""Binary members of a bundle: what the checker reads to prove every claim again."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np

from paoding_verify.evidence.claim import Finding
from paoding_verify.evidence.codec import dumps
from paoding_verify.evidence.members import BOXES, CERTIFICATES, PROPERTIES, model_file, witness_files
from paoding_verify.evidence.property import Property, PropertyRecord
from paoding_verify.regions import Region, stack_boxes

__all__ = ["binary_members", "property_member"]


def binary_members(
    shipped: Mapping[str, bytes], regions: Sequence[Region], findings: Sequence[Finding]
) -> dict[str, bytes]:
    """Member name -> bytes: models, boxes, certificates by claim, one witness file per violated claim.

    Equal inputs give equal bytes. regions.npz: lower and upper (N, *input_shape) float64, anchor (N, *input_shape)
    float32, in the order of the result's regions.
    """
    members = {model_file(role): data for role, data in shipped.items()}
    members[BOXES] = _boxes(regions)
    certificates = {f.claim.id: f.certificate for f in findings if f.certificate is not None}
    members[CERTIFICATES] = dumps(certificates, indent=None).encode()
    return members | witness_files([finding.claim for finding in findings])


def property_member(properties: Mapping[str, Property]) -> dict[str, bytes]:
    """The member that holds the properties of a specification, by claim id, every number exact."""
    return {PROPERTIES: dumps({key: PropertyRecord.of(prop) for key, prop in properties.items()}).encode()}


def _boxes(regions: Sequence[Region]) -> bytes:
    lower, upper = stack_boxes(regions)
    buffer = io.BytesIO()
    np.savez(buffer, lower=lower, upper=upper, anchor=np.stack([region.centre for region in regions]))
    return buffer.getvalue()
