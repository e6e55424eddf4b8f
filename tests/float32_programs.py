"""What a deployed float32 program may compute: any order of summation, fused or not, linear steps merged or not."""

from __future__ import annotations

import numpy as np

from paoding_verify.network.evaluate import evaluate_op
from paoding_verify.network.graph import Add, AveragePool2d, Network, Op, is_linear
from paoding_verify.network.linear import product

__all__ = ["run", "short"]

Vector = np.ndarray


def run(network: Network, x: Vector, rng: np.random.Generator, bits: int = 24) -> Vector:
    """Outputs for one input (*input_shape) by one randomly chosen float32 program, operands and results rounded to so
    many bits.
    """
    values: list[Vector | None] = [short(x.reshape(-1), bits)]
    pending: dict[int, tuple[int, Vector, Vector]] = {}  # value -> (source, matrix, bias), to be merged into its reader
    for index, node in enumerate(network.nodes):
        shapes = [network.shapes[i] for i in node.inputs]
        readers = [n for n in network.nodes if index + 1 in n.inputs]
        if is_linear(node.op) and not isinstance(node.op, Add):
            source = node.inputs[0]
            matrix, bias = _matrix(node.op, shapes[0])
            if source in pending:
                source, first, shift = pending[source]
                bias = matrix @ shift + bias
                matrix = matrix @ first
            alone = len(readers) == 1 and is_linear(readers[0].op) and not isinstance(readers[0].op, Add)
            if alone and rng.random() < 0.5:
                pending[index + 1] = (source, matrix, bias)
                values.append(None)
            else:
                operands = (short(a, bits) for a in (matrix, bias, values[source]))
                values.append(short(_affine(*operands, rng), bits))
        else:
            inputs = [values[i].reshape(1, *shape) for i, shape in zip(node.inputs, shapes, strict=True)]  # type: ignore[union-attr]
            values.append(short(evaluate_op(node.op, *inputs).reshape(-1), bits))
    result = values[-1]
    assert result is not None
    return result


def short(x: Vector | None, bits: int) -> Vector:
    """Rounded to nearest, to so many significant bits."""
    assert x is not None
    mantissa, exponent = np.frexp(x.astype(np.float64))
    return np.ldexp(np.rint(mantissa * 2.0**bits) / 2.0**bits, exponent).astype(np.float32)


def _matrix(op: Op, shape: tuple[int, ...]) -> tuple[Vector, Vector]:
    size = int(np.prod(shape))
    bias = product(op, np.zeros((1, *shape))).reshape(-1)
    matrix = product(op, np.eye(size).reshape(size, *shape), bias=False).reshape(size, -1).T
    assert not isinstance(op, AveragePool2d) or (matrix >= 0).all()
    return matrix.astype(np.float32), bias.astype(np.float32)


def _affine(matrix: Vector, bias: Vector, x: Vector | None, rng: np.random.Generator) -> Vector:
    """Row by row, the non-zero terms and the bias in a random order, with or without fused multiply-add."""
    assert x is not None
    fused = rng.random() < 0.5
    result = np.zeros(len(bias), dtype=np.float32)
    for i, row in enumerate(matrix):
        terms = rng.permutation(np.append(np.flatnonzero(row), -1))
        total = np.float32(0)
        for j in terms:
            if j < 0:
                total = np.float32(total + bias[i])
            elif fused:
                total = np.float32(np.float64(total) + np.float64(row[j]) * np.float64(x[j]))
            else:
                total = np.float32(total + row[j] * x[j])
        result[i] = total
    return result
