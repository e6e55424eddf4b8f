"""What the pruner did: plain data, every proposal kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Candidate", "FinetuneRecord", "Move", "PruneStep", "PruneTrace", "StageMetrics"]


@dataclass(frozen=True)
class Move:
    """Removal of one unit, perhaps merged into another."""

    layer: int
    """Activation layer, 0 = first hidden."""
    kept: int | None
    """Unit that took over, in the original's numbering; None: removed without a partner."""
    removed: int
    """Unit removed, in the original's numbering."""
    energy: float | None = None
    """Energy of the network after this proposal: mean drop of certified margins (logits)."""
    reason: str = ""
    """Why it was accepted or rejected."""


@dataclass(frozen=True)
class PruneStep:
    """One progressive step."""

    step: int
    """Counted from 1."""
    accepted: tuple[Move, ...]
    rejected: tuple[Move, ...]
    energy: float
    """After the step."""
    temperature: float
    sparsity: float
    """Removed units / units of the original."""
    certified_margin: float
    """Mean certified margin over the pruner's anchors after the step (logits)."""
    elapsed_s: float | None = None


@dataclass(frozen=True)
class Candidate:
    """One network that the pruner considered as a whole."""

    name: str
    signal: float
    """Mean drop of certified margins on the selection anchors; smaller is better."""
    num_units: tuple[int, ...]
    chosen: bool


@dataclass(frozen=True)
class FinetuneRecord:
    """How a network was trained further after pruning."""

    objective: str
    """natural, adversarial or certified."""
    eps: float
    """Radius of the training boxes in input units; natural training does not look at it."""
    epochs: int
    seed: int
    source: str
    """File of the training rows. Untrusted text."""
    num_rows: int
    """Rows trained on."""
    sha256: str
    """Digest of these rows, inputs and labels, in the order of the file."""
    losses: tuple[float, ...]
    """Mean loss of every epoch."""
    num_excluded: int | None = None
    """Rows left out because they lie in a region of the audit; None: the regions were not known."""
    audited_sha256: str | None = None
    """Digest of these regions, whatever their order."""


@dataclass(frozen=True)
class StageMetrics:
    """Figures of one stage of pruning over rows held out from training. Fractions of `num_inputs`.

    They come from the search engines alone and were not proved a second time.
    """

    stage: str
    """original, pruned or fine-tuned."""
    eps: float
    num_inputs: int
    natural_accuracy: float
    empirical_robust_accuracy: float
    """Classified as the label, and no attack found a point that is not."""
    certified_accuracy: float
    """Every margin bounded above 0 by `method`."""
    method: str
    """Bound method, the same at every stage."""


@dataclass(frozen=True)
class PruneTrace:
    """Record of a pruning run."""

    method: str
    seed: int
    target_sparsity: float
    sparsity: float
    """Reached."""
    steps: tuple[PruneStep, ...]
    alignment: tuple[tuple[int, ...], ...]
    """For each activation layer, the original's units that were kept, in the pruned network's order."""
    anchors: Mapping[str, str | int | float]
    """Where the pruner's own anchors came from: source, count, eps, digest."""
    candidates: tuple[Candidate, ...] = ()
    excluded: tuple[str, ...] = ()
    """Activation layers, wholly or partly, that could not be pruned, each with the reason. Untrusted text."""
    stopped: str = ""
    """Why the run ended before its target; empty: it did not."""
    sparsity_of: str = "units"
    """What sparsity counts: units, or parameters (weights set to zero in place)."""
    finetuning: FinetuneRecord | None = None
    """None: the network was not trained after pruning."""
    stages: tuple[StageMetrics, ...] = ()
    """Before pruning, after pruning, after fine-tuning; empty without fine-tuning."""
