"""Pruning and fine-tuning on the command line."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from paoding_verify.cli.main import main
from paoding_verify.network.load import load_network
from tests.command_lines import EFFORT, audit, folder
from tests.networks import dense_net

__all__ = ["folder"]


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


def prune_quickly(folder: Path, *options: str) -> int:
    return main(["prune", str(folder / "net.onnx"), "--method", "random", "--quiet", *options])


def test_prune_hits_a_target_of_parameters_and_writes_its_record(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, trace = tmp_path / "small.onnx", tmp_path / "trace.json"
    options = ["--target-sparsity", "0.4", "--sparsity-of", "parameters", "--trace", str(trace), "-o", str(out)]
    assert prune_quickly(folder, *options) == 0
    assert load_network(out).num_parameters <= 0.6 * dense_net(3).num_parameters
    assert json.loads(trace.read_text())["sparsity_of"] == "parameters"
    assert "% of units (asked for: 40.0% of parameters)" in capsys.readouterr().out
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
    told = capsys.readouterr()
    assert "synthetic" in told.err
    assert re.search(r"certified at \d+ of \d+ held-out anchors before, at \d+ after; \d+ lost", told.out)
    assert prune_quickly(folder, *options, "--force", "--inputs", str(folder / "many.npz")) == 0
    later = capsys.readouterr().err
    assert "synthetic" not in later
    assert "around that anchor only" in later


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
    assert main([*plain, "--force", "--method", "magnitude-l1"]) == 2
    assert "--no-distill belongs to --method portfolio and obs" in capsys.readouterr().err
    config.write_text("distil = 1\n")
    assert main(["prune", net, "--config", str(config), "--quiet", "-o", out]) == 2
    assert "true or false" in capsys.readouterr().err


def test_a_pruned_network_is_written_as_onnx_and_nothing_else(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prune_quickly(folder, "-o", str(tmp_path / "small.pth")) == 2
    assert "ends with .onnx" in capsys.readouterr().err
    command = ["-o", str(tmp_path / "small.onnx"), "--trace", str(tmp_path / "small.onnx.journal")]
    assert prune_quickly(folder, *command, "--force") == 2
    assert "keeps finished parts" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_target_given_on_the_command_line_replaces_a_budget_of_the_configuration(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out, trace = tmp_path / "audit.toml", str(tmp_path / "small.onnx"), tmp_path / "trace.json"
    command = [
        "prune",
        str(folder / "net.onnx"),
        "-o",
        out,
        "--method",
        "magnitude-l1",
        "--quiet",
        "--config",
        str(config),
    ]
    config.write_text("max_certified_drop = 0.5\n")
    assert main([*command, "--target-sparsity", "0.25", "--trace", str(trace)]) == 0
    record = json.loads(trace.read_text())
    assert (record["target_sparsity"], record["max_certified_drop"]) == (0.25, None)
    config.write_text("max_certified_drop = 0.5\ntarget_sparsity = 0.25\n")
    assert main([*command, "--force"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_rows_without_labels_are_refused_before_anything_is_pruned(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "small.onnx"
    command = ["prune", str(folder / "net.onnx"), "-o", str(target), "--finetune", str(folder / "data.npz"), "--quiet"]
    assert main(command) == 2
    assert "needs a label for every row" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
