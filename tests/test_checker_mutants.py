"""Every mutant of the checker's arithmetic proves something false that the suite notices."""

# ruff: noqa: E501 - a mutant is one line
from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

import paoding_verify.checker
from tests.case_checks import CASE_CHECKS
from tests.checker_suite import CHECKS
from tests.pair_checks import PAIR_CHECKS

FOLDER = Path(paoding_verify.checker.__file__).parent
ORDER = (
    "rounding",
    "program",
    "relax",
    "intervals",
    "backward",
    "alignment",
    "differences",
    "crown",
    "branching",
    "prove",
    "exact_numbers",
    "exact_ops",
    "exact",
    "exact_pair",
    "exact_tree",
)
PREFIX = "paoding_verify.checker."
Checks = tuple[Callable[[dict[str, ModuleType]], None], ...]

MUTANTS = [
    ("rounding", "    centre = lower / 2 + upper / 2\n    return centre, up(", "    centre = lower / 2 + upper / 2\n    return centre, 0.9 * up("),
    ("relax", "np.where(u >= -l, 1.0, slope)", "np.where(u >= -l, 2.0, slope)"),
    ("relax", "stable = np.where(l >= 0, 1.0, np.where(u <= 0, slope, np.nan))", "stable = np.where(l >= 0, 1.0, np.where(u <= 0, 0.0, np.nan))"),
    ("relax", "np.where(unstable, t, zero)", "np.where(unstable, 0.9 * t, zero)"),
    ("relax", "t = np.maximum(slope * l - s * l, u - s * u)", "t = np.minimum(slope * l - s * l, 0.5 * (u - s * u))"),
    ("relax", "np.minimum(*slopes) - 2 * LIBM_ERROR", "np.maximum(*slopes) - 2 * LIBM_ERROR"),
    ("relax", "np.where(l >= 0, chord, parallel)", "np.where(u >= 0, chord, parallel)"),
    ("relax", "np.argmax(low, axis=2), np.argmax(high, axis=2)", "np.argmax(low, axis=2), np.argmin(high, axis=2)"),
    ("relax", "rest = high.max(axis=2)", "rest = high.min(axis=2)"),
    ("relax", "np.where(cells[:, :, None] == taps", "np.where(cells[:, :, None] >= taps"),
    ("intervals", "return downward(middle - half), upward(middle + half)", "return downward(middle), upward(middle)"),
    ("intervals", "half = half + up(product(absolute(op), radius", "half = half + 0.9 * up(product(absolute(op), radius"),
    ("intervals", "up(error + gamma(count + folded, U64) * size, 4)", "up(error + 0.0 * size, 4)"),
    ("intervals", "up(error + gamma(count + folded, U64) * size, 4)", "up(gamma(count + folded, U64) * size, 4)"),
    ("intervals", "if not program.passing(index + 1):", "if False:"),
    ("intervals", "error = up(gamma(roundings, U32) * size", "error = up(0.1 * U32 * size"),
    ("intervals", "size + _column(floor, size)", "size + 0.0 * _column(floor, size)"),
    ("intervals", "np.where(_column(harmless, size)", "np.where(True | _column(harmless, size)"),
    ("intervals", "reach = [np.maximum(x.size, x.magnitude) for x in inputs]", "reach = [x.magnitude for x in inputs]"),
    ("intervals", "(size >= FLOAT32_RANGE) | _column", "(size >= FLOAT32_RANGE) & _column"),
    ("intervals", "axis=0) >= FLOAT32_RANGE", "axis=0) < 0"),
    ("intervals", "evaluate_op(op, x.upper)", "evaluate_op(op, x.lower / 2 + x.upper / 2)"),
    ("intervals", "[(op, x.box, True) for x in inputs]", "[(op, x.box, True) for x in inputs[:1]]"),
    ("backward", "coefficient = before + coefficient", "coefficient = coefficient"),
    ("backward", "rows.spend(coefficient, values[index + 1].charge)", "pass"),
    ("backward", "np.maximum(coefficient, 0.0), np.minimum(coefficient, 0.0)\n    rows.shift(", "np.minimum(coefficient, 0.0), np.maximum(coefficient, 0.0)\n    rows.shift("),
    ("backward", "np.clip(rows.hinted(state.slopes, step, low), lines.free_slope, 1.0)", "rows.hinted(state.slopes, step, low) * 3.0"),
    ("backward", "_dot(positive, rows.of(box.lower)) + _dot(negative, rows.of(box.upper))", "_dot(positive, rows.of(box.upper)) + _dot(negative, rows.of(box.lower))"),
    ("backward", "downward(rows.constant - up(slack))", "downward(rows.constant)"),
    ("crown", "(1, -1.0, ends[1], np.minimum)", "(1, 1.0, ends[1], np.minimum)"),
    ("crown", "low, high = np.maximum(x.lower, box[0]), np.minimum(x.upper, box[1])", "low, high = np.maximum(x.lower, box[0]), (x.lower + np.minimum(x.upper, box[1])) / 2"),
    ("crown", "{first: 1.0, second: -1.0}", "{first: 1.0, second: -0.9}"),
    ("alignment", "any(m[1:] != o[1:]", "any(m[2:] != o[2:] and False"),
    ("alignment", "weight[np.ix_(out, read)] = g", "weight[: len(out), : len(read)] = g"),
    ("alignment", "changes[item.name][out] = other", "changes[item.name][: len(out)] = other"),
    ("backward", "m = positive * rows.of(below.upper_slope) + negative * rows.of(above.upper_slope)", "m = positive * rows.of(above.upper_slope) + negative * rows.of(below.upper_slope)"),
    ("prove", "check_slopes(program, certificate.shares, len(prop.rows))", "pass"),
    ("prove", "if certificate.slopes or certificate.shares:\n            raise", "if certificate.slopes:\n            raise"),
    ("backward", "- _dot(positive, rows.of(below.upper_shift))", "+ _dot(positive, rows.of(below.upper_shift))"),
    ("backward", "rows.give(z_g, -m, state.values)", "rows.give(z_g, m, state.values)"),
    ("differences", "error = up(values[first].error + values[second].error)", "error = 0.0 * values[first].error"),
    ("differences", "terms = [(f, box, False) for box in read]", "terms = [(f, (box[0] / 2, box[1] / 2), False) for box in read]"),
    ("differences", "narrower_f = np.maximum(f[0], downward(g[0] + d[0])), np.minimum(f[1], upward(g[1] + d[1]))", "narrower_f = np.maximum(f[0], downward(g[0] - d[0])), np.minimum(f[1], upward(g[1] - d[1]))"),
    ("differences", "np.minimum(low, 0.0)", "low"),
    ("backward", "rows.coefficients[first], rows.coefficients[second] = a - k, b + k", "rows.coefficients[first], rows.coefficients[second] = a - k, b - k"),
    ("differences", "d = np.maximum(d[0], downward(f[0] - g[1]))", "d = np.maximum(d[0], downward(f[0] - g[0]))"),
    ("differences", "narrower_f = np.maximum(f[0], downward(g[0] + d[0]))", "narrower_f = np.maximum(f[0], downward(g[0] - d[0]))"),
    ("differences", "narrower_g = np.maximum(g[0], downward(f[0] - d[1]))", "narrower_g = np.maximum(g[0], downward(f[0] - d[0]))"),
    ("backward", "rows.give(index + 1, -rows.credits[index + 1], values)", "rows.give(index + 1, rows.credits[index + 1], values)"),
    ("branching", "if sign > 0:", "if sign < 0:"),
    ("branching", "credited[place] += sign * beta", "credited[place] += beta"),
    ("branching", "max(low[place], 0.0)", "max(low[place], 0.05)"),
    ("branching", "min(high[place], 0.0)", "min(high[place], -0.05)"),
    ("branching", "[((*path, (node, unit, 1)), lines), ((*path, (node, unit, -1)), lines)]", "[((*path, (node, unit, 1)), lines)]"),
    ("branching", "((*path, (node, unit, -1)), lines)", "((*path, (node, unit, 1)), lines)"),
    ("branching", "(np.isfinite(scales) & (scales >= 0)).all()", "np.isfinite(scales).all()"),
    ("branching", "any(leaf.row not in prop.clauses[tree.clause] for leaf in leaves)", "False"),
    ("branching", "(low > high).reshape", "(low > high - 0.3).reshape"),
    ("branching", "prop, semantics).min())", "prop, semantics).max())"),
    ("branching", "margins[tree.clause] = max(margins[tree.clause], least)", "margins = [max(margin, least) for margin in margins]"),
    ("branching", "return min(margins)", "return max(margins)"),
    ("branching", "prop.rows[rows], prop.offsets[rows]", "prop.rows[rows], abs(prop.offsets[rows])"),
    ("branching", "if pending or leaf != len(scales)", "if leaf != len(scales)"),
    ("intervals", " + coarse * (4 + folded)", ""),
    ("intervals", "coarse * (4 + folded)", "coarse * (3 + folded)"),
    ("intervals", "coarse * (4 + folded)", "coarse * 4"),
    ("intervals", "3 * length if coarse else length", "length"),
    ("intervals", "gamma(3 * COARSE[semantics], U32) * (reach", "0.0 * (reach"),
    ("prove", "if not low.flat[node.dimension] <= node.threshold <= high.flat[node.dimension]:", "if False:"),
    ("prove", "pending += [(low, below, node.below), (above, high, node.above)]", "pending += [(low, below, node.below)]"),
    ("prove", "min(margins[task], margin)", "max(margins[task] if margins[task] < 1e300 else margin, margin)"),
    ("prove", "margins[task] = min(margins[task], margin) if np.isfinite(margin) else -np.inf", "margins[task] = min(margins[task], margin) if np.isfinite(margin) else margins[task]"),
]  # fmt: skip


