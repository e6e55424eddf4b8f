"""Structured noise: what synthetic inputs start from, between 0 and 1.

For pictures: sparse noise; strokes as a pen draws them; level sets of smooth random fields; blobs; in colour, textures
of several scales. For everything else: sparse, uniform and normal noise, and normal noise whose features go together
as the weights that read them do. Nothing here has seen data.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from paoding_verify.network.graph import Array, Shape

__all__ = ["noise", "num_kinds"]

_Generator = Callable[[np.random.Generator, int, Shape], Array]

_PICTURES_AT_A_TIME = 250
_POINTS_PER_CURVE = 20


def num_kinds(layout: Shape | None) -> int:
    """Number of generators for pictures of this layout, or for vectors."""
    return len(_generators(layout, np.zeros((1, 1))))


def noise(
    rng: np.random.Generator, kind: npt.NDArray[np.int64], layout: Shape | None, weights: Array
) -> Array:  # fmt: skip
    """One point for each entry of `kind`, made by the generator of that number; 0 is sparse noise.

    Shapes: layout (channels, height, width) or None; weights (units, features) that read the input; result (len(kind),
    features).
    """
    num_features = weights.shape[1]
    unit = np.empty((len(kind), num_features))
    for k, generate in enumerate(_generators(layout, weights)):
        number = int((kind == k).sum())
        if number > 0:
            unit[kind == k] = generate(rng, number, layout or (num_features,)).reshape(number, num_features)
    return unit


def _generators(layout: Shape | None, weights: Array) -> tuple[_Generator, ...]:
    """Measured: textures, which help on photographs, take from drawings what the other kinds give them."""
    if layout is None:
        return (_sparse, _uniform, _normal, partial(_correlated, weights))
    drawing = (_sparse, _pen, _strokes, _field)
    return drawing if layout[0] == 1 else (*drawing, _texture)


def _sparse(rng: np.random.Generator, count: int, shape: Shape) -> Array:
    """Few bright features of random density and level."""
    per_point = (count, *(1 for _ in shape))
    density, level = rng.uniform(0.02, 0.5, per_point), rng.uniform(0.3, 1.0, per_point)
    return (rng.random((count, *shape)) < density) * rng.random((count, *shape)) * level


def _uniform(rng: np.random.Generator, count: int, shape: Shape) -> Array:
    return rng.random((count, *shape))


def _normal(rng: np.random.Generator, count: int, shape: Shape) -> Array:
    per_point = (count, *(1 for _ in shape))
    centre, spread = rng.uniform(0.2, 0.8, per_point), rng.uniform(0.05, 0.3, per_point)
    return np.clip(rng.normal(size=(count, *shape)) * spread + centre, 0, 1)


def _correlated(weights: Array, rng: np.random.Generator, count: int, shape: Shape) -> Array:
    """Normal noise with the correlations of the weights' columns, blended with independent noise.

    Gradient descent adds multiples of inputs to the weights that read them, so that features which go together in the
    data end up with similar weights.
    """
    per_point = (count, 1)
    size = np.linalg.norm(weights, axis=0)
    columns = weights / np.where(size > 0, size, 1.0)
    own = rng.uniform(0.1, 0.9, per_point)
    common = rng.normal(size=(count, len(columns))) @ columns
    centre, spread = rng.uniform(0.2, 0.8, per_point), rng.uniform(0.05, 0.3, per_point)
    mixed = np.sqrt(1 - own) * common + np.sqrt(own) * rng.normal(size=common.shape)
    return np.clip(mixed * spread + centre, 0, 1).reshape(count, *shape)


def _strokes(rng: np.random.Generator, count: int, shape: Shape) -> Array:
    """Level sets of smooth fields, of random width, cut off by another field."""
    per_point = (count, 1, 1, 1)
    width = rng.uniform(0.15, 0.6, per_point)
    line = np.exp(-((_smooth_noise(rng, count, shape, (0.08, 0.16)) / width) ** 2))
    mask = np.clip(3 * (_smooth_noise(rng, count, shape, (0.1, 0.2)) + rng.uniform(-0.3, 0.8, per_point)), 0, 1)
    return np.clip(1.4 * line * mask - 0.2, 0, 1)


def _pen(rng: np.random.Generator, count: int, shape: Shape) -> Array:
    """One to three Bezier curves in the middle of the picture, each starting on the one before."""
    side = min(shape[1:])
    y, x = (np.arange(n) + 0.5 for n in shape[1:])
    pictures = np.empty((count, *shape[1:]))
    for start in range(0, count, _PICTURES_AT_A_TIME):
        part = pictures[start : start + _PICTURES_AT_A_TIME]
        points = _curves(rng, len(part))
        down = points[:, :, 0] * side + 0.5 * (shape[1] - side)
        across = points[:, :, 1] * side + 0.5 * (shape[2] - side)
        width = rng.uniform(0.025, 0.06, (len(part), 1, 1)) * side
        # The Gaussian of the distance to a point is a product: no distances between all pixels and points are formed.
        rows = np.exp(-0.5 * ((down[:, :, None] - y) / width) ** 2)
        columns = np.exp(-0.5 * ((across[:, :, None] - x) / width) ** 2)
        ink = np.einsum("npy,npx->nyx", rows, columns)
        spacing = np.clip(ink.max(axis=(1, 2), keepdims=True), 1e-9, None)
        part[:] = np.clip(rng.uniform(2.0, 6.0, (len(part), 1, 1)) * ink / spacing, 0, 1)
    return _coloured(rng, pictures, shape[0])


def _curves(rng: np.random.Generator, count: int) -> Array:
    """Points of chained quadratic Bezier curves between 0 and 1. Shapes: (count, points, 2)."""
    t = np.linspace(0, 1, _POINTS_PER_CURVE)[None, :, None]
    number = rng.integers(1, 4, count)
    start = rng.uniform(0.2, 0.8, (count, 1, 2))
    curves: list[Array] = []
    for k in range(3):
        middle, end = rng.uniform(0.1, 0.9, (count, 1, 2)), rng.uniform(0.2, 0.8, (count, 1, 2))
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
        # Curves that a picture does not have lie on its first point, where they add nothing new.
        curves.append(np.where((k < number)[:, None, None], curve, curves[0] if curves else curve))
        joint = rng.integers(0, _POINTS_PER_CURVE, count)
        start = np.where(rng.random((count, 1, 1)) < 0.6, end, curve[np.arange(count), joint][:, None])
    return np.concatenate(curves, axis=1)


def _coloured(rng: np.random.Generator, pictures: Array, channels: int) -> Array:
    """Ink of one shade on black, or of any colour on any where there are several channels."""
    if channels == 1:
        return pictures[:, None]
    ink, paper = (rng.random((len(pictures), channels, 1, 1)) for _ in range(2))
    return paper + (ink - paper) * pictures[:, None]


def _field(rng: np.random.Generator, count: int, shape: Shape) -> Array:
    """Blobs: a smooth field behind a random threshold and gain."""
    per_point = (count, 1, 1, 1)
    threshold, gain = rng.uniform(-0.3, 1.5, per_point), rng.uniform(0.5, 5.0, per_point)
    return np.clip(gain * (_smooth_noise(rng, count, shape, (0.05, 0.15)) - threshold), 0, 1)


def _texture(rng: np.random.Generator, count: int, shape: Shape) -> Array:
    """Noise of several scales around a random mean, as in photographs."""
    per_point = (count, 1, 1, 1)
    coarse, fine = _smooth_noise(rng, count, shape, (0.1, 0.25)), _smooth_noise(rng, count, shape, (0.02, 0.05))
    contrast, share = rng.uniform(0.05, 0.3, per_point), rng.uniform(0.1, 0.6, per_point)
    return np.clip(rng.uniform(0.0, 0.8, per_point) + contrast * (coarse + share * fine), 0, 1)


def _smooth_noise(rng: np.random.Generator, count: int, shape: Shape, scales: tuple[float, float]) -> Array:
    """Gaussian fields of mean 0 and variance 1 whose scale is a random fraction of the picture's side; channels are
    correlated. Shapes: (count, *shape).
    """
    noise = rng.normal(size=(count, 1, *shape[1:])) + 0.5 * rng.normal(size=(count, *shape)) * (shape[0] > 1)
    scale = rng.uniform(*scales, count) * min(shape[1:])
    waves = np.square(np.fft.fftfreq(shape[1]))[:, None] + np.square(np.fft.rfftfreq(shape[2]))
    gain = np.exp(-2 * np.square(np.pi * scale)[:, None, None, None] * waves)
    smooth = np.fft.irfft2(gain * np.fft.rfft2(noise), shape[1:]).reshape(count, *shape)
    spread = smooth.std(axis=(1, 2, 3), keepdims=True)
    return np.asarray((smooth - smooth.mean(axis=(1, 2, 3), keepdims=True)) / np.maximum(spread, 1e-9))
