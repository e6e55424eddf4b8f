"""Boxes around samples: linf balls in input units, clipped to the legal inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from paoding_verify.data import Dataset, draw_samples, fit_shape, read_dataset
from paoding_verify.errors import RegionError
from paoding_verify.evidence.boxes import ball
from paoding_verify.network.graph import Array, Shape
from paoding_verify.regions import Region

__all__ = ["Domain", "linf_regions"]

Domain = tuple[npt.ArrayLike, npt.ArrayLike]
"""Smallest and largest legal input: numbers, or arrays with one number per feature."""


def linf_regions(  # noqa: PLR0913 - one keyword per question that a user answers
    data: str | Path | Dataset,
    *,
    eps: float | npt.ArrayLike,
    domain: Domain | None = None,
    samples: int | None = None,
    seed: int = 0,
    mask: npt.ArrayLike | None = None,
    input_shape: Shape | None = None,
) -> list[Region]:
    """One box per sample that holds the exact ball |x - anchor| <= eps within the domain, and at most one ulp more.

    eps: radius in input units, a number or one per feature. mask: True for features that may move (default: all).
    domain: legal inputs (default: [0, 1] for data that was read from uint8, else unbounded). samples: how many to draw
    by `seed` (default: all, in order). Regions are named r0000, r0001, ... in order; `eps` is noted on them where
    radius and domain are the same for all features.
    Raises: RegionError for an eps that is negative or not finite, or a sample outside the domain; DataError as in
    `read_dataset`.
    """
    dataset = data if isinstance(data, Dataset) else read_dataset(data)
    if input_shape is not None:
        dataset = fit_shape(dataset, input_shape)
    shape = dataset.x.shape[1:]
    if samples is not None:
        dataset = draw_samples(dataset, samples, seed)
    radius = _per_feature(eps, shape, "eps")
    if not (np.isfinite(radius).all() and (radius >= 0).all()):
        raise RegionError("eps must be finite and at least 0 everywhere")
    movable = np.full(shape, True) if mask is None else _per_feature(mask, shape, "mask").astype(bool)
    domain = dataset.domain if domain is None else domain
    limits = None if domain is None else _limits(domain, shape)
    if limits is not None:
        _check_inside(dataset, limits)
    one_domain = domain is None or (np.ndim(domain[0]) == 0 and np.ndim(domain[1]) == 0)
    scalar = float(radius.flat[0]) if np.ndim(eps) == 0 and movable.all() and one_domain else None
    interval = (float(limits[0].flat[0]), float(limits[1].flat[0])) if limits is not None and one_domain else None
    boxes = [ball(x, np.where(movable, radius, 0.0), limits) for x in dataset.x]
    return [
        Region(
            id=f"r{k:04d}",
            lower=lower,
            upper=upper,
            anchor=dataset.x[k],
            label=None if dataset.y is None else int(dataset.y[k]),
            eps=scalar,
            domain=interval,
            source=f"{dataset.source}[{dataset.rows[k]}]",
        )
        for k, (lower, upper) in enumerate(boxes)
    ]


def _per_feature(value: npt.ArrayLike, shape: Shape, what: str) -> Array:
    array = np.asarray(value, dtype=np.float64)
    if array.size == np.prod(shape) and array.ndim:
        return array.reshape(shape)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise RegionError(f"{what} has shape {array.shape}; expected one number, or one for each of {shape}") from None


def _limits(domain: Domain, shape: Shape) -> tuple[Array, Array]:
    low, high = (_per_feature(end, shape, "domain") for end in domain)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
        raise RegionError("the domain must have finite ends, the lower not above the upper")
    return low, high


def _check_inside(dataset: Dataset, limits: tuple[Array, Array]) -> None:
    outside = ((dataset.x < limits[0]) | (dataset.x > limits[1])).reshape(len(dataset), -1)
    if outside.any():
        row, feature = (int(k) for k in np.argwhere(outside)[0])
        low, high = (end.ravel()[feature] for end in limits)
        value = dataset.x.reshape(len(dataset), -1)[row, feature]
        raise RegionError(
            f"{dataset.source or 'data'}, row {dataset.rows[row]}, feature {feature}: {value} lies outside the "
            f"domain [{low}, {high}]"
        )
