"""Pairs of networks that are compared. Library for the scripts beside it.

Every pair is dense layers with ReLUs between them. Units that leave have the smallest outgoing weights of their layer,
and nothing makes up for them; such pairs share all weights that are left. Fine-tuned pairs share none.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from surroundings import files_digest
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from paoding_verify.data import Dataset, read_dataset
from paoding_verify.equivalence.alignment import find_alignment
from paoding_verify.network.graph import Array, Dense, Float32Array, Network, Node, Relu, Reshape
from paoding_verify.network.load import load_network
from paoding_verify.network.onnx_out import shipped_onnx
from paoding_verify.pruning.prune import prune
from paoding_verify.regions import Region
from paoding_verify.vnnlib import read_vnnlib

__all__ = ["PAIRS", "Chain", "Pair", "Workshop", "chain_of", "product_network"]

Chain = list[tuple[Array, Array]]
"""Weight (out, in) and bias (out,) of dense layers with ReLUs between them."""

NUM_TRAINED = 1200
"""Digits on which the original is trained and the pruned one is fine-tuned; the others are asked about."""
FIRST_IMAGE = 5000
"""MNIST test images before this one were looked at while engines were developed."""
NOISE = 1e-3
"""Standard deviation of the small perturbation, relative to each weight."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two networks, and what they are asked about."""

    original: Network
    pruned: Network
    images: Float32Array | None
    """(N, *input_shape) in [0, 1], around which boxes are drawn; None: the box of the specification instead."""
    box: Region | None = None

    @cached_property
    def digest(self) -> bytes:
        """Of both networks as they ship."""
        shipped = (shipped_onnx(network) for network in (self.original, self.pruned))
        return b"".join(hashlib.sha256(model).digest() for model in shipped)

    @cached_property
    def moved(self) -> float | None:
        """Norm of what weights and biases that are left have changed by, in units of their own; None: no alignment."""
        points: Array = np.zeros((1, *self.original.input_shape)) if self.images is None else self.images[:64]
        if self.box is not None:
            points = np.random.default_rng(0).uniform(self.box.lower, self.box.upper, (64, *self.box.lower.shape))
        alignment = find_alignment(self.original, self.pruned, points)
        if alignment is None:
            return None
        read = np.arange(int(np.prod(self.original.input_shape)))
        changes, sizes = [], []
        kept = [*map(np.array, alignment), np.arange(self.original.num_outputs)]
        for (w, b), (v, c), units in zip(chain_of(self.original), chain_of(self.pruned), kept, strict=True):
            for old, new in ((w[np.ix_(units, read)], v), (b[units], c)):
                changes.append(((new - old) ** 2).sum())
                sizes.append((old**2).sum())
            read = units
        return float(np.sqrt(sum(changes) / sum(sizes)))


class Workshop:
    """Makes pairs by name; what takes long is kept in a folder."""

    def __init__(self, data: Path | None, cache: Path) -> None:
        """data: folder of the real models; without it there are only the digits."""
        self.data, self.cache = data, cache
        self._made: dict[str, Pair] = {}

    def pair(self, name: str) -> Pair:
        """The pair of that name. Raises: FileNotFoundError where it needs data that are missing."""
        if name not in self._made:
            self._made[name] = PAIRS[name](self)
        return self._made[name]

    def stored(self, name: str, make: Callable[[], Network], *, code: str = "") -> Network:
        """A network that is made once: as this file and the seeds in it make it, and the code of that digest."""
        digest = hashlib.sha256(Path(__file__).read_bytes() + code.encode()).hexdigest()[:12]
        path = self.cache / f"{name}-{digest}.onnx"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(shipped_onnx(make()))
        return load_network(path)

    def file(self, name: str) -> Path:
        """A file of the data folder."""
        if self.data is None:
            raise FileNotFoundError(f"{name}: set PAODING_VERIFY_DATA to the folder of the real models")
        return self.data / name


def chain_of(network: Network) -> Chain:
    """The layers of a network that is nothing but dense layers and ReLUs. Raises: ValueError for any other."""
    ops = [node.op for node in network.nodes if not isinstance(node.op, Reshape)]
    dense, between = ops[::2], ops[1::2]
    if not all(isinstance(op, Relu) for op in between):
        raise ValueError(f"{network.name} is no chain of dense layers and ReLUs")
    return [(op.weight, op.bias) for op in dense if isinstance(op, Dense)]


def product_network(original: Network, pruned: Network) -> Network:
    """One network with the outputs of both, one after the other: it computes them side by side from one input."""
    both = zip(chain_of(original), chain_of(pruned), strict=True)
    nodes = [Node(Reshape((int(np.prod(original.input_shape)),)), (0,), "flatten")]
    for k, ((w_f, b_f), (w_g, b_g)) in enumerate(both):
        zero = np.zeros((len(w_f), w_g.shape[1])), np.zeros((len(w_g), w_f.shape[1]))
        weight = np.vstack([w_f, w_g]) if k == 0 else np.block([[w_f, zero[0]], [zero[1], w_g]])
        nodes += [Node(Dense(weight, np.concatenate([b_f, b_g])), (2 * k + 1,), f"dense{k}"),
                  Node(Relu(), (2 * k + 2,), f"relu{k}")]  # fmt: skip
    return Network(original.input_shape, tuple(nodes[:-1]), "product")


def _rebuilt(network: Network, chain: Chain) -> Network:
    """The network with other layers, in float32."""
    left = iter(chain)
    nodes = []
    for node in network.nodes:
        if isinstance(node.op, Dense):
            weight, bias = (a.astype(np.float32).astype(np.float64) for a in next(left))
            node = replace(node, op=Dense(weight, bias))  # noqa: PLW2901 - the node with its new layer
        nodes.append(node)
    return Network(network.input_shape, tuple(nodes), f"{network.name}-changed")


