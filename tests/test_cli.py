"""The command line: exit codes, one clear sentence for bad input, nothing written then, no tracebacks."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from paoding_verify.cli.main import main
from paoding_verify.network.load import load_network
from paoding_verify.network.onnx_out import to_onnx
from tests.networks import dense_net
from tests.test_audit import perturbed

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "examples" / "digits"
EFFORT = ["--timeout", "5", "--quiet"]


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


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    """A bundle of an audit of the small network against itself."""
    target = folder / "bundle"
    assert audit(folder, "--policy", str(folder / "loose.toml"), target=target) == 0
    return target


def audit(folder: Path, *options: str, target: Path) -> int:
    net = str(folder / "net.onnx")
    data = ["--data", str(folder / "data.npz"), "--samples", "3", "--eps", "0.01"]
    return main(["audit", net, "--pruned", net, *data, *EFFORT, *options, "-o", str(target)])


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


def labelled_rows(path: Path, count: int) -> str:
    """Rows for dense_net(3): the first six are those of data.npz."""
    x = np.random.default_rng(0).random((count, 6), dtype=np.float32)
    np.savez(path, x=x, y=dense_net(3).forward(x).argmax(axis=1))
    return str(path)


def test_prune_can_finetune_and_prints_every_stage(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = labelled_rows(tmp_path / "rows.npz", 60)
    target, trace = tmp_path / "small.onnx", tmp_path / "trace.json"
    options = ["--finetune", rows, "--objective", "adversarial", "--finetune-eps", "0.02", "--finetune-epochs", "2"]
    command = ["prune", str(folder / "net.onnx"), "-o", str(target), "--target-sparsity", "0.3", "--method", "lwm"]
    assert main([*command, "--trace", str(trace), "--quiet", *options]) == 0
    shown = capsys.readouterr().out
    assert "of parameters" in shown
    assert shown.count("(not re-proved) at eps 0.02") == 3
    record = json.loads(trace.read_text())
    assert record["finetuning"]["num_excluded"] is None
    assert (record["finetuning"]["objective"], record["finetuning"]["epochs"]) == ("adversarial", 2)
    weights = [numpy_helper.to_array(t) for t in onnx.load(target).graph.initializer]
    assert sum(int((w == 0).sum()) for w in weights) == round(0.3 * 258)


def test_an_audit_never_trains_on_the_rows_it_reports(folder: Path, tmp_path: Path) -> None:
    """The same file for both: the three rows drawn for the audit are left out, in another file as in this one."""
    rows = labelled_rows(tmp_path / "rows.npz", 40)
    regions = ["--samples", "3", "--eps", "0.01", "--target-sparsity", "0.3", "--method", "lwm", *EFFORT]
    training = ["--finetune", rows, "--objective", "natural", "--finetune-epochs", "1"]
    for data in (rows, str(folder / "data.npz")):
        target = tmp_path / Path(data).stem
        command = ["audit", str(folder / "net.onnx"), "--data", data, *regions, *training, "-o", str(target)]
        assert main(command) in (0, 1, 3)
        result = json.loads((target / "audit.json").read_text())
        assert result["pruning"]["finetuning"]["num_excluded"] == 3
        assert result["pruning"]["finetuning"]["num_rows"] + result["pruning"]["stages"][0]["num_inputs"] == 37
        words = result["provenance"]["data_split"]
        assert "no row of its data" not in words
        assert "rows that lie in a region of this report (3) were left out" in words
        assert main(["check", str(target), "--quiet"]) == 0


def test_options_of_finetuning_need_data(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "small.onnx"
    assert main(["prune", str(folder / "net.onnx"), "-o", str(target), "--objective", "natural"]) == 2
    assert "--objective belongs to --finetune" in capsys.readouterr().err
    data = str(folder / "data.npz")
    assert main(["prune", str(folder / "net.onnx"), "-o", str(target), "--finetune", data, "--quiet"]) == 2
    assert "needs a label" in capsys.readouterr().err
    assert audit(folder, "--finetune", data, target=tmp_path / "out") == 2
    assert "with --pruned nothing is" in capsys.readouterr().err
    assert not target.exists()


SPEC = "".join(f"(declare-const X_{k} Real)\n" for k in range(6)) + "".join(
    f"(declare-const Y_{k} Real)\n" for k in range(4)
)


def spec(path: Path, low: float, high: float, unsafe: str) -> str:
    box = "".join(f"(assert (>= X_{k} {low}))\n(assert (<= X_{k} {high}))\n" for k in range(6))
    path.write_text(SPEC + box + f"(assert {unsafe})\n")
    return str(path)


def test_vnnlib_answers_on_the_last_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = str(folder / "net.onnx")
    assert main(["certify", net, "--vnnlib", spec(tmp_path / "a.vnnlib", 0, 0.1, "(>= Y_0 1000.0)"), *EFFORT]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "unsat"
    assert main(["certify", net, "--vnnlib", spec(tmp_path / "b.vnnlib", 0, 0.1, "(>= Y_0 -1000.0)"), *EFFORT]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "sat"
    assert any(line.startswith("((X_0 ") for line in lines)


def nan_model(path: Path) -> str:
    model = onnx.load_from_string(to_onnx(dense_net(3)))
    weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight.flat[0] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, model.graph.initializer[0].name))
    path.write_bytes(model.SerializeToString())
    return str(path)


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
    for _ in range(3):
        start_s = time.perf_counter()
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        spent_s.append(time.perf_counter() - start_s)
    assert "exit codes" in shown
    assert min(spent_s) < 0.5  # 0.25 on an idle machine


def test_help_loads_no_engine() -> None:
    code = (
        "import sys; from paoding_verify.cli.parser import build_parser; build_parser().format_help();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'z3', 'auto_LiRPA', 'onnx', 'rich', 'scipy')))"
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


def prune_quickly(folder: Path, *options: str) -> int:
    return main(["prune", str(folder / "net.onnx"), "--method", "random", "--quiet", *options])


def test_prune_hits_a_target_of_parameters_and_writes_its_record(folder: Path, tmp_path: Path) -> None:
    out, trace = tmp_path / "small.onnx", tmp_path / "trace.json"
    options = ["--target-sparsity", "0.4", "--sparsity-of", "parameters", "--trace", str(trace), "-o", str(out)]
    assert prune_quickly(folder, *options) == 0
    assert load_network(out).num_parameters <= 0.6 * dense_net(3).num_parameters
    assert json.loads(trace.read_text())["sparsity_of"] == "parameters"
    assert {path.name for path in tmp_path.iterdir()} == {"small.onnx", "trace.json"}


def test_a_repair_is_told_and_recorded(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace.json"
    options = ["--repair", "--anchor-eps", "0.01", "--trace", str(trace), "-o", str(tmp_path / "small.onnx")]
    assert prune_quickly(folder, *options) == 0
    record = json.loads(trace.read_text())["repaired"]
    assert record["num_acceptance"] > 0
    assert ("taken" if record["kept"] else "left") in capsys.readouterr().out
    assert prune_quickly(folder, *options[:1], "--method", "lwm", "-o", str(tmp_path / "zeros.onnx")) == 2
    assert "repair" in capsys.readouterr().err


def test_a_budget_on_synthetic_anchors_is_told_as_such(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--max-certified-drop", "0.9", "--anchor-eps", "0.01", "-o", str(tmp_path / "small.onnx")]
    assert prune_quickly(folder, *options) == 0
    assert "synthetic" in capsys.readouterr().err
    assert prune_quickly(folder, *options, "--force", "--inputs", str(folder / "many.npz")) == 0
    told = capsys.readouterr().err
    assert "synthetic" not in told
    assert "around that anchor only" in told


def test_an_interrupted_prune_leaves_nothing_but_its_journal(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, trace = tmp_path / "small.onnx", tmp_path / "trace.json"

    def interrupted(descriptor: int) -> None:
        if out.exists() or len(list(tmp_path.glob(".*"))) == 2:  # the second file is being written
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    assert prune_quickly(folder, "--trace", str(trace), "-o", str(out)) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx.journal"]
    assert "interrupted" in capsys.readouterr().err


def test_no_region_may_be_around_an_input_of_the_pruner(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(folder / "data.npz"), "--samples", "3", "--eps", "0.01", "--domain", "0", "1", *EFFORT]
    command = ["audit", str(folder / "net.onnx"), *data, "--method", "random", "-o", str(tmp_path / "out")]
    assert main([*command, "--inputs", str(folder / "data.npz")]) == 2
    assert "keep the two files apart" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*command, "--inputs", str(folder / "many.npz")]) in (0, 1, 3)
    split = json.loads((tmp_path / "out" / "audit.json").read_text())["provenance"]["data_split"]
    assert "80 unlabelled inputs" in split
    assert main([*command[:-2], "--pruned", str(folder / "net.onnx"), "--inputs", "x.npz", "-o", "new"]) == 2


def test_prune_takes_the_options_of_its_methods_and_refuses_others(folder: Path, tmp_path: Path, capsys) -> None:
    net, small = str(folder / "net.onnx"), str(tmp_path / "small.onnx")
    common = ["prune", net, "-o", small, "--quiet", "--force"]
    assert main([*common, "--json", "--method", "paoding-legacy-impact", "--step", "0.25"]) == 0
    assert len(json.loads(capsys.readouterr().out)["steps"]) == 2
    assert main([*common, "--step", "0.25"]) == 2
    assert "belongs to the paoding-legacy methods" in capsys.readouterr().err
    assert main([*common, "--method", "random", "--hard-floor"]) == 2
    assert main([*common, "--method", "paoding", "--target-sparsity", "0.9", "--hard-floor"]) == 0
    assert "ended early: at a sparsity of" in capsys.readouterr().out


def test_distillation_can_be_left_out_where_there_is_one(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "small.onnx")
    plain = ["prune", str(folder / "net.onnx"), "--no-distill", "--quiet", "-o", out]
    assert main([*plain, "--json", "--method", "obs"]) == 0
    assert json.loads(capsys.readouterr().out)["distilled"] is None
    net, config = str(folder / "net.onnx"), tmp_path / "audit.toml"
    assert main(["audit", net, "--pruned", net, "--no-distill", "-o", str(tmp_path / "out")]) == 2
    assert "--no-distill" in capsys.readouterr().err
    config.write_text("distil = 1\n")
    assert main(["prune", net, "--config", str(config), "--quiet", "-o", out]) == 2
    assert "true or false" in capsys.readouterr().err
