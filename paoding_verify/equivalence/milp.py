"""Mixed-integer linear programs by HiGHS: the only module that uses it. Its answers are hints, never evidence.

One integer variable per unstable ReLU says on which side of zero it is (big-M with the proved bounds); stable ReLUs
are composed away, and facts about twins are rows. HiGHS works in floating point with tolerances: that it finds no
counterexample proves nothing, and what it finds is a candidate.
Source: Tjeng et al., arXiv 1711.07356.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import highspy
import numpy as np
from scipy.sparse import csr_matrix

from paoding_verify.equivalence.question import ClauseAnswer, Question
from paoding_verify.network.graph import Array

__all__ = ["solve_milp"]

_GAP = 0.5
"""Relative distance from the optimum at which a counterexample is good enough."""


def solve_milp(question: Question, limit_s: float) -> list[ClauseAnswer]:
    """One answer per clause, in order, up to the first that has a point."""
    deadline, answers = monotonic() + limit_s, []
    for clause in question.clauses:
        answers.append(_solve(question, clause, deadline - monotonic()))
        if answers[-1].status == "point":
            break
    return answers


def _solve(question: Question, clause: tuple[int, ...], limit_s: float) -> ClauseAnswer:
    """Minimises the largest row of a clause, which is at most 0."""
    if limit_s <= 0:
        return ClauseAnswer("undecided", reason="out of time")
    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    for name, value in (
        ("output_flag", False), ("threads", 1), ("time_limit", limit_s), ("mip_rel_gap", _GAP),
        ("mip_feasibility_tolerance", 1e-9), ("primal_feasibility_tolerance", 1e-9),
    ):  # fmt: skip
        solver.setOptionValue(name, value)
    solver.passModel(_program(question, clause))
    solver.run()
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kInfeasible:
        return ClauseAnswer("none")
    if solver.getInfo().primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return ClauseAnswer("undecided", reason=solver.modelStatusToString(status))
    found = np.array(solver.getSolution().col_value[: len(question.centre)]) + question.centre
    return ClauseAnswer("point", (tuple(np.clip(found, question.lower, question.upper).tolist()),))


def _program(question: Question, clause: tuple[int, ...]) -> highspy.HighsLp:
    """Columns: the question's variables, one sign per unit (1: active), and the largest row of the clause."""
    count, num_units = len(question.variables.lower), len(question.units)
    width = count + num_units + 1
    rows: list[Array] = []
    lower: list[float] = []
    for k, unit in enumerate(question.units):
        form = np.zeros(width)
        form[: len(unit.coefficients)] = unit.coefficients
        above, left, right = -form, form.copy(), np.zeros(width)
        above[unit.variable], left[unit.variable], right[unit.variable] = 1.0, -1.0, -1.0
        left[count + k], right[count + k] = unit.lower, unit.upper
        # h >= z;  h <= z - lower (1 - sign);  h <= upper sign
        rows += [above, left, right]
        lower += [unit.constant, unit.lower - unit.constant, 0.0]
    for coefficients, constant, error in zip(
        question.facts.coefficients, question.facts.constant, question.facts.error, strict=True
    ):
        rows.append(np.pad(coefficients, (0, width - count)))
        lower.append(-constant - error)
    for row in clause:
        largest = -np.pad(question.rows.coefficients[row], (0, width - count))
        largest[-1] = 1.0
        rows.append(largest)
        lower.append(float(question.rows.constant[row]))
    matrix = csr_matrix(np.array(rows))
    program = highspy.HighsLp()
    program.num_col_, program.num_row_ = width, len(rows)
    program.col_cost_ = np.append(np.zeros(width - 1), 1.0)
    program.col_lower_ = np.concatenate([question.variables.lower, np.zeros(num_units), [-highspy.kHighsInf]])
    program.col_upper_ = np.concatenate([question.variables.upper, np.ones(num_units), [0.0]])
    program.row_lower_, program.row_upper_ = np.array(lower), np.full(len(rows), highspy.kHighsInf)
    program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    program.a_matrix_.start_, program.a_matrix_.index_ = matrix.indptr, matrix.indices
    program.a_matrix_.value_ = matrix.data
    kinds = highspy.HighsVarType
    program.integrality_ = [*[kinds.kContinuous] * count, *[kinds.kInteger] * num_units, kinds.kContinuous]
    return program
