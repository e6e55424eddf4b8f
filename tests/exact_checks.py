"""Statements about exact rational bounds that a sound checker satisfies; see `checker_suite`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from types import ModuleType

import numpy as np

from paoding_verify.errors import InputError
from paoding_verify.evidence.certificate import LEAF, ReluTree
from paoding_verify.evidence.property import Property
from paoding_verify.network.graph import Add, Affine, Dense, MaxPool2d, Network, Node, Relu
from tests.case_checks import random_tree, turned
from tests.exact_questions import Question, questions, tiny_net
from tests.networks import chain

__all__ = ["EXACT_CHECKS", "cases_compared", "compared"]

Checker = Mapping[str, ModuleType]


def exact_rows(checker: Checker, question: Question):  # type: ignore[no-untyped-def] # a class of the checker
    """Values of the rows at the points, exactly. Shape: (R, points)."""
    values = [checker["exact_ops"].exact_values(network, question.points) for network in question.networks]
    numbers, scale = checker["exact_numbers"].alike(*values)
    exact = checker["exact_numbers"].Exact
    return exact.of(question.rows) @ exact(np.concatenate(numbers), scale) + exact.of(question.offsets)[:, None]


def exact_program(checker: Checker, question: Question):  # type: ignore[no-untyped-def]
    """The program of the question's networks, and what bounds it."""
    if len(question.networks) == 1:
        program = checker["program"].single_program(question.networks[0])
        return checker["exact_ops"].ExactProgram(program), checker["exact"].ExactBounds
    program = checker["exact_pair"].exact_pair_program(*question.networks, question.alignment)
    return program, checker["exact_pair"].ExactPair if program.program.twins else checker["exact"].ExactBounds


def compared(checker: Checker, question: Question, seed: int) -> int:
    """How many exactly evaluated values were compared with exact bounds of their rows; none may lie below."""
    rng = np.random.default_rng(seed)
    values, (program, bounder) = exact_rows(checker, question), exact_program(checker, question)
    for garbage in (False, True):
        hints = {"slopes": question.tables(rng)} if garbage else {}
        if garbage and program.program.twins:
            hints["shares"] = question.tables(rng)
        bounds = bounder(program, question.lower, question.upper, num_rows=len(question.rows), **hints)
        found = bounds.rows(question.rows, question.offsets)
        assert (found[:, None] <= values).all()
        if not garbage and (question.lower == question.upper).all():
            assert (values - found[:, None] <= checker["exact_numbers"].Exact.of(1e-6)).all()
    return 2 * values.numbers.size


def cases_compared(checker: Checker, question: Question, seed: int) -> int:
    """The same for every leaf of a random tree, at those points that have its signs. Every point is on some leaf."""
    rng = np.random.default_rng(seed)
    program, bounder = exact_program(checker, question)
    values, known = exact_rows(checker, question), all_values(checker, question, program.program)
    number = int(rng.integers(len(question.rows)))
    prop = Property(question.rows, question.offsets, ((number,),))
    depth, scale = int(rng.integers(1, 4)), float(rng.choice([0.0, 0.05, 0.5]))
    tree = turned(rng, question.networks, random_tree(rng, question.networks, depth=depth, scale=scale, rows=(number,)))
    bounds = bounder(program, question.lower, question.upper)
    cases = checker["exact_tree"].cases_of(tree, prop, program.program)
    parts, _ = bounds.within(checker["exact_tree"].conditions(bounds, cases)[0])
    seen = np.zeros(len(question.points), dtype=int)
    for k, bound in enumerate(checker["exact_tree"].bound_cases(bounds, prop, cases)):
        here = np.ones(len(question.points), dtype=bool)
        for value, place, sign in cases[k].conditions:
            here &= sign * known[value][place].sign >= 0
        assert bound is not None or not here.any()
        at = values[number].fractions
        assert all(bound <= at[point] for point in np.flatnonzero(here))
        for value, exact in known.items() if here.any() else ():
            low, high = (end if end.numbers.ndim == 1 else end[k] for end in parts.boxes[value])
            assert (low[:, None] <= exact[:, here]).all()
            assert (exact[:, here] <= high[:, None]).all()
        seen += here
    assert (seen > 0).all()
    return int(seen.sum())


def all_values(checker: Checker, question: Question, program):  # type: ignore[no-untyped-def]
    """Every value of a program at the points, exactly. Shapes: (units, points) each."""
    found = {}
    for second, network in enumerate(question.networks):
        for index, value in enumerate(checker["exact_ops"].all_exact_values(network, question.points)[1:]):
            number = index + second * len(question.networks[0].nodes)
            step = next(k for k, step in enumerate(program.steps) if step.number == number)
            shape, kept = (int(np.prod(program.shapes[step + 1])), value.numbers.shape[1]), program.steps[step].kept
            wide = np.zeros(shape, dtype=object)
            wide[slice(None) if kept is None else kept] = value.numbers
            found[step + 1] = checker["exact_numbers"].Exact(wide, value.scale)
    return found


