"""Points that cases lead to: where their linear bounds are smallest, and what an attack finds from there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from paoding_verify.attack import attack
from paoding_verify.checker.intervals import Box
from paoding_verify.evidence.property import Property
from paoding_verify.network.graph import Float32Array, Network
from paoding_verify.regions import float32_interior

__all__ = ["CasePoints"]

_DESCENTS, _DESCENT_STEPS = 4, 30
"""Points from which an attack starts, after 2, 4, 8, ... batches of cases, and its steps."""


class CasePoints:
    """Looks for a point of one region that breaks a property, batch by batch."""

    def __init__(self, networks: Sequence[Network], box: Box, *, further: bool) -> None:
        """box: (1, *input_shape) each; further: whether a point that breaks the property is the start of an attack."""
        self._networks, self._box, self._further = networks, box, further
        self._batches = 0

    def look(self, inputs: torch.Tensor, prop: Property) -> tuple[float, Float32Array]:
        """The smallest margin at corners where bounds are smallest, and sometimes near them; and where it is.

        inputs: (n, units) coefficients of the input.
        """
        low, high = self._box
        corners = np.where(inputs.numpy().reshape(-1, *low.shape[1:]) > 0, low, high)
        points = np.clip(corners.astype(np.float32), *float32_interior(low, high))
        outputs = np.concatenate([network.forward(points) for network in self._networks], axis=1)
        margins = prop.margins(prop.values(outputs))
        order = margins.argsort()
        margin, point = float(margins[order[0]]), points[order[0]]
        self._batches += 1
        due = margin > 0 and self._batches > 1 and self._batches & (self._batches - 1) == 0
        if due or (margin <= 0 and self._further):
            starts = points[order[:_DESCENTS]]
            lower, upper = (np.repeat(end, len(starts), axis=0) for end in (low, high))
            found = attack(
                self._networks, lower, upper, prop.rows, prop.offsets, prop.clauses,
                restarts=1, steps=_DESCENT_STEPS, seed=0, centre=starts,
            )  # fmt: skip
            if found.margin.min() < margin:
                margin, point = float(found.margin.min()), found.points[int(found.margin.argmin())]
        return margin, point
