"""Solvers that equivalence is compared with, one query in a process of its own. Library for the scripts beside it.

Run as: python equivalence_peer.py NAME QUERY.npz ANSWER.json. It imports nothing but numpy and the solver, so that it
runs in any environment. The query asks whether a point of the box makes all rows of some clause at most 0, a row being
`rows[r] @ (f(x), g(x)) + offsets[r]`; f and g are dense layers with ReLUs between them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Layers = list[tuple[Array, Array]]
Answer = dict[str, Any]
MEMORY = 4 << 30
"""Bytes that a solver may ask for."""


@dataclass(frozen=True)
class Query:
    """What is asked; see the module text."""

    networks: tuple[Layers, Layers]
    lower: Array
    upper: Array
    rows: Array
    offsets: Array
    clauses: list[list[int]]
    limit_s: float
    maximum: bool
    """Not asked for a point but for lower bounds of the rows, each a clause of its own."""


def read(path: str) -> Query:
    """The query of a file."""
    with np.load(path, allow_pickle=False) as file:
        networks = [
            [(file[f"{name}{k}w"], file[f"{name}{k}b"]) for k in range(sum(key[0] == name for key in file) // 2)]
            for name in "fg"
        ]
        clauses = json.loads(str(file["clauses"]))
        return Query((networks[0], networks[1]), file["lower"], file["upper"], file["rows"], file["offsets"], clauses,
                     float(file["limit_s"]), bool(file["maximum"]))  # fmt: skip


def ask_z3(query: Query, deadline: float) -> Answer:
    """The plain encoding: a real variable for every neuron, exact coefficients, one disjunction, no bounds."""
    import z3

    def number(value: float) -> Any:
        return z3.RealVal(Fraction(float(value)))

    solver = z3.Solver()
    x = [z3.Real(f"x{k}") for k in range(len(query.lower))]
    for variable, low, high in zip(x, query.lower, query.upper, strict=True):
        solver.add(variable >= number(low), variable <= number(high))
    outputs: list[Any] = []
    for name, layers in zip("fg", query.networks, strict=True):
        values = x
        for k, (weight, bias) in enumerate(layers):
            computed = [
                z3.Sum([number(w) * v for w, v in zip(row, values, strict=True) if w]) + number(b)
                for row, b in zip(weight, bias, strict=True)
            ]
            if k < len(layers) - 1:
                values = [z3.Real(f"{name}{k}_{i}") for i in range(len(bias))]
                for h, z in zip(values, computed, strict=True):
                    solver.add(h == z3.If(z >= 0, z, number(0.0)))
            else:
                outputs += computed
    rows = [
        z3.Sum([number(c) * y for c, y in zip(row, outputs, strict=True) if c]) + number(offset)
        for row, offset in zip(query.rows, query.offsets, strict=True)
    ]
    solver.add(z3.Or([z3.And([rows[r] <= 0 for r in clause]) for clause in query.clauses]))
    left_s = deadline - time.perf_counter()
    if left_s <= 0:
        return {"status": "undecided", "reason": "the time was up before the question was written"}
    solver.set("timeout", int(1000 * left_s))
    found = solver.check()
    if found == z3.unsat:
        return {"status": "holds"}
    if found != z3.sat:
        return {"status": "undecided", "reason": solver.reason_unknown()}
    model = solver.model()
    point = [model.eval(v, model_completion=True) for v in x]
    return {"status": "violated", "point": [float(v.as_fraction()) for v in point]}


def ask_marabou(query: Query, deadline: float) -> Answer:
    """Both networks and the rows as equations, the clauses one after the other."""
    from maraboupy import Marabou, MarabouNetwork  # type: ignore[import-not-found,unused-ignore] # optional

    network = MarabouNetwork.MarabouNetwork()

    def new() -> int:
        return int(network.getNewVariable())

    def defined(weight: Array, values: list[int], bias: float) -> int:
        variable, used = new(), np.flatnonzero(weight)
        network.addEquality([*(values[k] for k in used), variable], [*weight[used], -1.0], -bias)
        return variable

    x = [new() for _ in query.lower]
    network.inputVars = [np.array(x)]
    for variable, low, high in zip(x, query.lower, query.upper, strict=True):
        network.setLowerBound(variable, float(low))
        network.setUpperBound(variable, float(high))
    outputs: list[int] = []
    for layers in query.networks:
        values = x
        for k, (weight, bias) in enumerate(layers):
            computed = [defined(row, values, float(b)) for row, b in zip(weight, bias, strict=True)]
            if k == len(layers) - 1:
                outputs += computed
                break
            values = [new() for _ in computed]
            for z, h in zip(computed, values, strict=True):
                network.addRelu(z, h)
                network.setLowerBound(h, 0.0)
    network.outputVars = [np.array(outputs)]
    for clause in query.clauses:
        network.additionalEquList.clear()
        for r in clause:
            used = np.flatnonzero(query.rows[r])
            coefficients = [float(c) for c in query.rows[r][used]]
            network.addInequality([outputs[k] for k in used], coefficients, -float(query.offsets[r]), isProperty=True)
        left_s = deadline - time.perf_counter()
        if left_s < 1:
            return {"status": "undecided", "reason": "time limit"}
        options = Marabou.createOptions(timeoutInSeconds=int(np.ceil(left_s)), verbosity=0)
        status, values_found, _ = network.solve(verbose=False, options=options)
        if status == "sat":
            return {"status": "violated", "point": [values_found[v] for v in x]}
        if status != "unsat":
            return {"status": "undecided", "reason": status}
    return {"status": "holds"}


def ask_highs(query: Query, deadline: float) -> Answer:
    """Mixed-integer programming with big-M constants from CROWN bounds of each network; a program for each clause.

    Source: arXiv 1711.07356 (the encoding), 1811.00866 (the bounds).
    """
    model = _Milp(query)
    lower = model.row_bounds()
    if query.maximum:
        for r in range(len(lower)):
            left_s = 0.95 * (deadline - time.perf_counter()) / (len(lower) - r)  # writing the program takes time too
            lower[r] = max(lower[r], model.least(r, left_s))
        return {"status": "bounded", "bound": float(-lower.min())}
    for clause in query.clauses:
        if lower[clause].max() > 0:
            continue
        status, point = model.solve(clause, deadline - time.perf_counter())
        if status == "sat":
            return {"status": "violated", "point": point.tolist()}
        if status != "unsat":
            return {"status": "undecided", "reason": status}
    return {"status": "holds"}


class _Milp:
    """Variables: inputs, activations and phases of f, the same of g, then the outputs of both."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.low, self.high = list(query.lower), list(query.upper)
        self.whole = [0] * len(query.lower)
        self.parts: list[tuple[Array, list[int], float, float]] = []
        """Rows of the program: coefficients, variables, lower and upper end."""
        self.outputs: list[int] = []
        for layers in query.networks:
            values = list(range(len(query.lower)))
            for k, (low, high) in enumerate(crown(layers, query.lower, query.upper)):
                values = self._layer(layers[k], values, (low, high), last=k == len(layers) - 1)
            self.outputs += values

    def _new(self, low: float, high: float, whole: int = 0) -> int:
        self.low.append(low)
        self.high.append(high)
        self.whole.append(whole)
        return len(self.low) - 1

    def _layer(
        self, layer: tuple[Array, Array], values: list[int], bounds: tuple[Array, Array], *, last: bool
    ) -> list[int]:
        result = []
        for row, b, low, high in zip(*layer, *bounds, strict=True):
            active = last or low >= 0
            h = self._new(low if active else 0.0, high if active else max(high, 0.0))
            result.append(h)
            if not active and high <= 0:
                continue
            form, variables = np.append(-row, 1.0), [*values, h]
            self.parts.append((form, variables, b, b if active else np.inf))
            if not active:
                phase = self._new(0.0, 1.0, 1)
                self.parts.append((np.append(form, -low), [*variables, phase], -np.inf, b - low))
                self.parts.append((np.array([1.0, -high]), [h, phase], -np.inf, 0.0))
        return result

    def row_bounds(self) -> Array:
        """Lower bounds of the rows from those of the outputs."""
        low, high = np.array(self.low)[self.outputs], np.array(self.high)[self.outputs]
        rows = self.query.rows
        return np.maximum(rows, 0) @ low + np.minimum(rows, 0) @ high + self.query.offsets

    def solve(self, clause: list[int], limit_s: float) -> tuple[str, Array]:
        """A point where all rows of the clause are at most 0: sat, unsat, or why there is no answer."""
        extra = [(self.query.rows[r], self.outputs, -np.inf, -self.query.offsets[r]) for r in clause]
        found = self._run(clause[0], extra, limit_s, gap=1e9)
        if found is None or found.status == 2:
            return ("time limit" if found is None else "unsat"), np.empty(0)
        if found.x is None:
            return str(found.message), np.empty(0)
        return "sat", found.x[: len(self.query.lower)]

    def least(self, row: int, limit_s: float) -> float:
        """A lower bound of a row."""
        found = self._run(row, [], limit_s, gap=0.0)
        bound = None if found is None else found.mip_dual_bound
        return -np.inf if bound is None else float(bound) + float(self.query.offsets[row])

    def _run(self, objective: int, extra: list[Any], limit_s: float, *, gap: float) -> Any:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        if limit_s <= 0:
            return None
        parts = [*self.parts, *extra]
        cost = np.zeros(len(self.low))
        cost[self.outputs] = self.query.rows[objective]
        ends = np.cumsum([0, *(len(part[1]) for part in parts)])
        data, columns = (np.concatenate([np.asarray(part[k]) for part in parts]) for k in (0, 1))
        matrix = csr_array((data, columns.astype(np.int32), ends.astype(np.int32)), shape=(len(parts), len(cost)))
        limits = LinearConstraint(matrix, [part[2] for part in parts], [part[3] for part in parts])
        return milp(cost, integrality=self.whole, bounds=Bounds(self.low, self.high), constraints=limits,
                    options={"time_limit": limit_s, "mip_rel_gap": gap})  # fmt: skip


