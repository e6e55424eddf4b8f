"""Rigorous interval propagation, and the error that every step of a program carries.

Arithmetics, each with all executions of those before it. `real`: v = op(inputs) + e exactly, where e is zero but for
folded parameters. `float32`: v is what a float32 program computes, in any order of summation, with or without fused
multiply-add, subnormal numbers kept or flushed to zero. `tf32`, `bfloat16`: any operand and any result may be rounded
to 11 or 8 significant bits as well, to nearest, while sums are kept in float32; one such rounding counts as 2^13 or
2^16 of those of float32, since gamma(k 2^p, u) = gamma(k, 2^p u). Matrix units may cut sums off instead of rounding
them: with four products or more at a time, aligned with the sum so far and each cut to 24 bits, a product counts three
times (Fasi et al., PeerJ Computer Science 7:e330, 2021, on what they do). Operands and results are those of the
operations in the file, which may be more than those of the program (a product and the sum with its bias, a
normalisation): see `_chain`. Not covered: convolutions by Winograd's method or by Fourier transforms, whose products
are not those of the network, sums kept in fewer bits, and constants that a file computes and a program computes in
other arithmetic than IEEE float32 (in `real` too they are what float32 makes of them).
Written v = op(inputs) + e for the computed inputs, |e| <= `error`:

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
`backward.py` steps backward through this operation (see there).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from paoding_verify.checker.program import Program
from paoding_verify.checker.relax import LIBM_ERROR, Lines, lines_around
from paoding_verify.checker.rounding import U32, U64, centre_radius, downward, gamma, magnitude, up, upward
from paoding_verify.network.evaluate import evaluate_op
from paoding_verify.network.folding import FLOAT32_RANGE
from paoding_verify.network.graph import Array, LeakyRelu, MaxPool2d, Op, Permute, Reshape, Sigmoid, Tanh, parameters
from paoding_verify.network.linear import absolute, column_length, product, row_length

__all__ = [
    "ARITHMETICS", "SLACK", "Box", "Enclosure", "enclose_linear", "enclose_nonlinear", "hardest", "linear_interval",
]  # fmt: skip

Batch = npt.NDArray[Any]
Box = tuple[Array, Array]
"""Lower and upper ends."""

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

    @property
    def box(self) -> Box:
        """The bounds alone."""
        return self.lower, self.upper

    @cached_property
    def magnitude(self) -> Array:
        """The largest absolute value, exactly."""
        return magnitude(*self.box)

    @cached_property
    def total(self) -> Array:
        """Sum of all magnitudes. Shape: (N,)."""
        return np.asarray(self.magnitude.reshape(len(self.lower), -1).sum(axis=1))


def hardest(semantics: Sequence[str]) -> str:
    """The arithmetic among these in which a proof is a proof in all of them."""
    return max(semantics, key=ARITHMETICS.index)


def linear_interval(terms: Sequence[tuple[Op, Box, bool]], charge: Array) -> Box:
    """Bounds of a sum of op(x), x in its box, with or without the bias of op. Shapes: boxes (N, *in) -> (N, *out).

    charge: bound of all that the sum may be off, the rounding of the products with the centres of boxes included.
    """
    middle, half = np.zeros_like(charge), charge
    for op, box, bias in terms:
        centre, radius = centre_radius(*box)
        middle = middle + product(op, centre, bias=bias)
        half = half + up(product(absolute(op), radius, bias=False), row_length(op) + 2)
    half = up(half, len(terms) + 1)
    return downward(middle - half), upward(middle + half)


def enclose_linear(program: Program, index: int, inputs: Sequence[Enclosure], semantics: str) -> Enclosure:
    """Bounds of the value that a linear step computes."""
    op = program.steps[index].op
    moves = isinstance(op, (Reshape, Permute))
    folded = 2 * int(getattr(op, "roundings", 0))
    reach = [np.maximum(x.size, x.magnitude) for x in inputs]
    size = up(np.sum([product(absolute(op), each) for each in reach], axis=0), row_length(op) + 2)
    roundings, floor = 0, None
    if semantics == "real":
        error = gamma(folded, U64) * size
    else:
        if folded:  # folded parameters say nothing of float32 programs that reach further; see `network.folding`
            far = np.max([_peak(each) for each in reach], axis=0) >= FLOAT32_RANGE
            size = np.where((size >= FLOAT32_RANGE) | _column(far, size), np.inf, size)
        roundings, floor = _chain(op, inputs, COARSE[semantics])
        error = np.zeros_like(size)
        if not program.passing(index + 1):
            error, roundings, floor = _chain_error(size, roundings, floor), 0, None
    count = 0 if moves else row_length(op) + column_length(op) + int(np.prod(size.shape[1:])) + SLACK
    charge = up(error + gamma(count + folded, U64) * size, 4)
    lower, upper = linear_interval([(op, x.box, True) for x in inputs], charge)
    return Enclosure(lower, upper, error, charge, magnitude(lower, upper) if floor is None else size, roundings, floor)


def _chain(op: Op, inputs: Sequence[Enclosure], coarse: int) -> tuple[int, Array]:
    """Roundings and floor of a chain that ends with this step; see the module.

    In coarse arithmetics sums may be cut off, and both factors of a product may be rounded to fewer bits, its result,
    and that of the sum with a bias. What stands for a normalisation, a quotient or a fold counts its roundings
    (`network.folding`): at least one for every result and every parameter on the way.
    """
    length, folded = row_length(op), int(getattr(op, "roundings", 0))
    summed = 3 * length if coarse else length
    met = 0 if isinstance(op, (Reshape, Permute)) else summed + 2 * folded + 3 + coarse * (4 + folded)
    largest = max([1.0, *(float(array.max()) for array in parameters(absolute(op)))])
    floors = [8 * SMALLEST32 * (1 + _peak(x.size)) if x.floor is None else x.floor for x in inputs]
    return max(x.roundings for x in inputs) + met, up(np.sum(floors, axis=0) * (2.0 * length) * (1 + largest), 8)


def _chain_error(size: Array, roundings: int, floor: Array) -> Array:
    """Error of a float32 program at the end of a chain; infinite where it may overflow. See the module."""
    error = up(gamma(roundings, U32) * size + _column(floor, size), 4)
    harmless = (_peak(size) < LIMIT32) & (floor < LIMIT32 * SMALLEST32)
    return np.where(_column(harmless, size), error, np.inf)


def _peak(x: Array) -> Array:
    """The largest element of every region. Shapes: (N, *shape) -> (N,)."""
    return np.asarray(x.reshape(len(x), -1).max(axis=1))


def _column(x: Batch, like: Array) -> Batch:
    """One number for all elements of a region. Shapes: (N,), (N, *shape) -> (N, 1, ..., 1)."""
    return x.reshape(-1, *(1 for _ in like.shape[1:]))


def enclose_nonlinear(op: Op, x: Enclosure, semantics: str) -> tuple[Enclosure, Lines]:
    """Bounds of the value that a nonlinear step computes (it rises with its input), and lines below and above it."""
    lines = lines_around(op, *x.box)
    lower, upper = evaluate_op(op, x.lower), evaluate_op(op, x.upper)
    smooth, window = isinstance(op, (Sigmoid, Tanh)), op.kernel if isinstance(op, MaxPool2d) else None
    reach = evaluate_op(op, x.magnitude) if window else x.magnitude
    error = lost = np.zeros_like(reach)
    if semantics != "real":
        # Results are no larger than 1 + what is read; the roundings of both are covered by three of what is read.
        error = up(gamma(3 * COARSE[semantics], U32) * (reach + smooth), 3)
        error = error + (SMOOTH_ERROR32 if smooth else 2 * SMALLEST32)
        if isinstance(op, LeakyRelu):
            error = error + gamma(4, U32) * np.maximum(-lower, 0.0)
    if smooth:
        lost = lost + LIBM_ERROR
    elif isinstance(op, LeakyRelu):
        lost = up(4 * U64 * magnitude(lower, upper))
    shift = np.maximum(np.abs(lines.lower_shift), np.abs(lines.upper_shift))
    count = SLACK + (window[0] * window[1] if window else 0)
    charge = up(error + gamma(count, U64) * reach + gamma(int(np.prod(reach.shape[1:])) + SLACK, U64) * shift, 8)
    lower, upper = downward(lower - up(error + lost)), upward(upper + up(error + lost))
    return Enclosure(lower, upper, error, charge, magnitude(lower, upper)), lines
