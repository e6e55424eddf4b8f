"""Bad input ends with exit code 2 and one clear sentence; nothing is written then."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from paoding_verify.cli.main import main
from tests.command_lines import audit, folder, nan_model, spec

__all__ = ["folder"]


def odd_model(path: Path) -> str:
    """A network with an operation that is not supported."""
    graph = helper.make_graph(
        [helper.make_node("Erf", ["input"], ["output"], name="strange")],
        "odd",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 6])],
    )
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    return str(path)


def pickled_module(path: Path) -> str:
    path.write_bytes(pickle.dumps({"module": print}))
    return str(path)


def object_data(path: Path) -> str:
    np.savez(path, x=np.array([{"a": 1}, None], dtype=object))
    return str(path)


def wide_data(path: Path) -> str:
    np.savez(path, x=np.zeros((3, 7), dtype=np.float32))
    return str(path)


BAD = {
    "NaN weights": lambda net, data, tmp: [nan_model(tmp / "nan.onnx"), "--data", data],
    "pickled module": lambda net, data, tmp: [pickled_module(tmp / "m.pth"), "--data", data],
    "negative eps": lambda net, data, tmp: [net, "--data", data, "--eps", "-0.1"],
    "eps that is no number": lambda net, data, tmp: [net, "--data", data, "--eps", "nan"],
    "inverted domain": lambda net, data, tmp: [net, "--data", data, "--domain", "1", "0"],
    "data outside the domain": lambda net, data, tmp: [net, "--data", data, "--domain", "5", "6"],
    "inverted box": lambda net, data, tmp: [net, "--vnnlib", spec(tmp / "i.vnnlib", 1, 0, "(>= Y_0 0.0)")],
    "objects in npz": lambda net, data, tmp: [net, "--data", object_data(tmp / "o.npz")],
    "wrong input shape": lambda net, data, tmp: [net, "--data", wide_data(tmp / "w.npz")],
    "unsupported operation": lambda net, data, tmp: [odd_model(tmp / "odd.onnx"), "--data", data],
    "missing model": lambda net, data, tmp: [str(tmp / "none.onnx"), "--data", data],
    "missing data": lambda net, data, tmp: [net, "--data", str(tmp / "none.npz")],
    "mean without std": lambda net, data, tmp: [net, "--data", data, "--mean", "0.5"],
    "no time": lambda net, data, tmp: [net, "--data", data, "--timeout", "0"],
    "vnnlib and eps": lambda net, data, tmp: [net, "--vnnlib", "x", "--eps", "0.1"],
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_input_ends_with_2_and_one_sentence(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = BAD[name](str(folder / "net.onnx"), str(folder / "data.npz"), tmp_path)
    target = tmp_path / "out"
    assert main(["certify", *arguments, "--quiet", "-o", str(target)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("paoding-verify: error: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert not target.exists()


def test_configuration_that_does_not_fit_names_the_key(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, key in (("epsilon = 1", "epsilon"), ("samples = 0.5", "samples"), ("timeout_s = -1", "time limit")):
        path = folder / "odd.toml"
        path.write_text(text)
        assert main(["certify", str(folder / "net.onnx"), "--config", str(path)]) == 2
        assert key in capsys.readouterr().err


def test_an_occupied_folder_is_left_alone(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert audit(folder, target=tmp_path) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("top", "options", "told"), [(1.0, [], True), (0.75, [], False), (1.0, ["--domain", "0", "1"], False)]
)
def test_boxes_that_leave_the_range_of_the_data_are_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], top: float, options: list[str], told: bool
) -> None:
    x = np.linspace(0, top, 18, dtype=np.float32).reshape(3, 6)
    np.savez(tmp_path / "x.npz", x=x)
    command = ["certify", str(folder / "net.onnx"), "--data", str(tmp_path / "x.npz"), "--eps", "0.01", "--quiet"]
    assert main([*command, *options]) == 0
    assert ("add --domain 0 1" in capsys.readouterr().err) == told
