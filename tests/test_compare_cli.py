"""`compare` on the command line: pairs from any tool, every property, two-network specifications."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from paoding_verify.cli.main import main
from paoding_verify.network.graph import Dense, Relu
from paoding_verify.network.onnx_out import to_onnx
from tests.networks import chain, dense_net
from tests.pairs import perturbed

F = dense_net(0, (6, 8, 4))
ARCH = """
from torch import nn

def make():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
"""
EFFORT = ["--timeout", "5", "--quiet"]


def torch_module() -> nn.Module:
    """A companion of F, its weights moved a little: as another tool trained it on."""
    layers = [node.op for node in perturbed(F, 1, 0.005).nodes if isinstance(node.op, Dense)]
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    for own, layer in zip((module[0], module[2]), layers, strict=True):
        own.weight.data = torch.tensor(layer.weight, dtype=torch.float32)
        own.bias.data = torch.tensor(layer.bias, dtype=torch.float32)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network and companions in every format; one is a layer deeper; data."""
    path = tmp_path_factory.mktemp("pairs")
    (path / "f.onnx").write_bytes(to_onnx(F))
    module, example = torch_module(), (torch.zeros(2, 6),)
    torch.export.save(
        torch.export.export(module, example, dynamic_shapes=({0: torch.export.Dim("batch")},)), path / "g.pt2"
    )
    save_file(module.state_dict(), path / "g.safetensors")
    (path / "arch.py").write_text(ARCH)
    first, relu, last = (node.op for node in F.nodes)
    (path / "deeper.onnx").write_bytes(to_onnx(chain((6,), first, relu, Dense(np.eye(8), np.zeros(8)), Relu(), last)))
    (path / "one_layer.onnx").write_bytes(to_onnx(chain((6,), Dense(np.ones((4, 6)), np.arange(4.0)))))
    x = np.random.default_rng(0).random((4, 6), dtype=np.float32)
    np.savez(path / "data.npz", x=x, y=F.forward(x).argmax(axis=1))
    return path


def compare(folder: Path, pruned: str, *options: str, eps: str = "0.001") -> list[str]:
    data = ["--data", str(folder / "data.npz"), "--eps", eps]
    return ["compare", str(folder / "f.onnx"), str(folder / pruned), *data, *EFFORT, *options]


@pytest.mark.parametrize("pruned", ["g.pt2", "g.safetensors", "deeper.onnx", "one_layer.onnx"])
def test_pairs_of_any_format_and_depth(folder: Path, pruned: str, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    arch = ["--arch", f"{folder / 'arch.py'}:make", "--input-shape", "6"] if pruned.endswith("safetensors") else []
    assert main(compare(folder, pruned, *arch, "-o", str(target))) == 0
    result = json.loads((target / "audit.json").read_text())
    assert result["counts"]["error"] == 0
    top1 = [claim["verdict"] for claim in result["claims"] if claim["kind"] == "top1_equivalent"]
    assert "VIOLATED" in top1 if pruned == "one_layer.onnx" else set(top1) == {"CERTIFIED"}
    assert main(["check", str(target), "--quiet"]) == 0


@pytest.mark.parametrize(
    ("options", "kind", "parameter"),
    [
        (["--property", "topk", "--k", "2"], "topk_equivalent", 2.0),
        (["--property", "confident", "--confidence", "0.7"], "top1_confident", 0.7),
        (["--property", "confident", "--min-margin", "0.1"], "top1_decided", 0.1),
        (["--property", "margin"], "margin_preserved", 0.0),
        (["--property", "margin", "--share", "0.2"], "margin_preserved", 0.2),
    ],
)
def test_every_property(
    folder: Path, tmp_path: Path, options: list[str], kind: str, parameter: float, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "bundle"
    assert main(compare(folder, "deeper.onnx", *options, "-o", str(target), "--json")) == 0
    claims = json.loads(capsys.readouterr().out)["claims"]
    assert {(claim["kind"], claim["parameter"], claim["verdict"]) for claim in claims} == {
        (kind, parameter, "CERTIFIED")
    }
    page = (target / "report.html").read_text()
    assert {"topk_equivalent": "Top-k equivalence:", "margin_preserved": "Preserved margin:"}.get(kind, "where") in page
    assert main(["check", str(target), "--quiet"]) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--property", "topk"], "needs --k K"),
        (["--property", "topk", "--k", "4"], "k goes from 1 to 3"),
        (["--property", "confident"], "--confidence T or --min-margin M"),
        (["--property", "confident", "--confidence", "1.5"], "at least 0.5"),
        (["--property", "margin", "--share", "1"], "less than 1"),
        (["--property", "top1", "--share", "0"], "--share belongs to --property margin"),
        (["--k", "2"], "--k belongs to --property topk"),
        (["--property", "topk", "--k", "2", "--delta", "1"], "--delta belongs to --property distance"),
    ],
)
def test_options_that_do_not_fit(
    folder: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(compare(folder, "deeper.onnx", *options)) == 2
    assert words in capsys.readouterr().err


def specification(path: Path, delta: float) -> str:
    inputs = "".join(f"(assert (== X[{k}] A[{k}]))(assert (and (>= X[{k}] 0.4) (<= X[{k}] 0.402)))\n" for k in range(6))
    outputs = " ".join(f"(>= (- Y[{k}] B[{k}]) {delta}) (>= (- B[{k}] Y[{k}]) {delta})" for k in range(4))
    path.write_text(
        "(vnnlib-version <2.0>)(declare-network f (declare-input X float32 [6])(declare-output Y float32 [4]))\n"
        "(declare-network g (declare-input A float32 [6])(declare-output B float32 [4]))\n"
        f"{inputs}(assert (or {outputs}))\n"
    )
    return str(path)


@pytest.mark.parametrize(
    ("pruned", "delta", "answer"), [("deeper.onnx", 0.01, "unsat"), ("one_layer.onnx", 0.01, "sat")]
)
def test_specifications_of_two_networks(
    folder: Path, tmp_path: Path, pruned: str, delta: float, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, target = specification(tmp_path / "spec.vnnlib", delta), tmp_path / "bundle"
    command = ["compare", str(folder / "f.onnx"), str(folder / pruned), "--vnnlib", spec, *EFFORT, "-o", str(target)]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == answer
    assert ("Y_7" in "".join(lines)) == (answer == "sat")
    assert main(["check", str(target), "--quiet"]) == 0
    assert "two networks" in (target / "report.html").read_text()


def test_a_specification_brings_its_own_property(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = specification(tmp_path / "spec.vnnlib", 1.0)
    command = ["compare", str(folder / "f.onnx"), str(folder / "deeper.onnx"), "--vnnlib", spec]
    assert main([*command, "--property", "top1"]) == 2
    assert main([*command, "--delta", "1"]) == 2
    assert main(["compare", str(folder / "f.onnx"), str(folder / "f.onnx"), "--vnnlib", str(folder / "arch.py")]) == 2
    assert "Traceback" not in capsys.readouterr().err
