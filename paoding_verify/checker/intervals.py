"""Rigorous interval propagation, and the error that every step of a program carries.

Arithmetics, each with all executions of those before it. `real`: v = op(inputs) + e exactly, where e is zero but for
folded parameters. `float32`: v is what a float32 program computes, in any order of summation, with or without fused
multiply-add, subnormal numbers kept or flushed to zero. `tf32`, `bfloat16`: any operand and any result may be rounded
to 11 or 8 significant bits as well, to nearest, while sums are kept in float32; one such rounding counts as 2^13 or
2^16 of those of float32, since gamma(k 2^p, u) = gamma(k, 2^p u). Operands and results are those of the operations in
the file, which may be more than those of the program (a product and the sum with its bias, a normalisation): see
`_coarse`. Not covered: convolutions by Winograd's method or by Fourier transforms, whose products are not those of the
network, sums kept in fewer bits, and constants of a file computed in fewer bits than float32. Written
v = op(inputs) + e for the computed inputs, |e| <= `error`:

- A chain of linear steps whose inner values nothing else reads may be merged by a compiler (batch normalisation or a
  scaling into the convolution before or after it), so the chain is treated as one polynomial: every path from its
  inputs contributes a product, and every product meets at most `roundings` roundings, the sum over the chain of row
  lengths plus those of its parameters. So the end of the chain is off by at most gamma(roundings, 2^-24) * `size`,
  `size` being the sum of all |products|: the chain of |weights| applied to the largest |inputs|. Inner values have
  error 0 and stand for the exact image of the chain's inputs. A value that several steps read, or that is an output,
  is computed once: it ends a chain.
- Underflow: each of the at most 8 * `paths` operations and operands behind one number may lose up to 2^-126 times the
  other factors; `floor` = 8 * 2^-126 * (1 + max |input|) * product of (2 row length (1 + max |parameter|)) covers it.
- Folded parameters (`roundings` > 0) speak of float32 programs below 2^64 only: beyond, nothing is proved.
- Overflow: if `size` or `floor` / 2^-126 reaches 2^120 the error is infinite, and nothing is proved.
- ReLU, LeakyReLU and max pooling are exact but for the multiplication by the slope and flushed subnormal numbers, and
  in `tf32` and `bfloat16` for one rounding of what they read (they rise with slope at most 1) and one of the result.
  Sigmoid and tanh are assumed to be within 2^-18 of the exact value (measured for onnxruntime on a grid: 2^-21.6).

`charge` is `error` plus all that the checker's own float64 arithmetic may lose for one unit of |coefficient| when
`crown.py` steps backward through this operation (see there).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from paoding_verify.checker.program import Program, Step
from paoding_verify.checker.relax import LIBM_ERROR, Lines, activation_lines, image, pool_lines
from paoding_verify.checker.rounding import U32, U64, centre_radius, downward, gamma, magnitude, up, upward  # fmt: skip
from paoding_verify.network.evaluate import pool_windows
from paoding_verify.network.folding import FLOAT32_RANGE
from paoding_verify.network.graph import (
    Add,
    Affine,
    Array,
    Conv2d,
    Dense,
    LeakyRelu,
    MaxPool2d,
    Op,
    Permute,
    Reshape,
    Sigmoid,
    Tanh,
)  # fmt: skip
from paoding_verify.network.linear import absolute, column_length, product, row_length

__all__ = ["ARITHMETICS", "Enclosure", "enclose_activation", "enclose_input", "enclose_linear", "hardest", "largest"]

SMALLEST32 = 2.0**-126
"""Below this a float32 program may flush to zero."""
LIMIT32 = 2.0**120
"""Far enough below the largest float32 for every partial sum."""
SMOOTH_ERROR32 = 2.0**-18
"""Absolute error allowed to float32 sigmoid and tanh."""
COARSE = {"float32": 0, "tf32": 1 << 13, "bfloat16": 1 << 16}
"""How many roundings of float32 are as large as one to the bits that an arithmetic may round to."""
ARITHMETICS = ("real", *COARSE)
"""A proof in one of them holds in all before it."""
SLACK = 8
"""Roundings granted on top of every count: parameters rounded to float32, divisors, roundings of the bounds."""


@dataclass(frozen=True, eq=False)
class Enclosure:
    """What is known of one value on every region. Arrays are (N, *shape), `floor` is (N,)."""

    lower: Array
    upper: Array
    error: Array
    """Bound of |e|, e as in the module text."""
    charge: Array
    """`error` plus the checker's own rounding, per unit of |coefficient|."""
    size: Array
    """Inside a chain of linear steps: sum of |products|; elsewhere max(|lower|, |upper|)."""
    roundings: int = 0
    """Of the longest product of the chain so far."""
    floor: Array | None = None
    """Underflow of the chain so far; None outside chains."""


