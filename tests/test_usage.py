"""Options that contradict each other, and messages: they name the file, the row and the option."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from paoding_verify.cli.main import main
from tests.command_lines import EFFORT, ROOT, audit, folder, nan_model

__all__ = ["folder"]


def odd_labels(path: Path) -> str:
    np.savez(path, x=np.zeros((3, 6), dtype=np.float32), y=np.array([0, 9, 1]))
    return str(path)


def architecture(path: Path, text: str) -> str:
    path.write_text(text)
    return f"{path}:make"


def weights(path: Path) -> str:
    torch.save(torch.nn.Linear(6, 4).state_dict(), path)
    return str(path)


def whole_module(path: Path) -> str:
    torch.save(torch.nn.Linear(6, 4), path)
    return str(path)


def made_by(tmp: Path, text: str) -> list[str]:
    return [weights(tmp / "w.pth"), "--arch", architecture(tmp / "a.py", text)]


BAD = {
    "negative seed": (lambda net, data, tmp: [net, "--data", data, "--seed", "-1"], "seed"),
    "seed beyond 64 bits": (lambda net, data, tmp: [net, "--data", data, "--seed", str(2**64)], "seed"),
    "endless time": (lambda net, data, tmp: [net, "--data", data, "--timeout", "inf"], "time limit"),
    "more samples than rows": (lambda net, data, tmp: [net, "--data", data, "--samples", "7"], r"data\.npz holds 6"),
    "data without a name": (lambda net, data, tmp: [net, "--data", ""], "--data is empty"),
    "config without a name": (lambda net, data, tmp: [net, "--data", data, "--config", ""], "--config is empty"),
    "architecture of ONNX": (lambda net, data, tmp: [net, "--data", data, "--arch", "a:b"], "--arch belongs"),
    "shape of ONNX": (lambda net, data, tmp: [net, "--data", data, "--input-shape", "6"], "--input-shape belongs"),
    "odd label": (lambda net, data, tmp: [net, "--data", odd_labels(tmp / "y.npz")], r"y\.npz\[1\]\) has the label 9"),
    "NaN": (lambda net, data, tmp: [nan_model(tmp / "nan.onnx"), "--data", data], r"error: nan\.onnx: "),
    "module without --arch": (lambda net, data, tmp: [whole_module(tmp / "m.pth")], "holds a pickled module"),
    "weights alone": (lambda net, data, tmp: [weights(tmp / "w.pth")], "as --arch MODULE:NAME"),
    "no shape": (
        lambda net, data, tmp: made_by(tmp, "import torch\ndef make(): return torch.nn.Linear(6, 4)\n"),
        "pass --input-shape",
    ),
    "factory that raises": (lambda net, data, tmp: made_by(tmp, "def make(): raise SystemExit('no')\n"), "SystemExit"),
    "factory of odd syntax": (lambda net, data, tmp: made_by(tmp, "def make(:\n"), "SyntaxError"),
    "no such function": (lambda net, data, tmp: made_by(tmp, "x = 1\n"), "has no function make"),
    "no such file": (
        lambda net, data, tmp: [weights(tmp / "w.pth"), "--arch", "none.py:make"],
        "there is no file none",
    ),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_usage_ends_with_2_and_names_its_cause(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = BAD[name]
    made = arguments(str(folder / "net.onnx"), str(folder / "data.npz"), tmp_path)
    assert main(["certify", *made, "--quiet", "-o", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert re.search(message, shown)
    assert shown.count("\n") == 1
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize(
    "option", [["--smt-samples", "-1"], ["--method", "random"], ["--target-sparsity", "0.3"], ["--trace", "t.json"]]
)
def test_options_of_an_audit_that_mean_nothing_are_refused(
    option: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(folder, *option, target=tmp_path / "out") == 2
    assert option[0].lstrip("-") in capsys.readouterr().err.replace("_", "-")
    assert list(tmp_path.iterdir()) == []


def test_a_bad_pruned_file_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = nan_model(tmp_path / "bad.onnx")
    assert main(["compare", str(folder / "net.onnx"), bad, *EFFORT]) == 2
    assert "error: pruned bad.onnx: " in capsys.readouterr().err


def test_what_was_drawn_is_recorded_and_commands_can_be_pasted(folder: Path, tmp_path: Path) -> None:
    data, target = tmp_path / "two words.npz", tmp_path / "out.json"
    data.write_bytes((folder / "data.npz").read_bytes())
    command = ["certify", str(folder / "net.onnx"), "--data", str(data), *EFFORT, "-o", str(target)]
    assert main(command) == 0
    found = json.loads(target.read_text())
    assert len(found["claims"]) == 6
    assert found["provenance"]["config"]["samples"] == "6"
    assert found["provenance"]["drawing"] == "6 of the 6 rows of two words.npz, drawn by seed 0, no row twice."
    lasting = [word for word in command if word != "--quiet"]
    assert shlex.split(found["provenance"]["command"]) == ["paoding-verify", *lasting]


def test_a_normalisation_is_recorded_and_nothing_that_did_not_apply(folder: Path, tmp_path: Path) -> None:
    """Three anchors are also fewer than there are classes and kinds of anchors."""
    target = tmp_path / "out.json"
    layer = ["--mean", "0.5", "--std", "0.25"]
    assert main(["certify", str(folder / "net.onnx"), "--samples", "3", *layer, *EFFORT, "-o", str(target)]) == 0
    found = json.loads(target.read_text())["provenance"]
    assert "no data was read" in found["drawing"]
    assert found["config"]["normalisation"] == "(x - mean) / std in front of every network, mean 0.5, std 0.25"
    assert not {"target_sparsity", "method", "delta", "domain", "smt_samples"} & set(found["config"])


@pytest.mark.parametrize(("module", "words"), [("torch", "'torch>="), ("jinja2", "'jinja2>=")])
def test_a_missing_component_is_named_with_its_command(module: str, words: str, folder: Path, tmp_path: Path) -> None:
    command = ["audit", str(folder / "net.onnx"), "-o", str(tmp_path / "out"), "--samples", "2"]
    code = (
        f"import sys; sys.modules[{module!r}] = None; from paoding_verify.cli.main import main; exit(main({command}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert "paoding-verify doctor" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["audit", "prune"])
def test_help_lists_what_options_and_files_may_name(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    from paoding_verify.auditing.config import setting_names
    from paoding_verify.auditing.policy import DEFAULT_RULES
    from paoding_verify.evidence.measures import RULES
    from paoding_verify.pruning.prune import METHODS

    with pytest.raises(SystemExit):
        main([verb, "--help"])
    shown = capsys.readouterr().out
    wanted = [*METHODS, *setting_names(), ".safetensors", *(RULES if verb == "audit" else ())]
    assert [word for word in wanted if word not in shown] == []
    if verb == "audit":
        for name, threshold in DEFAULT_RULES.items():
            assert re.search(rf"{name} .* \* {threshold:g}\n", shown)


def test_the_readme_names_the_built_in_policy() -> None:
    from paoding_verify.auditing.policy import DEFAULT_RULES

    text = (ROOT / "README.md").read_text()
    for name, threshold in DEFAULT_RULES.items():
        assert f"| `{name}` | {threshold} |" in text