def exact_pairs_and_networks(checker: Checker) -> None:
    """Bounds in rational arithmetic lie below exact values, whatever slopes and shares a certificate holds."""
    for seed in range(8):
        assert sum(compared(checker, question, seed) for question in questions(seed)) > 0


def exact_cases(checker: Checker) -> None:
    """So do those of cases, and some case holds at every point."""
    for seed in range(8):
        for k, question in enumerate(questions(seed)):
            if question.networks[0].activations:
                cases_compared(checker, question, 100 * seed + k)


def exact_enclosures(checker: Checker) -> None:
    """Values and differences of twins lie within their bounds at every point."""
    for seed in (0, 1, 2):
        for question in questions(seed):
            program, bounder = exact_program(checker, question)
            bounds = bounder(program, question.lower, question.upper)
            if not program.program.twins:
                continue
            known = all_values(checker, question, program.program)
            for second, first in program.program.twins.items():
                for value, (low, high) in (
                    (known[first], bounds.boxes[first]), (known[second], bounds.boxes[second]),
                    (known[first] - known[second], bounds.differences[second]),
                ):  # fmt: skip
                    assert (low[:, None] <= value).all()
                    assert (value <= high[:, None]).all()


def exact_pool_lines(checker: Checker) -> None:
    """Lines of a max pooling lie below and above it at random points and corners."""
    exact, ops, rng = checker["exact_numbers"].Exact, checker["exact_ops"], np.random.default_rng(4)
    pool = MaxPool2d((2, 2), (1, 1), (1, 0, 0, 1))
    cells = ops.pool_cells(pool, (2, 3, 3))
    for _ in range(40):
        centre, radius = rng.normal(size=18), rng.uniform(0, 0.7, size=18)
        ends = np.stack([centre - radius, centre, centre + radius])
        lines = ops.pool_lines(cells, (exact.of(ends[0]), exact.of(ends[2])))
        points = exact.of(ends[rng.integers(0, 3, (30, 18)), np.arange(18)].T)
        values = ops.largest(cells, points)
        assert (lines.below @ points <= values).all()
        assert (values <= lines.above @ points + lines.shift[:, None]).all()


def exact_products(checker: Checker) -> None:
    """Products taken digit by digit are those of Python's integers, up to sums that fill their 52 bits."""
    numbers, rng = checker["exact_numbers"], np.random.default_rng(0)
    for size, inner in ((3, 9), (6, 300), (25, 1000), (90, 17)):
        words = [int.from_bytes(rng.bytes(size), "big", signed=True) for _ in range(19 * inner)]
        a = np.array(words[: 9 * inner], dtype=object).reshape(9, inner)
        b = np.array(words[9 * inner :], dtype=object).reshape(inner, 10)
        full = np.full_like(a, 256**size - 1), np.full_like(b, 1 - 256**size)
        for x, y in ((a, b), full):
            found = (numbers.Exact(x) @ numbers.Exact(y)).numbers
            assert (found == x @ y).all()


def exact_ends(checker: Checker) -> None:
    """-relu(x) on [l, u] is no less than -u, which is attained: nothing may be rounded inward."""
    network, rng = chain((1,), Dense(np.array([[1.0]]), np.zeros(1)), Relu()), np.random.default_rng(3)
    row = np.array([[-1.0]])
    for low, high in rng.uniform(0.1, 1.0, size=(20, 2)):
        (bound,) = checker["exact"].exact_lower_bounds(network, np.array([-low]), np.array([high]), row, np.zeros(1))
        assert -high - 1e-12 <= bound <= -Fraction(high)


def exact_quotients(checker: Checker) -> None:
    """x / 7 is stored as x times a float near 1 / 7: bounds that are called exact enclose the true quotient."""
    for divisor in range(3, 60, 2):
        inverse = Affine(np.array([1.0 / divisor]), np.zeros(1), roundings=2)
        for ops in ((inverse,), (inverse, Relu())):
            x, row = np.array([float(divisor)]), np.array([[1.0], [-1.0]])
            low, high = checker["exact"].exact_lower_bounds(chain((1,), *ops), x, x, row, np.zeros(2))
            assert 1 - Fraction(1, 10**9) <= low <= 1 <= -high <= 1 + Fraction(1, 10**9)
        far, rest = 2.0**59, float(2**58 * (1 - divisor * Fraction(1.0 / divisor)))
        shifts = (Affine(np.ones(1), np.array([shift])) for shift in (-far, rest))
        network = chain((1,), inverse, *shifts, Relu())  # rest, if that is positive; as stored, -rest
        _, high = checker["exact"].exact_lower_bounds(network, x * far, x * far, row, np.zeros(2))
        assert -high >= rest


