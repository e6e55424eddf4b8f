"""Trains the two small digit classifiers of this folder and writes them next to itself.

Data: the 8 x 8 digits that ship with scikit-learn (1,797 pictures, grey values 0 to 16, here scaled to [0, 1]). Two
thirds train the networks; `anchors.npz` holds rows of the rest, which no network has seen.

Run: python examples/digits/train.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

SEED = 0
EPOCHS = 120
NUM_ANCHORS = 400
HERE = Path(__file__).resolve().parent


def dense() -> nn.Module:
    """64-32-32-10, ReLU."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))


def convolutional() -> nn.Module:
    """Two strided convolutions and a dense head, ReLU."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator) -> None:
    """Cross-entropy on pictures with a little noise, Adam, mini-batches of 64."""
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=generator).split(64):
            noise = 0.1 * (2 * torch.rand(x[rows].shape, generator=generator) - 1)
            loss = nn.functional.cross_entropy(model((x[rows] + noise).clamp(0, 1)), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()


def export(model: nn.Module, path: Path) -> None:
    """Writes an ONNX file with a symbolic batch axis."""
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    program = torch.onnx.export(
        model.eval(), (torch.zeros(2, 1, 8, 8),), dynamo=True, opset_version=18, external_data=False,
        input_names=["input"], output_names=["output"], dynamic_shapes=({0: batch},), verbose=False,
    )  # fmt: skip
    file = program.model_proto
    for item in (file, file.graph, *file.graph.node, *file.graph.input, *file.graph.output, *file.graph.value_info):
        del item.metadata_props[:]  # the exporter's stack traces hold paths of the machine that ran it
        item.doc_string = ""
    path.write_bytes(file.SerializeToString(deterministic=True))


def main() -> None:
    """Trains, exports, reports accuracy on the held-out rows."""
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    x, x_test, y, y_test = train_test_split(
        images, digits.target.astype(np.int64), test_size=1 / 3, random_state=SEED, stratify=digits.target
    )
    for name, build in {"digits_dense": dense, "digits_conv": convolutional}.items():
        torch.manual_seed(SEED)
        model = build()
        train(model, torch.from_numpy(x), torch.from_numpy(y), torch.Generator().manual_seed(SEED))
        export(model, HERE / f"{name}.onnx")
        found = model(torch.from_numpy(x_test)).argmax(1).numpy()
        print(f"{name}: natural accuracy {np.mean(found == y_test):.3f} on {len(y_test)} held-out pictures")
    np.savez_compressed(HERE / "anchors.npz", x=x_test[:NUM_ANCHORS], y=y_test[:NUM_ANCHORS])


if __name__ == "__main__":
    main()
