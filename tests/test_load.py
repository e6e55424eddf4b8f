"""Loading: files by their type, the source that a network remembers, agreement with onnxruntime."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import convert_model_to_external_data
from safetensors.torch import save_file

from paoding_verify.errors import ConfigError, ModelError
from paoding_verify.network.digest import canonical_digest
from paoding_verify.network.graph import Dense
from paoding_verify.network.load import load_network
from paoding_verify.network.onnx_in import read_onnx
from paoding_verify.network.onnx_out import shipped_onnx, to_onnx
from paoding_verify.network.runtime import OnnxProgram
from paoding_verify.network.verify import TOLERANCE, check_against_runtime
from tests import networks
from tests.networks import chain
from tests.onnx_models import assemble, dense_nodes, model_bytes, node, weights


def write(folder: Path, data: bytes, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_a_network_remembers_its_file(tmp_path: Path) -> None:
    data = to_onnx(networks.conv_net(0))
    network = load_network(str(write(tmp_path, data)))
    assert network.source is not None
    assert network.source.path == "model.onnx"
    assert network.source.format == "onnx"
    assert network.source.sha256 == hashlib.sha256(data).hexdigest()
    assert shipped_onnx(network) == data


def test_external_data_is_inlined(tmp_path: Path) -> None:
    constants = {"w": weights(0, 6, 4), "b": weights(1, 4)}
    model = assemble(dense_nodes("x", "y"), constants, ("N", 6))
    plain = read_onnx(model.SerializeToString())
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    assert (tmp_path / "weights.bin").stat().st_size >= 4 * 28
    network = load_network(path)
    assert canonical_digest(network) == canonical_digest(plain)
    assert network.source is not None
    assert network.source.format == "onnx, data inlined"
    assert network.source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "weights.bin").unlink()
    x = weights(2, 3, 6)
    np.testing.assert_allclose(OnnxProgram(network.source.onnx).run(x), network.forward(x), atol=1e-5)


def test_models_that_onnxruntime_cannot_run_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    nodes = [node("LeakyRelu", ["x"], ["y"], "leaky", alpha=0.5, beta=1.0)]
    path = write(tmp_path, model_bytes(nodes, {}, ("N", 6)))
    with pytest.raises(ModelError, match="the model cannot be run: onnxruntime cannot open"):
        load_network(path)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(("relative", "accepted"), [(TOLERANCE / 10, True), (TOLERANCE * 10, False)])
def test_a_network_that_differs_from_its_file_is_refused(relative: float, accepted: bool) -> None:
    network = networks.dense_net(0)
    last = network.nodes[-1]
    assert isinstance(last.op, Dense)
    off = replace(last, op=replace(last.op, weight=last.op.weight * (1 + relative), bias=last.op.bias * (1 + relative)))
    other = replace(network, nodes=(*network.nodes[:-1], off))
    if accepted:
        check_against_runtime(other, to_onnx(network))
    else:
        with pytest.raises(ModelError, match="disagree by"):
            check_against_runtime(other, to_onnx(network))


def test_a_network_of_another_output_size_is_refused() -> None:
    first, second = networks.dense_net(0, (6, 4, 3)), networks.dense_net(0, (6, 4, 2))
    with pytest.raises(ModelError, match=r"outputs of shape \(2, 3\); the network read \(2, 2\)"):
        check_against_runtime(second, to_onnx(first))


def test_cancelling_networks_are_not_taken_for_misread_ones() -> None:
    """Terms of 2^24 that cancel: the order of summation decides about the result, and every order is honest."""
    rng = np.random.default_rng(0)
    row = np.concatenate([np.full(50, 2.0**24), np.full(50, -(2.0**24)), rng.uniform(-1, 1, 20)])
    weight = np.stack([rng.permutation(row) for _ in range(4)]).astype(np.float32).astype(np.float64)
    network = chain((120,), Dense(weight, np.zeros(4)))
    check_against_runtime(network, to_onnx(network))


def test_deep_networks_agree_at_large_inputs() -> None:
    network = networks.dense_net(0, (20, *(40,) * 12, 5))
    check_against_runtime(network, to_onnx(network))


def test_unknown_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no model file .*none\.onnx"):
        load_network(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match=r"model\.pkl has an unknown type; supported are"):
        load_network(write(tmp_path, b"\x80\x04", "model.pkl"))
    with pytest.raises(ModelError, match="there is no model file"):
        load_network(tmp_path)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_weights_need_their_architecture(tmp_path: Path, suffix: str) -> None:
    torch = pytest.importorskip("torch")
    path, state = tmp_path / f"weights{suffix}", torch.nn.Linear(2, 2).state_dict()
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    with pytest.raises(ConfigError, match="pass the module they belong to as `arch`"):
        load_network(path)
    with pytest.raises(ModelError, match=r"bad\."):  # what is no file of weights says so at once
        load_network(write(tmp_path, b"\x80\x02.", f"bad{suffix}"))


def test_modules_become_float32_networks_with_a_file() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("paoding_verify.network.torch_io", reason="modules are read there")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)).eval()
    with pytest.raises(ConfigError, match="the input shape of Sequential is not known"):
        load_network(module)
    with pytest.raises(ConfigError, match="positive integers"):
        load_network(module, input_shape=(0,))
    network = load_network(module, input_shape=(6,))
    assert network.source is not None
    assert network.source.format == "module"
    assert network.source.sha256 == hashlib.sha256(network.source.onnx).hexdigest()
    x = weights(0, 4, 6)
    expected = module(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(network.forward(x), expected, atol=1e-6)
    np.testing.assert_allclose(OnnxProgram(network.source.onnx).run(x), expected, atol=1e-6)
    module.input_shape = (6,)
    assert canonical_digest(load_network(module)) == canonical_digest(network)


@pytest.mark.realdata
def test_every_real_onnx_file_loads_and_agrees(data_dir: Path) -> None:
    paths = sorted(data_dir.glob("models*/*.onnx"))
    assert len(paths) >= 15
    for path in paths:
        network = load_network(path)
        shape = network.input_shape
        rng = np.random.default_rng(1)
        x = np.concatenate([rng.uniform(size=(8, *shape)), rng.normal(size=(8, *shape))]).astype(np.float32)
        expected = OnnxProgram(path.read_bytes()).run(x)
        assert np.abs(network.forward(x) - expected).max() < 1e-4 * np.abs(expected).max(), path.name
        kinds = [type(item.op).__name__ for item in network.nodes]
        assert not {"Permute", "Affine"} & set(kinds), path.name
        assert all(getattr(item.op, "roundings", 0) == 0 for item in network.nodes), path.name


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "published"), [("256x2", 0.980799), ("256x4", None)])
def test_real_classifiers_reach_their_published_accuracy(data_dir: Path, name: str, published: float | None) -> None:
    network = load_network(data_dir / "models_gpl3" / f"mnist-net_{name}.onnx")
    with np.load(data_dir / "data" / "mnist_test.npz") as data:
        x, y = data["x"][:2000].astype(np.float32) / np.float32(255), data["y"][:2000]
    accuracy = (network.forward(x.reshape(-1, *network.input_shape)).argmax(axis=1) == y).mean()
    assert accuracy > (published or 0.97) - 0.02
