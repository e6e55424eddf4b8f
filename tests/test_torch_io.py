"""Modules: the network computes what torch computes, or says which operation it cannot."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from paoding_verify.errors import ModelError, UnsupportedOpError
from paoding_verify.network.evaluate import evaluate
from paoding_verify.network.graph import Affine, Conv2d, Network, Shape
from paoding_verify.network.torch_io import from_module, load_state_dict
from tests.zoo import FACTORIES


class Function(nn.Module):
    """A module of one expression, with parameters named w0, w1, ..."""

    def __init__(self, function: Callable[..., torch.Tensor], *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        generator = torch.Generator().manual_seed(1)
        self.count = len(shapes)
        for k, shape in enumerate(shapes):
            self.register_parameter(f"w{k}", nn.Parameter(torch.randn(shape, generator=generator)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, *(getattr(self, f"w{k}") for k in range(self.count)))


class Block(nn.Module):
    """A residual block with batch normalisation and operations in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding="same", bias=False)
        self.norm, self.relu = nn.BatchNorm2d(2), nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.norm(self.conv(x)))
        y += x
        return self.relu(y)


def settled(module: nn.Module) -> nn.Module:
    """The module with batch statistics that are not the initial ones, in evaluation mode."""
    generator = torch.Generator().manual_seed(2)
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.copy_(torch.randn(part.num_features, generator=generator))
            part.running_var.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
            nn.init.normal_(part.weight, generator=generator)
    return module.eval()


def convolutional() -> nn.Module:
    return settled(
        nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2, 1),
            nn.Conv2d(4, 4, 2, groups=2, dilation=1), nn.Sigmoid(), nn.AvgPool2d(2, 1, 1, count_include_pad=False),
            nn.Flatten(), nn.Linear(36, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.LeakyReLU(0.1), nn.Linear(6, 3),
        )
    )  # fmt: skip


def residual() -> nn.Module:
    return settled(nn.Sequential(Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3), nn.Tanh()))