@contextmanager
def mutated(name: str, old: str, new: str) -> Iterator[dict[str, ModuleType]]:
    """The checker's modules, built anew from sources of which one is changed."""
    saved = {PREFIX + part: sys.modules.get(PREFIX + part) for part in ORDER}
    modules = {}
    try:
        for part in ORDER:
            source = (FOLDER / f"{part}.py").read_text()
            if part == name:
                assert source.count(old) >= 1, f"the mutant of {name} does not apply: {old}"
                source = source.replace(old, new)
            module = ModuleType(PREFIX + part)
            sys.modules[PREFIX + part] = modules[part] = module
            exec(compile(source, f"{part}.py (mutant)", "exec"), module.__dict__)  # noqa: S102 - the point of this test
        yield modules
    finally:
        for key, module in saved.items():
            if module is None:
                del sys.modules[key]
            else:
                sys.modules[key] = module


def killed(modules: dict[str, ModuleType], checks: Checks = CHECKS + PAIR_CHECKS + CASE_CHECKS) -> bool:
    """Whether some check of the suite notices."""
    for check in checks:
        try:
            check(modules)
        except Exception:
            return True
    return False


def test_unchanged_sources_pass() -> None:
    with mutated("prove", "if margin > 0:", "if margin > 0:") as modules:
        assert not killed(modules)


@pytest.mark.mutation
@pytest.mark.parametrize(("name", "old", "new"), MUTANTS, ids=lambda text: text[:40].strip())
def test_mutant_is_killed(name: str, old: str, new: str) -> None:
    with mutated(name, old, new) as modules:
        assert killed(modules)
