"""A folder of small models and data for tests of the command line, and what they run on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from paoding_verify.cli.main import main
from paoding_verify.network.onnx_out import to_onnx
from tests.networks import dense_net

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "examples" / "digits"
EFFORT = ["--timeout", "5", "--quiet"]


SPEC = "".join(f"(declare-const X_{k} Real)\n" for k in range(6)) + "".join(
    f"(declare-const Y_{k} Real)\n" for k in range(4)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network, data for it, and a loose and a strict policy."""
    path = tmp_path_factory.mktemp("models")
    (path / "net.onnx").write_bytes(to_onnx(dense_net(3)))
    rng = np.random.default_rng(0)
    np.savez(path / "data.npz", x=rng.random((6, 6), dtype=np.float32))
    np.savez(path / "many.npz", x=rng.random((80, 6), dtype=np.float32))
    (path / "loose.toml").write_text("min_certified_accuracy = 0.0\n")
    (path / "strict.toml").write_text("max_natural_accuracy_drop = 0.0\nmin_sparsity = 0.9\n")
    return path


def audit(folder: Path, *options: str, target: Path) -> int:
    net = str(folder / "net.onnx")
    data = ["--data", str(folder / "data.npz"), "--samples", "3", "--eps", "0.01"]
    return main(["audit", net, "--pruned", net, *data, *EFFORT, *options, "-o", str(target)])


def spec(path: Path, low: float, high: float, unsafe: str) -> str:
    box = "".join(f"(assert (>= X_{k} {low}))\n(assert (<= X_{k} {high}))\n" for k in range(6))
    path.write_text(SPEC + box + f"(assert {unsafe})\n")
    return str(path)


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    """A bundle of an audit of the small network against itself."""
    target = folder / "bundle"
    assert audit(folder, "--policy", str(folder / "loose.toml"), target=target) == 0
    return target


def nan_model(path: Path) -> str:
    model = onnx.load_from_string(to_onnx(dense_net(3)))
    weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight.flat[0] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, model.graph.initializer[0].name))
    path.write_bytes(model.SerializeToString())
    return str(path)
