"""The three sampling modes of the original Paoding tool, move by move: reference profiles, not recommendations.

They exist to compare with what was published and run. The method "paoding" is the corrected one. Known faults, kept:
- The update V[kept] += V[removed] removes the unit whose partner the saliency and the impact price.
- The cheapest pair of all is skipped. A pair of zero biases has a saliency of NaN and goes last.
- Activations of the first layer are taken to lie in [0, 1]; inputs and weights are not looked at.
- The impact is a difference pushed through biases and ReLUs as if it were an activation: it bounds nothing. Its score
  saturates, so that nearly all pairs look alike.
- Each step begins with nearly all units in play, which is its temperature near 0; it rises as pairs are refused.
- In the stochastic mode a pair can be accepted twice, and a unit that was removed can be picked again, so that fewer
  units than asked for may leave. What was reached is in the trace.

Source: arXiv 2204.00783 and the behaviour of the tool published with it, recorded move by move.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from paoding_verify.errors import ConfigError
from paoding_verify.evidence.pruning import Move, PruneStep
from paoding_verify.network.graph import Dense, Float32Array, Network, Relu, Reshape
from paoding_verify.pruning.legacy_arithmetic import Pair
from paoding_verify.pruning.legacy_sampling import LayerTape, LegacySampler, Mode, Verdict
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem
from paoding_verify.pruning.surgery import mask_units

__all__ = ["DEFAULT_STEP", "legacy_baseline", "legacy_impact", "legacy_stochastic"]

DEFAULT_STEP = 0.0625
"""Share of each layer's units that leave in a step, where the caller names none."""


def legacy_baseline(problem: PruneProblem) -> PruneOutcome:
    """Merges pairs in the order of their saliency in the original network; every unit takes part once.

    Raises: ConfigError on a network that is not dense with ReLU, or a target above one half, where no pair is left.
    """
    if problem.target_sparsity > 0.5:
        raise ConfigError(
            f"paoding-legacy-baseline pairs every unit at most once and ends at a sparsity of one half; the target is "
            f"{problem.target_sparsity}: ask for at most 0.5, or use paoding-legacy-stochastic"
        )
    return _run(problem, "baseline")


def legacy_impact(problem: PruneProblem) -> PruneOutcome:
    """Merges the half with the lower impact scores of twice as many pairs as needed, taken by saliency.

    Raises: ConfigError on a network that is not dense with ReLU.
    """
    return _run(problem, "impact")


def legacy_stochastic(problem: PruneProblem) -> PruneOutcome:
    """Walks over all pairs in the order of their saliency; accepts by score, or by chance at a temperature.

    In step k, counted from 1, chance is `random.Random(seed * 1000 + k)`.
    Raises: ConfigError on a network that is not dense with ReLU.
    """
    return _run(problem, "stochastic")


@dataclass(frozen=True)
class _Layers:
    """Where a network keeps its dense layers."""

    nodes: tuple[int, ...]
    weights: tuple[Float32Array, ...]
    """(inputs, outputs)."""
    biases: tuple[Float32Array, ...]


def _run(problem: PruneProblem, mode: Mode) -> PruneOutcome:
    layers = _layers(problem.original)
    share = DEFAULT_STEP if problem.step is None else problem.step
    sampler = LegacySampler(layers.weights, layers.biases, mode=mode, share=share)
    atoms = {unit: atom for g in problem.units.groups for atom, units in zip(g.atoms, g.members, strict=True)
             for unit in units}  # fmt: skip
    gone: set[tuple[int, int]] = set()
    network, removed, steps = problem.original, frozenset[int](), list[PruneStep]()
    asked, stuck = 0.0, False
    while asked < problem.target_sparsity and not stuck:
        start = time.perf_counter()
        # the original tool drew from this generator: its moves cannot be repeated with another one
        tapes = sampler.advance(random.Random(problem.seed * 1000 + len(steps) + 1))  # noqa: S311
        asked, stuck = asked + share, not tapes[-1].accepted
        for layer, tape in enumerate(tapes):
            _keep_books(gone, layer, (verdict.pair for verdict in tape.accepted))
        removed = frozenset(atoms[unit] for unit in gone)
        network = mask_units(_with_weights(problem.original, layers, sampler.weights), problem.units, removed)
        problem.progress("pruning", len(removed), sum(problem.plan[-1]))
        steps.append(_step(problem, network, removed, (len(steps) + 1, tapes, start)))
    return PruneOutcome(network, removed, tuple(steps))


