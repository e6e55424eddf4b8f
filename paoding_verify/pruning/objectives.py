"""What fine-tuning minimises: natural, adversarial or certified loss of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from paoding_verify.bounds.lirpa_training import TrainingBounds, certified_loss
from paoding_verify.linf import Domain
from paoding_verify.network.torch_out import CanonicalModule

__all__ = ["OBJECTIVES", "Loss", "Recipe", "make_loss"]

OBJECTIVES = ("natural", "adversarial", "certified")
"""Cross-entropy of the inputs; of the worst points that gradients find; of bounds on all points."""

Loss = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
"""(inputs (N, *input_shape), labels (N,), share of the training that is over) -> scalar."""


@dataclass(frozen=True)
class Recipe:
    """Numbers of the training that rarely need to change."""

    batch_size: int = 128
    learning_rate: float = 2e-3
    """Of Adam at the start; it falls linearly to 0."""
    attack_steps: int = 7
    """Gradient steps of adversarial training, each 2.5 * eps / steps long."""
    ramp: float = 0.5
    """Certified training: share of the training during which eps grows from 0, CROWN-IBP gives way to IBP, and the
    natural loss to the certified one."""
    clip: float = 5.0
    """Largest norm of a gradient; longer ones are shortened."""


def make_loss(
    module: CanonicalModule, objective: str, *, eps: float, domain: Domain | None, recipe: Recipe,
    generator: torch.Generator,
) -> Loss:  # fmt: skip
    """The loss of a module whose parameters change in place; `generator` draws the starting points of attacks.

    Source: adversarial training arXiv 1706.06083; certified training arXiv 1906.06316 (CROWN-IBP).
    """
    if objective == "natural":
        return lambda x, y, _: F.cross_entropy(module(x), y)
    low, high = _limits(domain, module.network.input_shape)

    def box(x: torch.Tensor, radius: float) -> tuple[torch.Tensor, torch.Tensor]:
        # An input outside the domain keeps a box: the point itself.
        return torch.minimum(torch.maximum(x - radius, low), x), torch.maximum(torch.minimum(x + radius, high), x)

    if objective == "adversarial":
        return lambda x, y, _: F.cross_entropy(module(_attacked(module, box(x, eps), y, eps, recipe, generator)), y)
    bounds = TrainingBounds(module)

    def certified(x: torch.Tensor, y: torch.Tensor, over: float) -> torch.Tensor:
        grown = min(1.0, over / recipe.ramp) if recipe.ramp > 0 else 1.0
        loss = certified_loss(bounds.margins(*box(x, eps * grown), y, tightness=1.0 - grown))
        return loss if grown == 1.0 else grown * loss + (1.0 - grown) * F.cross_entropy(module(x), y)

    return certified


def _attacked(
    module: CanonicalModule, box: tuple[torch.Tensor, torch.Tensor], y: torch.Tensor, eps: float, recipe: Recipe,
    generator: torch.Generator,
) -> torch.Tensor:  # fmt: skip
    """Points of the boxes with a large cross-entropy, from random starts. Shapes: box (N, *in) each -> (N, *in)."""
    low, high = box
    x = low + torch.rand(low.shape, generator=generator) * (high - low)
    for _ in range(recipe.attack_steps):
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(module(x), y), x)
        x = torch.clamp(x.detach() + 2.5 * eps / recipe.attack_steps * gradient.sign(), low, high)
    return x.detach()


def _limits(domain: Domain | None, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    ends = (-np.inf, np.inf) if domain is None else domain
    low, high = (torch.as_tensor(np.broadcast_to(np.asarray(end, dtype=np.float32), shape).copy()) for end in ends)
    return low, high