def assert_equal(network: Network, module: nn.Module, shape: Shape) -> None:
    x = torch.randn((7, *shape), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        expected = module.double()(x).numpy()
    module.float()
    np.testing.assert_allclose(evaluate(network, x.numpy()), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("make", [convolutional, residual])
def test_networks_of_layers(make: Callable[[], nn.Module]) -> None:
    module = make()
    network = from_module(module, (2, 8, 8), name="net")
    assert (network.name, network.input_shape, network.source) == ("net", (2, 8, 8), None)
    assert_equal(network, module, (2, 8, 8))


def test_batch_normalisation_is_folded_with_its_rounding() -> None:
    network = from_module(convolutional(), (2, 8, 8))
    assert not any(isinstance(node.op, Affine) for node in network.nodes)
    first = network.nodes[0].op
    assert isinstance(first, Conv2d)
    assert first.roundings >= 8
    assert first.bias_magnitude is not None
    assert (first.bias_magnitude >= np.abs(first.bias)).all()


EXPRESSIONS: list[tuple[Callable[..., torch.Tensor], Shape, tuple[tuple[int, ...], ...]]] = [
    (lambda x: F.relu(x).clamp_min(0).clamp(min=0), (3,), ()),
    (lambda x, w: x @ w.t() + 1, (3,), ((4, 3),)),
    (torch.mm, (3,), ((3, 4),)),
    (lambda x, w, b: torch.addmm(b, x, w), (3,), ((3, 4), (4,))),
    (lambda x, w: F.linear(x, w).squeeze(1), (1, 3), ((4, 3),)),
    (lambda x: (x - 0.1307) / 0.3081, (3,), ()),
    (lambda x, w: (2 - x) * w - w, (3,), ((3,),)),
    (lambda x, w: 0.25 * (w - x) / w, (3,), ((1, 3),)),
    (lambda x: -torch.sub(x, x.relu(), alpha=2), (3,), ()),
    (lambda x, w: (x + (w / 3 + w * w - 1)).flatten(1), (2, 2, 2), ((2, 1, 1),)),
    (lambda x: x.view(-1, 6).reshape(x.shape[0], 3, 2).flatten(1), (2, 3), ()),
    (lambda x: x.view(x.size(0), 3, -1).transpose(1, 2).permute(0, 2, 1).reshape(-1, 6), (2, 3), ()),
    (lambda x: x.unsqueeze(1).squeeze(1).unflatten(1, (3, -1)).flatten(-2), (6,), ()),
    (lambda x: x.mean((2, 3)) + x.mean((-1, -2), keepdim=True).flatten(1), (2, 4, 4), ()),
    (lambda x: F.adaptive_avg_pool2d(x, (2, 4)).flatten(1), (1, 4, 4), ()),
    (lambda x: F.avg_pool2d(x, (2, 1), stride=(2, 3), ceil_mode=True).flatten(1), (1, 4, 4), ()),
    (lambda x: F.max_pool2d(x, 3, 2, 1).flatten(1), (1, 5, 5), ()),
    (lambda x, w: F.conv2d(x, w, padding="same").flatten(1), (1, 4, 4), ((1, 1, 2, 2),)),
    (lambda x: torch.flatten(x.clone().detach().contiguous().to(torch.float32), 1), (2, 2), ()),
    (lambda x: x.relu_() + 1, (3,), ()),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("index", range(len(EXPRESSIONS)))
def test_expressions(index: int) -> None:
    function, shape, parameters = EXPRESSIONS[index]
    module = Function(lambda x, *w: function(x.clone(), *w), *parameters)
    assert_equal(from_module(module, shape), module, shape)


COLUMN, MATRIX, DOUBLE = torch.arange(5.0)[:, None], torch.ones(2, 4), torch.ones(3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("function", "shape", "message"),
    [
        (torch.exp, (3,), r"node 'exp' \(aten\.exp\.default\): the operation is not supported"),
        (F.hardtanh, (3,), "hardtanh"),
        (F.gelu, (3,), "gelu"),
        (lambda x: x * x, (3,), "'mul'.*computed from the input"),
        (lambda x: 1 / x, (3,), "not supported"),
        (lambda x: x.clamp(0, 6), (3,), "clamping from below"),
        (lambda x: x.clamp(min=-1), (3,), "clamping from below"),
        (lambda x: torch.cat([x, x], 1), (3,), "aten.cat.default"),
        (lambda x: x.sum(0, keepdim=True), (3,), "sum"),
        (lambda x: x.reshape(1, -1), (3,), "mixes the inputs"),
        (lambda x: x.view(3, 5), (3,), "mixes the inputs"),
        (lambda x: x.t(), (3,), "aten.t.default"),
        (lambda x: x.transpose(0, 1), (3,), "axis 0, which is the batch"),
        (lambda x: x.flatten(), (3,), "axis 0, which is the batch"),
        (lambda x: x + COLUMN, (3,), "does not act on every input alike"),
        (lambda x: x + DOUBLE, (3,), "float64"),
        (lambda x: F.softmax(x, 1), (3,), "softmax"),
        (lambda x: F.leaky_relu(x, 1.5), (3,), r"slope 1.5 is outside \[0, 1\]"),
        (lambda x: F.adaptive_avg_pool2d(x, 3), (1, 4, 4), "does not divide evenly"),
        (lambda x: F.max_pool2d(x, 2, dilation=2), (1, 4, 4), "dilation"),
        (lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True), (1, 4, 4), "ceil_mode"),
        (lambda x: F.dropout(x, 0.5, True), (3,), "training mode"),
        (lambda x: F.batch_norm(x, None, None, training=True), (3,), "training mode"),
        (lambda x: x.double(), (3,), "float64"),
        (lambda x: F.linear(x, MATRIX), (3, 4), "flatten it before"),
        (lambda x: x.relu() if x.sum() > 0 else x, (3,), "cannot be traced"),
        (lambda x: (x, x), (3,), "one input, one output"),
        (lambda x: x.unsqueeze(1), (3,), "output has shape"),
        (lambda x: COLUMN * 1, (3,), "not computed from its input"),
        (lambda x: x.reshape(-1, 2), (3,), "mixes the inputs|cannot be traced"),
        (lambda x: x / 0, (3,), "divides by zero"),
        (lambda x: x * math.inf, (3,), "not finite"),
    ],
)
def test_other_operations_are_refused(function: Callable[..., torch.Tensor], shape: Shape, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        from_module(Function(function), shape)


def test_values_changed_in_place_are_not_read_by_their_old_name() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        z = y.view(-1, 3)
        z.relu_()
        return y + z

    with pytest.raises(UnsupportedOpError, match="changed in place"):
        from_module(Function(function), (3,))


def test_wrong_types_and_modes() -> None:
    with pytest.raises(ModelError, match=r"float32|traced"):
        from_module(nn.Linear(3, 2).double(), (3,))
    with pytest.raises(ModelError, match="cannot be traced with inputs of shape"):
        from_module(nn.Linear(3, 2), (4,))
    module = nn.Sequential(nn.Linear(3, 2), nn.Dropout()).train()
    from_module(module, (3,))
    assert module[1].training
    assert module[0].weight.requires_grad


def test_a_network_that_differs_from_its_module_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from paoding_verify.network import aten_ops

    monkeypatch.setitem(aten_ops.HANDLERS, "aten.sigmoid.default", aten_ops.HANDLERS["aten.tanh.default"])
    with pytest.raises(ModelError, match="differs from it by"):
        from_module(nn.Sequential(nn.Linear(3, 2), nn.Sigmoid()), (3,))


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "data", "count", "accuracy"),
    [
        ("mnist_6_100_nat.pth", "mnist_test.npz", 500, 0.9629),
        ("mnist_2_20.pth", "mnist_test.npz", 500, 0.8839),
        ("mnist_conv_small_nat.pth", "mnist_test.npz", 500, 0.9825),
        ("cifar_marabou_small.pth", "cifar10_first100.npz", 100, 0.63),
    ],
)
def test_published_weights(data_dir: Path, name: str, data: str, count: int, accuracy: float) -> None:
    from paoding_verify.data import draw_samples, read_dataset

    shape = (3, 32, 32) if data.startswith("cifar") else (1, 28, 28)
    network = from_module(load_state_dict(data_dir / "models" / name, FACTORIES[name]), shape)
    dataset = draw_samples(read_dataset(data_dir / "data" / data, input_shape=shape), count, seed=0)
    found = float(np.mean(network.forward(dataset.x).argmax(axis=1) == dataset.y))
    assert abs(found - accuracy) < 3 * math.sqrt(accuracy * (1 - accuracy) / count)
