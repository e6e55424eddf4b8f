"""Properties that bind g only where f is sure: their linear form says neither less nor more than their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from paoding_verify.errors import InputError
from paoding_verify.evidence.conditional import (
    decides_like_where_confident,
    decides_like_where_decided,
    preserves_margin,
)
from paoding_verify.evidence.property import broken_by, exact_margin


def pairs(num_outputs: int, seed: int, size: float = 4.0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    f = rng.normal(size=(600, num_outputs)) * size
    return list(zip(f, f + rng.normal(size=f.shape) * size, strict=True))


def softmax(outputs: np.ndarray) -> np.ndarray:
    e = np.exp(outputs - outputs.max())
    return e / e.sum()


@pytest.mark.parametrize("num_outputs", [2, 3, 5])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_confident_points_are_covered_and_refuted_ones_are_confident(num_outputs: int, confidence: float) -> None:
    prop = decides_like_where_confident(confidence, num_outputs)
    covered = refuted = 0
    for f, g in pairs(num_outputs, 0):
        outputs = (*f.tolist(), *g.tolist())
        sure = softmax(f).max() >= confidence
        if sure and f.argmax() != g.argmax():
            covered += 1
            assert exact_margin(prop, outputs) <= 0
        if exact_margin(prop, outputs) > 0:
            assert not sure or f.argmax() == g.argmax()
        if broken_by(prop, outputs):
            refuted += 1
            assert sure
            assert f.argmax() != g.argmax()
    assert 0 < refuted <= covered
    if num_outputs == 2:
        assert refuted == covered


def test_the_limits_of_confidence_are_outward() -> None:
    """At 3 / 4 and two classes the odds are 3: log 3 lies between what is supposed and what refutes."""
    prop = decides_like_where_confident(0.75, 2)
    least, sure = prop.offsets[0], -prop.offsets[-1]
    assert least < np.log(3.0) < sure
    assert sure - least < 1e-8
    assert decides_like_where_confident(0.5, 3).offsets[0] == 0


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_decided_points_are_told_exactly(margin: float) -> None:
    prop = decides_like_where_decided(margin, 4)
    seen = set()
    for f, g in pairs(4, 1):
        outputs = (*f.tolist(), *g.tolist())
        apart = np.sort(f)[-1] - np.sort(f)[-2] >= margin and f.argmax() != g.argmax()
        assert (exact_margin(prop, outputs) > 0) == (not apart)
        assert broken_by(prop, outputs) == apart
        seen.add(bool(apart))
    assert seen == {False, True}


def test_a_tie_of_f_is_not_decided() -> None:
    prop = decides_like_where_decided(0.5, 3)
    assert exact_margin(prop, (1.0, 1.0, 0.0, 0.0, 0.0, 1.0)) > 0
    assert not broken_by(prop, (2.0, 1.0, 0.0, 1.0, 1.0, 0.0))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("label", [0, 2])
def test_preserved_margins_are_told_exactly(label: int, share: float) -> None:
    prop = preserves_margin(label, 4, share)
    seen = set()
    for f, g in pairs(4, 2):
        mine, theirs = (y[label] - np.delete(y, label).max() for y in (f, g))
        lost = mine > 0 and theirs <= share * mine
        outputs = (*f.tolist(), *g.tolist())
        assert (exact_margin(prop, outputs) > 0) == (not lost)
        assert broken_by(prop, outputs) == lost
        seen.add(bool(lost))
    assert seen == {False, True}


def test_a_network_keeps_its_own_margin() -> None:
    f = (3.0, 1.0, -2.0)
    assert exact_margin(preserves_margin(0, 3, 0.5), (*f, *f)) > 0
    assert not broken_by(preserves_margin(1, 3, 0.5), (*f, *f))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: decides_like_where_confident(0.4, 3), "at least 0.5"),
        (lambda: decides_like_where_confident(1.0, 3), "less than 1"),
        (lambda: decides_like_where_decided(-1.0, 3), "at least 0"),
        (lambda: decides_like_where_decided(float("nan"), 3), "finite"),
        (lambda: decides_like_where_decided(1.0, 1), "no classes"),
        (lambda: preserves_margin(3, 3), "label 3"),
        (lambda: preserves_margin(0, 3, 1.0), "share"),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(build: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        build()  # type: ignore[operator]
