"""Sizes and layers as results report them."""

from __future__ import annotations

import hashlib

import numpy as np

from paoding_verify.network.digest import canonical_digest
from paoding_verify.network.graph import Affine, AveragePool2d, Dense, Relu, Reshape
from paoding_verify.network.limits import clean
from paoding_verify.network.onnx_out import to_onnx
from paoding_verify.network.record import layer_records, model_record, multiply_accumulates
from tests import networks
from tests.networks import chain, random_conv, random_dense


def test_multiply_accumulates_are_counted_by_hand() -> None:
    rng = np.random.default_rng(0)
    network = chain(
        (2, 6, 6),
        Affine(np.ones((2, 1, 1)), np.zeros((2, 1, 1))),  # 72
        random_conv(rng, 4, 2, 3),  # 64 x 18
        Relu(),
        AveragePool2d((2, 2), (2, 2)),  # 16 x 4
        Reshape((16,)),
        random_dense(rng, 3, 16),  # 48
    )
    assert multiply_accumulates(network) == 72 + 64 * 18 + 64 + 48


def test_groups_save_work() -> None:
    rng = np.random.default_rng(0)
    conv = random_conv(rng, 4, 1, 3, groups=2)
    network = chain((2, 6, 6), conv, Reshape((64,)), random_dense(rng, 2, 64))
    assert multiply_accumulates(network) == 64 * 9 + 128


def test_a_record_describes_the_network() -> None:
    network = networks.conv_net(0)
    record = model_record(network, "pruned")
    onnx = to_onnx(network)
    assert record.role == "pruned"
    assert record.shipped_sha256 == record.sha256 == hashlib.sha256(onnx).hexdigest()
    assert record.canonical_sha256 == canonical_digest(network)
    assert record.size_bytes == len(onnx)
    assert record.num_parameters == network.num_parameters == sum(layer.num_parameters for layer in record.layers)
    assert record.num_units == (4, 6)
    assert [layer.output_shape for layer in layer_records(network)] == list(network.shapes[1:])
    assert [layer.op for layer in record.layers] == [type(node.op).__name__ for node in network.nodes]
    assert isinstance(network.nodes[-1].op, Dense)


def test_names_are_fit_for_messages() -> None:
    assert clean("conv1/weight:0") == "conv1/weight:0"
    assert clean("a\x1b[2J\nb\u202e") == "a?[2J?b?"
    assert clean(b"\xff\xfe") == "\ufffd\ufffd"
    assert len(clean("x" * 1000)) == 100
    assert clean("x" * 1000, 10) == "xxxxxxx..."
