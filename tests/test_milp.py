"""HiGHS on open clauses, and the process of the solvers: facts hold, candidates are real, faults cost one answer."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from paoding_verify.checker.prove import Proof
from paoding_verify.equivalence import reproof
from paoding_verify.equivalence.compare import compare
from paoding_verify.equivalence.encoding import encode
from paoding_verify.equivalence.exact_point import exact_margin
from paoding_verify.equivalence.isolated import SolverProcess
from paoding_verify.equivalence.milp import solve_milp
from paoding_verify.equivalence.question import Question, no_facts, question_of
from paoding_verify.equivalence.smt import solve_smt
from paoding_verify.equivalence.twin_facts import hidden_bounds, known_of_pair, twin_facts
from paoding_verify.evidence.property import Property, decides_like, distance_at_most
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.network.evaluate import evaluate, evaluate_all
from paoding_verify.network.graph import Network
from paoding_verify.regions import Region
from tests.networks import conv_net, dense_net, residual_net
from tests.pairs import identity_alignment, perturbed, without_units
from tests.test_compare import CONFIG, regions, tasks
from tests.test_differential import samples, two_convolutions


def asked(f: Network, g: Network, box: Region, prop: Property) -> Question:
    bounds, twins = known_of_pair(f, g, identity_alignment(g), box)
    encoding = encode([f, g], box, bounds)
    return question_of(encoding, box, encoding.rows(prop), prop.clauses, twin_facts(encoding, twins))


def bare_asked(f: Network, g: Network, box: Region, prop: Property) -> Question:
    question = asked(f, g, box, prop)
    return replace(question, facts=no_facts(len(question.variables.lower)))


def small_pair(seed: int) -> tuple[Network, Network, Region, float]:
    """Two networks on a small box, and about the largest difference there."""
    f = dense_net(seed, (2, 4, 3, 2))
    g = perturbed(f, seed, 0.1)
    (box,) = regions(f, 0.3, 1, 31)
    steps = np.linspace(0, 1, 81)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) * (box.upper - box.lower) + box.lower
    return f, g, box, float(np.abs(evaluate(f, grid) - evaluate(g, grid)).max())


@pytest.mark.parametrize(
    ("f", "removed"),
    [(dense_net(0), 0), (conv_net(0), 0), (residual_net(0), 0), (dense_net(0), 1), (two_convolutions(0), 1)],
)
def test_facts_and_bounds_hold_at_every_point(f: Network, removed: int) -> None:
    """Also for a network whose first unit of each layer is gone."""
    alignment = tuple(tuple(range(removed, count)) for count in f.num_units)
    g = perturbed(f, 1, 0.05)
    g = without_units(g, alignment) if removed else g
    (box,) = regions(f, 0.2, 1, 31)
    bounds, twins = known_of_pair(f, g, alignment, box)
    encoding = encode([f, g], box, bounds)
    facts = twin_facts(encoding, twins)
    assert len(facts.constant) > 0
    for x in samples(box.lower, box.upper, 40):
        for net, known in zip((f, g), bounds, strict=True):
            values = evaluate_all(net, x[None])
            for k, (low, high) in zip(net.activations, known, strict=True):
                z = values[net.nodes[k].inputs[0]].ravel()
                assert (low.ravel() <= z + 1e-9).all()
                assert (z <= high.ravel() + 1e-9).all()
        variables = list(x.ravel() - encoding.centre)
        for unit in encoding.units:
            z = float(unit.coefficients @ np.array(variables)[: len(unit.coefficients)] + unit.constant)
            variables.append(max(0.0, z))
        assert (facts.coefficients @ np.array(variables) + facts.constant >= -1e-9).all()


def test_facts_are_tight_where_units_are_equal() -> None:
    """Equal twins need no facts; differences of almost equal ones are bounded far below the units' own ranges."""
    f = dense_net(3)
    (box,) = regions(f, 0.3, 1, 31)
    equal = known_of_pair(f, f, identity_alignment(f), box)
    assert len(twin_facts(encode([f, f], box, equal[0]), equal[1]).constant) == 0
    _, twins = known_of_pair(f, perturbed(f, 1, 1e-4), identity_alignment(f), box)
    own = hidden_bounds(f, box)
    for twin, (low, high) in zip(twins, own, strict=True):
        assert (twin.upper - twin.lower).max() < 0.05 * (high - low).max()


@pytest.mark.parametrize("seed", range(2))
def test_both_solvers_agree_with_a_fine_grid(seed: int) -> None:
    f, g, box, largest = small_pair(seed)
    above = distance_at_most(largest * 1.05, 2)
    below = distance_at_most(largest * 0.95, 2)
    for solve, shaped in ((solve_milp, asked), (solve_milp, bare_asked), (solve_smt, bare_asked)):
        assert {answer.status for answer in solve(shaped(f, g, box, above), 20.0)} == {"none"}
        answer = solve(shaped(f, g, box, below), 20.0)[-1]
        assert answer.status == "point"
        margins = [exact_margin([f, g], below, np.array(point)) for point in answer.points]
        assert min(margins) <= Fraction(1, 10**6)


