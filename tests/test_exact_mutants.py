"""Every mutant of the exact arithmetic proves something false that its checks notice."""

# ruff: noqa: E501 - a mutant is one line
from __future__ import annotations

import pytest

from tests.exact_checks import EXACT_CHECKS
from tests.test_checker_mutants import killed, mutated

MUTANTS = [
    ("exact_numbers", "sign = -1 if up else 1", "sign = 1 if up else -1"),
    ("exact_numbers", "return where(other <= one, one, other)", "return where(other <= one, other, one)"),
    ("exact_numbers", "return where(one <= other, one, other)", "return where(one <= other, other, one)"),
    ("exact_numbers", "(BITS - len(b).bit_length()) // 2", "(BITS + 8 - len(b).bit_length()) // 2"),
    ("exact_numbers", ".astype(np.float64) * sign)", ".astype(np.float64))"),
    ("exact_numbers", "total = (total << width)", "total = (total << width - 1)"),
    ("exact_ops", "low + self.bias - margin, high + self.bias + margin", "low + self.bias, high + self.bias"),
    ("exact_ops", "(matrix.above @ low) + (matrix.below @ high), (matrix", "(matrix.above @ low) + (matrix.below @ low), (matrix"),
    ("exact_ops", "still = where(zero <= low, one, slope)", "still = where(zero <= low, one, zero)"),
    ("exact_ops", "where(split, where(-low <= high, one, slope), still)", "where(split, where(-low <= high, one + one, slope), still)"),
    ("exact_ops", "larger(at_low - slope * low, at_high - slope * high)", "at_low - slope * low"),
    ("exact_ops", "key=lambda j: lows[j]", "key=lambda j: -lows[j]"),
    ("exact_ops", "max([highs[j] for j in window if j != c]", "max([lows[j] for j in window if j != c]"),
    ("exact_ops", "values.numbers[window].max(axis=0)", "values.numbers[window].min(axis=0)"),
    ("exact_ops", "(end.above + slope_of(op) * end.below for end in box)", "(end.above for end in box)"),
    ("exact", "constant = constant - (abs(row) * error).total()", "pass"),
    ("exact", "constant = constant + (row @ part.bias)", "pass"),
    ("exact", "constant = constant + (row.below * lines.shift).total()", "pass"),
    ("exact", "* self._chosen(step, lines.below, origin) + row.below * lines.above", "* lines.above + row.below * self._chosen(step, lines.below, origin)"),
    ("exact", "row = row.above @ lines.below + row.below @ lines.above", "row = row.above @ lines.above + row.below @ lines.above"),
    ("exact", "(rows[0].above @ low) + (rows[0].below @ high)", "(rows[0].above @ high) + (rows[0].below @ low)"),
    ("exact", "rows[value] + row if value in rows else row", "row"),
    ("exact", "for sign in (1, -1))", "for sign in (1, 1))"),
    ("exact", "placed(high, units, -above)", "placed(high, units, -below)"),
    ("exact", "placed(low, units, below)", "placed(low, units, above)"),
    ("exact", "return larger(chosen, slope_of(step.op))", "return chosen"),
    ("exact", "larger(chosen, slope_of(step.op))", "larger(chosen + chosen, slope_of(step.op))"),
    ("exact", "give(rows, index + 1, -taken[index + 1])", "give(rows, index + 1, taken[index + 1])"),
    ("exact", "box = box[0] + other[0], box[1] + other[1]", "box = box[0] + other[0], box[1]"),
    ("exact_pair", "m = k.above * below.above + k.below * above.above", "m = k.above * above.above + k.below * below.above"),
    ("exact_pair", "(k.below * above.shift - k.above * below.shift)", "(k.below * above.shift + k.above * below.shift)"),
    ("exact_pair", "rows[first], rows[second] = a - k, b + k", "rows[first], rows[second] = a - k, b - k"),
    ("exact_pair", "rows[first], rows[second] = a - k, b + k", "rows[first], rows[second] = b + k, a - k"),
    ("exact_pair", "give(rows, step.inputs[0], -m)", "give(rows, step.inputs[0], m)"),
    ("exact_pair", "where(active, low, low.below), where(active, high, high.above)", "low, high"),
    ("exact_pair", "(z_f[0].sign >= 0) & (z_g[0].sign >= 0)", "(z_f[0].sign >= 0)"),
    ("exact_pair", "return low + more[0], high + more[1]", "return low, high"),
    ("exact_pair", "return -largest(other, -low), largest(other, high)", "return largest(other, low), largest(other, high)"),
    ("exact_pair", "below, above = below - error, above + error", "pass"),
    ("exact_pair", "mine.bias - other.bias", "mine.bias"),
    ("exact_pair", "mine.matrix - other.matrix", "other.matrix - mine.matrix"),
    ("exact_pair", "self.narrow(first, g[0] + low, g[1] + high)", "self.narrow(first, g[0] - high, g[1] - low)"),
    ("exact_pair", "self.narrow(second, f[0] - high, f[1] - low)", "self.narrow(second, f[0] - low, f[1] - low)"),
    ("exact_pair", "_meet(f, (g[0] + d[0], g[1] + d[1]))", "_meet(f, (g[0] + d[1], g[1] + d[1]))"),
    ("exact_pair", "_meet(g, (f[0] - d[1], f[1] - d[0]))", "_meet(g, (f[0] - d[0], f[1] - d[0]))"),
    ("exact_pair", "(f[0] - g[1], f[1] - g[0]))\n                boxes", "(f[0] - g[0], f[1] - g[0]))\n                boxes"),
    ("exact_tree", "max(low.numbers[k, place], 0)", "max(low.numbers[k, place], 1 << 54)"),
    ("exact_tree", "min(high.numbers[k, place], 0)", "min(high.numbers[k, place], -1 << 54)"),
    ("exact_tree", "if sign > 0:", "if sign < 0:"),
    ("exact_tree", "+= sign * beta", "+= beta"),
    ("exact_tree", "for sign in (1, -1)]", "for sign in (1, 1)]"),
    ("exact_tree", "for sign in (1, -1)]", "for sign in (1,)]"),
    ("exact_tree", "isfinite(s) and s >= 0", "isfinite(s)"),
    ("exact_tree", "unit not in prop.clauses[tree.clause] or", ""),
    ("exact_tree", "prop.offsets[numbers], places", "prop.offsets[numbers] * 0, places"),
    ("exact_tree", "if paths or len(found) != len(scales) or used != len(pairs):", "if False:"),
]  # fmt: skip


def test_unchanged_sources_pass() -> None:
    with mutated("exact", "self.mixed[value] < 2", "self.mixed[value] < 2") as modules:
        assert not killed(modules, EXACT_CHECKS)


@pytest.mark.mutation
@pytest.mark.parametrize(("name", "old", "new"), MUTANTS, ids=lambda text: text[:40].strip())
def test_mutant_is_killed(name: str, old: str, new: str) -> None:
    with mutated(name, old, new) as modules:
        assert killed(modules, EXACT_CHECKS)
