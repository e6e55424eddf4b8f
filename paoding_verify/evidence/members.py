"""Names of a bundle's files, and those files that follow from the claims alone."""

from __future__ import annotations

from collections.abc import Sequence

from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.codec import dumps

__all__ = [
    "ATTESTATION",
    "BOXES",
    "CERTIFICATES",
    "COMPONENTS",
    "MANIFEST",
    "PROPERTIES",
    "RESULT",
    "SIGNATURE",
    "TIMINGS",
    "TWINS",
    "model_file",
    "witness_files",
]

RESULT = "audit.json"
TIMINGS = "timings.json"
MANIFEST = "manifest.json"
BOXES = "regions.npz"
CERTIFICATES = "certificates/certificates.json"
SIGNATURE = "attestation.dsse.json"
"""A signature of all other files; added afterwards, so no manifest names it."""
ATTESTATION = "attestation.json"
COMPONENTS = "components.cdx.json"
"""What was installed where the audit ran (CycloneDX)."""
PROPERTIES = "properties.json"
"""Claim id -> property, for the claims whose property does not follow from kind and label: those of specifications."""
TWINS = ("report.html", "audit.sarif", "junit.xml", ATTESTATION, "summary.md", "claims.csv")
"""The report and its machine-readable twins: drawn from the result alone."""


def model_file(role: str) -> str:
    """Name of the ONNX file of a model."""
    return f"models/{role}.onnx"


def witness_files(claims: Sequence[Claim]) -> dict[str, bytes]:
    """One file per violated claim, in their order: claim id and witness."""
    violated = [claim for claim in claims if claim.witness is not None]
    return {
        f"witnesses/{number:04d}.json": dumps({"claim": claim.id, "witness": claim.witness}).encode()
        for number, claim in enumerate(violated)
    }
