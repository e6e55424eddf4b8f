"""Bounds of differences of twin values z_f - z_g, of two networks of one structure that run side by side.

Intervals forward, from the difference of what the two read; `crown.py` improves them by backward passes, in which they
are used again (`backward.py`). In float32 both programs round independently of each other: the errors of both count.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from paoding_verify.checker.backward import State
from paoding_verify.checker.intervals import SLACK, Box, linear_interval
from paoding_verify.checker.rounding import U64, downward, gamma, magnitude, up, upward
from paoding_verify.network.evaluate import pool_windows
from paoding_verify.network.graph import Affine, Array, Conv2d, Dense, MaxPool2d, Op, Relu, is_linear
from paoding_verify.network.linear import absolute, product, row_length

__all__ = ["difference", "meet"]


def meet(f: Box, g: Box, d: Box) -> tuple[Box, Box, Box]:
    """z_f, z_g and d = z_f - z_g, each within what the other two allow. An empty box (lower > upper): no execution."""
    d = np.maximum(d[0], downward(f[0] - g[1])), np.minimum(d[1], upward(f[1] - g[0]))
    narrower_f = np.maximum(f[0], downward(g[0] + d[0])), np.minimum(f[1], upward(g[1] + d[1]))
    narrower_g = np.maximum(g[0], downward(f[0] - d[1])), np.minimum(g[1], upward(f[1] - d[0]))
    return narrower_f, narrower_g, d


def difference(state: State, second: int) -> Box:
    """The difference of a value of g and its twin, from that of what they read."""
    program, values = state.program, state.values
    first = program.twins[second]
    f, g = program.steps[first - 1], program.steps[second - 1]
    zero = np.zeros_like(values[0].lower)
    read = [state.differences[value] if value else (zero, zero) for value in g.inputs]
    error = up(values[first].error + values[second].error)
    if is_linear(g.op):
        return _linear(f.op, g.op, read, values[g.inputs[0]].box, error)
    ((low, high),) = read
    if isinstance(g.op, MaxPool2d):
        low, high = pool_windows(g.op, low, np.inf).min(axis=2), pool_windows(g.op, high).max(axis=2)
    else:
        z_f, z_g = values[f.inputs[0]], values[g.inputs[0]]
        active = (z_f.lower >= 0) & (z_g.lower >= 0) & isinstance(g.op, Relu)
        low, high = np.where(active, low, np.minimum(low, 0.0)), np.where(active, high, np.maximum(high, 0.0))
    return downward(low - error), upward(high + error)


def _linear(f: Op, g: Op, read: list[Box], g_input: Box, error: Array) -> Box:
    """W_f h_f + b_f - (W_g h_g + b_g) = W_f (h_f - h_g) + (W_f - W_g) h_g + (b_f - b_g).

    W_f - W_g rounds once per entry, relative to the result, which one more rounding in the count covers.
    """
    terms = [(f, box, False) for box in read]
    if isinstance(f, (Dense, Conv2d)) and isinstance(g, (Dense, Conv2d)):
        terms.append((replace(f, weight=f.weight - g.weight, bias=f.bias - g.bias, bias_magnitude=None), g_input, True))
    elif isinstance(f, Affine) and isinstance(g, Affine):
        terms.append((replace(f, scale=f.scale - g.scale, shift=f.shift - g.shift, bias_magnitude=None), g_input, True))
    count = 2 * row_length(f) + SLACK
    size = np.sum([product(absolute(op), magnitude(*box), bias=bias) for op, box, bias in terms], axis=0)
    return linear_interval(terms, up(gamma(count, U64) * up(size, count) + error, 8))
