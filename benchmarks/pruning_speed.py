"""How the time of pruning grows with width, depth and anchors, and what it is spent on.

Networks are random: time hardly depends on what a network knows. One quantity grows at a time, the others stay at the
middle; the power is the slope of log(time) over log(size). Times are the processor's, which other programs disturb less
than the clock's. Run it with OMP_NUM_THREADS=1: numpy's threads wait for each other, and that counts.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import json
import pstats
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from surroundings import describe, surroundings

from paoding_verify.anchors import synthesise_anchors
from paoding_verify.network.graph import Dense, Network, Node, Relu
from paoding_verify.pruning.prune import METHODS, prune
from paoding_verify.regions import Region

HERE = Path(__file__).resolve().parent
MIDDLE = {"width": 64, "depth": 2, "anchors": 128}
SIZES: dict[str, tuple[int, ...]] = {
    "width": (32, 64, 128, 256),
    "depth": (1, 2, 4, 6),
    "anchors": (32, 64, 128, 256, 512),
}
QUICK_MIDDLE = {"width": 8, "depth": 1, "anchors": 4}
QUICK_SIZES: dict[str, tuple[int, ...]] = {"width": (4, 8), "depth": (1, 2), "anchors": (4, 8)}
NUM_INPUTS, NUM_OUTPUTS, EPS = 100, 10, 0.01
_NUM_TOP = 6
PHASES = {
    "anchors": ("anchors.py", ("synthesise_anchors",)),
    "compensation inputs": ("anchors.py", ("compensation_inputs",)),
    "translation for auto_LiRPA": ("lirpa.py", ("__init__",)),
    "certified margins": ("signal.py", ("margins",)),
    "prices": ("saliency.py", ("__init__", "price", "eliminate")),
    "partners and merge": ("compensation.py", ("best_partners", "merge")),
    "least squares": ("compensation.py", ("refit",)),
    "distillation inputs": ("anchors.py", ("training_inputs",)),
    "distillation": ("distil.py", ("distil",)),
}
"""Functions of paoding_verify by what they do; those of different phases do not call each other."""

Row = dict[str, Any]


def random_network(width: int, depth: int) -> Network:
    """Dense ReLU network with `depth` hidden layers and weights as at the start of training."""
    rng = np.random.default_rng(0)
    widths = [NUM_INPUTS, *[width] * depth, NUM_OUTPUTS]
    nodes: list[Node] = []
    for before, after in itertools.pairwise(widths):
        nodes.append(
            Node(Dense(rng.normal(0, (2 / before) ** 0.5, (after, before)), np.zeros(after)), (len(nodes),), "")
        )
        nodes.append(Node(Relu(), (len(nodes),), ""))
    return Network((NUM_INPUTS,), tuple(nodes[:-1]))


def boxes(network: Network, count: int, seed: int) -> list[Region]:
    """Regions around synthetic anchors: the number that `prune` would choose itself is fixed."""
    points = synthesise_anchors(network, count, seed=seed)
    labels = network.forward(points).argmax(axis=1)
    return [
        Region(f"r{k}", np.clip(x.astype(float) - EPS, 0, 1), np.clip(x.astype(float) + EPS, 0, 1), x, int(label), EPS)
        for k, (x, label) in enumerate(zip(points, labels, strict=True))
    ]


def timed(method: str, size: dict[str, int], repeats: int) -> Row:
    """Processor and wall-clock times of pruning half of the units; anchors are made beforehand."""
    network = random_network(size["width"], size["depth"])
    regions = boxes(network, size["anchors"], seed=0)
    cpu, elapsed = [], []
    for seed in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        prune(network, regions, method=method, seed=seed, domain=(0.0, 1.0))
        cpu.append(time.process_time() - start_cpu)
        elapsed.append(time.perf_counter() - start)
    return {"method": method, **size, "cpu_s": cpu, "elapsed_s": elapsed}


def profiled(method: str, middle: dict[str, int]) -> Row:
    """Where the time goes at the middle size, anchors included: the share of each phase with all that it calls, and
    the functions in which most time is spent, without what they call.
    """
    profile = cProfile.Profile(time.process_time)
    profile.runcall(prune, random_network(middle["width"], middle["depth"]), method=method, seed=0)
    stats: Any = pstats.Stats(profile)  # its two fields are documented, but not typed
    entries = [(Path(path).name, name, own, whole) for (path, _, name), (_, _, own, whole, _) in stats.stats.items()]
    phases = {
        phase: sum(_longest(entries, file, name) for name in names) / stats.total_tt
        for phase, (file, names) in PHASES.items()
    }
    top = sorted(entries, key=lambda entry: -entry[2])[:_NUM_TOP]
    return {
        "cpu_s": stats.total_tt,
        "phases": phases,
        "functions": {f"{file}:{name}": own / stats.total_tt for file, name, own, _ in top},
    }


def _longest(entries: Sequence[tuple[str, str, float, float]], file: str, name: str) -> float:
    """Of functions of one name in one file, which call each other, the outermost."""
    return max((whole for place, called, _, whole in entries if (place, called) == (file, name)), default=0.0)


def growth(rows: Sequence[Row], quantity: str) -> float:
    """Slope of log(shortest processor time) over log(quantity) by least squares."""
    sizes, times = np.log([r[quantity] for r in rows]), np.log([min(r["cpu_s"]) for r in rows])
    return float(np.polyfit(sizes, times, 1)[0])


def _shares(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in found.items() if share >= 0.01)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the tables, writes the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=1, help="seeds 0 to repeats - 1; the shortest time counts")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one repeat: does it run?")
    parser.add_argument("--json", type=Path, default=HERE / "results/pruning_speed.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    where = surroundings()
    print(describe(where))
    middle, sizes, repeats = MIDDLE, SIZES, options.repeats
    if options.quick:
        middle, sizes, repeats = QUICK_MIDDLE, QUICK_SIZES, 1
    results = []
    for method in options.methods:
        shape = f"{NUM_INPUTS}-(width x depth)-{NUM_OUTPUTS}"
        print(f"\n{method}: processor seconds for half of the units of {shape}; middle {middle}")
        for quantity, values in sizes.items():
            rows = [timed(method, middle | {quantity: value}, repeats) for value in values]
            cells = "  ".join(f"{row[quantity]}: {min(row['cpu_s']):.2f}" for row in rows)
            print(f"  {quantity:<8} {cells}   grows with the power {growth(rows, quantity):.2f}")
            results.append({"method": method, "quantity": quantity, "power": growth(rows, quantity), "rows": rows})
            sys.stdout.flush()
    profiles = {method: profiled(method, middle) for method in options.methods}
    for method, found in profiles.items():
        print(f"\n{method} at the middle size, 128 anchors of its own, {found['cpu_s']:.1f} s under the profiler")
        print(f"  phases, with what they call: {_shares(found['phases'])}")
        print(f"  functions, without what they call: {_shares(found['functions'])}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    settings = {"methods": options.methods, "seeds": list(range(repeats)), "middle": middle}
    text = json.dumps({**where, "settings": settings, "growth": results, "profiles": profiles}, indent=1)
    options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
