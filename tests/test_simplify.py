"""Simplification: the same function in fewer steps, channels first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paoding_verify.network.digest import canonical_digest
from paoding_verify.network.evaluate import evaluate
from paoding_verify.network.graph import (
    Add,
    Affine,
    AveragePool2d,
    Conv2d,
    Dense,
    Network,
    Node,
    Op,
    Permute,
    Relu,
    Reshape,
    Tanh,
)
from paoding_verify.network.shapes import output_shape
from paoding_verify.network.simplify import simplify
from tests import networks
from tests.networks import chain, random_conv, random_dense


def kinds(network: Network) -> list[type[Op]]:
    return [type(node.op) for node in network.nodes]


def same_function(first: Network, second: Network) -> None:
    x = np.random.default_rng(7).normal(size=(3, *first.input_shape))
    expected = evaluate(first, x)
    np.testing.assert_allclose(evaluate(second, x), expected, atol=1e-12 * max(1, np.abs(expected).max()))


def affine(seed: int, *shape: int) -> Affine:
    rng = np.random.default_rng(seed)
    return Affine(rng.uniform(0.5, 2, shape), rng.normal(size=shape))


def test_channels_last_networks_become_channels_first() -> None:
    rng = np.random.default_rng(0)
    last, first = Permute((1, 2, 0)), Permute((2, 0, 1))
    network = chain(
        (6, 6, 1), first, random_conv(rng, 3, 1, 3), last, affine(1, 1, 1, 3), Relu(), first,
        random_conv(rng, 4, 3, 3), last, Tanh(), Reshape((16,)), random_dense(rng, 3, 16),
    )  # fmt: skip
    simple = simplify(network)
    assert kinds(simple) == [Reshape, Conv2d, Relu, Conv2d, Tanh, Reshape, Dense]
    assert simple.num_units == (3, 4)
    same_function(network, simple)


def test_shortcuts_in_channels_last_become_channels_first() -> None:
    rng = np.random.default_rng(0)
    last, first = Permute((1, 2, 0)), Permute((2, 0, 1))
    nodes = (
        Node(random_conv(rng, 3, 2, 1), (0,), "stem"),
        Node(last, (1,), "stem.last"),
        Node(Relu(), (2,), "stem.relu"),
        Node(first, (3,), "first"),
        Node(random_conv(rng, 3, 3, 1), (4,), "conv"),
        Node(last, (5,), "conv.last"),
        Node(Add(), (6, 3), "add"),
        Node(Relu(), (7,), "relu"),
        Node(first, (8,), "out.first"),
        Node(AveragePool2d((4, 4), (1, 1)), (9,), "pool"),
        Node(Reshape((3,)), (10,), "flatten"),
    )
    network = Network((2, 4, 4), nodes)
    simple = simplify(network)
    assert kinds(simple) == [Conv2d, Relu, Conv2d, Add, Relu, AveragePool2d, Reshape]
    same_function(network, simple)


def test_a_layer_with_other_readers_is_not_folded_into() -> None:
    rng = np.random.default_rng(0)
    nodes = (
        Node(random_dense(rng, 4, 3), (0,), "dense"),
        Node(affine(1, 4), (1,), "scale"),
        Node(Add(), (2, 1), "add"),
    )
    network = Network((3,), nodes)
    assert kinds(simplify(network)) == [Dense, Affine, Add]
    alias = (nodes[0], Node(Reshape((4,)), (1,), "same"), Node(affine(1, 4), (2,), "scale"), Node(Add(), (3, 1), "add"))
    assert kinds(simplify(Network((3,), alias))) == [Dense, Affine, Add]


def test_a_fold_counts_its_roundings_and_keeps_the_name() -> None:
    rng = np.random.default_rng(0)
    network = chain((3,), random_dense(rng, 4, 3), affine(1, 4), Relu())
    simple = simplify(network)
    dense = simple.nodes[0].op
    assert isinstance(dense, Dense)
    assert dense.roundings > 0
    assert dense.bias_magnitude is not None
    assert (dense.bias_magnitude >= np.abs(dense.bias)).all()
    assert simple.nodes[0].name == "node0"
    same_function(network, simple)


def test_scale_and_shift_become_one_operation_exactly() -> None:
    scale, shift = np.full((2, 1), 3.0), np.full((1, 3), 0.1)
    network = chain((2, 3), Affine(scale, 0 * scale), Affine(1 + 0 * shift, shift), Reshape((6,)))
    simple = simplify(network)
    first = simple.nodes[0].op
    assert kinds(simple) == [Affine, Reshape]
    assert isinstance(first, Affine)
    assert first.scale is scale
    assert first.shift is shift
    assert first.roundings == 0


def test_exact_identities_go_but_one_step_stays() -> None:
    nothing = Affine(np.ones(3), np.zeros(3))
    network = chain((3,), nothing, Reshape((3,)), Relu(), nothing, Permute((0,)))
    assert kinds(simplify(network)) == [Relu]
    idle = chain((3,), nothing)
    assert kinds(simplify(idle)) == [Affine]  # a network has at least one operation


@pytest.mark.parametrize("make", [networks.dense_net, networks.conv_net, networks.pooled_net, networks.residual_net])
def test_simple_networks_stay_as_they_are(make: object) -> None:
    network = make(0)  # type: ignore[operator]
    assert canonical_digest(simplify(network)) == canonical_digest(network)


@st.composite
def movers(draw: st.DrawFn) -> Sequence[Op]:
    """Permute, Reshape and element-wise operations in any order on 12 numbers."""
    shapes = [(2, 3, 2), (1, 12), (12,), (3, 4), (1, 2, 6), (2, 1, 6), (12, 1, 1)]
    shape: tuple[int, ...] = (2, 3, 2)
    ops: list[Op] = []
    for seed in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["permute", "reshape", "affine", "relu"]))
        if kind == "permute":
            op: Op = Permute(tuple(draw(st.permutations(range(len(shape))))))
        elif kind == "reshape":
            op = Reshape(draw(st.sampled_from(shapes)))
        elif kind == "affine":
            op = affine(seed, *(n if draw(st.booleans()) else 1 for n in shape))
        else:
            op = Relu()
        shape = output_shape(op, shape)
        ops.append(op)
    return ops


@settings(max_examples=150, deadline=None)
@given(movers(), st.integers(0, 3))
def test_any_mixture_of_moves_computes_the_same(ops: Sequence[Op], seed: int) -> None:
    rng = np.random.default_rng(seed)
    head = [Reshape((12,)), random_dense(rng, 5, 12), Affine(np.full(5, 2.0), np.ones(5))]
    network = chain((2, 3, 2), *ops, *head)
    simple = simplify(network)
    same_function(network, simple)
    assert len(simple.nodes) <= len(network.nodes) + 2
    assert canonical_digest(simplify(simple)) == canonical_digest(simple)
