"""Networks on which pruning is measured: trained here from a seed, or recorded. Library for the scripts beside it.

Training sees mnist_train10k, or one half of a table. Pruning is judged on inputs that neither training nor the
development of any method has seen: MNIST test images from number 5,000 on, or the other half of the table.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from quality_measures import Settings
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from paoding_verify.data import read_dataset
from paoding_verify.network.graph import Float32Array, Network
from paoding_verify.network.load import load_network

__all__ = ["RECIPES", "Subject", "load_subject"]

Labels = npt.NDArray[np.int64]
Samples = tuple[Float32Array, Labels]

FIRST_HELD_OUT = 5000
"""MNIST test images before this one were looked at while methods were developed."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A network that is going to be pruned."""

    module: nn.Sequential
    network: Network
    """The same, canonical."""
    real_inputs: Float32Array
    """(N, *input_shape) what it was trained on, in random order."""
    held_out: Samples


@dataclass(frozen=True)
class Recipe:
    """How a network comes about, and at which radii it is judged."""

    samples: Callable[[Path], tuple[Samples, Samples]]
    """Training and held-out samples from the data folder."""
    layers: tuple[int, ...] = ()
    """Widths of a dense network; empty: the convolutional one."""
    training: str = "plain"
    """plain, pgd or ibp; otherwise the file that holds the weights, below the data folder."""
    eps: float = 0.0
    """Radius of training."""
    epochs: int = 12
    pgd: float = 0.05
    certified: float = 0.01
    fgsm: tuple[float, ...] = ()

    @property
    def seeded(self) -> bool:
        """Whether it is trained here, from a seed, and not recorded."""
        return not self.training.endswith(".npz")

    def settings(self, images: int) -> Settings:
        """Measures of robustness on so many held-out inputs; natural accuracy takes them all."""
        return Settings(fgsm=self.fgsm, pgd=(self.pgd,), certified=(self.certified,), num_attacked=images,
                        num_certified=images)  # fmt: skip


def load_subject(name: str, seed: int, data: Path, cache: Path) -> Subject:
    """The network of a recipe; trained ones are kept in `cache`. Recorded networks do not depend on the seed."""
    recipe = RECIPES[name]
    train, held_out = recipe.samples(data)
    order = np.random.default_rng(seed).permutation(len(train[0]))
    train = train[0][order], train[1][order]
    if not recipe.seeded:
        module = _recorded(data / recipe.training)
    else:
        torch.manual_seed(seed)
        module = _dense(recipe.layers) if recipe.layers else _convolutional()
        digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
        stored = cache / f"{name}-{seed}-{digest}.pth"
        if stored.is_file():
            module.load_state_dict(torch.load(stored, weights_only=True))
        else:
            _train(module, train, recipe)
            cache.mkdir(parents=True, exist_ok=True)
            torch.save(module.state_dict(), stored)
    module.eval().requires_grad_(False)
    return Subject(module, load_network(module, input_shape=train[0].shape[1:]), train[0], held_out)


def _mnist(data: Path, shape: tuple[int, ...]) -> tuple[Samples, Samples]:
    train = read_dataset(data / "data/mnist_train10k.npz", input_shape=shape)
    test = read_dataset(data / "data/mnist_test.npz", input_shape=shape)
    return (train.x, _labels(train.y)), (test.x[FIRST_HELD_OUT:], _labels(test.y)[FIRST_HELD_OUT:])