def _step(
    problem: PruneProblem, network: Network, removed: frozenset[int], done: tuple[int, list[LayerTape], float]
) -> PruneStep:
    number, tapes, start = done
    margins = problem.signal.margins(network)
    natural, certified = problem.signal.accuracies(network, margins)
    drawn = [v.temperature for tape in tapes for v in (*tape.accepted, *tape.rejected) if v.temperature is not None]
    return PruneStep(
        step=number,
        accepted=tuple(_move(k, v, taken=True) for k, tape in enumerate(tapes) for v in tape.accepted),
        rejected=tuple(_move(k, v, taken=False) for k, tape in enumerate(tapes) for v in tape.rejected),
        energy=problem.signal.energy(margins),
        temperature=max(drawn, default=0.0),
        sparsity=problem.sparsity(removed),
        certified_margin=float(margins.mean()),
        natural_accuracy=natural,
        certified_accuracy=certified,
        elapsed_s=time.perf_counter() - start,
    )


def _move(layer: int, verdict: Verdict, *, taken: bool) -> Move:
    kept, removed = verdict.pair
    reason = "accepted" if taken else "rejected"
    if verdict.score is None:
        reason += " in the order of saliency"
    else:
        reason += f" with an impact score of {verdict.score:.6f}"
    if verdict.temperature is not None:
        reason += f", by chance at a temperature of {verdict.temperature:.4f}"
    return Move(layer, kept, removed, reason=reason)


def _keep_books(gone: set[tuple[int, int]], layer: int, pairs: Iterable[Pair]) -> None:
    """A unit that was removed comes back where it takes over the weights of one that was not."""
    for kept, removed in pairs:
        if (layer, removed) not in gone:
            gone.discard((layer, kept))
        gone.add((layer, removed))


def _layers(network: Network) -> _Layers:
    """The dense layers of a network made of nothing else but ReLU between them, and reshaping before the first.

    Raises: ConfigError otherwise.
    """
    nodes = [(index, node) for index, node in enumerate(network.nodes) if not isinstance(node.op, Reshape)]
    for place, (index, node) in enumerate(nodes):
        fits = isinstance(node.op, Relu if place % 2 else Dense) and node.inputs == (index,)
        if not fits or (place > 0 and index != nodes[place - 1][0] + 1):
            raise ConfigError(
                f"the legacy methods know dense layers with ReLU between them only, and node {index} "
                f"({node.name!r}, {type(node.op).__name__}) does not fit; use the method paoding"
            )
    if not nodes or isinstance(nodes[-1][1].op, Relu):
        raise ConfigError("the legacy methods need a dense layer at the end, without ReLU; use the method paoding")
    dense = [(index, node.op) for index, node in nodes if isinstance(node.op, Dense)]
    return _Layers(
        tuple(index for index, _ in dense),
        tuple(op.weight.T.astype("float32") for _, op in dense),
        tuple(op.bias.astype("float32") for _, op in dense),
    )


def _with_weights(network: Network, layers: _Layers, weights: Iterable[Float32Array]) -> Network:
    nodes = list(network.nodes)
    for index, weight in zip(layers.nodes, weights, strict=True):
        op = nodes[index].op
        if isinstance(op, Dense):
            nodes[index] = replace(nodes[index], op=replace(op, weight=weight.T.astype("float64")))
    return replace(network, nodes=tuple(nodes), source=None)
