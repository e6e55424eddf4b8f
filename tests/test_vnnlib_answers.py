"""`certify MODEL --vnnlib SPEC` on public benchmarks: no published answer is contradicted, and how many are given."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from paoding_verify.cli.main import main

pytestmark = pytest.mark.realdata

LIMITS_S = {"256x2": 3, "256x4": 2}
"""Seconds for one instance; others: 8. Longer limits decide more."""
UNSAFE = {  # property of ACAS Xu -> what the outputs must not be; smallest output = advised action
    1: "(>= Y_0 3.991125645861615)",
    2: "(and {})".format(" ".join(f"(<= Y_{k} Y_0)" for k in range(1, 5))),
    3: "(and {})".format(" ".join(f"(<= Y_0 Y_{k})" for k in range(1, 5))),
    5: "(or {})".format(" ".join(f"(<= Y_{k} Y_4)" for k in range(4))),
    6: "(or {})".format(" ".join(f"(<= Y_{k} Y_0)" for k in range(1, 5))),
    9: "(or {})".format(" ".join(f"(<= Y_{k} Y_3)" for k in (0, 1, 2, 4))),
}
UNSAFE[4] = UNSAFE[3]


def declared(inputs: int, outputs: int) -> str:
    """Declarations of all inputs and outputs."""
    names = [f"X_{k}" for k in range(inputs)] + [f"Y_{k}" for k in range(outputs)]
    return "\n".join(f"(declare-const {name} Real)" for name in names) + "\n"


def boxes(ends: list[list[tuple[float, float]]]) -> str:
    """Inputs in one of several boxes."""
    sides = [" ".join(f"(>= X_{k} {low!r}) (<= X_{k} {high!r})" for k, (low, high) in enumerate(box)) for box in ends]
    return "(assert (or {}))\n".format(" ".join(f"(and {side})" for side in sides))


def image_spec(data_dir: Path, entry: dict[str, object]) -> str:
    """Another class is at least as large as the label somewhere in the clipped ball."""
    images = np.load(data_dir / "data/mnist_test.npz")["x"]
    x = (images[entry["mnist_test_index"]].astype(np.float32) / np.float32(255)).ravel().astype(np.float64)
    ends = [(float(max(0.0, v - entry["eps"])), float(min(1.0, v + entry["eps"]))) for v in x]
    others = " ".join(f"(>= Y_{k} Y_{entry['label']})" for k in range(10) if k != entry["label"])
    return declared(784, 10) + boxes([ends]) + f"(assert (or {others}))\n"


def acas_spec(data_dir: Path, number: int) -> str:
    """Boxes of normalised inputs: as they stand up to property 4, else scaled by what the network's file says."""
    if number <= 4:
        text = (data_dir / f"specs/marabou_acas_property_{number}.txt").read_text()
        found = {(int(k), sign): float(v) for k, sign, v in re.findall(r"^x(\d) ([<>])= (\S+)$", text, re.MULTILINE)}
        ends = [[(found[k, ">"], found[k, "<"]) for k in range(5)]]
    else:
        header = (data_dir / "models/acasxu_1_1.nnet").read_text().splitlines()
        mean, width = (np.array([float(v) for v in line.strip(",").split(",")]) for line in header[8:10])
        text = (data_dir / f"specs/eran_acasxu_prop_{number}_input_prenormalized.txt").read_text()
        rows = [
            [tuple((float(v) - mean[k]) / width[k] for v in pair) for pair in re.findall(r"\[(\S+), (\S+)\]", line)]
            for k, line in enumerate(filter(None, text.splitlines()))
        ]
        ends = [[]]
        for intervals in rows:
            ends = [[*box, (float(low), float(high))] for box in ends for low, high in intervals]
    return declared(5, 5) + boxes(ends) + f"(assert {UNSAFE[number]})\n"


def cases(data_dir: Path, group: str) -> dict[str, tuple[Path, str | Path, str]]:
    """Instance -> (model, specification, published answer)."""
    if group == "test":
        known = json.loads((data_dir / "specs/test_known.json").read_text())
        pairs = {key: key.split("/") for key in known}
        return {
            key: (data_dir / f"models/{model}.onnx", data_dir / f"specs/{spec}.vnnlib", known[key])
            for key, (model, spec) in pairs.items()
        }
    if group.startswith("256"):
        entries = json.loads((data_dir / "specs/mnist_fc_known.json").read_text())
        model = data_dir / f"models_gpl3/mnist-net_{group}.onnx"
        mine = {key: entry for key, entry in entries.items() if key.startswith(group)}
        return {key: (model, image_spec(data_dir, entry), entry["published"]) for key, entry in mine.items()}
    entries = json.loads((data_dir / "specs/acasxu_known.json").read_text())
    model = data_dir / f"models/acasxu_{group}.onnx"
    mine = {key: entry for key, entry in entries.items() if key.startswith(group)}
    return {key: (model, acas_spec(data_dir, int(key.rsplit("_", 1)[1])), e["answer"]) for key, e in mine.items()}


@pytest.mark.parametrize("group", ["test", "256x2", "256x4", "1_1", "2_2", "3_3"])
def test_no_published_answer_is_contradicted(
    group: str,
    data_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    found: Counter[str] = Counter()
    limit_s = LIMITS_S.get(group, 8)
    for number, (name, (model, spec, published)) in enumerate(cases(data_dir, group).items()):
        path = spec if isinstance(spec, Path) else tmp_path / f"{number}.vnnlib"
        if isinstance(spec, str):
            path.write_text(spec)
        assert main(["certify", str(model), "--vnnlib", str(path), "--timeout", str(limit_s), "--quiet"]) == 0
        answer = capsys.readouterr().out.strip().splitlines()[-1]
        answer = answer if answer in ("unsat", "unknown") else "sat"
        assert answer in (published, "unknown") or published == "unknown", name
        found[answer] += 1
    total = sum(found.values())
    decided = total - found["unknown"]
    record_property("decided", f"{group}: {decided} of {total} within {limit_s} s each {dict(sorted(found.items()))}")
    assert decided > 0
