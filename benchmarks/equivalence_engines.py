"""Engines that answer queries about pairs, and the judge of their answers. Library for the scripts beside it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from equivalence_pairs import chain_of, product_network
from equivalence_queries import Query
from surroundings import files_digest

from paoding_verify.equivalence.compare import compare
from paoding_verify.errors import SoundnessError
from paoding_verify.evidence.property import broken_by
from paoding_verify.evidence.verdict import Verdict
from paoding_verify.network.graph import Float32Array
from paoding_verify.network.onnx_out import shipped_onnx
from paoding_verify.network.runtime import OnnxProgram
from paoding_verify.regions import float32_interior
from paoding_verify.task import SearchConfig
from paoding_verify.witness import find_witness, replay_witness

__all__ = ["ENGINES", "Answer", "answered", "engine_digest", "refuse_contradictions"]

PEER = Path(__file__).resolve().parent / "equivalence_peer.py"
MARABOU = "PAODING_VERIFY_MARABOU"
"""Names the Python that has maraboupy."""
GRACE_S = 5.0
"""A peer's process is killed that long after its time limit."""
TOLERANCE = 1e-5
"""Relative to 1 + value: what peers may be wrong by, who compute without bounds of rounding errors."""
CODE = ("equivalence/*.py", "bounds/*.py", "checker/*.py", "network/*.py", "evidence/*.py", "attack.py", "witness.py")

Row = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What an engine says about a query."""

    status: str
    """holds, violated, bounded (of a maximum), undecided, absent (it is not installed), no question (it has no answer
    to queries of this kind)."""
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    """Of the processor: what `elapsed_s` would be on an idle machine."""
    bound: float | None = None
    """Of a maximum: |f - g| is at most this."""
    point: tuple[float, ...] | None = None
    found: float | None = None
    """Of a maximum: |f - g| that the engine's own attack reaches, as torch computes it."""
    reason: str = ""
    version: str = ""
    """Of a peer, in its own environment."""


def cascade(query: Query) -> Answer:
    """The package itself, one claim at a time, with everything that is built for it."""
    config = SearchConfig(timeout_s=query.suite.limit_s)
    start = _clock()
    (finding,) = compare(query.pair.original, query.pair.pruned, [query.task], config)
    spent, claim = _clock() - start, finding.claim
    if claim.verdict is Verdict.VIOLATED:
        if claim.witness is None:
            raise SoundnessError(f"{query.name}: VIOLATED without a witness")
        return Answer("violated", *spent.tolist(), point=claim.witness.input, reason=claim.method)
    if claim.verdict is not Verdict.CERTIFIED:
        return Answer("undecided", *spent.tolist(), reason=claim.reason)
    if query.kind == "maximum":
        return Answer("bounded", *spent.tolist(), bound=claim.bound, found=claim.attack, reason=claim.method)
    return Answer("holds", *spent.tolist(), reason=claim.method)


def alpha_crown(query: Query) -> Answer:
    """auto_LiRPA on one network that computes both; it proves, and never refutes."""
    from paoding_verify.bounds.lirpa import LirpaBounder

    if not LirpaBounder.available():
        return Answer("absent", reason="auto_LiRPA is not installed")
    prop, region = query.statement, query.region
    start = _clock()
    bounder = LirpaBounder(product_network(query.pair.original, query.pair.pruned))
    found = bounder.lower_bounds(
        region.lower[None], region.upper[None], prop.rows, prop.offsets, method="alpha-crown"
    ).lower  # fmt: skip
    spent, margin = _clock() - start, float(prop.margins(found)[0])
    if query.kind == "maximum":
        return Answer("bounded", *spent.tolist(), bound=-margin)
    return Answer("holds" if margin > 0 else "undecided", *spent.tolist(), reason="bounds")


def _peer(name: str, python: Callable[[], str | None], query: Query) -> Answer:
    """A solver in a process of its own, which is killed when its time is up."""
    command = python()
    if command is None:
        return Answer("absent", reason=f"{MARABOU} names no Python that has maraboupy")
    if query.kind == "maximum" and name != "highs":
        return Answer("no question")
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "query.npz", Path(folder) / "answer.json"
        _write(query, question)
        limit_s = query.suite.limit_s + GRACE_S
        try:
            done = subprocess.run([command, str(PEER), name, str(question), str(answer)], cwd=folder, check=False,
                                  capture_output=True, text=True, timeout=limit_s)  # fmt: skip
        except subprocess.TimeoutExpired:
            return Answer("undecided", limit_s, limit_s, reason="killed")
        if not answer.is_file():
            return Answer("undecided", limit_s, limit_s, reason=f"process ended with {done.returncode}")
        found = json.loads(answer.read_text())
    if found.get("point") is not None:
        found["point"] = tuple(found["point"])
    return Answer(**found)


