"""What a solver is asked about a pair on a region, as plain arrays that can be sent to another process."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

from paoding_verify.equivalence.encoding import Encoding, Forms, Unit, Variables
from paoding_verify.network.graph import Array
from paoding_verify.regions import Region

__all__ = ["ClauseAnswer", "Question", "no_facts", "question_of"]

_FORM = ("coefficients", "constant", "error")


@dataclass(frozen=True, eq=False)
class Question:
    """Whether some point of the box makes every row of one of the clauses at most 0."""

    lower: Array
    """(inputs,) of the box, flat."""
    upper: Array
    centre: Array
    """(inputs,) variable i of the inputs is x[i] - centre[i]."""
    variables: Variables
    units: tuple[Unit, ...]
    rows: Forms
    facts: Forms
    """Forms that are at least 0 at every point of the box, up to their errors."""
    clauses: tuple[tuple[int, ...], ...]
    """Of row numbers."""

    def to_bytes(self) -> bytes:
        """Plain arrays in the npz format, every number exact."""
        count = len(self.variables.lower)
        wide = [np.pad(u.coefficients, (0, count - len(u.coefficients))) for u in self.units]
        arrays = {
            "lower": self.lower, "upper": self.upper, "centre": self.centre,
            "variables": np.stack([self.variables.lower, self.variables.upper]),
            "unit_coefficients": np.array(wide).reshape(-1, count),
            "unit_numbers": np.array(
                [(u.variable, len(u.coefficients), u.constant, u.error, u.lower, u.upper) for u in self.units]
            ).reshape(-1, 6),
            "clauses": np.frombuffer(json.dumps(self.clauses).encode(), dtype=np.uint8),
        }  # fmt: skip
        for name, forms in (("rows", self.rows), ("facts", self.facts)):
            arrays |= {f"{name}_{part}": getattr(forms, part) for part in _FORM}
        buffer = BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Question:
        """The question of `to_bytes`; nothing is unpickled."""
        with np.load(BytesIO(data), allow_pickle=False) as stored:
            arrays: Mapping[str, Any] = {name: stored[name] for name in stored.files}
        units = tuple(
            Unit(int(variable), coefficients[: int(length)], *map(float, numbers))
            for coefficients, (variable, length, *numbers) in zip(
                arrays["unit_coefficients"], arrays["unit_numbers"], strict=True
            )
        )
        rows, facts = (Forms(*(arrays[f"{name}_{part}"] for part in _FORM)) for name in ("rows", "facts"))
        clauses = tuple(map(tuple, json.loads(arrays["clauses"].tobytes())))
        box = arrays["lower"], arrays["upper"], arrays["centre"]
        return cls(*box, Variables(*arrays["variables"]), units, rows, facts, clauses)


@dataclass(frozen=True)
class ClauseAnswer:
    """What a solver says of one clause."""

    status: str
    """none: no point of the box makes all its rows at most 0. point: `points` nearly do. undecided: see `reason`."""
    points: tuple[tuple[float, ...], ...] = ()
    """Flat float64 points of the box, the most promising last."""
    reason: str = ""


def question_of(
    encoding: Encoding, region: Region, rows: Forms, clauses: Sequence[Sequence[int]], facts: Forms | None = None
) -> Question:
    """The question about some clauses; `rows` are the property's, of which only those in the clauses are sent."""
    used = sorted({row for clause in clauses for row in clause})
    place = {row: k for k, row in enumerate(used)}
    return Question(
        region.lower.ravel(), region.upper.ravel(), encoding.centre, encoding.variables, encoding.units,
        Forms(rows.coefficients[used], rows.constant[used], rows.error[used]),
        facts or no_facts(len(encoding.variables.lower)),
        tuple(tuple(place[row] for row in clause) for clause in clauses),
    )  # fmt: skip


def no_facts(num_variables: int) -> Forms:
    """No forms at all."""
    return Forms(np.zeros((0, num_variables)), np.zeros(0), np.zeros(0))
