"""The last step of a pruning: distillation of the smaller network, measured on the pruner's anchors."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from paoding_verify.evidence.pruning import DistilRecord
from paoding_verify.network.graph import Network
from paoding_verify.pruning.distil import DistilConfig, distil, num_steps
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem
from paoding_verify.pruning.signal import bound_method
from paoding_verify.pruning.surgery import put_back, remove_units

__all__ = ["distilled", "imitating"]

_TOLERANCE = 0.02
"""Rise of the energy that is put up with, as a share of the original's median absolute margin: distillation has more to
give than margins at few anchors show."""


def distilled(problem: PruneProblem, outcome: PruneOutcome, config: DistilConfig | None = None) -> PruneOutcome:
    """The outcome with the network distilled, unless its energy rose by more than a fiftieth of a
    typical margin; the record says which, and by how much.

    The removed units stay removed. Large networks take fewer steps than `config` says.
    """
    start = time.perf_counter()
    network, config = imitating(problem, outcome, config or DistilConfig())
    signal = problem.signal.on(problem.signal.boxes, bound_method(problem.original))
    before, after = (signal.margins(n) for n in (outcome.network, network))
    energies = signal.energy(before), signal.energy(after)
    scale = float(np.median(np.abs(signal.baseline)))
    better = energies[1] <= energies[0] + _TOLERANCE * scale
    record = DistilRecord(
        steps=config.steps,
        num_inputs=len(problem.training_inputs),
        bounds=config.bounds,
        kept=better,
        energy_before=energies[0],
        energy_after=energies[1],
        certified_margin_before=float(before.mean()),
        certified_margin_after=float(after.mean()),
        elapsed_s=time.perf_counter() - start,
    )
    return replace(outcome, network=network if better else outcome.network, distilled=record)


def imitating(problem: PruneProblem, outcome: PruneOutcome, config: DistilConfig) -> tuple[Network, DistilConfig]:
    """The outcome's network distilled, in the original's shapes, and the settings that suit it: large networks take
    fewer steps than `config` says, and networks with good interval bounds learn these too.
    """
    small = remove_units(outcome.network, problem.units, outcome.removed)
    config = replace(config, bounds=problem.signal.method != bound_method(problem.original))
    config = replace(config, steps=num_steps(small, problem.original, config))
    trained = distil(
        small, problem.original, problem.training_inputs, seed=problem.seed, domain=problem.domain, config=config,
        progress=problem.progress,
    )  # fmt: skip
    return put_back(trained, outcome.network, problem.units, outcome.removed), config
