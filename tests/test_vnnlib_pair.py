"""VNN-LIB 2.0 of two networks: what a specification says survives reading, everything else is a clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paoding_verify.errors import SpecError
from paoding_verify.evidence.property import Property, exact_margin
from paoding_verify.network.graph import Network
from paoding_verify.regions import Region
from paoding_verify.vnnlib_pair import read_pair_vnnlib
from paoding_verify.vnnlib_syntax import SpecLimits
from tests.networks import dense_net
from tests.pairs import perturbed

F = dense_net(0, (2, 3, 2))
G = perturbed(F, 1, 0.1)
OTHER = dense_net(0, (2, 5, 2))
HEAD = """(vnnlib-version <2.0>)
(declare-network f (declare-input X float32 [1, 2]) (declare-output Y float32 [2]))
(declare-network g (declare-input A Real [2]) (declare-output B real [1,2]))
"""
TIED = "(assert (== X[0,0] A[0])) (assert (and (<= A[1] X[0, 1]) (>= A [1] X[0,1])))\n"
BOX = "(assert (and (>= X[0,0] -1) (<= A[0] 1.5))) (assert (>= A[1] 0)) (assert (<= X[0,1] 0.25))\n"
APART = "(assert (>= (- Y[0] B[0,0]) 0.5))\n"


def read(
    path: Path, text: str, pair: tuple[Network, Network] = (F, G), **options: object
) -> list[tuple[Region, Property]]:
    path = path / "pair.vnnlib"
    path.write_text(text)
    return read_pair_vnnlib(path, *pair, **options)  # type: ignore[arg-type]


def test_common_inputs_and_both_outputs(tmp_path: Path) -> None:
    ((region, held),) = read(tmp_path, HEAD + TIED + BOX + APART)
    np.testing.assert_array_equal(region.lower, [-1, 0])
    np.testing.assert_array_equal(region.upper, [1.5, 0.25])
    assert (region.source, region.label) == ("pair.vnnlib", None)
    np.testing.assert_array_equal(held.rows, [[-1, 0, 1, 0]])
    np.testing.assert_array_equal(held.offsets, [0.5])
    assert exact_margin(held, (1.0, 0.0, 0.5, 0.0)) == 0


def test_alternatives_over_both_outputs_are_clauses(tmp_path: Path) -> None:
    body = "(assert (or (and (>= Y[0] Y[1]) (> B[0,1] B[0,0])) (== Y[1] (* 2 B[0,1]))))"
    ((_, held),) = read(tmp_path, HEAD + TIED + BOX + body)
    assert held.clauses == ((0, 1), (2, 3))
    np.testing.assert_array_equal(held.rows, [[-1, 1, 0, 0], [0, 0, 1, -1], [0, 1, 0, -2], [0, -1, 0, 2]])


def test_boxes_in_alternatives_are_regions(tmp_path: Path) -> None:
    body = "(assert (or (and (<= X[0,0] 0) (<= Y[0] 1)) (and (>= A[0] 1) (<= B[0,0] 2))))"
    pairs = read(tmp_path, HEAD + TIED + BOX + body)
    assert [(float(r.lower[0]), float(r.upper[0])) for r, _ in pairs] == [(-1, 0), (1, 1.5)]


def test_one_class_of_a_scalar_output(tmp_path: Path) -> None:
    pair = dense_net(1, (1, 2, 1)), dense_net(2, (1, 4, 1))
    text = """(vnnlib-version <2.1>) (declare-network f-1 (declare-input x real []) (declare-output y real []))
    (declare-network g-1 (declare-input u real [1]) (declare-output v real [1,1]))
    (assert (== x u[0])) (assert (and (>= x 0) (<= x 1))) (assert (> (+ y v[0,0]) 3))"""
    ((_, held),) = read(tmp_path, text, pair)
    np.testing.assert_array_equal(held.rows, [[-1, -1]])


@pytest.mark.parametrize(
    ("relation", "second", "words"),
    [
        ("isomorphic-to f", G, ""),
        ("equal-to f", F, ""),
        ("isomorphic-to f", OTHER, "line 3: .*differ in structure"),
        ("equal-to f", G, "line 3: .*hold different ones"),
        ("equal-to h", F, "line 3: equal-to h: there is no such network"),
    ],
)
def test_declared_relations_are_checked(tmp_path: Path, relation: str, second: Network, words: str) -> None:
    text = HEAD.replace("declare-network g", f"declare-network g ({relation})") + TIED + BOX + APART
    if words:
        with pytest.raises(SpecError, match=words):
            read(tmp_path, text, (F, second))
    else:
        assert len(read(tmp_path, text, (F, second))) == 1


NOT_HANDLED = {
    "no version": (HEAD[23:] + TIED + BOX, "line 1: .*starts with"),
    "version one": (HEAD.replace("<2.0>", "<1.0>") + TIED + BOX, "line 1: VNN-LIB version <1.0>"),
    "one network": ("\n".join(HEAD.split("\n")[:2]), "fewer than two networks"),
    "three networks": (HEAD + HEAD.split("\n")[1].replace(" f ", " h "), "line 4: .*third network"),
    "same name": (HEAD.replace("network g", "network f"), "line 3: 'f' is no name"),
    "same tensor": (HEAD.replace("input A", "input X"), "line 3: the name X is taken"),
    "hidden": (
        HEAD.replace("(declare-output B", '(declare-hidden H real [3] "h") (declare-output B'),
        "line 3: .*hidden",
    ),
    "two inputs": (HEAD.replace("(declare-output B", "(declare-input C real [2]) (declare-output B"), "line 3: .*one"),
    "no output": (HEAD.replace(" (declare-output B real [1,2])", ""), "line 3: network g needs"),
    "initialized": (HEAD.replace("Real [2]", "Real [2] initialized"), r"line 3: expected \(declare-input"),
    "shape": (HEAD.replace("[1, 2]", "[1, 3]"), "line 2: X has 3 elements; network f has 2"),
    "no shape": (HEAD.replace("[1, 2]", "2"), "line 2: '2' is no shape"),
    "type": (HEAD.replace("Real", "float64"), "line 3: A has elements of type float64"),
    "late network": (HEAD + TIED + HEAD.split("\n")[1], "line 5: expected two"),
    "untied": (
        HEAD + BOX + APART,
        r"line 3: the input A\[0\] is not tied to X\[0,0\].*\(assert \(== A\[0\] X\[0,0\]\)\)",
    ),
    "half tied": (HEAD + TIED.replace("(<= A[1] X[0, 1])", "") + BOX, r"line 3: the input A\[1\] is not tied"),
    "tied apart": (HEAD + TIED.replace("X[0,0] A[0]", "X[0,0] (+ A[0] 1)") + BOX, r"A\[0\] is not tied"),
    "tied in an alternative": (HEAD + f"(assert (or {TIED[8:24]} (<= Y[0] 1)))" + BOX, "is not tied"),
    "crossed": (HEAD + TIED + BOX + "(assert (<= X[0,0] A[1]))", "line 6: a condition relates several inputs"),
    "input and output": (HEAD + TIED + BOX + "(assert (<= X[0,0] Y[1]))", "line 6: .*inputs with outputs"),
    "unequal": (HEAD + TIED + BOX + "(assert (!= Y[0] 1))", "line 6: != is not handled"),
    "beyond": (HEAD + TIED + BOX + "(assert (<= Y[2] 1))", r"line 6: Y\[2\] does not lie in Y"),
    "too few indices": (HEAD + TIED + BOX + "(assert (<= B[1] 1))", r"line 6: B\[1\] does not lie in B"),
    "undeclared": (HEAD + TIED + BOX + "(assert (<= X_0 1))", "line 6: 'X_0' is no element"),
    "product": (HEAD + TIED + BOX + "(assert (<= (* Y[0] B[0,0]) 1))", "line 6: .*multiplies variables"),
    "unbounded": (HEAD + TIED + "(assert (<= Y[0] 1))", "X_0 has no lower bound"),
    "empty": (HEAD + TIED + BOX + "(assert (>= A[0] 2))", "no input meets"),
    "second version": (HEAD + "(vnnlib-version <2.0>)", "line 4: expected two"),
}


@pytest.mark.parametrize("name", NOT_HANDLED)
def test_what_is_not_handled_is_said(tmp_path: Path, name: str) -> None:
    text, words = NOT_HANDLED[name]
    with pytest.raises(SpecError, match=rf"^pair\.vnnlib.*{words}"):
        read(tmp_path, text)


def test_limits_are_those_of_the_other_reader(tmp_path: Path) -> None:
    alternatives = "(assert (or (<= Y[0] 0) (>= Y[0] 1)))\n" * 5
    assert len(read(tmp_path, HEAD + TIED + BOX + alternatives)[0][1].clauses) == 32
    with pytest.raises(SpecError, match="exceeds 31 cases"):
        read(tmp_path, HEAD + TIED + BOX + alternatives, limits=SpecLimits(max_spec_disjuncts=31))
