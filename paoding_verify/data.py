"""Samples: inputs in input units with optional labels, read from files that nobody vouches for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import DataError
from paoding_verify.network.graph import Float32Array, Shape
from paoding_verify.npy import DataLimits, read_arrays

__all__ = ["DataLimits", "Dataset", "draw_samples", "fit_shape", "read_dataset"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """At least one input, every value finite, with at most one label each.

    Raises: DataError if that does not hold.
    """

    x: Float32Array
    """(N, *input_shape) float32, input units."""
    y: npt.NDArray[np.int64] | None = None
    """(N,) class of every input, at least 0; None: no labels."""
    source: str = ""
    """File name, e.g. "mnist_test.npz". Untrusted text."""
    rows: tuple[int, ...] = ()
    """(N,) row of every input in the file it came from; left out: 0, 1, ..., N - 1."""
    domain: tuple[float, float] | None = None
    """Smallest and largest value that the file's format can hold: (0, 1) for uint8; None: unbounded."""

    def __post_init__(self) -> None:
        where = self.source or "data"
        if self.x.ndim < 2 or self.x.size == 0:
            raise DataError(f"{where}: x must hold at least one sample, shape (N, *input_shape); got {self.x.shape}")
        if self.x.dtype != np.float32:
            raise DataError(f"{where}: x must be float32; got {self.x.dtype}")
        finite = np.isfinite(self.x.reshape(len(self.x), -1)).all(axis=1)
        if not finite.all():
            raise DataError(f"{where}: x holds NaN, infinity or a number beyond float32 in row {np.argmin(finite)}")
        if self.y is not None:
            _check_labels(self.y, len(self.x), where)
        if not self.rows:
            object.__setattr__(self, "rows", tuple(range(len(self.x))))
        if len(self.rows) != len(self.x):
            raise DataError(f"{where}: {len(self.rows)} row numbers do not fit {len(self.x)} samples")

    def __len__(self) -> int:
        return len(self.x)


def read_dataset(path: str | Path, *, input_shape: Shape | None = None, limits: DataLimits | None = None) -> Dataset:
    """Reads samples without trusting the file: no pickles, and no array is unpacked before its size was checked.

    An .npz holds `x` (N, *input_shape), or exactly one key that starts with "x_", and optionally `y` (N,); an .npy
    holds x. Floats are in input units (rounded to float32); uint8 is divided by 255 in float32, its domain is [0, 1].
    With `input_shape`, samples of another shape but the same number of elements are reshaped row-major.
    Raises: DataError saying what is wrong with which array.
    """
    path = Path(path)
    arrays = read_arrays(path, partial(_keys, path.name), limits or DataLimits())
    (key,) = (name for name in arrays if name != "y")
    y = arrays.get("y")
    inputs = _inputs(arrays[key], f"{path.name}, key {key!r}")
    domain = (0.0, 1.0) if arrays[key].dtype == np.uint8 else None
    dataset = Dataset(inputs, _labels(y, path.name), path.name, domain=domain)
    return dataset if input_shape is None else fit_shape(dataset, input_shape)


def fit_shape(dataset: Dataset, input_shape: Shape) -> Dataset:
    """The same samples, each reshaped row-major to `input_shape`.

    Raises: DataError if the numbers of elements differ.
    """
    have = dataset.x.shape[1:]
    if prod(have) != prod(input_shape):
        raise DataError(
            f"{dataset.source or 'data'}: a sample has shape {have} ({prod(have)} values), the network takes "
            f"{tuple(input_shape)} ({prod(input_shape)} values)"
        )
    return replace(dataset, x=dataset.x.reshape(len(dataset), *input_shape))


def draw_samples(dataset: Dataset, count: int, seed: int) -> Dataset:
    """`count` samples without repetition, chosen and ordered by the seed; `rows` keeps their rows in the file.

    Raises: DataError if there are fewer, or if the count is not positive.
    """
    if not 1 <= count <= len(dataset):
        raise DataError(f"{dataset.source or 'data'} holds {len(dataset)} samples; cannot draw {count} of them")
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:count]
    y = None if dataset.y is None else dataset.y[chosen]
    return replace(dataset, x=dataset.x[chosen], y=y, rows=tuple(dataset.rows[k] for k in chosen))


def _keys(name: str, keys: Sequence[str]) -> list[str]:
    candidates = ["x"] if "x" in keys else [key for key in keys if key.startswith("x_")]
    if len(candidates) != 1:
        raise DataError(
            f"{name}: expected an array `x`, or one whose name starts with x_; found {', '.join(keys)[:200] or '-'}"
        )
    return candidates + (["y"] if "y" in keys else [])


def _inputs(x: npt.NDArray[Any], where: str) -> Float32Array:
    if x.dtype == np.uint8:
        return np.asarray(x.astype(np.float32) / np.float32(255))
    if x.dtype.kind != "f":
        raise DataError(f"{where}: x must be floats in input units or uint8 (divided by 255); got {x.dtype}")
    with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, which Dataset refuses
        return x.astype(np.float32)


def _labels(y: npt.NDArray[Any] | None, where: str) -> npt.NDArray[np.int64] | None:
    if y is None:
        return None
    if y.dtype.kind not in "iu":
        raise DataError(f"{where}: labels y must be integers; got {y.dtype}")
    if y.size and int(y.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{where}: labels y exceed 64-bit integers")
    return y.astype(np.int64)


def _check_labels(y: npt.NDArray[np.int64], num_samples: int, where: str) -> None:
    if y.dtype != np.int64 or y.shape != (num_samples,):
        raise DataError(f"{where}: labels y must be integers of shape ({num_samples},); got {y.dtype} {y.shape}")
    if (y < 0).any():
        raise DataError(f"{where}: the label in row {np.argmax(y < 0)} is negative")
