"""Distillation without data: the pruned network learns the original's logits on synthetic inputs.

Half of every batch is moved by one gradient step to where the pruned network differs more from the original, so that
the original is imitated around the inputs too, where robustness is decided. The structure does not change.

Measured on recorded networks 784-128-128-64-10, 4,000 steps, as the share of the original's certified accuracy on 600
test digits: against the pruned network's own decision instead, .927, .957 and .618 (75, 75 and 90 % removed); against
the difference, .942, .970 and .622. Networks with one hidden layer less do not tell the two apart.

Source: knowledge distillation arXiv 1503.02531 (here squared logit differences); adversarially robust distillation
arXiv 1905.09747; fast gradient sign method arXiv 1412.6572.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from paoding_verify.anchors import DEFAULT_DOMAIN, Domain
from paoding_verify.errors import ConfigError
from paoding_verify.network.graph import Conv2d, Dense, Float32Array, Network
from paoding_verify.network.torch_out import CanonicalModule, to_module
from paoding_verify.pruning.bounds_imitation import BoundsImitation
from paoding_verify.task import Progress

__all__ = ["DistilConfig", "Imitation", "Student", "distil", "num_steps"]

_OPERATIONS = 5e11
"""Multiplications that a distillation may take: the steps of large networks are fewer."""
_MIN_STEPS = 200


@dataclass(frozen=True)
class DistilConfig:
    """How long and how hard."""

    steps: int = 4000
    batch: int = 256
    rate: float = 3e-3
    """Of Adam at the start; it falls to 0 along a cosine."""
    reach: float = 0.1
    """Longest gradient step on inputs, as a fraction of the domain; each input draws its own. 0: plain distillation."""
    bounds: bool = False
    """Whether interval bounds of margins are imitated as well, in boxes of up to that radius: for networks that were
    trained to have good ones. A step then takes longer, and there are half as many."""

    def __post_init__(self) -> None:
        """Raises: ConfigError if a number is out of range."""
        if self.steps < 1 or self.batch < 2 or not self.rate > 0 or not 0 <= self.reach <= 1:
            raise ConfigError(
                "distillation needs at least 1 step, batches of at least 2, a positive rate and a reach in [0, 1]; got "
                f"{self.steps}, {self.batch}, {self.rate} and {self.reach}"
            )


def distil(  # noqa: PLR0913 - two networks, inputs and effort
    network: Network,
    original: Network,
    inputs: Float32Array,
    *,
    seed: int,
    domain: Domain = DEFAULT_DOMAIN,
    config: DistilConfig = DistilConfig(),
    progress: Progress | None = None,
) -> Network:
    """The network with new weights and biases, float32 numbers; structure and normalisation layers stay.

    Adam minimises the mean squared difference of logits from the original's. The same arguments give the same network
    on the same machine. Shapes: inputs (N, *input_shape), points of `domain`.
    Raises: ConfigError if there is no input; with `bounds`, MissingComponentError or EngineError of auto_LiRPA.
    """
    if len(inputs) == 0:
        raise ConfigError("distillation needs at least one input")
    student = Student(network)
    imitation = Imitation(student, original, inputs, seed=seed, domain=domain, config=config)
    losses = [imitation.loss]
    if config.bounds:
        losses.append(BoundsImitation(
            student.module, original, inputs, seed=seed, domain=domain, reach=config.reach
        ).loss)  # fmt: skip
    optimiser = torch.optim.Adam(student.trained, config.rate, fused=True)
    for step in range(config.steps):
        optimiser.param_groups[0]["lr"] = config.rate * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        total = torch.stack([loss() for loss in losses]).sum()
        gradients = torch.autograd.grad(total, student.trained)
        for parameter, gradient in zip(student.trained, gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()
        if progress is not None and (step + 1) % 50 == 0:
            progress("distilling", step + 1, config.steps)
    return student.network()


def num_steps(network: Network, original: Network, config: DistilConfig = DistilConfig()) -> int:
    """Steps that a pair of networks gets: as configured, or fewer if they are large."""
    # On the half of a batch that is moved, both forward and backward; then the original on it, and the student forward
    # and twice backward on all.
    cost = config.batch * (4.0 * _multiplications(network) + 1.5 * _multiplications(original))
    return min(config.steps // (2 if config.bounds else 1), max(_MIN_STEPS, int(_OPERATIONS / cost)))


class Student:
    """A network whose dense and convolutional parameters are trained."""

    def __init__(self, network: Network) -> None:
        """The parameters of `module` named by `trained` may then change in place."""
        self._network = network
        self._places = [k for k, node in enumerate(network.nodes) if isinstance(node.op, (Dense, Conv2d))]
        self.module: CanonicalModule = to_module(network)
        self.trained = [self.module.get_parameter(f"p{k}_{j}") for k in self._places for j in (0, 1)]
        for parameter in self.trained:
            parameter.requires_grad_(True)

    def network(self) -> Network:
        """The network as trained so far."""
        arrays = [p.detach().numpy().astype(np.float64) for p in self.trained]
        nodes = list(self._network.nodes)
        for place, weight, bias in zip(self._places, arrays[::2], arrays[1::2], strict=True):
            op = nodes[place].op
            if isinstance(op, (Dense, Conv2d)):
                fresh = replace(op, weight=weight, bias=bias, bias_magnitude=None, roundings=0)
                nodes[place] = replace(nodes[place], op=fresh)
        return replace(self._network, nodes=tuple(nodes), source=None)


class Imitation:
    """How far a student's logits are from the original's, on batches of inputs half of which are made difficult."""

    def __init__(
        self, student: Student, original: Network, inputs: Float32Array, *, seed: int, domain: Domain,
        config: DistilConfig,
    ) -> None:  # fmt: skip
        """The seed draws the batches. Shapes: inputs (N, *input_shape), points of `domain`."""
        self._student, self._teacher = student.module, to_module(original)
        self._points = torch.as_tensor(inputs)
        with torch.no_grad():
            self._goals = torch.cat([self._teacher(part) for part in torch.split(self._points, 2048)])
        self._lower, self._upper = (
            torch.as_tensor(np.broadcast_to(np.asarray(end, dtype=np.float32), inputs.shape[1:]).copy())
            for end in domain
        )
        self._random = torch.Generator().manual_seed(seed)
        self._config = config

    def loss(self) -> torch.Tensor:
        """Mean squared difference of logits on the next batch, differentiable by the student's parameters."""
        chosen = torch.randint(len(self._points), (self._config.batch,), generator=self._random)
        x, goal = self._points[chosen], self._goals[chosen]
        if self._config.reach > 0:
            half = len(chosen) // 2
            moved = self._moved(x[:half])
            with torch.no_grad():
                goal = torch.cat([self._teacher(moved), goal[half:]])
            x = torch.cat([moved, x[half:]])
        return torch.nn.functional.mse_loss(self._student(x), goal)

    def _moved(self, x: torch.Tensor) -> torch.Tensor:
        """The inputs after one step that takes the student away from the original, inside the domain."""
        x = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad((self._student(x) - self._teacher(x)).square().sum(), x)
        length = self._config.reach * torch.rand(len(x), generator=self._random).reshape(-1, *(1 for _ in x.shape[1:]))
        return torch.clamp(
            x.detach() + length * (self._upper - self._lower) * gradient.sign(), self._lower, self._upper
        )


def _multiplications(network: Network) -> float:
    total = 0.0
    for index, node in enumerate(network.nodes):
        if isinstance(node.op, Dense):
            total += node.op.weight.size
        elif isinstance(node.op, Conv2d):
            total += node.op.weight.size * float(np.prod(network.shapes[index + 1][1:]))
    return total
