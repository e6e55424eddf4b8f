"""Boxes around samples: they hold the exact ball and at most one ulp more."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paoding_verify.data import Dataset
from paoding_verify.errors import DataError, RegionError
from paoding_verify.evidence.boxes import ball
from paoding_verify.linf import linf_regions

floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
radii = st.floats(min_value=0, max_value=1e30, allow_nan=False)


def dataset(*rows: list[float], y: list[int] | None = None) -> Dataset:
    return Dataset(np.array(rows, dtype=np.float32), None if y is None else np.array(y), "d.npz")


@given(floats32, radii)
def test_ball_is_the_tightest_float64_box_around_the_exact_ball(x: float, eps: float) -> None:
    lower, upper = ball(np.array([x], dtype=np.float32), np.array([eps]))
    exact_low, exact_high = Fraction(x) - Fraction(eps), Fraction(x) + Fraction(eps)
    assert Fraction(lower[0]) <= exact_low < Fraction(np.nextafter(lower[0], np.inf))
    assert Fraction(np.nextafter(upper[0], -np.inf)) < exact_high <= Fraction(upper[0])


def test_exact_ends_stay_exact() -> None:
    (region,) = linf_regions(dataset([0.5, 0.25]), eps=0.125)
    np.testing.assert_array_equal(region.lower, [0.375, 0.125])
    np.testing.assert_array_equal(region.upper, [0.625, 0.375])


def test_domain_clips_and_points_outside_are_refused() -> None:
    data = dataset([0.0, 0.5, 1.0], [0.0, 1.5, 0.0])
    (region, _) = linf_regions(data, eps=0.25, domain=(0, [1, 2, 1]))
    np.testing.assert_array_equal(region.lower, [0.0, 0.25, 0.75])
    np.testing.assert_array_equal(region.upper, [0.25, 0.75, 1.0])
    with pytest.raises(RegionError, match=r"row 1, feature 1: 1\.5 lies outside the domain \[0\.0, 1\.0\]"):
        linf_regions(data, eps=0.25, domain=(0, 1))
    for bad in ((1, 0), (0, np.inf), (np.nan, 1)):
        with pytest.raises(RegionError, match="domain"):
            linf_regions(data, eps=0.25, domain=bad)


def test_per_feature_radius_and_mask() -> None:
    data = dataset([1.0, 1.0, 1.0])
    (region,) = linf_regions(data, eps=[0.0, 0.5, 1.0], mask=[True, True, False])
    np.testing.assert_array_equal(region.lower, [1.0, 0.5, 1.0])
    np.testing.assert_array_equal(region.upper, [1.0, 1.5, 1.0])
    assert region.eps is None
    assert linf_regions(data, eps=0.5)[0].eps == 0.5
    assert linf_regions(data, eps=0.5, mask=[True, True, False])[0].eps is None
    with pytest.raises(RegionError, match=r"eps has shape \(2,\)"):
        linf_regions(data, eps=[0.1, 0.2])
    image = Dataset(np.zeros((1, 2, 2, 2), dtype=np.float32))
    (region,) = linf_regions(image, eps=np.array([1.0, 2.0])[:, None, None])
    np.testing.assert_array_equal(region.upper, np.stack([np.full((2, 2), 1.0), np.full((2, 2), 2.0)]))


@pytest.mark.parametrize("eps", [-1e-9, np.nan, np.inf, [0.1, -0.1]])
def test_bad_radius_is_refused(eps: float) -> None:
    with pytest.raises(RegionError, match="eps must be finite and at least 0"):
        linf_regions(dataset([0.0, 0.0]), eps=eps)


def test_names_labels_and_sources(tmp_path: Path) -> None:
    x = np.linspace(0, 1, 40, dtype=np.float32).reshape(10, 4)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(10))
    regions = linf_regions(tmp_path / "d.npz", eps=0.01, samples=3, seed=5, input_shape=(2, 2))
    assert [r.id for r in regions] == ["r0000", "r0001", "r0002"]
    for region in regions:
        assert region.label is not None
        assert region.source == f"d.npz[{region.label}]"
        assert region.anchor is not None
        np.testing.assert_array_equal(region.anchor, x[region.label].reshape(2, 2))
        assert region.contains(region.anchor)
    assert [r.label for r in linf_regions(dataset([0.0], [1.0]), eps=0.1)] == [None, None]
    with pytest.raises(DataError, match="cannot draw 11"):
        linf_regions(tmp_path / "d.npz", eps=0.01, samples=11)


@pytest.mark.realdata
def test_real_images(data_dir: Path) -> None:
    regions = linf_regions(
        data_dir / "data/mnist_test.npz", eps=0.03, domain=(0, 1), samples=20, input_shape=(1, 784, 1)
    )
    assert {r.lower.shape for r in regions} == {(1, 784, 1)}
    assert min(r.lower.min() for r in regions) == 0.0
    assert max(r.upper.max() for r in regions) == 1.0


def test_pixels_bring_their_own_domain(tmp_path: Path) -> None:
    np.savez(tmp_path / "pixels.npz", x=np.array([[0, 255]], dtype=np.uint8))
    (region,) = linf_regions(tmp_path / "pixels.npz", eps=0.25)
    assert region.domain == (0.0, 1.0)
    assert region.lower.tolist() == [0.0, 0.75]
    assert region.upper.tolist() == [0.25, 1.0]


def test_a_radius_is_noted_only_with_one_domain_for_all_features() -> None:
    data = Dataset(np.full((1, 2), 0.5, dtype=np.float32))
    (one,) = linf_regions(data, eps=0.25, domain=(0, 1))
    (several,) = linf_regions(data, eps=0.25, domain=([0, 0], [1, 2]))
    assert (one.eps, one.domain, several.eps, several.domain) == (0.25, (0.0, 1.0), None, None)
