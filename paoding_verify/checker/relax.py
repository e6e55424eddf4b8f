"""Linear bounds of nonlinear operations: lower line <= act <= upper line on [l, u], exactly, though computed in floats.

A line is a pair of floats (slope, shift), read as real numbers. Each function says why its lines are valid; nothing
here needs the tightest line, only a valid one. All slopes lie in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from paoding_verify.checker.rounding import TINY, U64
from paoding_verify.network.evaluate import evaluate_op, pool_windows
from paoding_verify.network.graph import Array, LeakyRelu, MaxPool2d, Op, Shape, Sigmoid, Tanh
from paoding_verify.network.linear import scatter

__all__ = ["LIBM_ERROR", "Lines", "lines_around", "pool_lines", "rectifier_lines", "scatter_cells"]

Indices = npt.NDArray[np.intp]

LIBM_ERROR = 2.0**-45
"""Absolute error allowed to numpy's float64 tanh and its uses here (its authors document less than 4 ulp, 2^-50)."""


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines below and above an operation; arrays (N, *shape) of the value it computes."""

    lower_slope: Array
    lower_shift: Array
    upper_slope: Array
    upper_shift: Array
    unstable: npt.NDArray[np.bool_]
    """Where any lower slope in [free_slope, 1] is valid, without a shift."""
    free_slope: float = 0.0
    cells: tuple[Indices, Indices] | None = None
    """Max pooling: the taps whose cells the lower and the upper line read."""


def lines_around(op: Op, l: Array, u: Array) -> Lines:  # noqa: E741 - the usual name
    """Lines of a nonlinear operation whose input is in [l, u]. Shapes: (N, *shape) -> (N, *shape of its value)."""
    if isinstance(op, MaxPool2d):
        return pool_lines(op, l, u)
    if isinstance(op, (Sigmoid, Tanh)):
        return _sigmoidal(op, l, u)
    return rectifier_lines(op.slope if isinstance(op, LeakyRelu) else 0.0, l, u)


def rectifier_lines(slope: float, l: Array, u: Array) -> Lines:  # noqa: E741
    """max(z, slope z) with slope in [0, 1].

    For l >= 0 it is z, for u <= 0 slope z. Otherwise a z with slope <= a <= 1 lies below; the function is convex, so
    a line lies above it on [l, u] exactly if it does so at l (value slope l) and at u (value u). For any float s the
    shift t = max(slope l - s l, u - s u) does it; its four roundings are covered by 8 U64 max(|l|, |u|) + TINY.
    """
    unstable = (l < 0) & (u > 0)
    stable = np.where(l >= 0, 1.0, np.where(u <= 0, slope, np.nan))
    s = np.clip((u - slope * l) / (u - l), slope, 1.0)
    t = np.maximum(slope * l - s * l, u - s * u) + (8 * U64 * np.maximum(-l, u) + TINY)
    adaptive = np.where(u >= -l, 1.0, slope)
    zero = np.zeros_like(l)
    return Lines(
        np.where(unstable, adaptive, stable), zero, np.where(unstable, s, stable), np.where(unstable, t, zero),
        unstable, slope,
    )  # fmt: skip


def _sigmoidal(op: Sigmoid | Tanh, l: Array, u: Array) -> Lines:  # noqa: E741
    """Sigmoid and tanh: increasing, derivative in (0, 1] and falling with |z|, convex below 0, concave above.

    The derivative is at least k = min(f'(l), f'(u)) on [l, u], so f(l) + k (z - l) lies below and f(u) + k (z - u)
    above; so they do for any smaller k >= 0. Where f is concave (l >= 0) a line that is not above f at both ends lies
    below; where it is convex (u <= 0) a line that is not below f at both ends lies above: there the chord is used. The
    shifts move by LIBM_ERROR plus 8 U64 (1 + max(|l|, |u|)) to cover their roundings.
    """
    fl, fu = evaluate_op(op, l), evaluate_op(op, u)
    slopes = [f * (1 - f) if isinstance(op, Sigmoid) else (1 - f) * (1 + f) for f in (fl, fu)]
    parallel = np.clip(np.minimum(*slopes) - 2 * LIBM_ERROR, 0.0, 1.0)
    chord = np.clip((fu - fl) / np.where(u > l, u - l, 1.0), 0.0, 1.0)
    low, high = np.where(l >= 0, chord, parallel), np.where(u <= 0, chord, parallel)
    slack = 2 * LIBM_ERROR + 8 * U64 * (1 + np.maximum(np.abs(l), np.abs(u)))
    low_shift = np.where(l >= 0, np.minimum(fl - low * l, fu - low * u), fl - low * l) - slack
    high_shift = np.where(u <= 0, np.maximum(fl - high * l, fu - high * u), fu - high * u) + slack
    return Lines(low, low_shift, high, high_shift, np.zeros(l.shape, dtype=bool))


def pool_lines(op: MaxPool2d, l: Array, u: Array) -> Lines:  # noqa: E741
    """Max pooling of cells z_1, ..., z_m in [l, u]. Shapes: (N, channels, h, w) -> lines (N, channels, out_h, out_w).

    Every cell lies below the maximum: the lower line is the cell with the largest l. With c the cell of the largest u
    and U the largest upper bound of the others, the maximum is at most max(z_c, U): convex in z_c, so a line lies above
    it if it does so at l_c (value max(l_c, U)) and at u_c (value max(u_c, U)).
    """
    low, high = pool_windows(op, l), pool_windows(op, u)
    lower_cell, upper_cell = np.argmax(low, axis=2), np.argmax(high, axis=2)
    lc = np.take_along_axis(low, upper_cell[:, :, None], axis=2)[:, :, 0]
    uc = np.take_along_axis(high, upper_cell[:, :, None], axis=2)[:, :, 0]
    np.put_along_axis(high, upper_cell[:, :, None], -np.inf, axis=2)
    rest = high.max(axis=2)
    at_l, at_u = np.maximum(lc, rest), np.maximum(uc, rest)
    s = np.clip((at_u - at_l) / np.where(uc > lc, uc - lc, 1.0), 0.0, 1.0)
    s = np.where(lc >= rest, 1.0, s)
    t = np.maximum(at_l - s * lc, at_u - s * uc) + 8 * U64 * (np.abs(lc) + np.abs(uc) + np.abs(at_l)) + TINY
    t = np.where(lc >= rest, 0.0, t)
    one = np.ones_like(s)
    return Lines(one, np.zeros_like(s), s, t, np.zeros(s.shape, dtype=bool), cells=(lower_cell, upper_cell))


def scatter_cells(op: MaxPool2d, y: Array, cells: Indices, in_shape: Shape) -> Array:
    """Adds each y to the cell that its window's tap number names. Shapes: y and cells (P, *out) -> (P, *in_shape)."""
    taps = np.arange(op.kernel[0] * op.kernel[1])[:, None, None]
    columns = np.where(cells[:, :, None] == taps, y[:, :, None], 0.0)
    return scatter(columns, in_shape, op.kernel, op.stride, op.padding)
