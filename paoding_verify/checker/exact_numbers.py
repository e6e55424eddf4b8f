"""Arrays of rational numbers: Python integers with one common rational scale, so that no operation ever rounds.

Products of large matrices are taken digit by digit in float64: digits are whole numbers so small that all sums of
their products stay below 2^53, and such sums are exact in whatever order they are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["STEPS", "Exact", "Flags", "Numbers", "alike", "larger", "placed", "smaller", "where"]

Numbers = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]

STEPS = 1 << 48
"""Slopes are rounded to multiples of 1 / STEPS, which keeps numbers short."""
FINEST = Fraction(1, 1 << 60)
"""Bounds of units are rounded outward to multiples of this."""
FEW_ROWS = 8
"""Smaller products are not worth the digits."""
BITS = 52
"""Sums of products of digits stay within so many bits."""


@dataclass(frozen=True, eq=False)
class Exact:
    """The array numbers * scale."""

    numbers: Numbers
    """Python integers."""
    scale: Fraction = Fraction(1)
    """Positive."""

    @classmethod
    def of(cls, x: npt.ArrayLike) -> Exact:
        """Floats as they are."""
        mantissa, exponent = np.frexp(np.asarray(x, dtype=np.float64))
        least = int(exponent[mantissa != 0].min()) if mantissa.any() else 0
        shifts = np.where(mantissa != 0, exponent - least, 0).astype(object)
        numbers = np.asarray((mantissa * 2.0**53).astype(np.int64).astype(object) * 2**shifts, dtype=object)
        return cls(numbers, Fraction(2) ** (least - 53)).shortened()

    @classmethod
    def zeros(cls, *shape: int) -> Exact:
        """Nothing but zeros."""
        return cls(np.zeros(shape, dtype=object))

    def shortened(self) -> Exact:
        """The same array with the smallest numbers."""
        common = gcd(*self.numbers.reshape(-1).tolist()) or 1
        return Exact(np.asarray(self.numbers // common, dtype=object), self.scale * common)

    def __add__(self, other: Exact) -> Exact:
        (mine, others), scale = alike(self, other)
        return Exact(mine + others, scale)

    def __sub__(self, other: Exact) -> Exact:
        return self + -other

    def __mul__(self, other: Exact) -> Exact:
        return Exact(self.numbers * other.numbers, self.scale * other.scale)

    def __matmul__(self, other: Exact) -> Exact:
        return Exact(_times(self.numbers, other.numbers), self.scale * other.scale)

    def __neg__(self) -> Exact:
        return Exact(-self.numbers, self.scale)

    def __abs__(self) -> Exact:
        return Exact(abs(self.numbers), self.scale)

    def __getitem__(self, places: Any) -> Exact:
        return Exact(np.asarray(self.numbers[places], dtype=object), self.scale)

    def __le__(self, other: Exact) -> Flags:
        (mine, others), _ = alike(self, other)
        return np.asarray(mine <= others, dtype=bool)

    def __lt__(self, other: Exact) -> Flags:
        (mine, others), _ = alike(self, other)
        return np.asarray(mine < others, dtype=bool)

    @property
    def sign(self) -> npt.NDArray[np.int8]:
        """-1, 0 or 1."""
        return np.asarray(self.numbers > 0, dtype=np.int8) - np.asarray(self.numbers < 0, dtype=np.int8)

    @property
    def above(self) -> Exact:
        """Its positive part."""
        return Exact(np.maximum(self.numbers, 0), self.scale)

    @property
    def below(self) -> Exact:
        """Its negative part."""
        return Exact(np.minimum(self.numbers, 0), self.scale)

    @property
    def fractions(self) -> list[Fraction]:
        """One by one, flat."""
        return [int(n) * self.scale for n in self.numbers.reshape(-1)]

    def total(self) -> Exact:
        """Sums over the last axis."""
        return Exact(np.asarray(self.numbers.sum(axis=-1), dtype=object), self.scale)

    def rounded(self, *, up: bool) -> Exact:
        """To multiples of FINEST, upward or downward."""
        ratio = self.scale / FINEST
        sign = -1 if up else 1
        return Exact(sign * (sign * self.numbers * ratio.numerator // ratio.denominator), FINEST)

    def over(self, other: Exact) -> Exact:
        """Quotients to the nearest multiples of 1 / STEPS; 0 where `other` is not positive."""
        (mine, others), _ = alike(self, other)
        divisor = np.where(others > 0, others, 1)
        return Exact(np.where(others > 0, (2 * STEPS * mine + divisor) // (2 * divisor), 0), Fraction(1, STEPS))


def alike(*arrays: Exact) -> tuple[list[Numbers], Fraction]:
    """The numbers of all, and one scale for them."""
    scale = reduce(_common, (a.scale for a in arrays))
    return [a.numbers * int(a.scale / scale) if a.scale != scale else a.numbers for a in arrays], scale


def where(condition: Flags, one: Exact, other: Exact) -> Exact:
    """Element by element one or the other."""
    (mine, others), scale = alike(one, other)
    return Exact(np.asarray(np.where(condition, mine, others), dtype=object), scale)


def larger(one: Exact, other: Exact) -> Exact:
    """Element by element the larger one."""
    return where(other <= one, one, other)


def smaller(one: Exact, other: Exact) -> Exact:
    """Element by element the smaller one."""
    return where(one <= other, one, other)


def placed(array: Exact, places: npt.NDArray[np.intp], values: Exact) -> Exact:
    """The array with other values in some places."""
    (mine, others), scale = alike(array, values)
    numbers = mine.copy()
    numbers[places] = others
    return Exact(numbers, scale)


def _common(a: Fraction, b: Fraction) -> Fraction:
    """The largest number of which both are multiples."""
    return Fraction(gcd(a.numerator * b.denominator, b.numerator * a.denominator), a.denominator * b.denominator)


def _times(a: Numbers, b: Numbers) -> Numbers:
    """a @ b for integers, exactly; see the module text. Shapes: (P, n), (n, m) -> (P, m)."""
    if a.ndim < 2 or b.ndim < 2 or min(len(a), b.shape[1]) < FEW_ROWS:
        return np.asarray(a @ b, dtype=object)
    width = (BITS - len(b).bit_length()) // 2
    left, right = _digits(a, width), _digits(b, width)
    columns = [np.zeros((len(a), b.shape[1]), dtype=np.int64) for _ in range(len(left) + len(right))]
    for i, x in enumerate(left):
        for j, y in enumerate(right):
            columns[i + j] += (x @ y).astype(np.int64)
    total = np.zeros((len(a), b.shape[1]), dtype=object)
    for column in reversed(columns):
        total = (total << width) + column.astype(object)
    return total


def _digits(numbers: Numbers, width: int) -> list[npt.NDArray[np.float64]]:
    """Arrays of whole floats below 2^width in magnitude; the k-th counts 2^(width k)."""
    sign = np.sign(numbers).astype(np.float64)
    rest: Numbers = np.asarray(abs(numbers), dtype=object)
    found = []
    while np.any(rest != 0):
        found.append((rest & ((1 << width) - 1)).astype(np.float64) * sign)
        rest = rest >> width
    return found
