"""Verdicts on public benchmarks never contradict what several verifiers agreed on, and decide the easy part."""

import json
import re

import numpy as np
import pytest

from paoding_verify.evidence.property import Property, predicts
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.network.load import load_network
from paoding_verify.regions import Region
from paoding_verify.robustness.certify import certify
from paoding_verify.task import SearchConfig, Task

pytestmark = pytest.mark.realdata

PUBLISHED = {"unsat": Verdict.CERTIFIED, "sat": Verdict.VIOLATED}


def read_box(path):
    """The input box of a property in Marabou's format, whose inputs are normalised already."""
    found = re.findall(r"^x(\d) ([<>])= (\S+)$", path.read_text(), re.MULTILINE)
    ends = {(int(feature), sign): float(value) for feature, sign, value in found}
    return np.array([ends[k, ">"] for k in range(5)]), np.array([ends[k, "<"] for k in range(5)])


def acas_property(number):
    """1: y0 stays below its threshold. 2: y0 is not the largest. 3 and 4: y0 is not the smallest."""
    if number == 1:
        return Property(np.array([[-1.0, 0, 0, 0, 0]]), np.array([3.9911256459]), ((0,),))
    others = np.hstack([-np.ones((4, 1)), np.eye(4)])
    return Property(others if number == 2 else -others, np.zeros(4), ((0, 1, 2, 3),))


@pytest.mark.parametrize(
    "key", ["1_1/prop_1", "2_2/prop_2", "2_2/prop_3", "2_2/prop_4", "3_3/prop_1", "3_3/prop_3", "3_3/prop_4"]
)
def test_acasxu(data_dir, key):
    answer = json.loads((data_dir / "specs/acasxu_known.json").read_text())[key]["answer"]
    model, number = key.split("/prop_")
    network = load_network(data_dir / f"models/acasxu_{model}.onnx")
    lower, upper = read_box(data_dir / f"specs/marabou_acas_property_{number}.txt")
    region = Region(key, lower.reshape(network.input_shape), upper.reshape(network.input_shape))
    task = Task(key, "vnnlib", "original", region, acas_property(int(number)))
    (finding,) = certify(network, [task], SearchConfig(timeout_s=120))
    assert finding.claim.verdict == PUBLISHED[answer], finding.claim.reason


def test_mnist_fully_connected(data_dir):
    """CROWN decides 7 of 15 and the attack 2; the published answers are not contradicted by any."""
    network = load_network(data_dir / "models_gpl3/mnist-net_256x2.onnx")
    images = np.load(data_dir / "data/mnist_test.npz")["x"]
    known = json.loads((data_dir / "specs/mnist_fc_known.json").read_text())
    tasks, published = [], []
    for key, entry in known.items():
        if not key.startswith("256x2/") or entry["eps"] > 0.03:
            continue
        x = (images[entry["mnist_test_index"]].astype(np.float32) / np.float32(255)).reshape(network.input_shape)
        low, high = (
            np.maximum(0, x.astype(np.float64) - entry["eps"]),
            np.minimum(1, x.astype(np.float64) + entry["eps"]),
        )
        region = Region(key, low, high, x, entry["label"], entry["eps"])
        tasks.append(Task(key, "top1_robust", "original", region, predicts(entry["label"], 10)))
        published.append(entry)
    findings = certify(network, tasks, SearchConfig(timeout_s=60))
    for finding, entry in zip(findings, published, strict=True):
        verdict = finding.claim.verdict
        assert verdict in (Verdict.UNKNOWN, PUBLISHED[entry["published"]]), finding.claim.id
        if entry["crown_certified"] or entry["pgd_counterexample"]:
            assert verdict != Verdict.UNKNOWN, finding.claim.reason
