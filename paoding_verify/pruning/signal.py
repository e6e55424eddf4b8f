"""The certified robustness signal that steers the pruner: margins bounded by auto_LiRPA around its anchors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paoding_verify.bounds.lirpa import LirpaBounder
from paoding_verify.evidence.property import predicts
from paoding_verify.network.graph import Array, Network

__all__ = ["FLOOR", "CertifiedSignal", "bound_method"]

FLOOR = -1e6
"""Smallest margin that is told apart from none at all."""


_MAX_CROWN_NEURONS = 1_500
"""Neurons above which bounds of intermediate layers come from interval propagation: CROWN is 20 times slower there."""


def bound_method(network: Network) -> str:
    """crown, or crown-ibp for networks whose intermediate bounds by CROWN would take too long."""
    neurons = sum(int(np.prod(network.shapes[index + 1])) for index in network.activations)
    return "crown" if neurons <= _MAX_CROWN_NEURONS else "crown-ibp"


class CertifiedSignal:
    """Certified margins of changed versions of one network around fixed anchors, against those of the original."""

    def __init__(self, original: Network, lower: Array, upper: Array, labels: Sequence[int]) -> None:
        """Bounds the original once. Shapes: lower, upper (N, *input_shape); labels: its prediction in each box."""
        self.method = bound_method(original)
        self._bounder = LirpaBounder(original)
        self._rows = np.stack([predicts(label, original.num_outputs).rows for label in labels])
        self._lower, self._upper = lower, upper
        self.baseline = self.margins(original)
        """(N,) margins of the original."""

    def margins(self, network: Network) -> Array:
        """Lower bounds of the logit margins of a network of the original's nodes and shapes; at least `FLOOR`, which
        also stands for "no bound found". Shape (N,).
        """
        self._bounder.load(network)
        offsets = np.zeros(self._rows.shape[:2])
        bounds = self._bounder.lower_bounds(self._lower, self._upper, self._rows, offsets, method=self.method)
        return np.maximum(bounds.lower.min(axis=1), FLOOR)

    def num_lost(self, margins: Array) -> int:
        """Anchors that are certified for the original and not by these margins."""
        return int(np.count_nonzero((self.baseline > 0) & ~(margins > 0)))

    def energy(self, margins: Array) -> float:
        """Mean drop of the margins below the original's; a gain at one anchor does not pay for a loss at another."""
        return float(np.mean(np.maximum(0.0, self.baseline - margins)))
