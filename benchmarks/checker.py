"""What it costs to prove a second time: how many proofs of auto_LiRPA survive, how long that takes, how long they are.

Networks: mnist-net_256x2 on the first 100 MNIST test images, eps .01 and .02 (under PAODING_VERIFY_DATA), and the
convolutional digits example. CROWN and alpha-CROWN are auto_LiRPA's, in float32; alpha-CROWN has slopes of its own for
every unit, as is its default, while certificates hold slopes that the units of a layer share. Every proof is then
proved again in exact arithmetic (real) and for every float32 program; a time is that of the harder one, which includes
the other. Last, proofs by joint bounds, optimised lines, cases of ReLUs and input splitting: how many of those that the
search reaches by itself carry a certificate that the checker proves, stage by stage (`checker_pairs`).

Targets: 99 % of proofs survive; time at most 1.0 of CROWN's (aim .3) and .05 of alpha-CROWN's; certificates of at most
250 bytes a region; 90 % of joint and case proofs are proved again. Processor time of one thread, smallest of three
runs (alpha-CROWN: one).
Run: python benchmarks/checker.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checker_pairs import SEMANTICS, Tally, ask_network, ask_pairs
from equivalence_pairs import Workshop
from surroundings import data_folder, describe, surroundings

from paoding_verify.bounds.hints import needed_slopes
from paoding_verify.bounds.lirpa import LirpaBounder
from paoding_verify.checker.prove import Proof, prove
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.codec import dumps
from paoding_verify.evidence.property import predicts
from paoding_verify.network.graph import Array, Network
from paoding_verify.network.load import load_network

ROOT = Path(__file__).resolve().parents[1]
RUNS = 3


class OwnSlopes(LirpaBounder):
    """alpha-CROWN as auto_LiRPA does it by default: slopes of its own for every unit."""

    def _set_iterations(self, iterations: int) -> None:
        super()._set_iterations(iterations)
        self._bounded.set_bound_opts({"optimize_bound_args": {"use_shared_alpha": False}})

    def _slopes(self, count: int) -> tuple[dict[Any, Any], ...]:
        return ({},) * count


def timed(work: Callable[[], Any], runs: int = RUNS) -> tuple[Any, float]:
    """What it returns, and the least processor time that it took."""
    best = np.inf
    for _ in range(runs):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return result, best


def cases(quick: bool) -> list[tuple[str, Network, Array, Array, tuple[float, ...]]]:
    """Name, network, inputs (N, *input_shape), labels and radii."""
    count = 6 if quick else 100
    digits = load_network(str(ROOT / "examples" / "digits" / "digits_conv.onnx"))
    data = np.load(ROOT / "examples" / "digits" / "anchors.npz")
    found = [("digits_conv", digits, data["x"][:count], data["y"][:count], (0.02, 0.05))]
    folder = Path(os.environ.get("PAODING_VERIFY_DATA", "missing"))
    model = folder / "models_gpl3" / "mnist-net_256x2.onnx"
    if model.is_file():
        mnist = np.load(folder / "data" / "mnist_test.npz")
        x = mnist["x"][:count].astype(np.float32) / np.float32(255)
        found.append(("256x2", load_network(str(model)), x, mnist["y"][:count], (0.01, 0.02)))
    return [(name, f, np.asarray(x, np.float32).reshape(-1, *f.input_shape), y, eps) for name, f, x, y, eps in found]


def measure(name: str, network: Network, x: Array, y: Array, eps: float) -> list[dict[str, Any]]:
    """Two rows of the table: CROWN and alpha-CROWN."""
    box = np.clip(x.astype(float) - eps, 0, 1), np.clip(x.astype(float) + eps, 0, 1)
    props = [predicts(int(label), network.num_outputs) for label in y]
    rows, offsets = np.stack([p.rows for p in props]), np.stack([p.offsets for p in props])
    bounder, own = LirpaBounder(network), OwnSlopes(network)
    bounder.lower_bounds(*box, rows[:, :1], offsets[:, :1])  # what is made once is not part of anybody's time

    def search(engine: LirpaBounder, method: str) -> Any:
        return engine.lower_bounds(*box, rows, offsets, method=method)

    def check(certificates: Sequence[Certificate], semantics: str) -> list[Proof]:
        return prove([network], *box, props, certificates, semantics=semantics)

    crown, crown_s = timed(lambda: search(bounder, "crown"))
    alpha, alpha_s = timed(lambda: search(own, "alpha-crown"), 1)
    shared, shared_s = timed(lambda: search(bounder, "alpha-crown"), 1)
    hints = [Certificate("crown", s) for s in needed_slopes(network, box, rows, offsets, shared.slopes)]
    found = []
    for method, bounds, certificates, search_s in (
        ("crown", crown, [Certificate("crown")] * len(x), crown_s),
        ("alpha-crown", alpha, hints, min(alpha_s, shared_s)),
    ):
        proofs, times = zip(*(timed(partial(check, certificates, s)) for s in SEMANTICS), strict=True)
        claimed = bounds.lower.min(axis=1) > 0
        sizes = [len(dumps({f"r{k:04}": c}, indent=None)) for k, c in enumerate(certificates) if claimed[k]]
        survived = {
            s: sum(p.proved for k, p in enumerate(ps) if claimed[k]) for s, ps in zip(SEMANTICS, proofs, strict=True)
        }
        found.append(
            {
                "network": name, "eps": eps, "method": method, "regions": len(x), "proved": int(claimed.sum()),
                "survived": survived, "search_s": search_s, "check_s": times[1], "ratio": times[1] / search_s,
                "shared_s": shared_s, "bytes_mean": float(np.mean(sizes)), "bytes_max": max(sizes),
            }
        )  # fmt: skip
    return found


def print_stages(tally: Tally) -> None:
    """The table of proofs by joint bounds and by cases."""
    print(f"\n{'subject':20} {'proved by the search':20} {'claims':>6} {'real':>5} {'float32':>7}  in rationals")
    for row in tally.rows:
        proved, tried = row["proved"], len(row["exact_s"])
        exact = f"{tried - len(row['not_exact'])} of {tried}, at most {max(row['exact_s']):.2f} s"
        print(
            f"{row['subject']:20} {row['stage']:20} {row['found']:6} {proved['real']:5} {proved['float32']:7}  {exact}"
        )
        for reason in row["not_exact"]:
            print(f"    not in rationals: {reason}")
    for subject, count in tally.open.items():
        print(f"{subject}: {count} claims that no search proved")
    for semantics, share in tally.shares.items():
        print(f"{100 * share:.1f} % of these proofs are made again in {semantics}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few regions, for a first look")
    parser.add_argument(
        "--cache", type=Path, default=ROOT / "benchmarks" / ".cache", help="networks that are made once"
    )
    parser.add_argument("--json", type=Path, help="write all figures")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    where = surroundings()
    print(describe(where))
    table = []
    for name, network, x, y, radii in cases(args.quick):
        for eps in radii:
            for row in measure(name, network, x, y, eps):
                table.append(row)
                kept = " ".join(f"{s} {n}/{row['proved']}" for s, n in row["survived"].items())
                print(
                    f"{name:12} eps {eps:<5} {row['method']:12} survive: {kept}; search {row['search_s']:.2f} s, check "
                    f"{row['check_s']:.3f} s, ratio {row['ratio']:.3f}; {row['bytes_mean']:.0f} bytes a region, "
                    f"at most {row['bytes_max']}"
                )
    few = 3 if args.quick else 12
    tally = Tally()
    ask_pairs(tally, Workshop(data_folder(), args.cache), quick=args.quick)
    for name, network, x, y, radii in cases(args.quick):
        ask_network(tally, name, network, x[:few], y[:few], 1.5 * radii[1])
    print_stages(tally)
    if args.json:
        stages = {"stages": tally.rows, "open": tally.open, "proved_again": tally.shares}
        args.json.write_text(json.dumps({**where, "table": table, **stages}, indent=2) + "\n")


if __name__ == "__main__":
    main()
