"""VNN-LIB: what a specification says survives reading, and files that mean harm are refused."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paoding_verify.data import read_dataset
from paoding_verify.errors import SpecError
from paoding_verify.evidence.property import Property, predicts
from paoding_verify.network.graph import Shape
from paoding_verify.regions import Region
from paoding_verify.vnnlib import SpecLimits, read_vnnlib, write_witness

fresh_folder_is_not_needed = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def spec(path: Path, body: str, num_inputs: int = 1, num_outputs: int = 1) -> Path:
    names = [f"X_{k}" for k in range(num_inputs)] + [f"Y_{k}" for k in range(num_outputs)]
    path = path / "spec.vnnlib"
    path.write_text("\n".join(f"(declare-const {name} Real)" for name in names) + "\n" + body)
    return path


def box(lower: str, upper: str, variable: str = "X_0") -> str:
    return f"(assert (>= {variable} {lower})) (assert (<= {variable} {upper}))\n"


def read(tmp_path: Path, body: str, num_inputs: int = 1, num_outputs: int = 1) -> list[tuple[Region, Property]]:
    return read_vnnlib(spec(tmp_path, body, num_inputs, num_outputs), (num_inputs,), num_outputs)


def unsafe(pairs: list[tuple[Region, Property]], x: list[float], y: list[float]) -> bool:
    """Whether some pair calls the point (x, y) a counterexample."""
    outputs = np.array([y])
    return any(region.contains(np.array(x)) and held.margins(held.values(outputs))[0] <= 0 for region, held in pairs)


def test_every_threshold_of_a_conjunction_must_be_met(tmp_path: Path) -> None:
    body = box("-1", "1") + "(assert (<= Y_0 Y_1)) (assert (>= Y_1 2.5))"
    ((region, held),) = read(tmp_path, body, num_outputs=2)
    assert (region.id, region.source, region.label, region.eps) == ("r0000", "spec.vnnlib", None, None)
    np.testing.assert_array_equal(held.rows, [[1, -1], [0, -1]])
    np.testing.assert_array_equal(held.offsets, [0, 2.5])
    assert held.clauses == ((0, 1),)


def test_disjunctions_of_outputs_are_clauses_of_one_region(tmp_path: Path) -> None:
    body = box("0", "1") + "(assert (or (and (>= Y_0 Y_2)) (and (< Y_1 0) (> Y_2 -3e-1))))"
    ((_, held),) = read(tmp_path, body, num_outputs=3)
    assert held.clauses == ((0,), (1, 2))
    np.testing.assert_array_equal(held.rows, [[-1, 0, 1], [0, 1, 0], [0, 0, -1]])


def test_input_disjunctions_are_regions(tmp_path: Path) -> None:
    body = """(assert (or (and (>= X_0 0) (<= X_0 1) (>= Y_0 5)) (and (>= X_0 3) (<= X_0 4) (>= Y_0 6))
                          (and (>= X_0 0) (<= X_0 1) (<= Y_0 -5))))"""
    pairs = read(tmp_path, body)
    assert [(float(r.lower[0]), float(r.upper[0]), len(p.clauses)) for r, p in pairs] == [(0, 1, 2), (3, 4, 1)]
    assert [r.id for r, _ in pairs] == ["r0000", "r0001"]


def test_arithmetic_and_nesting(tmp_path: Path) -> None:
    body = box("(- 1)", "(+ 1 (* 2 3) -4)") + "(assert (and (or (>= (* 2 (- Y_0 Y_1 1)) (+ Y_0 (* Y_1 0.5))))))"
    ((region, held),) = read(tmp_path, body, num_outputs=2)
    assert (region.lower[0], region.upper[0]) == (-1, 3)
    np.testing.assert_array_equal(held.rows, [[-1, 2.5]])
    np.testing.assert_array_equal(held.offsets, [2])


def test_decimal_coefficients_are_scaled_to_exact_ones(tmp_path: Path) -> None:
    ((_, held),) = read(tmp_path, box("0", "1") + "(assert (>= (* 0.1 Y_0) (+ (* 0.3 Y_1) 0.7)))", num_outputs=2)
    np.testing.assert_array_equal(held.rows, [[-1, 3]])
    np.testing.assert_array_equal(held.offsets, [7])
    coefficients = "(* 1.00000000000000000001 Y_0) (* 3 Y_1)"
    with pytest.raises(SpecError, match="no multiples of float64"):
        read(tmp_path, box("0", "1") + f"(assert (>= (+ {coefficients}) 0))", num_outputs=2)


decimals = st.decimals(min_value=-1000, max_value=1000, allow_nan=False, places=30)


@fresh_folder_is_not_needed
@given(st.lists(st.tuples(decimals, decimals), min_size=1, max_size=4), decimals)
def test_boxes_hold_the_written_ones_and_thresholds_are_stronger(tmp_path: Path, ends: list, threshold: object) -> None:
    ends = [tuple(sorted(pair)) for pair in ends]
    body = "".join(box(str(a), str(b), f"X_{k}") for k, (a, b) in enumerate(ends)) + f"(assert (>= Y_0 {threshold}))"
    ((region, held),) = read(tmp_path, body, num_inputs=len(ends))
    for k, (a, b) in enumerate(ends):
        low, high = Fraction(region.lower[k]), Fraction(region.upper[k])
        assert low <= Fraction(a) < Fraction(np.nextafter(region.lower[k], np.inf))
        assert Fraction(np.nextafter(region.upper[k], -np.inf)) < Fraction(b) <= high
    exact = Fraction(str(threshold))
    assert Fraction(held.offsets[0]) <= exact < Fraction(np.nextafter(held.offsets[0], np.inf))


@fresh_folder_is_not_needed
@given(st.lists(st.tuples(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300)), min_size=1, max_size=4))
def test_float64_boxes_round_trip(tmp_path: Path, ends: list[tuple[float, float]]) -> None:
    ends = [(min(pair), max(pair)) for pair in ends]
    body = (
        "".join(box(str(Decimal(a)), str(Decimal(b)), f"X_{k}") for k, (a, b) in enumerate(ends))
        + "(assert (>= Y_0 0))"
    )
    ((region, _),) = read(tmp_path, body, num_inputs=len(ends))
    np.testing.assert_array_equal(region.lower, [a for a, _ in ends])
    np.testing.assert_array_equal(region.upper, [b for _, b in ends])


atoms = st.builds(
    lambda op, v, k: f"({op} {v} {k})",
    st.sampled_from(["<=", ">="]),
    st.sampled_from(["X_0", "Y_0"]),
    st.integers(-3, 3),
)
formulas = st.recursive(
    atoms, lambda sub: st.builds(lambda op, parts: f"({op} {' '.join(parts)})", st.sampled_from(["and", "or"]),
                                 st.lists(sub, min_size=1, max_size=3)), max_leaves=8,
)  # fmt: skip


def holds(form: str, x: float, y: float) -> bool:
    """Independent reading of a formula: as a Python expression."""
    words = form.replace("(", " ( ").replace(")", " ) ").split()

    def take() -> bool:
        assert words.pop(0) == "("
        head = words.pop(0)
        if head in ("and", "or"):
            parts = []
            while words[0] != ")":
                parts.append(take())
            result = all(parts) if head == "and" else any(parts)
        else:
            left, right = ({"X_0": x, "Y_0": y}[words.pop(0)], float(words.pop(0)))
            result = left <= right if head == "<=" else left >= right
        assert words.pop(0) == ")"
        return result

    return take()


@fresh_folder_is_not_needed
@given(st.lists(formulas, min_size=1, max_size=3))
def test_normal_form_means_the_same(tmp_path: Path, forms: list[str]) -> None:
    body = box("-4", "4") + "".join(f"(assert {form})\n" for form in forms)
    try:
        pairs = read(tmp_path, body)
    except SpecError as error:
        assert "no input meets" in str(error)  # noqa: PT017 - legal for some formulas, checked below
        pairs = []
    for x in np.arange(-4, 4.5, 0.5):
        for y in np.arange(-4, 4.5, 0.5):
            assert unsafe(pairs, [x], [y]) == all(holds(form, x, y) for form in forms)


def test_condition_on_inputs_alone_makes_every_input_unsafe(tmp_path: Path) -> None:
    assert unsafe(read(tmp_path, box("0", "1")), [0.5], [1e9])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("(assert (>= X_0 0)) (assert (>= Y_0 0))", "X_0 has no upper bound"),
        ("(assert (or (>= X_0 0) (<= X_0 1)))", "X_0 has no"),
        (box("1", "0") + "(assert (>= Y_0 0))", "no input meets"),
        (box("0", "1") + "(assert (>= X_0 Y_0))", "relates X_0, Y_0"),
        (box("0", "1") + "(assert (>= (* Y_0 Y_0) 1))", "line 4: .*multiplies variables"),
        (box("0", "1") + "(assert (>= Y_1 1))", "'Y_1' is neither a declared variable nor a number"),
        (box("0", "1") + "(assert (>= Y_0 nan))", "'nan' is neither"),
        (box("0", "1") + "(assert (>= Y_0 0x10))", "'0x10' is neither"),
        (box("0", "1") + "(assert (= Y_0 1))", "is no condition"),
        (box("0", "1") + "(assert (<= 0 Y_0 1))", "is no condition"),
        (box("0", "1") + "(assert (>= (/ Y_0 2) 1))", "is no term"),
        (box("0", "1") + "(assert (>= (+) 1))", "is no term"),
        (box("0", "1") + "(assert Y_0)", "is no condition"),
        (box("0", "1") + "(assert ())", "is no condition"),
        (box("0", "1") + "(check-all)", "expected"),
        (box("0", "1") + "(declare-const X_0 Real)", "declared twice"),
        (box("0", "1") + "(declare-const Z_0 Real)", "neither an input"),
        (box("0", "1") + "(declare-const X_1 Real)", "declare the network's input, X_0, and no other; it declares 2"),
        (box("0", "1") + "(declare-const Y_2 Real)", "declare the network's output, Y_0, and no other; it declares 2"),
        (box("0", "1") + ")", "line 4: '\\)' stands outside"),
        (box("0", "1") + "(assert (>= Y_0 1)", "line 4: .*never closed"),
        (box("0", "1e400") + "(assert (>= Y_0 1))", "bound of X_0 exceeds float64"),
        (box("0", "1") + "(assert (>= Y_0 -1e400))", "threshold .* exceeds float64"),
        (box("0", "1") + "(assert (>= Y_0 1e999999999))", "too long or too large"),
        (box("0", "1") + f"(assert (>= Y_0 {'9' * 5000}))", "too long or too large"),
        (box("0", "1") + f"(assert (>= Y_0 (* {'1e900 ' * 50})))", "too long"),
        ("(" * 100_000, "nested deeper than 64"),
        ("(assert " + "(or " * 100 + ")" * 101, "nested deeper than 64"),
        (box("0", "1") + "(assert (and " + "(or (>= Y_0 1) (<= Y_0 0)) " * 20_000 + "))", "normal form"),
        (box("0", "1") + "(assert (or (>= Y_0 1) (<= Y_0 0))) " * 20_000, "normal form"),
        (box("0", "1") + "(assert (or " + "(>= Y_0 1) " * 10_001 + "))", "normal form"),
    ],
)  # fmt: skip
def test_unusable_specifications_are_refused(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        read(tmp_path, body)
    assert "spec.vnnlib" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_inputs_that_are_related_are_refused(tmp_path: Path) -> None:
    body = box("0", "1") + box("0", "1", "X_1") + "(assert (<= X_0 X_1))"
    with pytest.raises(SpecError, match="relates X_0, X_1: only boxes"):
        read(tmp_path, body, num_inputs=2)


def test_files_that_are_no_specifications(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00(")
    path = spec(tmp_path, box("0", "1"))
    cases = [
        (tmp_path / "absent", SpecLimits(), "not a file"),
        (tmp_path / "binary", SpecLimits(), "no text file"),
        (path, SpecLimits(max_spec_bytes=10), "the limit is 10"),
        (path, SpecLimits(max_spec_tokens=10), "more than 10 words"),
    ]
    for source, limits, message in cases:
        with pytest.raises(SpecError, match=message):
            read_vnnlib(source, (1,), 1, limits=limits)
    wide = spec(tmp_path, box("0", "1") + box("0", "1", "X_1"), num_inputs=2)
    with pytest.raises(SpecError, match="1 boxes of 2 inputs"):
        read_vnnlib(wide, (2,), 1, limits=SpecLimits(max_spec_terms=1))


def test_witness_text_is_exact() -> None:
    x, y = np.array([[0.1, -2]], dtype=np.float32), np.array([1e-30], dtype=np.float32)
    text = write_witness(x, y)
    assert text.startswith("((X_0 0.10000000149011612)\n (X_1 -2.0)\n (Y_0 ")
    assert text.endswith("))")
    assert np.float32(text.split()[-1].rstrip(")")) == y[0]


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "shape", "num_outputs", "num_clauses"),
    [
        ("specs/acasxu_prop1.vnnlib", (1, 1, 1, 5), 5, 1), ("specs/test_prop.vnnlib", (1, 1, 1, 5), 5, 1),
        ("specs/test_nano.vnnlib", (1,), 1, 1), ("specs/test_small.vnnlib", (1,), 1, 1),
        ("specs/test_tiny.vnnlib", (1,), 1, 1),
        ("specs/cifar_base_kw-img876-eps0.024836601307189544.vnnlib", (3, 32, 32), 10, 9),
        ("specs_gpl3/prop_0_0.03.vnnlib", (1, 784, 1), 10, 9), ("specs_gpl3/prop_2_0.03.vnnlib", (1, 784, 1), 10, 9),
        ("specs_gpl3/prop_14_0.05.vnnlib", (1, 784, 1), 10, 9),
    ],
)  # fmt: skip
def test_real_specifications(data_dir: Path, name: str, shape: Shape, num_outputs: int, num_clauses: int) -> None:
    ((region, held),) = read_vnnlib(data_dir / name, shape, num_outputs)
    assert region.lower.shape == shape
    assert len(held.clauses) == num_clauses
    lower, upper = written_bounds((data_dir / name).read_text())
    np.testing.assert_allclose(region.lower.ravel(), lower, rtol=3e-16)
    np.testing.assert_allclose(region.upper.ravel(), upper, rtol=3e-16)


def written_bounds(text: str) -> tuple[list[float], list[float]]:
    """Independent reading of plain bounds, by pattern."""
    ends = [{int(k): float(v) for k, v in re.findall(rf"\({sign} X_(\d+) (-?[\d.]+)\)", text)} for sign in (">=", "<=")]
    return [ends[0][k] for k in sorted(ends[0])], [ends[1][k] for k in sorted(ends[1])]


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "row", "eps"), [("prop_0_0.03", 4933, 0.03), ("prop_14_0.05", 6354, 0.05)])
def test_mnist_specification_is_the_ball_around_its_image(data_dir: Path, name: str, row: int, eps: float) -> None:
    data = read_dataset(data_dir / "data/mnist_test.npz", input_shape=(784,))
    assert data.y is not None
    ((region, held),) = read_vnnlib(data_dir / f"specs_gpl3/{name}.vnnlib", (784,), 10)
    np.testing.assert_allclose(region.lower, np.maximum(data.x[row] - eps, 0), atol=1e-7)
    np.testing.assert_allclose(region.upper, np.minimum(data.x[row] + eps, 1), atol=1e-7)
    expected = predicts(int(data.y[row]), 10)
    np.testing.assert_array_equal(held.rows, expected.rows)
    assert held.clauses == expected.clauses


def test_strings_and_quoted_symbols_are_words_and_never_conditions(tmp_path: Path) -> None:
    hidden = '(set-info :source "two ""quotes"" ; and (assert (>= Y_0 5)) )")\n'
    hidden += '(set-info :x |a ( ; " b\n(assert (<= Y_0 1))|)'
    plain, quoted = box("0", "1") + "(assert (>= Y_0 3))", f"{hidden}\n{box('0', '1')}(assert (>= Y_0 3))"
    ((_, expected),), ((_, held),) = read(tmp_path, plain), read(tmp_path, quoted)
    np.testing.assert_array_equal(held.offsets, expected.offsets)
    assert held.clauses == expected.clauses


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('(set-info :a "open)\n(assert (>= Y_0 0))', "line 3: a string is opened"),
        ("(set-info :a |open)\n(assert (>= Y_0 0))", "line 3: a quoted symbol is opened"),
        ("(set-info :a |back\\slash|)", "line 3: a quoted symbol is opened"),
        (r'(set-info :a "b\") (assert (>= Y_0 0)) (set-info :c "d")', "line 3: a string with a backslash"),
        ('(assert (>= Y_0 "1"))', "line 3"),
        ("(assert (>= |Y_0| 1))", "line 3"),
    ],
)
def test_quotes_that_could_be_read_in_two_ways_are_refused(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read(tmp_path, body + box("0", "1"))
