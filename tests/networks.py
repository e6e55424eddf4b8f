"""Random networks of every kind, built in memory, for tests."""

from __future__ import annotations

import itertools

import numpy as np

from paoding_verify.network.graph import (
    Add,
    Affine,
    AveragePool2d,
    Conv2d,
    Dense,
    MaxPool2d,
    Network,
    Node,
    Op,
    Relu,
    Reshape,
)

__all__ = ["conv_net", "dense_net", "pooled_net", "residual_net"]


def _float32(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32).astype(np.float64)


def random_dense(rng: np.random.Generator, out: int, inp: int) -> Dense:
    """He-initialised dense layer with float32 parameters."""
    return Dense(_float32(rng.normal(size=(out, inp)) * np.sqrt(2 / inp)), _float32(rng.normal(size=out) * 0.1))


def random_conv(rng: np.random.Generator, out: int, inp: int, kernel: int, **layout: object) -> Conv2d:
    """He-initialised convolution with float32 parameters."""
    weight = rng.normal(size=(out, inp, kernel, kernel)) * np.sqrt(2 / (inp * kernel * kernel))
    return Conv2d(_float32(weight), _float32(rng.normal(size=out) * 0.1), **layout)  # type: ignore[arg-type]


def chain(input_shape: tuple[int, ...], *ops: Op) -> Network:
    """A network in which every node reads the one before it."""
    return Network(input_shape, tuple(Node(op, (k,), f"node{k}") for k, op in enumerate(ops)))


def dense_net(seed: int, sizes: tuple[int, ...] = (6, 12, 10, 4)) -> Network:
    """Dense ReLU network."""
    rng = np.random.default_rng(seed)
    ops: list[Op] = []
    for inp, out in itertools.pairwise(sizes):
        ops += [random_dense(rng, out, inp), Relu()]
    return chain((sizes[0],), *ops[:-1])


def conv_net(seed: int) -> Network:
    """Two convolutions (padding, stride, groups), a normalisation layer, a dense head; input (2, 6, 6)."""
    rng = np.random.default_rng(seed)
    normalise = Affine(_float32(rng.uniform(0.5, 2, (2, 1, 1))), _float32(rng.normal(size=(2, 1, 1))))
    first = random_conv(rng, 4, 2, 3, padding=(1, 1, 1, 1))
    second = random_conv(rng, 6, 2, 3, stride=(2, 2), groups=2)
    return chain((2, 6, 6), normalise, first, Relu(), second, Relu(), Reshape((24,)), random_dense(rng, 3, 24))


def pooled_net(seed: int) -> Network:
    """Convolution, max pooling, convolution, overlapping average pooling, dense head; input (1, 8, 8)."""
    rng = np.random.default_rng(seed)
    ops = [
        random_conv(rng, 3, 1, 3), Relu(), MaxPool2d((2, 2), (2, 2)),
        random_conv(rng, 4, 3, 2), Relu(), AveragePool2d((2, 2), (1, 1), (1, 1, 0, 0), False),
        Reshape((16,)), random_dense(rng, 3, 16),
    ]  # fmt: skip
    return chain((1, 8, 8), *ops)


def residual_net(seed: int) -> Network:
    """A convolutional residual block and a dense residual block; input (2, 4, 4)."""
    rng = np.random.default_rng(seed)
    same = {"padding": (1, 1, 1, 1)}
    nodes = [
        Node(random_conv(rng, 3, 2, 3, **same), (0,), "stem"),
        Node(Relu(), (1,), "stem.relu"),
        Node(random_conv(rng, 3, 3, 3, **same), (2,), "block.conv1"),
        Node(Relu(), (3,), "block.relu"),
        Node(random_conv(rng, 3, 3, 3, **same), (4,), "block.conv2"),
        Node(Add(), (5, 2), "block.add"),
        Node(Relu(), (6,), "block.out"),
        Node(Reshape((48,)), (7,), "flatten"),
        Node(random_dense(rng, 8, 48), (8,), "fc1"),
        Node(Relu(), (9,), "fc1.relu"),
        Node(random_dense(rng, 8, 8), (10,), "fc2"),
        Node(Add(), (11, 9), "fc.add"),
        Node(Relu(), (12,), "fc.out"),
        Node(random_dense(rng, 3, 8), (13,), "head"),
    ]
    return Network((2, 4, 4), tuple(nodes))


def interval_trained(seed: int) -> tuple[Network, np.ndarray]:
    """A network trained to have large interval margins on two clusters, and points of them."""
    import torch

    from paoding_verify.network.graph import Dense

    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    y = np.arange(80) % 2
    x = (np.where(y, 0.75, 0.25)[:, None] + 0.03 * rng.normal(size=(80, 4))).astype(np.float32)
    shapes = [(12, 4), (12, 12), (2, 12)]
    weights = [(0.4 * torch.randn(s, generator=generator)).requires_grad_() for s in shapes]
    biases = [torch.zeros(s[0], requires_grad=True) for s in shapes]
    optimiser, points, sign = (
        torch.optim.Adam([*weights, *biases], 1e-2),
        torch.as_tensor(x),
        torch.as_tensor(2 * y - 1),
    )
    for _ in range(150):
        centre, radius = points, torch.full_like(points, 0.1)
        for w, b in zip(weights[:2], biases[:2], strict=True):
            centre, radius = centre @ w.T + b, radius @ w.abs().T
            low, high = torch.relu(centre - radius), torch.relu(centre + radius)
            centre, radius = (low + high) / 2, (high - low) / 2
        row, shift = weights[2][1] - weights[2][0], biases[2][1] - biases[2][0]
        loss = torch.nn.functional.softplus(radius @ row.abs() - sign * (centre @ row + shift)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    layers = [
        Dense(w.detach().numpy().astype(float), b.detach().numpy().astype(float))
        for w, b in zip(weights, biases, strict=True)
    ]
    return chain((4,), layers[0], Relu(), layers[1], Relu(), layers[2]), x