def hardest(semantics: Sequence[str]) -> str:
    """The arithmetic among these in which a proof is a proof in all of them."""
    return max(semantics, key=ARITHMETICS.index)


def enclose_input(lower: Array, upper: Array) -> Enclosure:
    """The input box itself: no error."""
    zero = np.zeros_like(lower)
    return Enclosure(lower, upper, zero, zero, magnitude(lower, upper))


def enclose_linear(program: Program, index: int, inputs: Sequence[Enclosure], semantics: str) -> Enclosure:
    """Bounds of the value that a linear step computes."""
    step = program.steps[index]
    op = step.op
    size = _size(op, inputs)
    if isinstance(op, (Reshape, Permute)):
        count = 0
    else:
        count = row_length(op) + column_length(op) + int(np.prod(step.shape)) + SLACK
    folded = 2 * int(getattr(op, "roundings", 0))
    if semantics == "real":
        error, inner = gamma(folded, U64) * size, None
    else:
        if folded:
            size = _within_fold_range(size, inputs)
        error, inner = _chain_error(step, inputs, size, COARSE[semantics], ends=not program.passing(index + 1))
    charge = up(error + gamma(count + folded, U64) * size, 4)
    if isinstance(op, Add):
        lower, upper = inputs[0].lower + inputs[1].lower, inputs[0].upper + inputs[1].upper
        half = up(charge)
    else:
        centre, radius = centre_radius(inputs[0].lower, inputs[0].upper)
        lower = upper = product(op, centre)
        half = up(up(product(absolute(op), radius, bias=False), row_length(op) + 2) + charge)
    lower, upper = downward(lower - half), upward(upper + half)
    if inner is None:
        return Enclosure(lower, upper, error, charge, magnitude(lower, upper))
    return Enclosure(lower, upper, error, charge, size, *inner)


def largest(op: Op) -> float:
    """The largest magnitude among the parameters of a linear operation, at least 1."""
    arrays = [op.weight, op.bias] if isinstance(op, (Dense, Conv2d)) else []
    arrays = [op.scale, op.shift] if isinstance(op, Affine) else arrays
    magnitudes = [m for m in (getattr(op, "bias_magnitude", None),) if m is not None]
    return max([1.0, *(float(np.abs(a).max()) for a in (*arrays, *magnitudes))])


def _size(op: Op, inputs: Sequence[Enclosure]) -> Array:
    """An upper bound of |weight| . |input| + bias magnitude, element by element."""
    bases = [np.maximum(x.size, magnitude(x.lower, x.upper)) for x in inputs]
    if isinstance(op, Add):
        return up(bases[0] + bases[1])
    positive = absolute(op)
    if isinstance(positive, (Dense, Conv2d)) and isinstance(op, (Dense, Conv2d)):
        positive = replace(positive, bias=np.maximum(positive.bias, np.abs(op.bias)))
    elif isinstance(positive, Affine) and isinstance(op, Affine):
        positive = replace(positive, shift=np.maximum(positive.shift, np.abs(op.shift)))
    return up(product(positive, bases[0]), row_length(op) + 2)


def _within_fold_range(size: Array, inputs: Sequence[Enclosure]) -> Array:
    """Infinite where folded parameters say nothing of float32 programs; see `network.folding`. Shapes: (N, *shape)."""
    reach = [np.maximum(x.size, magnitude(x.lower, x.upper)).reshape(len(size), -1).max(axis=1) for x in inputs]
    far = np.max(reach, axis=0) >= FLOAT32_RANGE
    return np.where((size >= FLOAT32_RANGE) | far.reshape(-1, *(1 for _ in size.shape[1:])), np.inf, size)


