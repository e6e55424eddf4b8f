"""Certified repair: a short training that raises the certified margins which pruning has lowered.

Every step sees boxes around the anchors that steer the pruner, bounded by CROWN-IBP (by interval propagation where that
is the pruner's own signal), and a batch of synthetic inputs on which the original's logits are imitated, so that
margins do not grow at the expense of everything else. Few anchors are soon learned by heart: others, which nothing else
was chosen or fitted by, decide whether the result is taken.

Measured after the portfolio, as the share of the original's certified accuracy on 400 test digits (784-128-64-10
trained plainly and by PGD, two recorded 784-128-128-64-10): with 90 % removed .63 became .64, .74 .76, .50 .53 and
.68 .72; with 75 % removed .955 became .966 and .931 .914, which is noise. Hence an option and no default. Full CROWN as
the bound in training takes three to eight times as long and gains no more.

Source: certified training with CROWN-IBP, arXiv 1906.06316; after pruning, arXiv 1906.06110.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from paoding_verify.bounds.lirpa_training import TrainingBounds
from paoding_verify.errors import ConfigError
from paoding_verify.evidence.pruning import RepairRecord
from paoding_verify.network.graph import Network
from paoding_verify.pruning.costs import signal_macs
from paoding_verify.pruning.distil import DistilConfig, Imitation, Student
from paoding_verify.pruning.problem import PruneOutcome, PruneProblem
from paoding_verify.pruning.signal import CAP, CertifiedSignal
from paoding_verify.pruning.surgery import put_back, remove_units

__all__ = ["RepairConfig", "repair", "repaired"]

_OPERATIONS = 2e11
"""Multiplications that a repair may take: the steps of large networks are fewer."""
_MIN_STEPS = 20


@dataclass(frozen=True)
class RepairConfig:
    """How long and how hard."""

    steps: int = 100
    num_boxes: int = 128
    """Boxes of one step; of more than these, each step draws its own."""
    rate: float = 1e-3
    """Of Adam at the start; it falls to 0 along a cosine."""
    imitation: float = 1.0
    """Weight of the mean squared difference of logits, beside the mean drop of certified margins."""

    def __post_init__(self) -> None:
        """Raises: ConfigError if a number is out of range."""
        if self.steps < 1 or self.num_boxes < 1 or not self.rate > 0 or not self.imitation >= 0:
            raise ConfigError(
                "a repair needs at least 1 step and 1 box, a positive rate and a weight of at least 0; got "
                f"{self.steps}, {self.num_boxes}, {self.rate} and {self.imitation}"
            )


def repaired(problem: PruneProblem, outcome: PruneOutcome, config: RepairConfig = RepairConfig()) -> PruneOutcome:
    """The outcome with the network repaired, unless certified margins at the acceptance anchors drop more than before:
    then it is the outcome as it was. The record says which, and by how much.

    The removed units stay removed. Large networks take fewer steps than `config` says.
    Raises: ConfigError if the problem has no acceptance anchors.
    """
    judge = problem.acceptance
    if judge is None:
        raise ConfigError("a repair is judged on anchors of its own: the problem has no acceptance anchors")
    start = time.perf_counter()
    small = remove_units(outcome.network, problem.units, outcome.removed)
    config = replace(config, steps=_num_steps(small, problem, config))
    trained = repair(small, problem, config)
    steered, judged = ([signal.drop(n) for n in (small, trained)] for signal in (problem.signal, judge))
    record = RepairRecord(
        steps=config.steps,
        num_anchors=len(problem.signal.boxes),
        num_acceptance=len(judge.boxes),
        kept=judged[1] <= judged[0],
        drop_before=steered[0],
        drop_after=steered[1],
        acceptance_drop_before=judged[0],
        acceptance_drop_after=judged[1],
        elapsed_s=time.perf_counter() - start,
    )
    if record.kept:
        network = put_back(trained, outcome.network, problem.units, outcome.removed)
        outcome = replace(outcome, network=network)
    return replace(outcome, repaired=record)


def repair(network: Network, problem: PruneProblem, config: RepairConfig = RepairConfig()) -> Network:
    """A physically smaller network of the problem with new weights and biases, float32 numbers; the structure stays.

    Adam minimises the mean of max(0, min(m0, 5) - m) over the steering boxes, m0 being the original's certified margin
    and m a lower bound of this network's, plus the imitation of the original's logits. The same arguments give the same
    network on the same machine.
    Raises: MissingComponentError if auto_LiRPA is not installed, EngineError if it fails.
    """
    student = Student(network)
    imitation = Imitation(
        student, problem.original, problem.training_inputs, seed=problem.seed, domain=problem.domain,
        config=DistilConfig(),
    )  # fmt: skip
    margins = _Margins(student, problem.signal, problem.seed, config)
    optimiser = torch.optim.Adam(student.trained, config.rate)
    for step in range(config.steps):
        optimiser.param_groups[0]["lr"] = config.rate * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        loss = margins.drop() + config.imitation * imitation.loss()
        gradients = torch.autograd.grad(loss, student.trained)
        for parameter, gradient in zip(student.trained, gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()
        problem.progress("repairing", step + 1, config.steps)
    return student.network()


class _Margins:
    """The drop of a student's certified margins at the boxes of a signal, as torch can differentiate it."""

    def __init__(self, student: Student, signal: CertifiedSignal, seed: int, config: RepairConfig) -> None:
        self._bounds = TrainingBounds(student.module)
        self._tightness = 0.0 if signal.method == "ibp" else 1.0
        boxes, wanted = signal.boxes, np.minimum(signal.baseline, CAP)
        self._lower, self._upper, self._wanted = (
            torch.as_tensor(array.astype(np.float32)) for array in (boxes.lower, boxes.upper, wanted)
        )
        self._labels = torch.as_tensor(boxes.labels)
        self._random = torch.Generator().manual_seed(seed)
        self._count = min(config.num_boxes, len(boxes))

    def drop(self) -> torch.Tensor:
        """Mean over the boxes, or over some of them."""
        some = torch.randperm(len(self._labels), generator=self._random)[: self._count]
        bounds = self._bounds.margins(
            self._lower[some], self._upper[some], self._labels[some], tightness=self._tightness
        )
        return torch.relu(self._wanted[some] - bounds.min(dim=1).values).mean()


def _num_steps(network: Network, problem: PruneProblem, config: RepairConfig) -> int:
    """As configured, or fewer if the network is large."""
    count = min(config.num_boxes, len(problem.signal.boxes))
    # Forward and twice backward.
    cost = 3.0 * signal_macs(network, count, "crown-ibp")
    return min(config.steps, max(_MIN_STEPS, int(_OPERATIONS / cost)))
