"""Architectures of the published weights that the real-data tests read; made without arguments."""

from __future__ import annotations

import itertools

import torch
from torch import nn

__all__ = ["FACTORIES", "Normalised", "cifar_marabou_small", "mnist_2_20", "mnist_6_100", "mnist_conv_small"]


class Normalised(nn.Module):
    """(x - mean) / std in front of a body whose parameters keep their own names."""

    def __init__(self, mean: float, std: float, body: nn.Sequential) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        for name, layer in body.named_children():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x - self.mean) / self.std
        for layer in self.children():
            x = layer(x)
        return x


def _dense(*sizes: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return layers[:-1]


def mnist_6_100() -> nn.Module:
    """Pixels / 255, shape (1, 28, 28)."""
    return nn.Sequential(nn.Flatten(), *_dense(784, 100, 100, 100, 100, 100, 10))


def mnist_2_20() -> nn.Module:
    """Pixels / 255, shape (1, 28, 28)."""
    return nn.Sequential(nn.Flatten(), *_dense(784, 20, 10))


def mnist_conv_small() -> nn.Module:
    """Pixels / 255, shape (1, 28, 28); the normalisation is part of the module."""
    convolutions = [nn.Conv2d(1, 16, 4, 2), nn.ReLU(), nn.Conv2d(16, 32, 4, 2), nn.ReLU()]
    return Normalised(0.1307, 0.3081, nn.Sequential(*convolutions, nn.Flatten(), *_dense(800, 100, 10)))


def cifar_marabou_small() -> nn.Module:
    """Pixels / 255, shape (3, 32, 32)."""
    convolutions = [nn.Conv2d(3, 8, 4, 2), nn.ReLU(), nn.Conv2d(8, 16, 4, 2), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.Flatten(), *_dense(576, 128, 64, 10))


FACTORIES = {
    "mnist_6_100_nat.pth": mnist_6_100,
    "mnist_2_20.pth": mnist_2_20,
    "mnist_conv_small_nat.pth": mnist_conv_small,
    "cifar_marabou_small.pth": cifar_marabou_small,
}
"""File name to factory."""
