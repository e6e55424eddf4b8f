"""The certified robustness signal that steers the pruner: margins bounded by auto_LiRPA around its anchors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from paoding_verify.bounds.lirpa import LirpaBounder
from paoding_verify.evidence.property import predicts
from paoding_verify.network.graph import Array, Float32Array, Network

__all__ = ["FLOOR", "Boxes", "CertifiedSignal", "SignalChoice", "bound_method", "choose_method"]

FLOOR = -1e6
"""Smallest margin that is told apart from none at all."""

CAP = 5.0
"""Logits beyond which a margin of the original is as good as this one: what is that far from harm need not be kept."""

_METRIC_FLOOR = 1e-2
_MAX_CROWN_NEURONS = 1_500
"""Neurons above which bounds of intermediate layers come from interval propagation: CROWN is 20 times slower there."""

_AS_TIGHT = 1.1
"""A bound that loses at most so many times what the tightest one loses of the margins counts as tight as that."""

_METHODS = ("ibp", "crown-ibp", "crown")
"""From cheap to dear."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes around anchors, and the class that the original predicts in each."""

    lower: Array
    """(N, *input_shape)."""
    upper: Array
    """(N, *input_shape)."""
    labels: npt.NDArray[np.intp]
    """(N,)."""
    points: Float32Array
    """(N, *input_shape) the anchors."""

    def __len__(self) -> int:
        """Number of boxes."""
        return len(self.labels)

    def __getitem__(self, which: slice | npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Boxes:
        """Some of the boxes."""
        return Boxes(self.lower[which], self.upper[which], self.labels[which], self.points[which])


@dataclass(frozen=True)
class SignalChoice:
    """Which bounds the signal uses, and why."""

    method: str
    reason: str


def bound_method(network: Network) -> str:
    """crown, or crown-ibp for networks whose intermediate bounds by CROWN would take too long: what finished networks
    are judged by, however they came about. A network trained for IBP has IBP bounds as tight as CROWN's, and loses that
    when it is trained otherwise: by IBP, distillation would look like harm where by CROWN it halves the drop.
    """
    neurons = sum(int(np.prod(network.shapes[index + 1])) for index in network.activations)
    return "crown" if neurons <= _MAX_CROWN_NEURONS else "crown-ibp"


def choose_method(signal: CertifiedSignal) -> SignalChoice:
    """The cheapest bounds that are nearly as tight on the signal's boxes as the tightest affordable ones.

    On networks trained with interval bounds these are often IBP or CROWN-IBP; on others CROWN. What a bound loses is
    measured against the margins at the anchors.
    """
    network, boxes = signal.original, signal.boxes
    affordable = _METHODS[: _METHODS.index(bound_method(network)) + 1]
    outputs = network.forward(boxes.points).astype(np.float64)
    own = np.take_along_axis(outputs, boxes.labels[:, None], axis=1)[:, 0]
    np.put_along_axis(outputs, boxes.labels[:, None], -np.inf, axis=1)
    centre = own - outputs.max(axis=1)
    lost = {m: float(np.mean(centre - signal.on(boxes, m).baseline)) for m in affordable}
    tightest = min(affordable, key=lambda method: lost[method])
    chosen = next(m for m in affordable if lost[m] <= _AS_TIGHT * lost[tightest])
    figures = ", ".join(f"{method} {loss:.4g}" for method, loss in lost.items())
    reason = "the tightest" if chosen == tightest else f"nearly as tight as {tightest}, and cheaper"
    return SignalChoice(chosen, f"{reason}; mean loss of margin in logits: {figures}")


class CertifiedSignal:
    """Certified margins of changed versions of one network around fixed anchors, against those of the original."""

    def __init__(self, original: Network, boxes: Boxes, method: str) -> None:
        """Bounds nothing yet. `method` is one of `bounds.lirpa.METHODS`."""
        self.method = method
        self.boxes = boxes
        self.original = original
        self._shared: CertifiedSignal = self
        self._rows = np.stack([predicts(int(label), original.num_outputs).rows for label in boxes.labels])

    def on(self, boxes: Boxes, method: str | None = None) -> CertifiedSignal:
        """A signal of the same network on other boxes, which shares the engine's translation of the network."""
        signal = CertifiedSignal(self.original, boxes, method or self.method)
        signal._shared = self._shared
        return signal

    @cached_property
    def _bounder(self) -> LirpaBounder:
        return LirpaBounder(self.original) if self._shared is self else self._shared._bounder

    @cached_property
    def baseline(self) -> Array:
        """(N,) margins of the original."""
        return self.margins(self.original)

    def margins(self, network: Network) -> Array:
        """Lower bounds of the logit margins of a changed version of the original, masked or physically smaller; at
        least `FLOOR`, which also stands for "no bound found". Shape (N,).
        """
        bounder = self._bounder if network.shapes == self.original.shapes else LirpaBounder(network)
        bounder.load(network)
        offsets = np.zeros(self._rows.shape[:2])
        boxes = self.boxes
        bounds = bounder.lower_bounds(boxes.lower, boxes.upper, self._rows, offsets, method=self.method)
        return np.maximum(bounds.lower.min(axis=1), FLOOR)

    def metric(self, network: Network) -> dict[int, Array]:
        """For every dense layer and convolution, by node, how errors of its outputs weigh on the margins: a factor F of
        F^T F, the second moment over the anchors of the margin's gradient with respect to the outputs, plus a hundredth
        of its mean for directions that no anchor feels. Shapes: (outputs or channels, the same).
        """
        self._bounder.load(network)
        found: dict[int, Array] = {}
        for node, gradients in self._bounder.bias_gradients(
            self.boxes.lower, self.boxes.upper, self._rows, method=self.method
        ).items():
            moment = gradients.T @ gradients / len(gradients)
            floor = _METRIC_FLOOR * float(np.diag(moment).mean()) + 1e-12
            found[node] = np.asarray(np.linalg.cholesky(moment + floor * np.eye(len(moment))).T, dtype=np.float64)
        return found

    def accuracies(self, network: Network, margins: Array) -> tuple[float, float]:
        """(natural, certified): shares of the anchors that the network gives the original's class, and of those around
        which these margins of it are above 0.
        """
        classes = network.forward(self.boxes.points).argmax(axis=1)
        return float(np.mean(classes == self.boxes.labels)), float(np.mean(margins > 0))

    def num_lost(self, margins: Array) -> int:
        """Anchors that are certified for the original and not by these margins."""
        return int(np.count_nonzero((self.baseline > 0) & ~(margins > 0)))

    def energy(self, margins: Array) -> float:
        """Mean drop of the margins below the original's; a gain at one anchor does not pay for a loss at another."""
        return float(np.mean(np.maximum(0.0, self.baseline - margins)))

    def drop(self, network: Network) -> float:
        """Mean max(0, min(m0, 5) - m) of the original's margins m0 and the network's m (logits). Smaller is better."""
        return float(np.mean(np.maximum(0.0, np.minimum(self.baseline, CAP) - self.margins(network))))

    def lost(self, network: Network) -> float:
        """Mean max(0, min(m0, 5) - max(m, 0)) over the original's margins m0 above 0 (0 for others) and the network's m
        (logits): what whole networks are compared by. Smaller is better.

        A certificate that is lost is lost, however far the margin falls below zero. Otherwise a network that answers
        the same everywhere, with margins around zero, would pass for better than one that errs boldly here and there.
        """
        left = np.clip(self.margins(network), 0.0, CAP)
        return float(np.mean(np.maximum(0.0, np.clip(self.baseline, 0.0, CAP) - left)))
