"""What a pruned network keeps of its original, measured image by image: accuracy, robustness, certified accuracy.

Every measure answers one question for every input (a vector of booleans), so that networks can be compared in pairs: on
the inputs for which the original had the quality, for how many does the pruned network still have it?
Library for the scripts beside it; run as a script, it measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import beta

from paoding_verify.attack import attack
from paoding_verify.bounds.lirpa import LirpaBounder
from paoding_verify.evidence.property import predicts
from paoding_verify.network.graph import Float32Array, Network
from paoding_verify.network.torch_out import to_module

__all__ = ["Kept", "Settings", "clopper_pearson", "crown_certified", "fgsm_robust", "kept", "measure", "natural",
           "pgd_robust"]  # fmt: skip

Flags = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Settings:
    """What `measure` measures; radii are in input units."""

    fgsm: tuple[float, ...] = (0.01, 0.05)
    pgd: tuple[float, ...] = (0.05,)
    certified: tuple[float, ...] = (0.01,)
    num_attacked: int = 1000
    """First inputs that are attacked."""
    num_certified: int = 300
    """First inputs that are bounded."""
    clip: tuple[float, float] | None = (0.0, 1.0)
    """Range that adversarial inputs stay in; None: anywhere."""
    seed: int = 0


@dataclass(frozen=True)
class Kept:
    """A quality of the original and of the pruned network on the same inputs."""

    total: int
    before: int
    """Inputs for which the original has it."""
    after: int
    """Inputs for which the pruned network has it."""
    both: int

    @property
    def ratio(self) -> float:
        """after / before; above 1 if the pruned network is better; NaN if the original never has it."""
        return self.after / self.before if self.before else float("nan")

    @property
    def share(self) -> float:
        """both / before: the paired measure, never above 1."""
        return self.both / self.before if self.before else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval of `share`."""
        return clopper_pearson(self.both, self.before)


def measure(network: Network, x: Float32Array, y: Labels, settings: Settings = Settings()) -> dict[str, Flags]:
    """All measures of one network by name, e.g. "fgsm@0.05", each a vector over the inputs it was measured on. An input
    that is misclassified from the start has no quality.

    Shapes: x (N, *input_shape), y (N,) the true labels.
    """
    attacked, bounded = x[: settings.num_attacked], x[: settings.num_certified]
    found = {"natural": natural(network, x, y)}
    for eps in settings.fgsm:
        found[f"fgsm@{eps:g}"] = found["natural"][: len(attacked)] & fgsm_robust(network, attacked, eps, settings.clip)
    for eps in settings.pgd:
        withstood = pgd_robust(network, attacked, eps, settings.clip, seed=settings.seed)
        found[f"pgd@{eps:g}"] = found["natural"][: len(attacked)] & withstood
    for eps in settings.certified:
        found[f"certified@{eps:g}"] = crown_certified(network, bounded, y[: len(bounded)], eps, settings.clip)
    return found


def kept(before: Mapping[str, Flags], after: Mapping[str, Flags]) -> dict[str, Kept]:
    """What is kept of every measure; both mappings come from `measure` with the same inputs and settings."""
    return {
        name: Kept(len(flags), int(flags.sum()), int(after[name].sum()), int((flags & after[name]).sum()))
        for name, flags in before.items()
    }


def natural(network: Network, x: Float32Array, y: Labels) -> Flags:
    """Whether each input is classified as labelled."""
    return np.asarray(network.forward(x).argmax(axis=1) == y)


def fgsm_robust(network: Network, x: Float32Array, eps: float, clip: tuple[float, float] | None) -> Flags:
    """Whether one step of length eps along the sign of the gradient, against the network's own prediction, leaves the
    prediction as it was (right or wrong).

    Source: arXiv 1412.6572.
    """
    module = to_module(network)
    points = torch.as_tensor(x).requires_grad_(True)
    logits = module(points)
    labels = logits.argmax(dim=1)
    (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"), points)
    moved = points.detach() + eps * gradient.sign()
    if clip is not None:
        moved = moved.clamp(*clip)
    with torch.no_grad():
        return np.asarray((module(moved).argmax(dim=1) == labels).numpy())


def pgd_robust(  # noqa: PLR0913 - an attack and its effort
    network: Network, x: Float32Array, eps: float, clip: tuple[float, float] | None, *, seed: int = 0,
    restarts: int = 3, steps: int = 30,
) -> Flags:  # fmt: skip
    """Whether projected gradient descent on the margins fails to change the network's own prediction.

    Source: arXiv 1706.06083.
    """
    labels = network.forward(x).argmax(axis=1)
    lower, upper = _boxes(x, eps, clip)
    rows, clauses = _margins(network, labels)
    result = attack(
        [network], lower, upper, rows, np.zeros(rows.shape[:2]), clauses,
        restarts=restarts, steps=steps, seed=seed, centre=x,
    )  # fmt: skip
    return np.asarray(result.margin > 0)


def crown_certified(
    network: Network, x: Float32Array, y: Labels, eps: float, clip: tuple[float, float] | None
) -> Flags:
    """Whether CROWN proves (up to float32 rounding) that the whole box around each input gets its true label.

    Source: arXiv 1811.00866.
    """
    lower, upper = _boxes(x, eps, clip)
    rows, _ = _margins(network, y)
    bounds = LirpaBounder(network).lower_bounds(lower, upper, rows, np.zeros(rows.shape[:2]), method="crown")
    return np.asarray(bounds.lower.min(axis=1) > 0)


def clopper_pearson(hits: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval of a share; (0, 1) if nothing was tried."""
    if total == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, hits, total - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, total - hits)) if hits < total else 1.0
    return low, high


def _boxes(
    x: Float32Array, eps: float, clip: tuple[float, float] | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    lower, upper = x.astype(np.float64) - eps, x.astype(np.float64) + eps
    return (lower, upper) if clip is None else (np.clip(lower, *clip), np.clip(upper, *clip))


def _margins(
    network: Network, labels: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], tuple[tuple[int, ...], ...]]:
    properties = [predicts(int(label), network.num_outputs) for label in range(network.num_outputs)]
    return np.stack([properties[int(label)].rows for label in labels]), properties[0].clauses
