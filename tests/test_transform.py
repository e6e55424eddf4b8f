"""Rounding to float32, and normalisation in front of network and file alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from paoding_verify.errors import ConfigError, ModelError
from paoding_verify.network.digest import canonical_digest
from paoding_verify.network.graph import Affine, Dense, LeakyRelu, Network
from paoding_verify.network.load import load_network
from paoding_verify.network.onnx_in import read_onnx
from paoding_verify.network.onnx_out import shipped_onnx, to_onnx
from paoding_verify.network.record import model_record
from paoding_verify.network.runtime import OnnxProgram
from paoding_verify.network.transform import as_float32, with_normalisation
from tests import networks
from tests.networks import chain
from tests.onnx_models import assemble, dense_nodes, weights


def loaded(folder: Path, network: Network) -> Network:
    path = folder / "model.onnx"
    path.write_bytes(to_onnx(network))
    return load_network(path)


def test_rounding_gives_a_network_that_can_be_written() -> None:
    rng = np.random.default_rng(0)
    folded = Dense(rng.normal(size=(3, 4)), rng.normal(size=3), np.full(3, 5.0), 4)
    network = chain((4,), Affine(rng.uniform(1, 2, 4), rng.normal(size=4)), folded)
    with pytest.raises(ModelError, match="round the network first"):
        to_onnx(network)
    rounded = as_float32(network)
    assert canonical_digest(read_onnx(to_onnx(rounded))) == canonical_digest(rounded)
    x = weights(1, 5, 4)
    np.testing.assert_allclose(rounded.forward(x), network.forward(x), rtol=1e-5, atol=1e-5)


def test_rounding_keeps_float32_networks_and_drops_the_source(tmp_path: Path) -> None:
    network = loaded(tmp_path, networks.conv_net(0))
    rounded = as_float32(network)
    assert canonical_digest(rounded) == canonical_digest(network)
    assert rounded.source is None


def test_slopes_are_rounded_as_the_file_rounds_them() -> None:
    network = chain((3,), LeakyRelu(0.1))
    with pytest.raises(ModelError, match="round the network first"):
        to_onnx(network)
    rounded = as_float32(network)
    assert canonical_digest(read_onnx(to_onnx(rounded))) == canonical_digest(rounded)


def test_rounding_refuses_numbers_beyond_float32() -> None:
    with pytest.raises(ModelError, match="'node0' has parameters that are too large for float32"):
        as_float32(chain((1,), Dense(np.array([[1e39]]), np.zeros(1))))


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.25), ([0.4, 0.6], [0.2, 0.3]), (0.5, [0.2, 0.3])])
def test_network_and_file_are_normalised_alike(tmp_path: Path, mean: object, std: object) -> None:
    network = loaded(tmp_path, networks.conv_net(0))
    normalised = with_normalisation(network, mean, std)  # type: ignore[arg-type]
    x = weights(1, 6, 2, 6, 6)
    centre, spread = (np.reshape(value, (-1, 1, 1)) for value in (mean, std))
    expected = network.forward(((x - centre) / spread).astype(np.float32))
    np.testing.assert_allclose(normalised.forward(x), expected, atol=1e-4)
    np.testing.assert_allclose(OnnxProgram(shipped_onnx(normalised)).run(x), expected, atol=1e-4)
    onnx.checker.check_model(onnx.ModelProto.FromString(shipped_onnx(normalised)))
    assert canonical_digest(read_onnx(shipped_onnx(normalised))) == canonical_digest(normalised)


def test_records_tell_the_file_read_from_the_file_shipped(tmp_path: Path) -> None:
    network = loaded(tmp_path, networks.conv_net(0))
    before, after = (model_record(n, "original") for n in (network, with_normalisation(network, 0.5, 0.25)))
    assert before.sha256 == before.shipped_sha256 == after.sha256
    assert after.shipped_sha256 != before.shipped_sha256
    assert after.canonical_sha256 != before.canonical_sha256
    assert after.layers[0].name == "normalisation"


def test_normalising_twice_keeps_names_apart(tmp_path: Path) -> None:
    network = loaded(tmp_path, networks.dense_net(0))
    twice = with_normalisation(with_normalisation(network, 0.5, 0.25), 1.0, 2.0)
    x = weights(1, 4, 6)
    expected = network.forward((((x - 1.0) / 2.0 - 0.5) / 0.25).astype(np.float32))
    np.testing.assert_allclose(OnnxProgram(shipped_onnx(twice)).run(x), expected, atol=1e-4)


def test_old_files_declare_the_new_constants_as_inputs(tmp_path: Path) -> None:
    constants = {"w": weights(0, 6, 4), "b": weights(1, 4)}
    model = assemble(dense_nodes("x", "y"), constants, (1, 6), opset=8, ir_version=3)
    for name, array in constants.items():
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 4)))
    path = tmp_path / "old.onnx"
    path.write_bytes(model.SerializeToString())
    normalised = with_normalisation(load_network(path), 0.5, 0.25)
    onnx.checker.check_model(onnx.ModelProto.FromString(shipped_onnx(normalised)))
    assert canonical_digest(read_onnx(shipped_onnx(normalised))) == canonical_digest(normalised)


def test_a_network_without_a_file_is_normalised_too() -> None:
    network = networks.dense_net(0)
    normalised = with_normalisation(network, 0.5, 0.5)
    assert normalised.source is None
    x = weights(1, 4, 6)
    np.testing.assert_allclose(normalised.forward(x), network.forward((x - 0.5) / 0.5), atol=1e-5)
    assert replace(normalised, nodes=normalised.nodes).num_units == network.num_units


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (0.5, 0.0, "std must be positive"),
        (0.5, -1.0, "std must be positive"),
        (0.5, float("nan"), "std must be finite"),
        (float("inf"), 1.0, "mean must be finite"),
        ([0.1, 0.2, 0.3], 1.0, r"mean has shape \(3,\); the input has 2 channel"),
        (0.5, [[1.0, 2.0]], r"std has shape \(1, 2\)"),
        (0.5, 1e-45, "leave the range of float32"),
        (0.5, 1e60, "leave the range of float32"),
        ("dark", 1.0, "must be numbers"),
    ],
)
def test_useless_normalisations_are_refused(mean: object, std: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_normalisation(networks.conv_net(0), mean, std)  # type: ignore[arg-type]
