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
    "crown",
    "alignment",
    "differential",
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
    ("relax", "np.where(cells == tap, y, 0.0)", "np.where(cells >= tap, y, 0.0)"),
    ("intervals", "lower, upper = downward(lower - half), upward(upper + half)", "lower, upper = downward(lower), upward(upper)"),
    ("intervals", "half = up(up(product(absolute(op), radius", "half = up(0.9 * up(product(absolute(op), radius"),
    ("intervals", "up(error + gamma(count + folded, U64) * size, 4)", "up(error + 0.0 * size, 4)"),
    ("intervals", "up(error + gamma(count + folded, U64) * size, 4)", "up(gamma(count + folded, U64) * size, 4)"),
    ("intervals", "ends=not program.passing(index + 1)", "ends=False"),
    ("intervals", "error = up(gamma(roundings, U32) * size", "error = up(0.1 * U32 * size"),
    ("intervals", "size + floor.reshape", "size + 0.0 * floor.reshape"),
    ("intervals", "np.where(harmless.reshape", "np.where(True | harmless.reshape"),
    ("intervals", "bases = [np.maximum(x.size, magnitude(x.lower, x.upper)) for x in inputs]", "bases = [magnitude(x.lower, x.upper) for x in inputs]"),
    ("intervals", "(size >= FLOAT32_RANGE) | far", "(size >= FLOAT32_RANGE) & far"),
    ("intervals", "far = np.max(reach, axis=0) >= FLOAT32_RANGE", "far = np.max(reach, axis=0) < 0"),
    ("intervals", "pool_windows(op, x.upper).max(axis=2)", "pool_windows(op, x.upper).mean(axis=2)"),
    ("intervals", "inputs[0].lower + inputs[1].lower, inputs[0].upper", "inputs[0].lower + inputs[1].upper, inputs[0].upper"),
    ("backward", "coefficient = before + coefficient", "coefficient = coefficient"),
    ("backward", "rows.spend(coefficient, values[index + 1].charge)", "pass"),
    ("backward", "np.maximum(coefficient, 0.0), np.minimum(coefficient, 0.0)\n    rows.shift(", "np.minimum(coefficient, 0.0), np.maximum(coefficient, 0.0)\n    rows.shift("),
    ("backward", "np.clip(hints, lines.free_slope, 1.0)", "hints * 3.0"),
    ("backward", "dot(np.maximum(coefficient, 0.0), low) + dot(np.minimum(coefficient, 0.0), high)", "dot(np.maximum(coefficient, 0.0), high) + dot(np.minimum(coefficient, 0.0), low)"),
    ("backward", "downward(rows.constant - up(slack))", "downward(rows.constant)"),
    ("crown", "((1.0, low), (-1.0, high))", "((1.0, low), (1.0, high))"),
    ("crown", "low, high = np.maximum(x.lower, lower), np.minimum(x.upper, upper)", "low, high = np.maximum(x.lower, lower), (x.lower + np.minimum(x.upper, upper)) / 2"),
    ("alignment", "if any(mine[1:] != other[1:]", "if any(mine[2:] != other[2:] and False"),
    ("alignment", "weight[np.ix_(out, inp)] = g.weight", "weight[: len(out), : len(inp)] = g.weight"),
    ("differential", "m = positive * below.upper_slope[here] + negative * above.upper_slope[here]", "m = positive * above.upper_slope[here] + negative * below.upper_slope[here]"),
    ("prove", "check_slopes(program, certificate.shares, len(prop.rows))", "pass"),
    ("prove", "if certificate.slopes or certificate.shares:\n            raise", "if certificate.slopes:\n            raise"),
    ("differential", "- dot(positive, below.upper_shift[here])", "+ dot(positive, below.upper_shift[here])"),
    ("differential", "rows.give(z_g, -m, state.values)", "rows.give(z_g, m, state.values)"),
    ("differential", "error = up(f.error + g.error)", "error = 0.0 * f.error"),
    ("differential", "up(wide, count) + gamma(count, U64) * up(size, count) + error", "0.5 * up(wide, count) + gamma(count, U64) * up(size, count) + error"),
    ("differential", "intersect(state, first, downward(g.lower + low), upward(g.upper + high))", "intersect(state, first, downward(g.lower - low), upward(g.upper - high))"),
    ("differential", "np.minimum(low, 0.0)", "low"),
    ("differential", "rows.coefficients[first], rows.coefficients[second] = a - k, b + k", "rows.coefficients[first], rows.coefficients[second] = a - k, b - k"),
    ("differential", "low = np.maximum(low, downward(f_low - g_high))", "low = np.maximum(low, downward(f_low - g_low))"),
    ("differential", "bounds[first] = np.maximum(f_low, downward(g_low + low))", "bounds[first] = np.maximum(f_low, downward(g_low - low))"),
    ("differential", "bounds[second] = np.maximum(g_low, downward(f_low - high))", "bounds[second] = np.maximum(g_low, downward(f_low - low))"),
    ("backward", "rows.give(index + 1, -rows.credits[index + 1], values)", "rows.give(index + 1, rows.credits[index + 1], values)"),
    ("branching", "if sign > 0:", "if sign < 0:"),
    ("branching", "credited[place] += sign * beta", "credited[place] += beta"),
    ("branching", "max(low[place], 0.0)", "max(low[place], 0.05)"),
    ("branching", "min(high[place], 0.0)", "min(high[place], -0.05)"),
    ("branching", "[(*path, (node, unit, 1)), (*path, (node, unit, -1))]", "[(*path, (node, unit, 1))]"),
    ("branching", "[(*path, (node, unit, 1)), (*path, (node, unit, -1))]", "[(*path, (node, unit, 1)), (*path, (node, unit, 1))]"),
    ("branching", "(np.isfinite(scales) & (scales >= 0)).all()", "np.isfinite(scales).all()"),
    ("branching", "any(leaf.row not in prop.clauses[tree.clause] for leaf in leaves)", "False"),
    ("branching", "(low > high).reshape", "(low > high - 0.3).reshape"),
    ("branching", "prop, semantics).min())", "prop, semantics).max())"),
    ("branching", "margins[tree.clause] = max(margins[tree.clause], least)", "margins = [max(margin, least) for margin in margins]"),
    ("branching", "return min(margins)", "return max(margins)"),
    ("branching", "prop.offsets[numbers].astype(np.float64), zero, credit", "abs(prop.offsets[numbers]), zero, credit"),
    ("branching", "if pending or leaf != len(scales)", "if leaf != len(scales)"),
    ("intervals", "+ 3 + coarse * _coarse(op)", "+ 3"),
    ("intervals", "return 4 + int", "return 3 + int"),
    ("intervals", 'return 4 + int(getattr(op, "roundings", 0))', "return 4"),
    ("intervals", "gamma(3 * COARSE[semantics], U32) * (reach", "0.0 * (reach"),
    ("prove", "if not low.flat[node.dimension] <= node.threshold <= high.flat[node.dimension]:", "if False:"),
    ("prove", "pending += [(low, below, node.below), (above, high, node.above)]", "pending += [(low, below, node.below)]"),
    ("prove", "min(margins[task], margin)", "max(margins[task] if margins[task] < 1e300 else margin, margin)"),
    ("prove", "(rows[:, :, other] == 0).all(axis=(0, 2))", "True"),
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
