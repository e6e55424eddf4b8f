"""How much accuracy a tenth of the parameters keeps: lowest-weight-magnitude pruning, then fine-tuning.

A small convolutional network is trained with the certified objective (CROWN-IBP, eps 0.1) on the first 10,000 training
images of MNIST until more epochs bring no more, pruned to 10x parameter compression, and fine-tuned with the same
objective; beside it, the same pruned network fine-tuned on natural images. Printed: natural, empirical robust and
certified accuracy on test images that played no part in the development of this script, and their ratios to the network
before pruning: means over seeds, which draw the first weights and the batches.

Source: arXiv 1906.06110. Target of the ratios: 0.93 natural, 0.925 empirical robust, 0.85 certified.
Run: python benchmarks/finetune.py [--quick] [--seeds N] [--json FILE] (data under PAODING_VERIFY_DATA; minutes a seed)
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from surroundings import describe, surroundings

from paoding_verify.data import Dataset, draw_samples, read_dataset
from paoding_verify.evidence.pruning import StageMetrics
from paoding_verify.network.graph import Conv2d, Dense, Network, Node, Op, Relu, Reshape
from paoding_verify.pruning.finetune import finetune
from paoding_verify.pruning.measuring import measure
from paoding_verify.pruning.objectives import Recipe
from paoding_verify.pruning.prune import prune
from paoding_verify.pruning.unstructured import kept_weights, zero_share

EPS, DOMAIN, SHAPE = 0.1, (0.0, 1.0), (1, 28, 28)
COMPRESSION = 10
MEASURED, DEVELOPMENT = slice(9200, 10_000), slice(9000, 9200)
"""Test images of the full and of the quick run; those before serve tests elsewhere in the project."""
TUNED = "lwm, certified fine-tuning"
TARGETS = {"natural": 0.93, "empirical robust": 0.925, "certified": 0.85}


def untrained(channels: tuple[int, int], hidden: int, seed: int) -> Network:
    """Two strided convolutions and a dense head, He-initialised."""
    rng = np.random.default_rng(seed)
    first, second = channels
    layout = {"stride": (2, 2), "padding": (1, 1, 1, 1)}

    def normal(*shape: int) -> np.ndarray:
        values = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        return values.astype(np.float32).astype(np.float64)

    ops: list[Op] = [
        Conv2d(normal(first, 1, 4, 4), np.zeros(first), **layout), Relu(),
        Conv2d(normal(second, first, 4, 4), np.zeros(second), **layout), Relu(),
        Reshape((second * 49,)),
        Dense(normal(hidden, second * 49), np.zeros(hidden)), Relu(),
        Dense(normal(10, hidden), np.zeros(10)),
    ]  # fmt: skip
    return Network(SHAPE, tuple(Node(op, (k,), f"node{k}") for k, op in enumerate(ops)), "mnist-crown-ibp")


def test_images(path: Path, quick: bool) -> Dataset:
    """The images that are measured."""
    whole = read_dataset(path, input_shape=SHAPE)
    rows = DEVELOPMENT if quick else MEASURED
    return Dataset(whole.x[rows], None if whole.y is None else whole.y[rows], path.name)


def run(folder: Path, quick: bool, seed: int) -> list[tuple[StageMetrics, float]]:
    """The figures of every stage, and the share of its weights that are zero."""
    training = read_dataset(folder / "mnist_train10k.npz", input_shape=SHAPE)
    network = untrained((4, 8), 32, seed) if quick else untrained((8, 16), 32, seed)
    epochs, more = (8, 4) if quick else (40, 12)
    batch = 32 if quick else 128
    if quick:
        training = draw_samples(training, 4000, seed)
    fresh = test_images(folder / "mnist_test.npz", quick)
    rows = []

    def note(network: Network, stage: str) -> Network:
        figures = measure(network, fresh, stage=stage, eps=EPS, domain=DOMAIN, method="crown-ibp", seed=seed)
        rows.append((figures, zero_share(network)))
        return network

    options = {"eps": EPS, "domain": DOMAIN, "seed": seed}
    trained = finetune(
        network, training, objective="certified", epochs=epochs, recipe=Recipe(batch, ramp=0.35), **options
    ).network
    note(trained, "original")
    pruned = note(prune(trained, target_sparsity=1 - 1 / COMPRESSION, method="lwm").network, "lwm")
    masks = kept_weights(pruned)
    for objective in ("certified", "natural"):
        tuned = finetune(
            pruned, training, objective=objective, epochs=more, masks=masks, recipe=Recipe(batch, ramp=0.2), **options
        )
        note(tuned.network, f"lwm, {objective} fine-tuning")
    return rows


def figures(metrics: StageMetrics) -> dict[str, float]:
    """The three accuracies by name."""
    values = (metrics.natural_accuracy, metrics.empirical_robust_accuracy, metrics.certified_accuracy)
    return dict(zip(TARGETS, values, strict=True))


def main() -> None:
    """Prints the table, and whether the targets are met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller network, fewer rows and epochs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    args = parser.parse_args()
    default = Path(__file__).resolve().parents[1] / "../shared/data"
    folder = Path(os.environ.get("PAODING_VERIFY_DATA", default)) / "data"
    if not folder.is_dir():
        print(f"skipped: MNIST is not at {folder}; set PAODING_VERIFY_DATA")
        return
    torch.set_num_threads(1)
    where, start = surroundings(), time.perf_counter()
    print(describe(where))
    runs = []
    for seed in range(1 if args.quick else args.seeds):
        runs.append(run(folder, args.quick, seed))
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    ratios = table(runs)
    for name, target in TARGETS.items():
        print(
            f"{name}: {ratios[name]:.3f} preserved, target {target}: {'met' if ratios[name] >= target else 'NOT MET'}"
        )
    print(
        f"{runs[0][0][0].num_inputs} test images, seeds 0 to {len(runs) - 1}, eps {EPS:g}, certified by CROWN-IBP "
        f"(auto_LiRPA, not re-proved), {time.perf_counter() - start:.0f} s"
    )
    if args.json:
        stages = [[{**asdict(metrics), "zero_share": zeros} for metrics, zeros in rows] for rows in runs]
        args.json.write_text(json.dumps({**where, "runs": stages}, indent=2) + "\n")


def table(runs: list[list[tuple[StageMetrics, float]]]) -> dict[str, float]:
    """Prints means over seeds [smallest, largest]; the ratios of the certified fine-tuning by name."""
    print(f"{'stage':<30}{'zeros':>8}" + "".join(f"{name + ', ratio to original':>40}" for name in TARGETS))
    found: dict[str, float] = {}
    for stage in zip(*runs, strict=True):
        cells = []
        for name in TARGETS:
            values = [figures(metrics)[name] for metrics, _ in stage]
            kept = [v / max(figures(rows[0][0])[name], 1e-9) for v, rows in zip(values, runs, strict=True)]
            cells.append(f"{np.mean(values):.3f}, {np.mean(kept):.3f} [{min(kept):.3f}, {max(kept):.3f}]")
            if stage[0][0].stage == TUNED:
                found[name] = float(np.mean(kept))
        print(f"{stage[0][0].stage:<30}{np.mean([z for _, z in stage]):>8.1%}" + "".join(f"{c:>40}" for c in cells))
    return found


if __name__ == "__main__":
    main()
