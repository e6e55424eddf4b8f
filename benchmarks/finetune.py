"""How much accuracy a tenth of the parameters keeps: lowest-weight-magnitude pruning, then fine-tuning.

A small convolutional network is trained with the certified objective (CROWN-IBP, eps 0.1) on the first 10,000 training
images of MNIST, pruned to 10x parameter compression, and fine-tuned with the same objective; beside it, the same pruned
network fine-tuned on natural images. Printed: natural, empirical robust and certified accuracy on test images that
played no part in the development of this script, and their ratios to the network before pruning.

Source: arXiv 1906.06110. Target of the ratios: 0.93 natural, 0.925 empirical robust, 0.85 certified.
Run: python benchmarks/finetune.py [--quick] [--json FILE] (data under PAODING_VERIFY_DATA; some minutes)
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from paoding_verify.data import Dataset, draw_samples, read_dataset
from paoding_verify.evidence.pruning import StageMetrics
from paoding_verify.network.graph import Conv2d, Dense, Network, Node, Op, Relu, Reshape
from paoding_verify.pruning.finetune import finetune
from paoding_verify.pruning.measuring import measure
from paoding_verify.pruning.objectives import Recipe
from paoding_verify.pruning.prune import prune
from paoding_verify.pruning.unstructured import kept_weights, zero_share

EPS, DOMAIN, SHAPE, SEED = 0.1, (0.0, 1.0), (1, 28, 28), 0
COMPRESSION = 10
MEASURED, DEVELOPMENT = slice(9200, 10_000), slice(9000, 9200)
"""Test images of the full and of the quick run; those before serve tests elsewhere in the project."""
TARGETS = {"natural": 0.93, "empirical robust": 0.925, "certified": 0.85}


def untrained(channels: tuple[int, int], hidden: int) -> Network:
    """Two strided convolutions and a dense head, He-initialised."""
    rng = np.random.default_rng(SEED)
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


def run(folder: Path, quick: bool) -> list[tuple[StageMetrics, float]]:
    """The figures of every stage, and the share of its weights that are zero."""
    training = read_dataset(folder / "mnist_train10k.npz", input_shape=SHAPE)
    network = untrained((4, 8), 32) if quick else untrained((8, 16), 32)
    epochs, more = (8, 4) if quick else (14, 6)
    batch = 32 if quick else 128
    if quick:
        training = draw_samples(training, 4000, SEED)
    fresh = test_images(folder / "mnist_test.npz", quick)
    rows = []

    def note(network: Network, stage: str) -> Network:
        figures = measure(network, fresh, stage=stage, eps=EPS, domain=DOMAIN, method="crown-ibp", seed=SEED)
        rows.append((figures, zero_share(network)))
        return network

    options = {"eps": EPS, "domain": DOMAIN, "seed": SEED}
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
    parser.add_argument("--json", type=Path, help="also write the figures there")
    args = parser.parse_args()
    default = Path(__file__).resolve().parents[1] / "../shared/data"
    folder = Path(os.environ.get("PAODING_VERIFY_DATA", default)) / "data"
    if not folder.is_dir():
        print(f"skipped: MNIST is not at {folder}; set PAODING_VERIFY_DATA")
        return
    start = time.perf_counter()
    rows = run(folder, args.quick)
    before, tuned = figures(rows[0][0]), figures(rows[2][0])
    print(f"{'stage':<30}{'zeros':>8}" + "".join(f"{name:>25}" for name in TARGETS))
    for metrics, zeros in rows:
        cells = [f"{value:.3f} (ratio {value / max(before[k], 1e-9):.3f})" for k, value in figures(metrics).items()]
        print(f"{metrics.stage:<30}{zeros:>8.1%}" + "".join(f"{cell:>25}" for cell in cells))
    for name, target in TARGETS.items():
        ratio = tuned[name] / max(before[name], 1e-9)
        print(f"{name}: {ratio:.3f} preserved, target {target}: {'met' if ratio >= target else 'NOT MET'}")
    print(
        f"{rows[0][0].num_inputs} test images, eps {EPS:g}, certified by CROWN-IBP (auto_LiRPA, not re-proved), "
        f"{time.perf_counter() - start:.0f} s"
    )
    if args.json:
        args.json.write_text(json.dumps([{**asdict(m), "zero_share": z} for m, z in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
