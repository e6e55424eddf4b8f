"""Does memory grow with the number of claims? Resident memory of one audit of the digits example after 50, 500, 5,000.

What a run of eight hours would do follows from it: findings have to be kept until the end, everything else must not be.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

import paoding_verify as pv
from paoding_verify.data import read_dataset

ROOT = Path(__file__).resolve().parents[1]
POINTS = (50, 500, 5000)
EPS = 0.01


def resident_mb() -> float:
    """Memory that this process holds now, in MiB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def regions(count: int, seed: int) -> list[pv.Region]:
    """Boxes around the example's anchors, each moved a little."""
    anchors = read_dataset(ROOT / "examples" / "digits" / "anchors.npz").x
    rng = np.random.default_rng(seed)
    chosen = anchors[rng.integers(len(anchors), size=count)]
    moved = np.clip(chosen + rng.normal(0, 0.02, chosen.shape), 0, 1).astype(np.float32)
    dataset = pv.Dataset(moved, None, "moved anchors")
    return list(pv.linf_regions(dataset, eps=EPS, domain=(0, 1)))


def measure(claims: int, seed: int) -> dict[int, float]:
    """Claims settled -> resident MiB, in one audit of the example's network against a slightly pruned one."""
    original = pv.load_network(ROOT / "examples" / "digits" / "digits_dense.onnx")
    pruned = pv.prune(original, method="magnitude-l1", target_sparsity=0.1, seed=0).network
    found: dict[int, float] = {}
    settled = [0]

    def watch(*_: object) -> None:
        settled[0] += 1
        if settled[0] in (*POINTS, claims):
            found[settled[0]] = resident_mb()

    config = pv.AuditConfig(search=pv.SearchConfig(timeout_s=5.0, attack_restarts=1, attack_steps=10, max_leaves=200))
    pv.audit(original, pruned, regions(claims // 4, seed), config=config, progress=watch)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--claims", type=int, default=POINTS[-1])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    table = measure(given.claims, given.seed)
    first = table[min(table)]
    for number, megabytes in sorted(table.items()):
        print(f"{number:6} claims  {megabytes:8.1f} MiB  {megabytes / first - 1:+.1%}")
    print(json.dumps({"claims": sorted(table), "resident_mb": [table[k] for k in sorted(table)]}))
