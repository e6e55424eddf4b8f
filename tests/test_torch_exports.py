"""Files of both torch exporters, with open and fixed batches, against onnxruntime."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from paoding_verify.network.load import load_network

pytest.importorskip("onnxscript", reason="torch's dynamo exporter needs onnxscript")


class Residual(nn.Module):
    """A convolutional block with batch normalisation around a shortcut, then a classifier on pooled features."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(self.block(x) + x)
        return self.head(x.mean(dim=(2, 3)))


class Viewed(nn.Module):
    """A dense network that flattens by the size of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(72, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x - 0.5) / 0.25
        return self.second(torch.tanh(self.first(x.view(x.size(0), -1))))


def pooled() -> nn.Module:
    return nn.Sequential(
        nn.ZeroPad2d((1, 0, 1, 0)), nn.Conv2d(2, 4, 2, groups=2), nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.Dropout(0.5),
        nn.Conv2d(4, 4, 1), nn.Sigmoid(), nn.AvgPool2d(2, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3),
    )  # fmt: skip


MODULES = {"residual": Residual, "viewed": Viewed, "pooled": pooled}


def export(module: nn.Module, path: Path, *, dynamo: bool, open_batch: bool) -> None:
    example = torch.zeros(2 if open_batch else 1, 2, 6, 6)
    options: dict[str, object] = {}
    if open_batch and dynamo:
        options["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
    elif open_batch:
        options["dynamic_axes"] = {"x": {0: "batch"}, "y": {0: "batch"}}
    with warnings.catch_warnings(), io.StringIO() as quiet:
        warnings.simplefilter("ignore")  # the old exporter announces its end, the new one its progress
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdout", quiet)
            torch.onnx.export(module, (example,), path, input_names=["x"], output_names=["y"], dynamo=dynamo, **options)


def randomised(module: nn.Module) -> nn.Module:
    """The module in evaluation mode with normalisation statistics that are no identities."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
                if name.endswith("running_var"):
                    tensor.abs_().add_(0.1)
    return module.eval()


@pytest.mark.parametrize("open_batch", [True, False])
@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("name", MODULES)
def test_exports_compute_what_torch_does(tmp_path: Path, name: str, dynamo: bool, open_batch: bool) -> None:
    module = randomised(MODULES[name]())
    path = tmp_path / "model.onnx"
    export(module, path, dynamo=dynamo, open_batch=open_batch)
    network = load_network(path)
    x = np.random.default_rng(1).normal(size=(4, 2, 6, 6)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(network.forward(x), expected, atol=1e-5 * np.abs(expected).max())
    kinds = [type(item.op).__name__ for item in network.nodes]
    assert "Permute" not in kinds
    if name == "residual":
        assert "Affine" not in kinds  # batch normalisation is folded, by the exporter or here