def _without_units(network: Network, share: float) -> Network:
    """The share of every hidden layer with the smallest outgoing weights is gone, and nothing makes up for it."""
    chain = chain_of(network)
    for k in range(len(chain) - 1):
        (weight, bias), (following, offset) = chain[k], chain[k + 1]
        norms = np.linalg.norm(following, axis=0)
        kept = np.sort(np.argsort(norms, kind="stable")[round(share * len(norms)) :])
        chain[k], chain[k + 1] = (weight[kept], bias[kept]), (following[:, kept], offset)
    return _rebuilt(network, chain)


@cache
def _digits() -> tuple[Float32Array, np.ndarray]:
    from sklearn.datasets import load_digits  # type: ignore[import-untyped,unused-ignore] # has no types

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return (x[order] / 16).astype(np.float32), y[order]


def _trained(module: nn.Sequential, epochs: int) -> Network:
    """Adam on batches of 32 of the digits."""
    x, y = (torch.as_tensor(a[:NUM_TRAINED]) for a in _digits())
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(module.parameters(), 2e-3)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(x)), 32):
            loss = F.cross_entropy(module(x[batch]), y[batch])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
    return load_network(module.eval().requires_grad_(False), input_shape=(64,))


def _module(chain: Chain) -> nn.Sequential:
    layers: list[nn.Module] = []
    for weight, bias in chain:
        layer = nn.Linear(*weight.shape[::-1])
        layer.load_state_dict({"weight": torch.as_tensor(weight), "bias": torch.as_tensor(bias)})
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _digits_network() -> Network:
    torch.manual_seed(0)
    layers = [nn.Linear(*sizes) for sizes in itertools.pairwise((64, 32, 32, 10))]
    chain = [(a.weight.detach().double().numpy(), a.bias.detach().double().numpy()) for a in layers]
    return _trained(_module(chain), 40)


def _digits_pair(shop: Workshop, share: float, *, epochs: int = 0) -> Pair:
    """epochs: of training after units were removed."""
    original = shop.stored("digits", _digits_network)
    pruned = _without_units(original, share)
    if epochs:
        pruned = shop.stored(f"digits-{share:g}-tuned-{epochs}", lambda: _trained(_module(chain_of(pruned)), epochs))
    return Pair(original, pruned, _digits()[0][NUM_TRAINED:])


def _mnist_pair(shop: Workshop, name: str, share: float, *, default: bool = False) -> Pair:
    original = load_network(shop.file(f"models_gpl3/mnist-net_{name}.onnx"))
    data: Dataset = read_dataset(shop.file("data/mnist_test.npz"), input_shape=original.input_shape)
    if default:
        made = shop.stored(
            f"{name}-{share:g}-default",
            lambda: prune(original, target_sparsity=share).network,
            code=files_digest(("pruning/*.py", "anchors.py")),
        )
        return Pair(original, made, data.x[FIRST_IMAGE:])
    return Pair(original, _without_units(original, share), data.x[FIRST_IMAGE:])


def _acas_pair(shop: Workshop, name: str, *, noisy: bool = False) -> Pair:
    original = load_network(shop.file(f"models/acasxu_{name}.onnx"))
    chain, random = chain_of(original), np.random.default_rng(0)
    if noisy:
        changed = [(w * (1 + NOISE * random.normal(size=w.shape)), b) for w, b in chain]
    else:
        changed = [(w.astype(np.float16).astype(np.float64), b.astype(np.float16).astype(np.float64)) for w, b in chain]
    spec = read_vnnlib(shop.file("specs/acasxu_prop1.vnnlib"), original.input_shape, original.num_outputs)
    return Pair(original, _rebuilt(original, changed), None, spec[0][0])


PAIRS: dict[str, Callable[[Workshop], Pair]] = {
    "digits-10": lambda shop: _digits_pair(shop, 0.10),
    "digits-25": lambda shop: _digits_pair(shop, 0.25),
    "digits-50": lambda shop: _digits_pair(shop, 0.50),
    "digits-25-tuned": lambda shop: _digits_pair(shop, 0.25, epochs=5),
    "digits-25-tuned-1": lambda shop: _digits_pair(shop, 0.25, epochs=1),
    "digits-25-tuned-20": lambda shop: _digits_pair(shop, 0.25, epochs=20),
    "digits-25-tuned-80": lambda shop: _digits_pair(shop, 0.25, epochs=80),
    "256x2-25": lambda shop: _mnist_pair(shop, "256x2", 0.25),
    "256x4-25": lambda shop: _mnist_pair(shop, "256x4", 0.25),
    "256x2-default": lambda shop: _mnist_pair(shop, "256x2", 0.25, default=True),
    "256x4-default": lambda shop: _mnist_pair(shop, "256x4", 0.25, default=True),
    "acas-1_1-half": lambda shop: _acas_pair(shop, "1_1"),
    "acas-2_2-half": lambda shop: _acas_pair(shop, "2_2"),
    "acas-3_3-half": lambda shop: _acas_pair(shop, "3_3"),
    "acas-1_1-noise": lambda shop: _acas_pair(shop, "1_1", noisy=True),
    "acas-2_2-noise": lambda shop: _acas_pair(shop, "2_2", noisy=True),
    "acas-3_3-noise": lambda shop: _acas_pair(shop, "3_3", noisy=True),
}
"""digits: 64-32-32-10, so many per cent of the units removed; tuned: then trained again, for 5 epochs or so many.
256x2 and 256x4: MNIST
networks of VNN-COMP, 25 % removed the same way; default: by this package's pruner. acas: half: weights in 16 bits."""
