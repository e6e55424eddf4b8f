"""The text form of boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paoding_verify.errors import DataError
from paoding_verify.evidence.boxes import Box, ball, box_digest, pack_box, unpack_box

SHAPE = (2, 3)
CENTRE = np.linspace(0, 1, 6, dtype=np.float32).reshape(SHAPE)


def example(eps: float = 0.1) -> Box:
    lower, upper = ball(CENTRE, np.full(SHAPE, eps), (np.zeros(SHAPE), np.ones(SHAPE)))
    return Box(CENTRE, lower, upper)


def read(text: str, box: Box, *, eps: float | None = 0.1, domain: tuple[float, float] | None = (0.0, 1.0)) -> Box:
    return unpack_box(text, SHAPE, eps=eps, domain=domain, sha256=box_digest(box.lower, box.upper))


@given(st.floats(0, 10, width=32))
def test_a_ball_comes_back_to_the_last_bit(eps: float):
    box = example(eps)
    back = read(pack_box(box, is_ball=True), box, eps=eps)
    for mine, theirs in ((box.centre, back.centre), (box.lower, back.lower), (box.upper, back.upper)):
        assert np.array_equal(mine, theirs)


def test_a_box_without_a_radius_comes_back_with_its_ends():
    box = Box(CENTRE, CENTRE.astype(np.float64) - np.pi, CENTRE.astype(np.float64) + 1 / 3)
    back = read(pack_box(box, is_ball=False), box, eps=None, domain=None)
    assert np.array_equal(back.lower, box.lower)
    assert np.array_equal(back.upper, box.upper)
    assert np.array_equal(back.centre, box.centre)


@pytest.mark.parametrize("text", ["", "!", "AAAA", pack_box(example(), is_ball=False)])
def test_a_text_that_is_no_box_is_refused(text: str):
    with pytest.raises(DataError, match="does not fit"):
        read(text, example())


def test_a_text_of_another_box_is_refused():
    other = pack_box(Box(CENTRE / 2, CENTRE.astype(np.float64), CENTRE.astype(np.float64)), is_ball=True)
    with pytest.raises(DataError, match="with the digest"):
        read(other, example())
    with pytest.raises(DataError, match="with the digest"):
        read(pack_box(example(), is_ball=True), example(), domain=None)
