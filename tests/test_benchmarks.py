"""The benchmarks run, resume where they stopped, and say where and on what they measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paoding_verify.pruning.prune import METHODS

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(autouse=True)
def import_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_speed_names_growth_and_phases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pruning_speed import main

    main(["--quick", "--methods", "paoding", "--json", str(tmp_path / "speed.json")])
    found = json.loads((tmp_path / "speed.json").read_text())
    assert [entry["quantity"] for entry in found["growth"]] == ["width", "depth", "anchors"]
    assert all(np.isfinite(entry["power"]) for entry in found["growth"])
    phases = found["profiles"]["paoding"]["phases"]
    unused = {phase for phase, share in phases.items() if share == 0}
    assert unused == {"distillation inputs", "distillation"}, "every other phase names a function that was called"
    assert sum(phases.values()) <= 1
    assert found["machine"] in capsys.readouterr().out
    assert found["settings"]["seeds"] == [0]


def test_an_accelerator_stays_within_the_bounds_of_the_checker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from accelerators import PROGRAMS, main

    main(["--device", "cpu", "--widths", "16", "--batches", "1", "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    covered = [row for row in found["results"] if row["covered"]]
    on_cpu = {program.name for program in PROGRAMS if program.covered and program.semantics != "tf32"}
    assert {row["program"] for row in covered} == on_cpu
    assert 0.1 < max(row["used"] for row in covered) <= 1
    assert f"0 of {len(covered)} runs of covered programs" in capsys.readouterr().out


def test_growth_is_the_power_of_the_size() -> None:
    from pruning_speed import growth

    rows = [{"width": n, "cpu_s": [3e-4 * n**2, 1.0]} for n in (2, 4, 8)]
    assert growth(rows, "width") == pytest.approx(2)


def test_without_data_nothing_is_measured(tmp_path: Path) -> None:
    script, output = BENCHMARKS / "pruning_quality.py", tmp_path / "quality.json"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PAODING_VERIFY_DATA": str(tmp_path / "nowhere")}
    command = [sys.executable, str(script), "--quick", "--cache", str(tmp_path), "--json", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "nothing measured" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.realdata
def test_quality_resumes_and_compares_with_the_original(
    tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pruning_quality import main

    monkeypatch.setenv("PAODING_VERIFY_DATA", str(data_dir))
    arguments = ["--quick", "--methods", "magnitude-l2", "random", "real-inputs-5000", "torch-pruning",
                 "--cache", str(tmp_path), "--json", str(tmp_path / "quality.json")]  # fmt: skip
    main(arguments)
    stored = (tmp_path / "pruning_quality.jsonl").read_text()
    first = capsys.readouterr()
    main([*arguments, "--minutes", "0"])
    again = capsys.readouterr()
    assert (tmp_path / "pruning_quality.jsonl").read_text() == stored
    assert first.err.count("Job(") == 4
    assert "Job(" not in again.err
    results = {row["method"]: row for row in json.loads((tmp_path / "quality.json").read_text())["results"]}
    for row in results.values():
        assert sum(row["num_units_left"]) == sum(row["num_units"]) // 2
        natural = row["measures"]["natural"]
        assert natural["both"] <= min(natural["before"], natural["after"])
        assert natural["total"] == 89, "the other half of the table is for training"
        assert row["method"] in again.out
    assert results["real-inputs-5000"]["measures"]["natural"]["ratio"] > 0.9


def test_the_table_shows_means_ranges_and_failures() -> None:
    from pruning_quality import table

    def row(seed: int, after: int) -> dict[str, object]:
        natural = {"total": 100, "before": 80, "after": after, "both": min(80, after)}
        return {"network": "net", "sparsity": 0.5, "method": "one", "seed": seed, "cpu_s": 2.0,
                "measures": {"natural": natural}}  # fmt: skip

    failed = {"network": "net", "sparsity": 0.5, "method": "two", "seed": 0, "failed": "no module"}
    text = table([row(0, 60), row(1, 80), failed])
    assert "0.700 (0.600-0.788)" in text, "mean accuracy with the exact interval of 70 of 100"
    assert "0.875 [0.75, 1.00]" in text
    assert "not run: no module" in text


@pytest.mark.realdata
def test_networks_are_trained_once_and_judged_on_other_inputs(tmp_path: Path, data_dir: Path) -> None:
    from pruning_networks import load_subject

    first, again = (load_subject("breast-cancer", 1, data_dir, tmp_path) for _ in range(2))
    assert len(list(tmp_path.glob("breast-cancer-1-*.pth"))) == 1
    x, y = first.held_out
    assert np.array_equal(first.network.forward(x), again.network.forward(x))
    assert np.mean(first.network.forward(x).argmax(axis=1) == y) > 0.9
    seen = {row.tobytes() for row in first.real_inputs}
    assert not any(row.tobytes() in seen for row in x)


@pytest.mark.realdata
def test_recorded_networks_are_read_the_right_way_round(tmp_path: Path, data_dir: Path) -> None:
    from pruning_networks import FIRST_HELD_OUT, load_subject

    subject = load_subject("recorded-orig", 0, data_dir, tmp_path)
    x, y = subject.held_out
    assert len(x) == 10_000 - FIRST_HELD_OUT
    assert np.mean(subject.network.forward(x).argmax(axis=1) == y) > 0.93


def test_every_method_is_in_the_default_run() -> None:
    from pruning_networks import RECIPES
    from pruning_quality import SEEDLESS, jobs, parse

    options = parse([])
    planned = list(jobs(options))
    assert set(METHODS) < {job.method for job in planned}
    everywhere = [job for job in planned if job.sparsity != 0.9 and job.method != "portfolio-100-inputs"]
    recorded = sum(not recipe.seeded for recipe in RECIPES.values())
    once = (options.seeds - 1) * recorded * len(SEEDLESS)
    assert len(everywhere) == 3 * (options.seeds * len(options.networks) * (len(options.methods) - 1) - once)
    assert {(job.method, job.sparsity) for job in planned if job not in everywhere} == {
        ("portfolio-100-inputs", 0.75), ("portfolio", 0.9), ("obs", 0.9), ("real-inputs-5000", 0.9)
    }  # fmt: skip
    assert [job.seed for job in planned] == sorted(job.seed for job in planned)
