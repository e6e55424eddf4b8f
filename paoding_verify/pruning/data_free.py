"""Merging of similar units from weights alone: one of two units that compute nearly the same takes over for the other.

Writing w for a unit's incoming weights with its bias, and v for its outgoing ones, removing j and letting i take over
costs ||w_i - w_j||^2 ||v_j||^2; the cheapest pair goes first, v_i grows by v_j, and prices follow. The variant by
projection lets c w_i stand for w_j, with c = max(0, w_i . w_j / ||w_i||^2): ReLU(c z) = c ReLU(z), so that v_i grows by
c v_j, and the price is ||w_j - c w_i||^2 ||v_j||^2. For convolutions w is a filter and v what reads its channel; along
a residual stream the filters of all layers that add to it are one w.

Source: arXiv 1507.06149, algorithm 1; here the bias counts, and the unit that leaves is the one that is priced.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from paoding_verify.evidence.pruning import PruneStep
from paoding_verify.network.graph import Array, Conv2d, Dense, Network
from paoding_verify.pruning.columns import blocks, with_blocks
from paoding_verify.pruning.groups import UnitGroup, UnitMap
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem, moves_of
from paoding_verify.pruning.surgery import mask_units

__all__ = ["srinivas_babu", "srinivas_babu_projection"]

_REASON = "cheapest merge by the distance of incoming weights"


def srinivas_babu(problem: PruneProblem) -> PruneOutcome:
    """Merges the cheapest pair again and again; merging two units of equal weights and biases changes nothing.

    Source: arXiv 1507.06149.
    """
    return _run(problem, projected=False)


def srinivas_babu_projection(problem: PruneProblem) -> PruneOutcome:
    """Merges by projection: where one ReLU unit is a positive multiple of another, nothing changes.

    Source: arXiv 1507.06149, with the coefficient of the module text.
    """
    return _run(problem, projected=True)


@dataclass(frozen=True)
class _Merge:
    """One atom that leaves, and the one that takes `share` of its outgoing weights."""

    removed: int
    kept: int
    share: float


def _run(problem: PruneProblem, *, projected: bool) -> PruneOutcome:
    network, removed, steps = problem.original, frozenset[int](), list[PruneStep]()
    for number, counts in enumerate(problem.plan, start=1):
        start = time.perf_counter()
        merges: list[_Merge] = []
        for group, count in zip(problem.units.groups, counts, strict=True):
            alive = [atom for atom in group.atoms if atom not in removed]
            found = _cheapest(network, problem.units, group, alive, len(alive) - len(group.atoms) + count, projected)
            network = _merged(network, problem.units, group, found)
            merges += found
        removed |= {merge.removed for merge in merges}
        network = mask_units(network, problem.units, removed)
        margins = problem.signal.margins(network)
        energy = problem.signal.energy(margins)
        accuracies = problem.signal.accuracies(network, margins)
        partners = {merge.removed: merge.kept for merge in merges}
        problem.progress("pruning", len(removed), sum(problem.plan[-1]))
        steps.append(
            PruneStep(
                number, moves_of(problem.units, list(partners), partners, energy=energy, reason=_REASON), (), energy,
                0.0, problem.sparsity(removed), float(margins.mean()), *accuracies, time.perf_counter() - start,
            )
        )  # fmt: skip
    return PruneOutcome(network, removed, tuple(steps))


def _cheapest(
    network: Network, units: UnitMap, group: UnitGroup, alive: Sequence[int], count: int, projected: bool
) -> list[_Merge]:
    """Merges one after another; the outgoing weights of the units that stay grow meanwhile."""
    incoming = _rows(network, units, group, alive)
    outgoing = _columns(network, units, group, alive)
    shares, apart = _distances(incoming, projected)
    found = []
    for _ in range(count):
        price = apart * np.square(outgoing).sum(axis=1)
        kept, gone = (int(k) for k in np.unravel_index(np.argmin(price), price.shape))
        share = float(shares[kept, gone])
        outgoing[kept] += share * outgoing[gone]
        apart[gone] = apart[:, gone] = np.inf
        outgoing[gone] = 1.0
        found.append(_Merge(alive[gone], alive[kept], share))
    return found


def _distances(incoming: Array, projected: bool) -> tuple[Array, Array]:
    """Shares [kept, removed] and squared distances of what is left, infinite on the diagonal. Shapes: (n, n) each."""
    products = incoming @ incoming.T
    squares = np.diag(products)
    shares = np.ones_like(products)
    if projected:
        norms = np.where(squares > 0, squares, 1.0)
        shares = np.maximum(products, 0.0) / norms[:, None]
    apart = np.maximum(squares - 2 * shares * products + shares**2 * squares[:, None], 0.0)
    np.fill_diagonal(apart, np.inf)
    return shares, apart


def _rows(network: Network, units: UnitMap, group: UnitGroup, atoms: Sequence[int]) -> Array:
    """Incoming weights and biases of each atom, over all layers that compute it. Shape (atoms, weights)."""
    parts = []
    for index in group.producers:
        op = network.nodes[index].op
        if isinstance(op, (Dense, Conv2d)):
            labels = units.labels[index + 1].reshape(len(op.weight), -1)[:, 0]
            table = np.hstack([op.weight.reshape(len(op.weight), -1), op.bias[:, None]])
            parts.append(table[_places(labels, atoms)].reshape(len(atoms), -1))
    return np.hstack(parts)


def _columns(network: Network, units: UnitMap, group: UnitGroup, atoms: Sequence[int]) -> Array:
    """Outgoing weights of each atom, over all that reads it. Shape (atoms, weights)."""
    parts = [np.zeros((len(atoms), 0))]
    for index in group.consumers:
        op = network.nodes[index].op
        if isinstance(op, (Dense, Conv2d)):
            parts += [
                part.matrix.T[_places(part.atoms, atoms)].reshape(len(atoms), -1)
                for part in blocks(op, units.labels[network.nodes[index].inputs[0]], units.labels[index + 1])
                if np.isin(part.atoms, atoms).any()
            ]
    return np.hstack(parts)


def _places(labels: npt.NDArray[np.int64], atoms: Sequence[int]) -> npt.NDArray[np.intp]:
    """Where each atom stands among labels; the same number of times for each. Shape (atoms, times)."""
    return np.stack([np.flatnonzero(labels == atom) for atom in atoms])


def _merged(network: Network, units: UnitMap, group: UnitGroup, merges: Sequence[_Merge]) -> Network:
    """The network in which the atoms kept have taken over; those removed still have their own columns."""
    nodes = list(network.nodes)
    for index in group.consumers:
        op = nodes[index].op
        if not isinstance(op, (Dense, Conv2d)):
            continue
        parts = []
        for part in blocks(op, units.labels[nodes[index].inputs[0]], units.labels[index + 1]):
            matrix = part.matrix.copy()
            for merge in merges:
                matrix[:, part.atoms == merge.kept] += merge.share * matrix[:, part.atoms == merge.removed]
            parts.append(replace(part, matrix=matrix.astype(np.float32).astype(np.float64)))
        nodes[index] = replace(nodes[index], op=with_blocks(op, parts))
    return replace(network, nodes=tuple(nodes), source=None)