def _clock() -> np.ndarray:
    """Seconds that passed, and seconds of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


def _write(query: Query, path: Path) -> None:
    arrays = {
        f"{name}{k}{what}": array
        for name, network in (("f", query.pair.original), ("g", query.pair.pruned))
        for k, layer in enumerate(chain_of(network))
        for what, array in zip("wb", layer, strict=True)
    }
    prop = query.statement
    np.savez(path, lower=query.region.lower.ravel(), upper=query.region.upper.ravel(), rows=prop.rows,
             offsets=prop.offsets, clauses=json.dumps(prop.clauses), limit_s=query.suite.limit_s,
             maximum=query.kind == "maximum", **arrays)  # fmt: skip


def _own_python() -> str:
    return sys.executable


def _marabou_python() -> str | None:
    return os.environ.get(MARABOU)


ENGINES: Mapping[str, Callable[[Query], Answer]] = {
    "cascade": cascade,
    "alpha-crown": alpha_crown,
    "highs": lambda query: _peer("highs", _own_python, query),
    "z3": lambda query: _peer("z3", _own_python, query),
    "marabou": lambda query: _peer("marabou", _marabou_python, query),
}
"""cascade: this package. alpha-crown: auto_LiRPA on the product network. highs: mixed-integer programming, plain big-M.
z3: the plain encoding."""


@cache
def engine_digest(engine: str) -> str:
    """Changes with the code that an engine's answers depend on."""
    if engine == "cascade":
        return files_digest(CODE)
    if engine == "alpha-crown":
        return files_digest(("bounds/lirpa*.py", "bounds/lowering.py"))
    return hashlib.sha256(PEER.read_bytes()).hexdigest()[:12]


def answered(engine: str, query: Query) -> Row:
    """A row: the engine's answer, with every point replayed by onnxruntime on the shipped files.

    A peer's point that does not break the property there, nor any near it, leaves the query undecided.
    Raises: SoundnessError if this package's own point does not.
    """
    answer = ENGINES[engine](query)
    status, reached, margin, reason = answer.status, None, None, answer.reason
    if status == "violated":
        outputs = _replayed(query, answer, own=engine == "cascade")
        if outputs is None and engine == "cascade":
            raise SoundnessError(f"{query.name}: a witness that onnxruntime does not reproduce")
        if outputs is None:
            status, reason = "undecided", "the point does not break the property in onnxruntime"
        else:
            prop = query.statement
            margin = float(prop.margins(prop.values(np.concatenate(outputs)[None]))[0])
            reached = float(np.abs(outputs[0] - outputs[1]).max())
    bound = answer.bound if answer.bound is not None and np.isfinite(answer.bound) else None
    if status == "bounded" and bound is None:
        status, reason = "undecided", "no finite bound"
    in_time = answer.elapsed_s <= query.suite.limit_s
    return {
        "suite": query.suite.name, "pair": query.pair_name, "place": query.place, "name": query.name,
        "kind": query.kind, "radius": query.radius, "image": query.image, "attacked": query.attacked,
        "factor": query.factor, "delta": query.delta, "limit_s": query.suite.limit_s, "query": query.digest,
        "moved": query.pair.moved, "found": answer.found,
        "engine": engine, "code": engine_digest(engine), "status": status, "elapsed_s": answer.elapsed_s,
        "cpu_s": answer.cpu_s, "version": answer.version,
        "decided": status in ("holds", "violated", "bounded") and in_time, "bound": bound,
        "reached": reached, "margin": margin, "reason": reason, "load": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def _replayed(query: Query, answer: Answer, *, own: bool) -> tuple[np.ndarray, np.ndarray] | None:
    """Outputs at the point, or, for peers, one near it; None: nothing is broken there."""
    region, networks = query.region, (query.pair.original, query.pair.pruned)
    programs = [OnnxProgram(shipped_onnx(network)) for network in networks]
    point: Float32Array = np.array(answer.point, dtype=np.float32).reshape(region.lower.shape)
    if own:
        witness = replay_witness(programs, region, query.statement, point)
    else:
        point = np.clip(point, *float32_interior(region.lower, region.upper))
        witness = find_witness(networks, programs, region, query.statement, point)
    if witness is None:
        return None
    f, g = witness.outputs_original or (), witness.outputs_pruned or ()
    if not broken_by(query.statement, (*f, *g)):
        return None
    return np.array(f), np.array(g)


def refuse_contradictions(rows: Iterable[Row]) -> None:
    """Compares all answers about the same boxes, with what the attack reached there.

    This package proves for every float32 program, so that nothing may be left of it; peers have their tolerance.
    Raises: SoundnessError naming the two that contradict each other.
    """
    places: dict[str, list[Row]] = {}
    for row in rows:
        places.setdefault(row["place"], []).append(row)
    for found in places.values():
        for row in found:
            _refuse(row, f"{row['name']}: the attack", row["attacked"])
        for proved, shown in permutations(found, 2):
            who = f"{shown['name']}: {shown['engine']}"
            if shown["reached"] is not None:
                _refuse(proved, who, shown["reached"])
            if proved["kind"] == shown["kind"] == "top1" and (proved["status"], shown["status"]) == (
                "holds",
                "violated",
            ):
                tolerance = 0.0 if proved["engine"] == "cascade" else TOLERANCE
                if shown["margin"] <= -tolerance:
                    raise SoundnessError(f"{who} refutes what {proved['engine']} proves")


def _refuse(row: Row, who: str, reached: float) -> None:
    """Raises: SoundnessError if the row proves |f - g| to be smaller than what was reached."""
    below = row["delta"] if row["status"] == "holds" else row["bound"]
    if below is None or row["kind"] == "top1":
        return
    wrong = reached >= below if row["engine"] == "cascade" else reached > below + TOLERANCE * (1 + below)
    if wrong:
        raise SoundnessError(
            f"{who} reaches {reached:.9g}; {row['engine']} proves less than {below:.9g} ({row['name']})"
        )