def crown(layers: Layers, lower: Array, upper: Array) -> list[tuple[Array, Array]]:
    """Bounds of every layer before its ReLU, of the last one too. Source: arXiv 1811.00866."""
    found: list[tuple[Array, Array]] = []
    for k, (weight, bias) in enumerate(layers):
        ends = []
        for sign in (1.0, -1.0):
            rows, constant = sign * weight, sign * bias
            for (low, high), (w, b) in zip(reversed(found), reversed(layers[:k]), strict=True):
                rising, falling = np.maximum(rows, 0), np.minimum(rows, 0)
                width = np.where(high > low, high - low, 1.0)
                chord = np.where(low >= 0, 1.0, np.where(high <= 0, 0.0, high / width))
                under = np.where((low < 0) & (high > 0), 1.0 * (high > -low), chord)
                shift = np.where((low < 0) & (high > 0), -low * chord, 0.0)
                constant = constant + falling @ shift
                rows = rising * under + falling * chord
                constant, rows = constant + rows @ b, rows @ w
            ends.append(constant + np.maximum(rows, 0) @ lower + np.minimum(rows, 0) @ upper)
        found.append((ends[0] - 1e-9, 1e-9 - ends[1]))
    return found


ENGINES: dict[str, tuple[str, str, Callable[[Query, float], Answer]]] = {
    "z3": ("z3", "z3-solver", ask_z3),
    "marabou": ("maraboupy.Marabou", "maraboupy", ask_marabou),
    "highs": ("scipy.optimize", "scipy", ask_highs),
}
"""What is imported before the clock starts, the package that has it, and what is called."""


def main(engine: str, question: str, answer: str) -> None:
    """Writes what the engine says, and how many seconds it took from the query to the answer, by the clock and of the
    processor.
    """
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    query, (module, package, ask) = read(question), ENGINES[engine]
    start, start_cpu = time.perf_counter(), time.process_time()
    try:
        importlib.import_module(module)
        start, start_cpu = time.perf_counter(), time.process_time()
        found = ask(query, start + query.limit_s) | {"version": f"{package} {importlib.metadata.version(package)}"}
    except ImportError as error:
        found = {"status": "absent", "reason": str(error)}
    except MemoryError:
        found = {"status": "undecided", "reason": f"more than {MEMORY >> 30} GiB"}
    found |= {"elapsed_s": time.perf_counter() - start, "cpu_s": time.process_time() - start_cpu}
    Path(answer).write_text(json.dumps(found))


if __name__ == "__main__" and len(sys.argv) > 1:
    main(*sys.argv[1:])
