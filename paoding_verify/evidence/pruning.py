"""What the pruner did: plain data, every proposal kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "Candidate", "DistilRecord", "FinetuneRecord", "HeldOut", "Move", "PruneStep", "PruneTrace", "RepairRecord",
    "StageMetrics",
]  # fmt: skip


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
    natural_accuracy: float
    """Share of the pruner's anchors that get the original's class after the step."""
    certified_accuracy: float
    """Share of the pruner's anchors whose certified margin is above 0 after the step."""
    elapsed_s: float | None = None


@dataclass(frozen=True)
class Candidate:
    """One network that the pruner considered as a whole."""

    name: str
    signal: float
    """What is lost of the certified margins on the selection anchors (logits): mean of max(0, min(m0, 5) - max(m, 0))
    for margins m0 > 0 of the original and m of this network, 0 where m0 <= 0; smaller is better."""
    num_units: tuple[int, ...]
    """Of each activation layer."""
    chosen: bool
    elapsed_s: float | None = None
    """What it took to make and to measure."""
    weights_moved: float | None = None
    """Norm of what the weights and biases that are left have changed by, in units of their own."""
    distance_ratio: float | None = None
    """Bound of the largest output difference / largest one found, median over a few selection anchors: the nearer to 1,
    the more can be proved of the pair. None: no bounds, or no difference found."""


@dataclass(frozen=True)
class HeldOut:
    """Certified accuracy of both networks on anchors by which nothing was chosen or fitted.

    A certificate at an anchor holds around that anchor only.
    """

    independent: bool
    """Whether the anchors are a random part of what the caller gave, so that shares say something about its source."""
    count: int
    num_original: int
    """Anchors at which the original's decision is certified by the signal's bounds."""
    num_pruned: int
    """Anchors at which the pruned network is certified for the same class."""
    num_lost: int
    """Anchors certified for the original and not for the pruned network."""
    num_looks: int = 1
    """Networks that were measured on these anchors; a confidence bound has to allow for each of them."""

    @property
    def drop(self) -> float:
        """Certified accuracy lost, as a fraction of the anchors; negative if it grew."""
        return (self.num_original - self.num_pruned) / self.count


@dataclass(frozen=True)
class DistilRecord:
    """What training on synthetic inputs changed after the last unit had left."""

    steps: int
    num_inputs: int
    """Synthetic inputs, and those the user gave."""
    kept: bool
    """Whether the distilled network was taken: it is left if the energy rose markedly."""
    energy_before: float
    """Mean drop of certified margins on the pruner's anchors (logits)."""
    energy_after: float
    certified_margin_before: float
    """Mean certified margin over the pruner's anchors (logits)."""
    certified_margin_after: float
    bounds: bool = False
    """Whether interval bounds of margins were imitated beside the outputs."""
    elapsed_s: float | None = None


@dataclass(frozen=True)
class RepairRecord:
    """What a short training against certified margins changed, at anchors that it saw and at others.

    Drops are means of max(0, min(m0, 5) - m), of the original's certified margins m0 and the pruned network's m
    (logits).
    """

    steps: int
    num_anchors: int
    """Anchors that it was trained on: those that steer the pruner."""
    num_acceptance: int
    """Anchors by which nothing else was chosen or fitted; they decide whether the repair is taken."""
    kept: bool
    """Whether the repaired network was taken: only if the drop at the acceptance anchors did not grow."""
    drop_before: float
    """At the anchors that it was trained on."""
    drop_after: float
    acceptance_drop_before: float
    """At the acceptance anchors."""
    acceptance_drop_after: float
    """Of the repaired network, even if it was not taken."""
    elapsed_s: float | None = None


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
    """Record of a pruning run; of equal runs equal but for the fields `elapsed_s`, which hold times."""

    method: str
    seed: int
    target_sparsity: float
    """Asked for, of what `sparsity_of` names."""
    sparsity: float
    """Reached: removed units / units of the original; if `sparsity_of` is weights, zero weights / parameters."""
    steps: tuple[PruneStep, ...]
    alignment: tuple[tuple[int, ...], ...]
    """For each activation layer, the original's units that were kept, in the pruned network's order."""
    anchors: Mapping[str, str | int | float]
    """Where the pruner's own anchors came from: source, count, eps, digest."""
    candidates: tuple[Candidate, ...] = ()
    excluded: tuple[str, ...] = ()
    """Activation layers, wholly or partly, that could not be pruned, each with the reason. Untrusted text."""
    distilled: DistilRecord | None = None
    """Training after pruning; None: there was none."""
    repaired: RepairRecord | None = None
    """Certified repair after pruning and distillation; None: there was none."""
    sparsity_of: str = "units"
    """What the target counts: units, parameters or macs (multiply-accumulate operations), all of which are removed; or
    weights, set to zero in place, of all parameters."""
    max_certified_drop: float | None = None
    """Budget: certified accuracy on held-out anchors that pruning might cost; None: there was none."""
    held_out: HeldOut | None = None
    """Measured for a budget."""
    warnings: tuple[str, ...] = ()
    """What a reader of these figures has to know. Whole sentences."""
    stopped: str = ""
    """Why the run ended before its target; empty: it did not."""
    finetuning: FinetuneRecord | None = None
    """None: the network was not trained after pruning."""
    stages: tuple[StageMetrics, ...] = ()
    """Before pruning, after pruning, after fine-tuning; empty without fine-tuning."""
