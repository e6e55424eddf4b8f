"""Rewritten networks compute the same function with the operations that auto_LiRPA bounds soundly."""

from math import prod

import numpy as np
import pytest

from paoding_verify.bounds.lowering import lower
from paoding_verify.errors import UnsupportedOpError
from paoding_verify.network.evaluate import evaluate
from paoding_verify.network.graph import Affine, AveragePool2d, Conv2d, MaxPool2d, Relu, Reshape
from paoding_verify.network.shapes import output_shape
from tests.networks import chain, conv_net, dense_net, pooled_net, random_conv, random_dense, residual_net

NETWORKS = [dense_net, conv_net, pooled_net, residual_net]


def same(network, rng, tolerance=1e-12):
    x = rng.normal(size=(20, *network.input_shape))
    np.testing.assert_allclose(evaluate(lower(network).network, x), evaluate(network, x), atol=tolerance, rtol=1e-10)


@pytest.mark.parametrize("make", NETWORKS)
def test_same_function_without_pooling(make):
    network = make(3)
    same(network, np.random.default_rng(0))
    kinds = {type(node.op) for node in lower(network).network.nodes}
    assert not kinds & {MaxPool2d, AveragePool2d, Affine}


@pytest.mark.parametrize("padding", [(0, 1, 1, 0), (2, 0, 0, 1), (1, 2, 0, 0)])
@pytest.mark.parametrize("layout", [{"stride": (2, 1)}, {"dilation": (2, 1)}, {"stride": (1, 3), "dilation": (1, 2)}])
def test_asymmetric_padding_of_convolutions(padding, layout):
    rng = np.random.default_rng(1)
    conv = random_conv(rng, 3, 2, 2, padding=padding, **layout)
    network = chain((2, 6, 7), conv, Reshape((prod(output_shape(conv, (2, 6, 7))),)))
    same(network, rng)
    for node in lower(network).network.nodes:
        if isinstance(node.op, Conv2d):
            assert node.op.padding[:2] == node.op.padding[2:]


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 1, 1, 1), (1, 0, 0, 2)])
def test_average_pooling(padding, count_include_pad):
    pool = AveragePool2d((3, 3), (1, 2), padding, count_include_pad)
    same(chain((2, 7, 6), pool, Reshape((prod(output_shape(pool, (2, 7, 6))),))), np.random.default_rng(2))


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (1, 3), (5, 1)])
def test_max_pooling_of_any_window(kernel):
    """Odd numbers of cells, windows that overlap, a margin that no window covers."""
    pool = MaxPool2d(kernel, (2, 1))
    same(chain((2, 6, 7), pool, Reshape((prod(output_shape(pool, (2, 6, 7))),))), np.random.default_rng(3))


def test_padded_max_pooling_behind_relu_only():
    pool = MaxPool2d((3, 3), (2, 2), (1, 1, 1, 1))
    same(chain((1, 5, 5), Relu(), pool, Reshape((9,))), np.random.default_rng(4))
    with pytest.raises(UnsupportedOpError, match=r"node1.*padding"):
        lower(chain((1, 5, 5), random_conv(np.random.default_rng(0), 1, 1, 1), pool, Reshape((9,))))


def test_affine_that_varies_inside_a_channel():
    rng = np.random.default_rng(5)
    affine = Affine(rng.normal(size=(2, 3, 3)), rng.normal(size=(2, 1, 3)))
    same(chain((2, 3, 3), affine, Reshape((18,)), random_dense(rng, 2, 18)), rng)
    same(chain((4,), Affine(rng.normal(size=(4,)), rng.normal(size=(1,)))), rng)


@pytest.mark.parametrize("make", NETWORKS)
def test_origin_names_the_node_with_the_same_value(make):
    network = make(1)
    lowered = lower(network)
    found = [k for k in lowered.origin if k is not None]
    assert found == list(range(len(network.nodes)))
    for place, k in enumerate(lowered.origin):
        if k is not None and isinstance(network.nodes[k].op, Relu):
            assert isinstance(lowered.network.nodes[place].op, Relu)
            assert lowered.network.shapes[place + 1] == network.shapes[k + 1]
