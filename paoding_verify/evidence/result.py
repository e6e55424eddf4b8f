"""The result of an audit, a certification or a comparison: plain data, from which every output is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from paoding_verify.evidence.claim import Claim
from paoding_verify.evidence.pruning import PruneTrace
from paoding_verify.evidence.verdict import Outcome, Verdict

__all__ = [
    "SCHEMA_VERSION",
    "SYNTHETIC",
    "AuditResult",
    "LayerRecord",
    "Metric",
    "ModelRecord",
    "PolicyOutcome",
    "Provenance",
    "RegionRecord",
    "RuleOutcome",
]  # fmt: skip

SCHEMA_VERSION = "1.1"
SYNTHETIC = "synthesised anchors"
"""Source of regions that no data stands behind."""


@dataclass(frozen=True)
class LayerRecord:
    """One node of a network, for display."""

    name: str
    """Untrusted text."""
    op: str
    output_shape: tuple[int, ...]
    num_parameters: int


@dataclass(frozen=True)
class ModelRecord:
    """A system under test."""

    role: str
    """original or pruned."""
    file: str
    """Name as given by the user. Untrusted text."""
    format: str
    sha256: str
    """Digest of the file that was read."""
    shipped_sha256: str
    """Digest of the ONNX file in the bundle; it differs if the source was no ONNX file or a normalisation layer was
    put in front."""
    canonical_sha256: str
    """Digest of what the network computes."""
    size_bytes: int
    """Of the shipped ONNX file."""
    input_shape: tuple[int, ...]
    num_outputs: int
    num_parameters: int
    num_zero_weights: int
    """Parameters that are weights of dense layers and convolutions and zero: unstructured pruning makes them."""
    num_units: tuple[int, ...]
    """Units of every activation layer."""
    num_macs: int
    """Multiply-accumulate operations of one inference."""
    layers: tuple[LayerRecord, ...]


@dataclass(frozen=True)
class RegionRecord:
    """A region."""

    id: str
    source: str
    """Where the anchor came from: a file name and row, a specification, or the synthesiser. Untrusted text."""
    label: int | None
    eps: float | None
    """Radius in input units; None for boxes that are no linf ball or have a radius or domain per feature."""
    domain: tuple[float, float] | None
    """Legal values of every feature, to which the ball was cut; None: it was not cut."""
    sha256: str
    """Digest of lower and upper (little-endian float64)."""
    box: str = ""
    """The box itself, as `boxes.pack_box` writes it: the centre of a ball, or centre, lower and upper."""


@dataclass(frozen=True)
class Metric:
    """Figures of one network at one eps over the regions drawn. Fractions of `num_regions`."""

    subject: str
    """original or pruned."""
    eps: float
    num_regions: int
    natural_accuracy: float
    """Centre classified as the label."""
    empirical_robust_accuracy: float
    """No violation found: an upper bound of robust accuracy."""
    certified_accuracy: float
    """Proved and re-checked: a lower bound of robust accuracy."""


@dataclass(frozen=True)
class RuleOutcome:
    """One line of a policy and how it came out."""

    rule: str
    """Name in the policy file."""
    text: str
    """The rule in words, with its threshold."""
    threshold: float
    low: float
    """Smallest value that is consistent with the evidence (every UNKNOWN decided against)."""
    high: float
    """Largest value that is consistent with the evidence."""
    outcome: Outcome


@dataclass(frozen=True)
class PolicyOutcome:
    """A policy applied to an audit."""

    name: str
    """File name, or "default". Untrusted text."""
    outcome: Outcome
    """FAIL if any rule fails, else INCONCLUSIVE if any is, else PASS."""
    rules: tuple[RuleOutcome, ...]


@dataclass(frozen=True)
class Provenance:
    """How the result came about."""

    command: str
    """The command line, or the library call. Untrusted text."""
    seed: int
    versions: Mapping[str, str]
    """Component -> version."""
    machine: str
    """Processor architecture and system; no host name."""
    config: Mapping[str, str]
    """Every setting that bears on the result."""
    data_split: str
    """How the pruner's anchors and the reported regions were kept apart, in words."""
    drawing: str = ""
    """Where the regions came from and how they were chosen, in words. Untrusted text."""


@dataclass(frozen=True)
class AuditResult:
    """Everything that was found. `bool()` of it raises: name the verdict you mean."""

    DERIVED: ClassVar[tuple[str, ...]] = ("verdict", "counts")
    """Properties that every JSON form of a result states as well."""

    mode: str
    """audit, certify or compare."""
    models: tuple[ModelRecord, ...]
    regions: tuple[RegionRecord, ...]
    claims: tuple[Claim, ...]
    metrics: tuple[Metric, ...]
    policy: PolicyOutcome | None
    """None for certify and compare."""
    pruning: PruneTrace | None
    """None if the pruned network was given, or there is none."""
    provenance: Provenance
    schema_version: str = SCHEMA_VERSION
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False, compare=False, metadata={"plain": False})
    """Members of the bundle that the JSON does not hold: name -> bytes (models, boxes, certificates)."""

    @property
    def verdict(self) -> Outcome | None:
        """The policy's outcome; None where no policy was applied."""
        return self.policy.outcome if self.policy else None

    @property
    def counts(self) -> dict[str, int]:
        """Claims by verdict: certified, violated, unknown, error."""
        found = Counter(claim.verdict for claim in self.claims)
        return {
            "certified": found[Verdict.CERTIFIED],
            "violated": found[Verdict.VIOLATED],
            "unknown": found[Verdict.UNKNOWN],
            "error": found[None],
        }

    def __bool__(self) -> bool:
        """Always raises: PASS, FAIL and INCONCLUSIVE do not fit into a truth value."""
        raise TypeError("an AuditResult is neither true nor false: compare `.verdict`, or look at `.counts`")
