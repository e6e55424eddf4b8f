"""What a property is worth at one point, in exact rational arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import UnsupportedOpError
from paoding_verify.evidence.property import Property
from paoding_verify.evidence.property import exact_margin as margin_of
from paoding_verify.network.evaluate import evaluate_op
from paoding_verify.network.graph import (
    Add,
    Affine,
    Array,
    AveragePool2d,
    Conv2d,
    Dense,
    LeakyRelu,
    MaxPool2d,
    Network,
    Op,
    Permute,
    Relu,
    Reshape,
)
from paoding_verify.network.linear import product

__all__ = ["exact_margin", "exact_outputs"]


def exact_margin(networks: Sequence[Network], prop: Property, x: npt.NDArray[np.float64]) -> Fraction:
    """The property's margin at a point, in exact arithmetic of the stored parameters. Shape: x (*input_shape).

    Raises: UnsupportedOpError for sigmoid and tanh.
    """
    return margin_of(prop, exact_outputs(networks, x))


def exact_outputs(networks: Sequence[Network], x: npt.NDArray[np.float64]) -> list[Fraction]:
    """The networks' outputs at a point, one after the other, in exact arithmetic. Shape: x (*input_shape).

    Raises: UnsupportedOpError for sigmoid and tanh.
    """
    outputs: list[Fraction] = []
    for network in networks:
        values = [_fractions(x)[None]]
        for node in network.nodes:
            values.append(_exact_op(node.op, [values[i] for i in node.inputs], node.name))
        outputs.extend(values[-1][0])
    return outputs


def _fractions(array: Array) -> npt.NDArray[Any]:
    return np.asarray(np.frompyfunc(Fraction, 1, 1)(array), dtype=object).reshape(array.shape)


def _exact_op(op: Op, inputs: list[npt.NDArray[Any]], name: str) -> npt.NDArray[Any]:
    if isinstance(op, (Dense, Conv2d)):
        op = replace(op, weight=_fractions(op.weight), bias=_fractions(op.bias))
    elif isinstance(op, Affine):
        op = replace(op, scale=_fractions(op.scale), shift=_fractions(op.shift))
    elif isinstance(op, LeakyRelu):
        return np.asarray(np.maximum(inputs[0], inputs[0] * Fraction(op.slope)))
    elif isinstance(op, AveragePool2d):
        return _exact_pool(op, inputs[0])
    elif not isinstance(op, (Relu, Add, Reshape, Permute, MaxPool2d)):
        raise UnsupportedOpError(f"node {name!r}: {type(op).__name__} has no exact value")
    return np.asarray(evaluate_op(op, *inputs))


def _exact_pool(op: AveragePool2d, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sums by a convolution with ones, divided by whole numbers of cells."""
    channels = x.shape[1]
    ones = _fractions(np.ones((channels, 1, *op.kernel)))
    sums = Conv2d(ones, _fractions(np.zeros(channels)), op.stride, op.padding, groups=channels)
    cells = replace(sums, weight=ones[:1], bias=sums.bias[:1], groups=1)
    counts = product(cells, _fractions(np.ones((1, 1, *x.shape[2:]))))
    whole = Fraction(op.kernel[0] * op.kernel[1])
    return np.asarray(product(sums, x) / (whole if op.count_include_pad else counts))
