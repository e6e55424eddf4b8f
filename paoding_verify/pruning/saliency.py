"""The price of a removal: how far the next pre-activations move if the units that stay make up for it at best.

Samples of what a consumer reads have covariance G (with a ridge); W are its weights, one row per column read. Removing
the columns J and letting the rest take over costs tr(W_J^T ([G^-1]_JJ)^-1 W_J), the generalisation of the optimal brain
surgeon to blocks; afterwards W and G^-1 are updated, so that prices stay right while units leave one after another.

Source: Hassibi and Stork 1993 (optimal brain surgeon), applied layer by layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from paoding_verify.network.graph import Array, Conv2d, Dense, Float32Array, Network
from paoding_verify.pruning.columns import blocks, outputs_of, samples_of
from paoding_verify.pruning.groups import Labels, UnitGroup, UnitMap

__all__ = ["GroupPrices"]


class GroupPrices:
    """Prices of the atoms of one group in the network as it stands; atoms can be eliminated one after another."""

    def __init__(
        self,
        network: Network,
        units: UnitMap,
        group: UnitGroup,
        values: Sequence[Float32Array],
        ridge: float,
        *,
        metric: Mapping[int, Array] = MappingProxyType({}),
    ) -> None:
        """Shapes: values[k] (N, *network.shapes[k]), as the network computes them; ridge is relative to the mean
        variance of the columns; metric[k] (outputs, outputs) is a factor F of the quadratic form F^T F by which losses
        at the outputs (channels) of node k are weighed, the identity where it is missing.
        """
        self._readers = []
        for index in group.consumers:
            node = network.nodes[index]
            if not isinstance(node.op, (Dense, Conv2d)):
                continue
            parts = blocks(node.op, units.labels[node.inputs[0]], units.labels[index + 1])
            samples = samples_of(node.op, values[node.inputs[0]])
            outputs = outputs_of(node.op, values[index + 1])
            first = 0
            for part, x, y in zip(parts, samples, outputs, strict=True):
                keep = (part.matrix != 0).any(axis=0) | (part.atoms < 0)
                rows = slice(first, first := first + len(part.matrix))
                matrix, seen = part.matrix[:, keep], y - y.mean(axis=0)
                if index in metric:
                    matrix, seen = metric[index][:, rows] @ matrix, seen @ metric[index][:, rows].T
                scale = max(float(seen.var(axis=0).sum()), 1e-12)
                self._readers.append(_Reader(matrix, part.atoms[keep], x[:, keep], ridge, scale))

    def price(self, atoms: Sequence[int]) -> Array:
        """Cost of removing each of these atoms alone, as a share of the variance that is computed. Shape (atoms,)."""
        return np.asarray(sum((r.price(atoms) for r in self._readers), start=np.zeros(len(atoms))))

    def eliminate(self, atom: int) -> None:
        """Removes an atom: the rest takes over, later prices are those of the network without it."""
        for reader in self._readers:
            reader.eliminate(atom)


class _Reader:
    """Weights, inverse covariance and labels of one block that reads a group."""

    def __init__(self, matrix: Array, atoms: Labels, samples: Array, ridge: float, scale: float) -> None:
        centred = samples - samples.mean(axis=0)
        gram = centred.T @ centred / len(centred)
        floor = ridge * float(np.diag(gram).mean()) + 1e-12
        self.weights = matrix.T.copy()
        self.inverse = np.linalg.inv(gram + floor * np.eye(len(gram)))
        self.atoms = atoms
        self.scale = scale

    def price(self, atoms: Sequence[int]) -> Array:
        """Price of each atom; 0 where this block does not read it."""
        return np.array([self._price(np.flatnonzero(self.atoms == atom)) for atom in atoms]) / self.scale

    def _price(self, rows: Labels) -> float:
        if len(rows) == 0:
            return 0.0
        lost = self.weights[rows]
        return float(np.sum(lost * np.linalg.solve(self.inverse[np.ix_(rows, rows)], lost)))

    def eliminate(self, atom: int) -> None:
        """The update of weights and inverse covariance by a block of rows."""
        rows = np.flatnonzero(self.atoms == atom)
        if len(rows) == 0:
            return
        columns = self.inverse[:, rows]
        step = np.linalg.solve(self.inverse[np.ix_(rows, rows)], np.hstack([self.weights[rows], columns.T]))
        split = self.weights.shape[1]
        stay = self.atoms != atom
        self.weights = (self.weights - columns @ step[:, :split])[stay]
        self.inverse = (self.inverse - columns @ step[:, split:])[np.ix_(stay, stay)]
        self.atoms = self.atoms[stay]
