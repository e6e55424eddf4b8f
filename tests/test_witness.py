"""Witnesses hold without any tolerance, on the files that are shipped."""

from fractions import Fraction

import numpy as np
import pytest

from paoding_verify.evidence.property import Property, decides_like, predicts
from paoding_verify.network.graph import Dense
from paoding_verify.network.onnx_out import shipped_onnx
from paoding_verify.network.runtime import OnnxProgram
from paoding_verify.regions import Region
from paoding_verify.witness import exact_margin, find_witness, replay_witness
from tests.networks import chain, dense_net


def box(lower, upper):
    return Region("r0", np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64))


class Constant:
    """A program with fixed outputs."""

    def __init__(self, *outputs):
        self.outputs = np.array([outputs], dtype=np.float32)

    def run(self, x):
        return np.repeat(self.outputs, len(x), axis=0)


UNIT = box([0.0, 0.0], [1.0, 1.0])
MIDDLE = np.array([0.5, 0.5], dtype=np.float32)


def test_a_violation_is_recorded_with_its_outputs():
    witness = replay_witness([Constant(1.0, 2.0)], UNIT, predicts(0, 2), MIDDLE)
    assert witness.input == (0.5, 0.5)
    assert witness.outputs_original == (1.0, 2.0)
    assert witness.outputs_pruned is None


def test_a_tie_is_a_violation_and_one_ulp_is_none():
    assert replay_witness([Constant(1.0, 1.0)], UNIT, predicts(0, 2), MIDDLE) is not None
    above = np.nextafter(np.float32(1), np.float32(2))
    assert replay_witness([Constant(above, 1.0)], UNIT, predicts(0, 2), MIDDLE) is None


def test_a_point_outside_by_one_ulp_is_refused():
    outside = np.array([np.nextafter(np.float32(1), np.float32(2)), 0.5], dtype=np.float32)
    assert replay_witness([Constant(0.0, 1.0)], UNIT, predicts(0, 2), outside) is None
    assert replay_witness([Constant(0.0, 1.0)], UNIT, predicts(0, 2), np.array([np.nan, 0.5], np.float32)) is None
    assert replay_witness([Constant(0.0, 1.0)], UNIT, predicts(0, 2), MIDDLE.astype(np.float64)) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_show_nothing(bad):
    assert replay_witness([Constant(bad, 1.0)], UNIT, predicts(0, 2), MIDDLE) is None


def test_rounding_makes_no_violation():
    """In float64 the row rounds to zero; exactly it is positive."""
    prop = Property(np.array([[1.0, -1.0, 1.0]]), np.zeros(1), ((0,),))
    outputs = np.array([1e20, 1e20, 1.0], dtype=np.float32)[[0, 1, 2]]
    tiny = np.array([2.0**80, 2.0**80, 2.0**-60], dtype=np.float32)
    reordered = Property(np.array([[1.0, 1.0, -1.0]]), np.zeros(1), ((0,),))
    assert float(reordered.values(tiny[[0, 2, 1]][None])[0, 0]) == 0.0
    assert exact_margin(reordered, tiny[[0, 2, 1]]) == Fraction(1, 2**60)
    assert exact_margin(prop, outputs) > 0


def test_exact_margin_of_clauses_and_offsets():
    prop = Property(np.array([[1.0, 0.0], [0.0, 1.0], [0.1, 0.0]]), np.array([0.0, -1.0, 0.5]), ((0, 1), (2,)))
    outputs = np.array([-3.0, 2.0], dtype=np.float32)
    assert exact_margin(prop, outputs) == Fraction(0.1) * -3 + Fraction(1, 2)


def test_pairs_keep_both_outputs():
    witness = replay_witness([Constant(1.0, 0.0), Constant(0.0, 1.0)], UNIT, decides_like(2), MIDDLE)
    assert witness.outputs_original == (1.0, 0.0)
    assert witness.outputs_pruned == (0.0, 1.0)
    assert replay_witness([Constant(1.0, 0.0), Constant(3.0, 1.0)], UNIT, decides_like(2), MIDDLE) is None


def test_replay_on_onnxruntime():
    network = dense_net(1)
    program = OnnxProgram(shipped_onnx(network))
    x = np.zeros(6, dtype=np.float32)
    region = box(np.full(6, -1.0), np.full(6, 1.0))
    label = int(network.forward(x[None])[0].argmax())
    assert replay_witness([program], region, predicts(label, 4), x) is None
    assert replay_witness([program], region, predicts((label + 1) % 4, 4), x) is not None


def test_a_point_that_fails_narrowly_is_searched_nearby():
    """Margin x - 0.5 over [0, 1]: the given point is on the wrong side, its neighbourhood is not."""
    network = chain((1,), Dense(np.array([[1.0], [0.0]]), np.array([-0.5, 0.0])))
    program = OnnxProgram(shipped_onnx(network))
    near = np.array([0.5 + 1e-5], dtype=np.float32)
    region = box([0.0], [1.0])
    assert replay_witness([program], region, predicts(0, 2), near) is None
    witness = find_witness([network], [program], region, predicts(0, 2), near)
    assert witness is not None
    assert witness.input[0] <= 0.5
    far = np.array([0.9], dtype=np.float32)
    assert find_witness([network], [program], region, predicts(0, 2), far) is None