def exact_quotients_of_pairs(checker: Checker) -> None:
    """y = relu(z) - z with z = x / 7 - far, in two networks of the same numbers: one may have the true quotient."""
    for divisor in range(3, 60, 2):
        far = 2.0**59
        off = far * (divisor * Fraction(1.0 / divisor) - 1)  # z as stored; the true one is 0
        shift = Affine(np.ones(1), np.array([-far])), Affine(np.ones(1), np.array([-float(max(off, 0))]))
        ops = (
            Affine(np.array([1.0 / divisor]), np.zeros(1), roundings=2),
            *shift,
            Relu(),
            Affine(-np.ones(1), np.zeros(1)),
        )
        inputs = (0,), (1,), (2,), (3,), (3,)
        nodes = [Node(op, read, "node") for op, read in zip(ops, inputs, strict=True)]
        network = Network((1,), (*nodes, Node(Add(), (4, 5), "sum")))
        program = checker["exact_pair"].exact_pair_program(network, network, ((0,),))
        x = np.array([far * divisor])
        bounds = checker["exact_pair"].ExactPair(program, x, x)
        for row in ((1.0, -1.0), (-1.0, 1.0)):
            (found,) = bounds.rows(np.array([row]), np.zeros(1)).fractions
            assert found <= -abs(off)


def damaged_exact_trees(checker: Checker) -> None:
    """A tree that leaves something out, or proves something else, is refused."""
    network = tiny_net(0, Relu())
    program = checker["program"].single_program(network)
    prop = Property(np.ones((2, 2)), np.zeros(2), ((0,), (1,)))
    pairs, none = np.zeros((2, 2), dtype=np.uint8), np.zeros((0, 2), dtype=np.uint8)
    cases_of = checker["exact_tree"].cases_of
    assert len(cases_of(ReluTree(0, (1, LEAF, LEAF), (3, 0, 0), (0.0, 1.0), pairs), prop, program)) == 2
    for tree in (
        ReluTree(2, (LEAF,), (0,), (0.0,), none),
        ReluTree(-1, (LEAF,), (0,), (0.0,), none),
        ReluTree(0, (LEAF,), (1,), (0.0,), none),
        ReluTree(0, (1, LEAF), (0, 0), (0.0,), pairs[:1]),  # a half is missing
        ReluTree(0, (1,), (0,), (), none),
        ReluTree(0, (), (), (), none),
        ReluTree(0, (LEAF, LEAF), (0, 0), (0.0, 0.0), none),
        ReluTree(0, (LEAF,), (0, 0), (0.0,), none),
        ReluTree(0, (1, LEAF, LEAF), (0, 0, 0), (0.0,), pairs),
        ReluTree(0, (1, LEAF, LEAF), (0, 0, 0), (0.0, 0.0), pairs[:1]),
        ReluTree(0, (1, LEAF, LEAF), (0, 0, 0), (0.0, 0.0), np.zeros((3, 2), dtype=np.uint8)),
        ReluTree(0, (1, LEAF, LEAF), (0, 0, 0), (0.0, 0.0), np.zeros((2, 3), dtype=np.uint8)),
        ReluTree(0, (1, LEAF, LEAF), (0, 0, 0), (0.0, -1.0), pairs),
        ReluTree(0, (1, LEAF, LEAF), (0, 0, 0), (0.0, np.nan), pairs),
        ReluTree(0, (1, LEAF, LEAF), (0, 0, 0), (0.0, np.inf), pairs),
        ReluTree(0, (1, LEAF, LEAF), (4, 0, 0), (0.0, 0.0), pairs),
        ReluTree(0, (1, LEAF, LEAF), (-1, 0, 0), (0.0, 0.0), pairs),
        ReluTree(0, (0, LEAF, LEAF), (0, 0, 0), (0.0, 0.0), pairs),
        ReluTree(0, (9, LEAF, LEAF), (0, 0, 0), (0.0, 0.0), pairs),
        ReluTree(0, (1, LEAF, LEAF), (0, 0, 1), (0.0, 0.0), pairs),
    ):
        try:
            cases_of(tree, prop, program)
        except InputError:
            continue
        raise AssertionError(f"not refused: {tree}")


EXACT_CHECKS: tuple[Callable[[Checker], None], ...] = (
    damaged_exact_trees, exact_products, exact_ends, exact_quotients, exact_quotients_of_pairs, exact_pool_lines,
    exact_enclosures,
    exact_pairs_and_networks, exact_cases,
)  # fmt: skip