def _chain_error(
    step: Step, inputs: Sequence[Enclosure], size: Array, coarse: int, *, ends: bool
) -> tuple[Array, tuple[int, Array] | None]:
    """Error of a float32 program at this step of a chain; its roundings and floor if it goes on. See the module."""
    op = step.op
    axes = tuple(range(1, size.ndim))
    roundings = max(x.roundings for x in inputs)
    if not isinstance(op, (Reshape, Permute)):
        roundings += row_length(op) + 2 * int(getattr(op, "roundings", 0)) + 3 + coarse * _coarse(op)
    floors = [
        8 * SMALLEST32 * (1 + x.size.max(axis=tuple(range(1, x.size.ndim)))) if x.floor is None else x.floor
        for x in inputs
    ]
    floor = up(np.sum(floors, axis=0) * (2.0 * row_length(op)) * (1 + largest(op)), 8)
    if not ends:
        return np.zeros_like(size), (roundings, floor)
    error = up(gamma(roundings, U32) * size + floor.reshape(-1, *(1 for _ in axes)), 4)
    harmless = (size.max(axis=axes) < LIMIT32) & (floor < LIMIT32 * SMALLEST32)
    return np.where(harmless.reshape(-1, *(1 for _ in axes)), error, np.inf), None


def _coarse(op: Op) -> int:
    """Roundings to fewer bits that one product of a linear step may meet.

    Both factors, the result of the product, that of the sum with a bias. What stands for a normalisation, a quotient or
    a fold counts its roundings (`network.folding`): at least one for every result and every parameter on the way.
    """
    return 4 + int(getattr(op, "roundings", 0))


def enclose_activation(op: Op, x: Enclosure, semantics: str) -> tuple[Enclosure, Lines]:
    """Bounds of the value that a nonlinear step computes, and lines below and above it."""
    if isinstance(op, MaxPool2d):
        lines = pool_lines(op, x.lower, x.upper)
        lower, upper = pool_windows(op, x.lower).max(axis=2), pool_windows(op, x.upper).max(axis=2)
        reach = pool_windows(op, magnitude(x.lower, x.upper)).max(axis=2)
        count = op.kernel[0] * op.kernel[1] + SLACK
    else:
        lines = activation_lines(op, x.lower, x.upper)
        lower, upper = image(op, x.lower), image(op, x.upper)
        reach, count = magnitude(x.lower, x.upper), SLACK
    error = _activation_error(op, lower, reach, semantics)
    lost = np.zeros_like(lower)
    if isinstance(op, (Sigmoid, Tanh)):
        lost = lost + LIBM_ERROR
    elif isinstance(op, LeakyRelu):
        lost = up(4 * U64 * magnitude(lower, upper))
    shift = np.maximum(np.abs(lines.lower_shift), np.abs(lines.upper_shift))
    charge = up(error + gamma(count, U64) * reach + gamma(int(np.prod(lower.shape[1:])) + SLACK, U64) * shift, 8)
    lower, upper = downward(lower - up(error + lost)), upward(upper + up(error + lost))
    return Enclosure(lower, upper, error, charge, magnitude(lower, upper)), lines


def _activation_error(op: Op, lower: Array, reach: Array, semantics: str) -> Array:
    """Bound of |e| for a nonlinear step that reads up to `reach` and whose values start at `lower`. See the module."""
    error = np.zeros_like(lower)
    if semantics == "real":
        return error
    if isinstance(op, LeakyRelu):
        error = gamma(4, U32) * np.maximum(-lower, 0.0)
    if COARSE[semantics]:
        # Results are no larger than 1 + what is read; the roundings of both are covered by three of what is read.
        error = error + up(gamma(3 * COARSE[semantics], U32) * (reach + isinstance(op, (Sigmoid, Tanh))), 3)
    return error + (SMOOTH_ERROR32 if isinstance(op, (Sigmoid, Tanh)) else 2 * SMALLEST32)
