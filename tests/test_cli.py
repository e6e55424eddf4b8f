"""The command line: results, exit codes, help; no tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest
import torch

from paoding_verify.cli.main import main
from paoding_verify.network.onnx_out import to_onnx
from tests.command_lines import EFFORT, ROOT, audit, bundle, folder, spec
from tests.networks import dense_net
from tests.test_audit import perturbed

__all__ = ["bundle", "folder"]


def test_audit_writes_a_bundle_that_check_accepts(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("report.html", "audit.json", "manifest.json", "models/original.onnx", "regions.npz"):
        assert (bundle / name).is_file(), name
    assert main(["check", str(bundle), "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_a_failed_policy_ends_with_1(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(folder, "--policy", str(folder / "strict.toml"), target=tmp_path / "out") == 1
    shown = capsys.readouterr().out
    assert "verdict: FAIL" in shown
    assert f"report: {tmp_path / 'out' / 'report.html'}" in shown.replace("\n", "")


def test_an_open_policy_ends_with_3(folder: Path, tmp_path: Path) -> None:
    """A threshold between the distance that an attack reached and the one that was proved is undecided."""
    (tmp_path / "pruned.onnx").write_bytes(to_onnx(perturbed(dense_net(3), 0.02)))
    models = [str(folder / "net.onnx"), "--pruned", str(tmp_path / "pruned.onnx")]
    regions = ["--data", str(folder / "data.npz"), "--samples", "1", "--eps", "0.05", *EFFORT]
    policy = tmp_path / "policy.toml"
    policy.write_text("max_certified_distance = 0.0\n")
    command = ["audit", *models, *regions, "--policy", str(policy), "-o"]
    assert main([*command, str(tmp_path / "first")]) == 1
    (rule,) = json.loads((tmp_path / "first" / "audit.json").read_text())["policy"]["rules"]
    assert 0 < rule["low"] < rule["high"]
    policy.write_text(f"max_certified_distance = {(rule['low'] + rule['high']) / 2}\n")
    assert main([*command, str(tmp_path / "second")]) == 3


def test_json_stands_alone_on_stdout(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit(folder, "--json", target=tmp_path / "out")
    found = json.loads(capsys.readouterr().out)
    assert set(found["counts"]) == {"certified", "violated", "unknown", "error"}
    assert sum(found["counts"].values()) == len(found["claims"]) == 12


def test_check_refuses_a_changed_member(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    data = bytearray((copy / "models" / "pruned.onnx").read_bytes())
    data[-40] ^= 1
    (copy / "models" / "pruned.onnx").write_bytes(bytes(data))
    assert main(["check", str(copy), "--quiet"]) == 5
    captured = capsys.readouterr()
    assert "models/pruned.onnx" in captured.out + captured.err


def test_render_draws_the_same_report(bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "again.html"
    assert main(["render", str(bundle / "audit.json"), "-o", str(target)]) == 0
    assert target.read_bytes() == (bundle / "report.html").read_bytes()


def test_certify_and_compare_end_with_0(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = str(folder / "net.onnx")
    data = ["--data", str(folder / "data.npz"), "--samples", "2", "--eps", "0.001", "0.01", *EFFORT]
    result = tmp_path / "result.json"
    assert main(["certify", net, *data, "-o", str(result)]) == 0
    claims = json.loads(result.read_text())["claims"]
    assert sorted({claim["eps"] for claim in claims}) == [0.001, 0.01]
    assert len({claim["id"] for claim in claims}) == 4
    assert main(["compare", net, net, *data, "--property", "distance", "--delta", "0.5", "--json"]) == 0
    shown = capsys.readouterr().out
    assert {claim["delta"] for claim in json.loads(shown[shown.index("{") :])["claims"]} == {0.5}


def test_vnnlib_answers_on_the_last_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = str(folder / "net.onnx")
    assert main(["certify", net, "--vnnlib", spec(tmp_path / "a.vnnlib", 0, 0.1, "(>= Y_0 1000.0)"), *EFFORT]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "unsat"
    assert main(["certify", net, "--vnnlib", spec(tmp_path / "b.vnnlib", 0, 0.1, "(>= Y_0 -1000.0)"), *EFFORT]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "sat"
    assert any(line.startswith("((X_0 ") for line in lines)


def test_unexpected_exceptions_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(args: object) -> int:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr("paoding_verify.cli.verbs.doctor.run", broken)
    assert main(["doctor"]) == 4
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["doctor", "--debug"]) == 4
    assert "Traceback" in capsys.readouterr().err


def test_what_torch_logs_of_a_network_that_it_cannot_trace_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "zoo.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))\n"
    )
    torch.save({"1.weight": torch.zeros(3, 12), "1.bias": torch.zeros(3)}, tmp_path / "w.pth")
    command = [
        "prune",
        str(tmp_path / "w.pth"),
        "--arch",
        f"{tmp_path / 'zoo.py'}:make",
        "--input-shape",
        "1",
        "3",
        "5",
    ]
    line = [sys.executable, "-m", "paoding_verify", *command, "-o", str(tmp_path / "out.onnx")]
    done = subprocess.run(line, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert "cannot be traced with inputs of shape (1, 3, 5)" in done.stderr
    assert done.stderr.count("\n") == 1


def test_interruption_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("paoding_verify.cli.verbs.doctor.run", interrupted)
    assert main(["doctor"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_doctor_and_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    rows = {row["component"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["torch"]["state"] == rows["auto-LiRPA"]["state"] == rows["z3-solver"]["state"] == "works"
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"].startswith("https://json-schema.org/")


def test_doctor_names_the_command_for_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.delitem(sys.modules, "safetensors.numpy", raising=False)
    assert main(["doctor"]) == 2
    assert "python -m pip install 'safetensors>=0.5'" in capsys.readouterr().out


def test_help_is_quick() -> None:
    command = [sys.executable, "-m", "paoding_verify", "--help"]
    spent_s = []
    for _ in range(5):
        start = os.times()
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        end = os.times()  # of the processor, so that other work on the machine does not count
        spent_s.append(end.children_user - start.children_user + end.children_system - start.children_system)
    assert "exit codes" in shown
    assert median(spent_s) <= 0.25


def test_help_loads_no_engine() -> None:
    code = (
        "import sys; from paoding_verify.cli.parser import build_parser; build_parser().format_help();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'z3', 'auto_LiRPA', 'onnx', 'rich', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.realdata
def test_a_real_network_is_pruned_audited_and_checked(data_dir: Path, tmp_path: Path) -> None:
    model, data = data_dir / "models_gpl3" / "mnist-net_256x2.onnx", data_dir / "data" / "mnist_test.npz"
    regions = ["--data", str(data), "--samples", "4", "--eps", "0.01", "--domain", "0", "1"]
    target = tmp_path / "out"
    code = main(["audit", str(model), *regions, "--target-sparsity", "0.3", *EFFORT, "-o", str(target)])
    assert code in (0, 1, 3)
    result = json.loads((target / "audit.json").read_text())
    assert sum(result["models"][1]["num_units"]) < 0.75 * sum(result["models"][0]["num_units"])
    assert any(claim["verdict"] == "CERTIFIED" for claim in result["claims"])
    assert main(["check", str(target), "--quiet"]) == 0
