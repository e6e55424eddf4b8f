"""Small networks and pairs on boxes, with points at which exact bounds are compared with exact values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from paoding_verify.network.graph import Affine, AveragePool2d, LeakyRelu, MaxPool2d, Network, Relu, Reshape
from tests.networks import chain, random_conv, random_dense, residual_net
from tests.pairs import identity_alignment, perturbed, without_units

__all__ = ["Question", "questions", "tiny_net"]

Units = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Question:
    """One network or a pair on a box, and points of it."""

    networks: tuple[Network, ...]
    alignment: Units | None
    lower: np.ndarray
    upper: np.ndarray
    points: np.ndarray
    rows: np.ndarray
    offsets: np.ndarray

    def start(self) -> int:
        """Number under which a certificate names the rows."""
        return sum(len(network.nodes) for network in self.networks)

    def tables(self, rng: np.random.Generator) -> dict[tuple[int, int], np.ndarray]:
        """Garbage for every unit of every rectifier: any byte is valid."""
        found, shift = {}, 0
        for network in self.networks:
            for node in network.activations:
                size = int(np.prod(network.shapes[node + 1]))
                found[self.start(), node + shift] = rng.integers(0, 256, (len(self.rows), size)).astype(np.uint8)
            shift += len(network.nodes)
        return found


def small_image_net(seed: int) -> Network:
    """Convolution, LeakyReLU, max pooling, convolution, ReLU, average pooling, dense head; input (1, 4, 4)."""
    rng = np.random.default_rng(seed)
    return chain(
        (1, 4, 4), Affine(np.array([[[0.75]]]), np.array([[[0.1]]])), random_conv(rng, 2, 1, 2), LeakyRelu(0.25),
        MaxPool2d((2, 2), (1, 1)), random_conv(rng, 3, 2, 2, padding=(1, 1, 0, 0)), Relu(),
        AveragePool2d((2, 2), (1, 1), (1, 1, 0, 0), False), Reshape((12,)), random_dense(rng, 2, 12),
    )  # fmt: skip


def tiny_net(seed: int, act: Relu | LeakyRelu) -> Network:
    """Two hidden layers; input (2,)."""
    rng = np.random.default_rng(seed)
    return chain((2,), random_dense(rng, 4, 2), act, random_dense(rng, 4, 4), act, random_dense(rng, 2, 4))


def pool_net(seed: int) -> Network:
    """Max pooling of the input and a dense head; input (1, 2, 3)."""
    return chain((1, 2, 3), MaxPool2d((2, 2), (1, 1)), Reshape((2,)), random_dense(np.random.default_rng(seed), 2, 2))


def pairs_of(seed: int) -> Iterator[tuple[Network, Network, Units]]:
    """Small networks with companions: perturbed, without units, equal, others; of every kind that has twins."""
    for act in (Relu(), LeakyRelu(0.25)):
        f = tiny_net(seed, act)
        yield f, perturbed(f, seed, 0.1), identity_alignment(f)
        kept = ((0, 2, 3), (1, 2, 3))
        yield f, perturbed(without_units(f, kept), seed, 0.05), kept
    f = tiny_net(seed, Relu())
    yield f, f, identity_alignment(f)
    yield f, tiny_net(seed + 1000, Relu()), identity_alignment(f)
    yield pool_net(seed), perturbed(pool_net(seed), seed, 0.1), ()
    if seed % 4 == 0:
        for g in (small_image_net(seed), residual_net(seed)):
            yield g, perturbed(g, seed, 0.03), identity_alignment(g)


def questions(seed: int) -> Iterator[Question]:
    """Single networks and pairs, some of them as if nothing were known of how the two belong together."""
    rng = np.random.default_rng(seed)
    for f, g, alignment in pairs_of(seed):
        centre, eps = rng.uniform(-0.5, 0.5, size=f.input_shape), rng.choice([0.0, 0.02, 0.2, 0.7])
        lower, upper = centre - eps, centre + eps
        size = (12, *centre.shape)
        corners = np.where(rng.random(size=size) < 0.5, lower, upper)
        points = np.concatenate([corners, np.clip(rng.uniform(lower, upper, size=size), lower, upper)])
        if f.input_shape == (2,):
            grid = np.stack(np.meshgrid(*np.linspace(lower, upper, 7).T), axis=-1).reshape(-1, 2)
            points = np.concatenate([points, np.clip(grid, lower, upper)])
        half = rng.normal(size=(3, f.num_outputs))
        yield Question((f,), None, lower, upper, points, half, np.array([0.5, 0.0, -0.75]))
        rows = np.vstack([np.hstack([half, -half]), rng.normal(size=(2, 2 * f.num_outputs))])
        yield Question(
            (f, g), None if seed % 5 == 3 else alignment, lower, upper, points, rows, rng.normal(size=len(rows))
        )
