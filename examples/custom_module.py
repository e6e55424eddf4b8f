"""Audits a network that you wrote yourself in torch: prune it, prove what holds, write the report.

Run: python examples/custom_module.py OUTPUT_FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

import paoding_verify as pv


class Classifier(nn.Module):
    """Three classes of points in the unit cube of four dimensions; a residual block in the middle."""

    def __init__(self) -> None:
        """Makes the layers."""
        super().__init__()
        self.stem = nn.Linear(4, 24)
        self.block = nn.Linear(24, 24)
        self.head = nn.Linear(24, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shapes: (N, 4) -> (N, 3)."""
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.block(x))
        return self.head(x)


def train(seed: int) -> tuple[Classifier, np.ndarray, np.ndarray]:
    """A network that tells which of three corners of the unit cube is nearest, and points to audit it with."""
    torch.manual_seed(seed)
    corners = torch.tensor([[0.2, 0.2, 0.8, 0.8], [0.8, 0.2, 0.2, 0.8], [0.2, 0.8, 0.8, 0.2]])
    x = torch.rand(1500, 4)
    y = torch.cdist(x, corners).argmin(1)
    model = Classifier()
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(300):
        loss = nn.functional.cross_entropy(model(x[:1000]), y[:1000])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval(), x[1000:].numpy(), y[1000:].numpy()


def main(folder: Path) -> int:
    """Writes the bundle and prints where the report is."""
    module, x, y = train(seed=0)
    original = pv.load_network(module, input_shape=(4,))
    pruned = pv.prune(original, target_sparsity=0.3, seed=0, domain=(0, 1))
    regions = pv.linf_regions(pv.Dataset(x, y, "held-out points"), eps=0.01, domain=(0, 1), samples=10, seed=0)
    result = pv.audit(original, pruned.network, regions, trace=pruned.trace)
    pv.write(result, folder)
    print(f"{result.verdict}: {folder / 'report.html'}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/custom_module.py OUTPUT_FOLDER")
    sys.exit(main(Path(sys.argv[1])))