def test_clauses_of_several_rows_are_decided() -> None:
    """Two networks that differ in their last biases either decide alike on a small box or differ at its centre."""
    f = dense_net(4, (2, 4, 3))
    (box,) = regions(f, 0.05, 1, 31)
    nodes = (*f.nodes[:-1], replace(f.nodes[-1], op=replace(f.nodes[-1].op, bias=f.nodes[-1].op.bias[::-1] + 5.0)))
    g = Network(f.input_shape, nodes)
    label = int(evaluate(f, box.centre[None].astype(float))[0].argmax())
    other = int(evaluate(g, box.centre[None].astype(float))[0].argmax())
    found = solve_milp(asked(f, g, box, decides_like(3)), 10.0)
    assert (found[-1].status == "point") == (label != other)


def test_questions_travel_exactly() -> None:
    f, g, box, _ = small_pair(5)
    question = asked(f, g, box, distance_at_most(0.5, 2))
    again = Question.from_bytes(question.to_bytes())
    assert again.to_bytes() == question.to_bytes()
    assert again.clauses == question.clauses
    for ours, theirs in zip(question.units, again.units, strict=True):
        assert ours.coefficients.tobytes() == theirs.coefficients.tobytes()
        assert (ours.variable, ours.constant, ours.error) == (theirs.variable, theirs.constant, theirs.error)


def test_a_process_answers_as_the_solvers_do() -> None:
    f, g, box, largest = small_pair(1)
    question = bare_asked(f, g, box, distance_at_most(largest * 1.05, 2))
    with SolverProcess() as process:
        for name, solve in (("milp", solve_milp), ("smt", solve_smt)):
            assert process.ask(name, question, 20.0) == solve(question, 20.0)


def hard_question() -> Question:
    f = dense_net(9, (6, 40, 40, 3))
    g = perturbed(f, 1, 0.2)
    (box,) = regions(f, 2.0, 1, 31)
    x = samples(box.lower, box.upper, 200)
    largest = float(np.abs(evaluate(f, x) - evaluate(g, x)).max())
    return asked(f, g, box, distance_at_most(2 * largest, 3))


def test_time_limits_are_hard_and_the_next_question_is_answered() -> None:
    f, g, box, largest = small_pair(1)
    easy = asked(f, g, box, distance_at_most(largest * 1.05, 2))
    with SolverProcess() as process:
        process.ask("milp", easy, 10.0)
        start = time.monotonic()
        answers = process.ask("smt", hard_question(), 0.5)
        assert time.monotonic() - start < 10
        assert answers[0].status == "undecided"
        assert answers[0].reason
        assert {answer.status for answer in process.ask("milp", easy, 10.0)} == {"none"}


def test_memory_that_runs_out_costs_one_answer() -> None:
    with SolverProcess(memory_mb=64) as process:
        (answer,) = process.ask("smt", hard_question(), 5.0)
    assert answer.status == "undecided"
    assert "ended early" in answer.reason


def test_a_process_that_starts_too_late_costs_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    f, g, box, largest = small_pair(1)
    question = asked(f, g, box, distance_at_most(largest * 1.05, 2))
    with SolverProcess() as process:
        monkeypatch.setattr("paoding_verify.equivalence.isolated._START_S", 0.0)
        (answer,) = process.ask("milp", question, 30.0)
        assert (answer.status, answer.points) == ("undecided", ())
        monkeypatch.undo()
        assert {again.status for again in process.ask("milp", question, 30.0)} == {"none"}


def test_a_killed_process_costs_one_answer() -> None:
    f, g, box, largest = small_pair(1)
    question = asked(f, g, box, distance_at_most(largest * 1.05, 2))
    with SolverProcess() as process:
        process.ask("milp", question, 10.0)
        assert process._process is not None
        process._process.kill()
        (answer,) = process.ask("milp", question, 10.0)
        assert answer.status == "undecided"
        assert "ended early" in answer.reason
        assert {again.status for again in process.ask("milp", question, 10.0)} == {"none"}


def test_what_only_a_solver_supports_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    f, g, box, largest = small_pair(0)
    refusal = Proof(False, -1.0, "the proved margin -1 is not positive")
    monkeypatch.setattr(reproof, "prove", lambda *_, **__: [refusal])
    (finding,) = compare(f, g, tasks([box], "output_distance", largest * 1.02), replace(CONFIG, timeout_s=60))
    assert finding.claim.verdict is Verdict.UNKNOWN
    assert finding.claim.reason.startswith("solver-only")
    assert finding.certificate is None


def test_the_parent_loads_no_solver() -> None:
    """z3 and HiGHS live in the process that is asked."""
    code = "import sys, paoding_verify.equivalence.compare; print({'z3', 'highspy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_solvers_import_nothing_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "numpy", "highspy", "resource", "z3"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    with SolverProcess() as process:
        process._started()
    assert not (tmp_path / "ran").exists()