def _table(data: Path, name: str) -> tuple[Samples, Samples]:
    """Columns scaled to [0, 1] by the range in the training half; held-out values beyond it are clipped."""
    rows = np.loadtxt(data / "data/tabular" / name, delimiter=",", skiprows=1)
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    half = len(rows) // 2
    low, high = rows[:half, :-1].min(axis=0), rows[:half, :-1].max(axis=0)
    x = np.clip((rows[:, :-1] - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0).astype(np.float32)
    y = rows[:, -1].astype(np.int64)
    return (x[:half], y[:half]), (x[half:], y[half:])


def _labels(y: Labels | None) -> Labels:
    if y is None:
        raise SystemExit("the MNIST files hold no labels y")
    return y


def _dense(widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 4, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 4, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(400, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def _recorded(path: Path) -> nn.Sequential:
    """Dense layers as stored by the original tool: arrays W (in, out) and b, in turn."""
    with np.load(path, allow_pickle=False) as file:
        arrays = [torch.as_tensor(file[key]) for key in sorted(file.files, key=lambda k: int(k[3:].split("_")[0]))]
    module = _dense((len(arrays[0]), *(w.shape[1] for w in arrays[::2])))
    for layer, weight, bias in zip(list(module)[::2], arrays[::2], arrays[1::2], strict=True):
        layer.load_state_dict({"weight": weight.T, "bias": bias})
    return module


def _train(module: nn.Sequential, samples: Samples, recipe: Recipe) -> None:
    """Adam on batches of 64; robust training ramps its radius up over the first half."""
    x, y = (torch.as_tensor(array) for array in samples)
    optimiser = torch.optim.Adam(module.parameters(), 1e-3)
    for epoch in range(recipe.epochs):
        share = min(1.0, 2 * epoch / recipe.epochs)
        for batch in torch.split(torch.randperm(len(x)), 64):
            loss = _loss(module, x[batch], y[batch], recipe, share)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()


def _loss(
    module: nn.Sequential, x: torch.Tensor, y: torch.Tensor, recipe: Recipe, share: float
) -> torch.Tensor:  # fmt: skip
    eps = share * recipe.eps
    if recipe.training == "pgd":
        return F.cross_entropy(module(_adversarial(module, x, y, eps)), y)
    plain = F.cross_entropy(module(x), y)
    if recipe.training == "plain":
        return plain
    return (1 - share / 2) * plain + share / 2 * F.cross_entropy(_worst_logits(module, x, y, eps), y)


def _adversarial(module: nn.Sequential, x: torch.Tensor, y: torch.Tensor, eps: float, steps: int = 5) -> torch.Tensor:
    """Source: arXiv 1706.06083."""
    moved = (x + eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    for _ in range(steps):
        moved.requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(module(moved), y), moved)
        moved = torch.clamp(moved.detach() + eps / 2 * gradient.sign(), x - eps, x + eps).clamp(0, 1)
    return moved.detach()


def _worst_logits(module: nn.Sequential, x: torch.Tensor, y: torch.Tensor, eps: float) -> torch.Tensor:
    """Lower bound of the true logit, upper bounds of the others, by interval propagation through a dense network.

    Source: arXiv 1810.12715.
    """
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    for layer in module:
        if isinstance(layer, nn.Linear):
            centre, radius = layer((low + high) / 2), F.linear((high - low) / 2, layer.weight.abs())
            low, high = centre - radius, centre + radius
        else:
            low, high = layer(low), layer(high)
    return torch.where(F.one_hot(y, low.shape[1]).bool(), low, high)


def _mlp(**options: object) -> Recipe:
    return Recipe(lambda data: _mnist(data, (784,)), **options)  # type: ignore[arg-type] # checked by the dataclass


RECIPES = {
    "recorded-orig": _mlp(training="paoding_oracle/mnist_mlp5_orig.npz", fgsm=(0.01, 0.05)),
    "recorded-s1": _mlp(training="paoding_oracle/mnist_mlp5_s1.npz", fgsm=(0.01, 0.05)),
    "recorded-s2": _mlp(training="paoding_oracle/mnist_mlp5_s2.npz", fgsm=(0.01, 0.05)),
    "mlp": _mlp(layers=(784, 128, 64, 10)),
    "mlp-pgd": _mlp(layers=(784, 128, 64, 10), training="pgd", eps=0.1, epochs=16, pgd=0.1, certified=0.02),
    "mlp-ibp": _mlp(layers=(784, 128, 64, 10), training="ibp", eps=0.1, epochs=30, pgd=0.1, certified=0.05),
    "cnn-pgd": Recipe(
        lambda data: _mnist(data, (1, 28, 28)), training="pgd", eps=0.1, epochs=8, pgd=0.1, certified=0.02
    ),
    "breast-cancer": Recipe(
        lambda data: _table(data, "breast_cancer.csv"), layers=(30, 32, 16, 2), epochs=100, certified=0.02
    ),
    "wine": Recipe(lambda data: _table(data, "wine_data.csv"), layers=(13, 32, 16, 3), epochs=200, certified=0.02),
}
"""Networks by name. Recorded: 784-128-128-64-10, trained elsewhere on mnist_train10k."""
