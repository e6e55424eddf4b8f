"""The error statement of folded layers, against extended precision and against float32 programs."""

from __future__ import annotations

import numpy as np
import pytest

from paoding_verify.errors import UnsupportedOpError
from paoding_verify.network.folding import batch_norm, expect_fold, fold_affine
from paoding_verify.network.graph import Affine, Array, Conv2d, Dense

EPSILON = float(np.float32(1e-5))
LARGE_N = 12


def gamma(k: int, u: float) -> float:
    return k * u / (1 - k * u)


def float32_numbers(rng: np.random.Generator, spread: float, *shape: int) -> Array:
    """Numbers of either sign whose magnitudes reach down to 2^-spread."""
    exponents = rng.uniform(-spread, 4.0, shape)
    return (rng.normal(size=shape) * 2.0**exponents).astype(np.float32).astype(np.float64)


def layer_and_norm(seed: int, spread: float) -> tuple[Dense, tuple[Array, Array, Array, Array]]:
    rng = np.random.default_rng(seed)
    dense = Dense(float32_numbers(rng, spread, 5, LARGE_N), float32_numbers(rng, spread, 5))
    scale, beta, mean = (float32_numbers(rng, spread, 5) for _ in range(3))
    return dense, (scale, beta, mean, np.abs(float32_numbers(rng, spread, 5)))


def folded(dense: Dense, norm: tuple[Array, Array, Array, Array]) -> Dense:
    result = fold_affine(dense, batch_norm(*norm, epsilon=EPSILON, rank=1))
    assert isinstance(result, Dense)
    assert result.bias_magnitude is not None
    return result


@pytest.mark.parametrize("spread", [1.0, 20.0, 120.0])
@pytest.mark.parametrize("seed", range(5))
def test_stored_parameters_are_as_exact_as_stated(seed: int, spread: float) -> None:
    dense, norm = layer_and_norm(seed, spread)
    layer = folded(dense, norm)
    scale, beta, mean, variance = (p.astype(np.longdouble) for p in norm)
    exact = scale / np.sqrt(variance + np.longdouble(EPSILON))
    weight = exact[:, None] * dense.weight
    bias = exact * dense.bias - exact * mean + beta
    factor = gamma(layer.roundings, 2.0**-53)
    assert (np.abs(layer.weight - weight) <= factor * np.abs(layer.weight)).all()
    assert (np.abs(layer.bias - bias) <= factor * layer.bias_magnitude).all()


def float32_programs(dense: Dense, norm: tuple[Array, Array, Array, Array], x: Array) -> list[Array]:
    """What float32 programs of three kinds compute: normalising in steps, by scale and shift, and folded."""
    weight, bias, scale, beta, mean, variance, point = (
        a.astype(np.float32) for a in (dense.weight, dense.bias, *norm, x)
    )
    root = np.sqrt(variance + np.float32(EPSILON))
    z = weight @ point + bias
    factor = scale / root
    other = scale * (np.float32(1) / root)
    results = [
        (z - mean) / root * scale + beta,
        z * factor + (beta - mean * factor),
        z * other + (beta - mean * other),
        (weight * factor[:, None]) @ point + ((bias - mean) * factor + beta),
        (weight * other[:, None]) @ point + (bias * other + (beta - mean * other)),
    ]
    return [r.astype(np.float64) for r in results]


@pytest.mark.parametrize("spread", [1.0, 20.0, 120.0])
@pytest.mark.parametrize("seed", range(20))
def test_float32_programs_are_as_exact_as_stated(seed: int, spread: float) -> None:
    dense, norm = layer_and_norm(seed, spread)
    layer = folded(dense, norm)
    rng = np.random.default_rng(seed + 1000)
    for size in (1.0, 2.0**-60, 2.0**40):
        x = (rng.normal(size=LARGE_N) * size).astype(np.float32).astype(np.float64)
        with np.errstate(under="ignore"):
            outputs = float32_programs(dense, norm, x)
        magnitude = np.abs(layer.weight) @ np.abs(x) + layer.bias_magnitude
        allowed = gamma(layer.roundings + LARGE_N + 1, 2.0**-24) * magnitude
        for output in outputs:
            assert (np.abs(output - (layer.weight @ x + layer.bias)) <= allowed).all()


def test_a_statement_with_fewer_roundings_would_be_wrong_somewhere() -> None:
    """The test above can fail: without the roundings of the fold some program leaves the bound of one dot product."""
    dense = Dense(np.full((1, 1), float(np.float32(1 / 3))), np.zeros(1))
    worst = 0.0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        norm = tuple(np.abs(float32_numbers(rng, 1.0, 1)) for _ in range(4))
        norm = (norm[0], np.zeros(1), np.zeros(1), norm[3])
        layer = folded(dense, norm)
        x = np.ones(1)
        for output in float32_programs(dense, norm, x):
            worst = max(worst, float(np.abs(output - layer.weight @ x)[0] / np.abs(layer.weight[0, 0])))
    assert worst > gamma(2, 2.0**-24)
    assert worst <= gamma(layer.roundings + 2, 2.0**-24)


def test_convolutions_fold_per_channel_only() -> None:
    rng = np.random.default_rng(0)
    conv = Conv2d(rng.normal(size=(3, 2, 2, 2)), rng.normal(size=3))
    scale, shift = rng.normal(size=(3, 1, 1)), rng.normal(size=(3, 1, 1))
    layer = fold_affine(conv, Affine(scale, shift))
    assert isinstance(layer, Conv2d)
    np.testing.assert_allclose(layer.weight, conv.weight * scale[..., None])
    np.testing.assert_allclose(layer.bias, conv.bias * scale[:, 0, 0] + shift[:, 0, 0])
    assert fold_affine(conv, Affine(scale, rng.normal(size=(1, 4, 1)))) is None


def test_large_rows_are_left_alone_and_expect_a_fold() -> None:
    dense = Dense(np.full((2, 3), 2.0**20), np.array([1.0, -2.0]))
    affine = Affine(np.array([2.0, 3.0]), np.array([0.5, 0.0]))
    assert fold_affine(dense, affine) is None
    expecting = expect_fold(dense, affine)
    assert expecting.roundings > 0
    assert expecting.bias_magnitude is not None
    assert (expecting.bias_magnitude >= np.array([2.5, 6.0])).all()
    assert (expecting.scale == affine.scale).all()


def test_normalisation_of_nothing_is_refused() -> None:
    one = np.ones(1)
    for variance, epsilon in ((0 * one, 0.0), (-one, 1e-5), (one, -1.0), (one, float("nan"))):
        with pytest.raises(UnsupportedOpError, match="variance"):
            batch_norm(one, one, one, variance, epsilon=epsilon, rank=1)
    with pytest.raises(UnsupportedOpError, match="must not exceed"):
        batch_norm(1e20 * one, one, one, one, epsilon=1e-5, rank=1)
