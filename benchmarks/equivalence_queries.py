"""What pairs of networks are asked, by rules that know no engine. Library for the scripts beside it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from equivalence_pairs import Pair, Workshop
from surroundings import files_digest

from paoding_verify.attack import attack
from paoding_verify.data import Dataset
from paoding_verify.evidence.property import Property, decides_like, distance_at_most
from paoding_verify.linf import linf_regions
from paoding_verify.network.graph import Float32Array, LeakyRelu, Network, Relu
from paoding_verify.network.onnx_out import shipped_onnx
from paoding_verify.network.runtime import OnnxProgram
from paoding_verify.regions import Region
from paoding_verify.task import Task

__all__ = ["QUICK", "SUITES", "Query", "Suite", "queries"]

RESTARTS, STEPS = 20, 100
"""Effort of the attack that sets the thresholds."""
SLOPES = (0.5, 0.2, 0.05, 0.01)
"""Left of zero, of the ReLUs in a second attack: where only units differ that are off, networks have no gradient."""
FLOOR = 1e-3
"""Thresholds belong to this distance where the attack finds a smaller one."""


@dataclass(frozen=True)
class Suite:
    """Queries that are counted together."""

    name: str
    pairs: tuple[str, ...]
    kind: str
    """distance: is |f - g| below a threshold; maximum: how large is it at most; top1: do they decide alike."""
    radii: tuple[float, ...] = (0.0,)
    """Of the boxes around images; without meaning for pairs that have a box of their own."""
    images: int = 1
    """Boxes per pair and radius."""
    factors: tuple[float, ...] = ()
    """Thresholds in units of the attacked distance, one for each query, in turn."""
    delta: float | None = None
    """The threshold itself, in place of factors."""
    limit_s: float = 10.0


_EXACT_AND_TUNED = ("digits-25", "digits-25-tuned")
_ACAS = tuple(f"acas-{net}-{kind}" for kind in ("half", "noise") for net in ("1_1", "2_2", "3_3"))
_MOVED = ("digits-25", "digits-25-tuned-1", "digits-25-tuned", "digits-25-tuned-20", "digits-25-tuned-80")
_FACTORS = (0.8, 1.05, 1.5)
_RADII = (0.03, 0.06, 0.1)

SUITES = (
    Suite("digits", _EXACT_AND_TUNED, "distance", _RADII, 8, _FACTORS),
    Suite("digits top-1 .05", _EXACT_AND_TUNED, "top1", (0.05,), 12),
    Suite("digits top-1 .1", _EXACT_AND_TUNED, "top1", (0.1,), 12),
    Suite("digits maximum", ("digits-10", "digits-25", "digits-50", "digits-25-tuned"), "maximum", (0.06,), 6),
    Suite("digits others", ("digits-10", "digits-50"), "distance", _RADII, 4, (*_FACTORS, 2.0)),
    Suite("256x2 maximum", ("256x2-25", "256x2-default"), "maximum", (0.03,), 20),
    Suite("256x2 twice", ("256x2-25", "256x2-default"), "distance", (0.03,), 20, (2.0,)),
    Suite("256x2 others", ("256x2-25", "256x2-default"), "distance", (0.03,), 6, _FACTORS),
    Suite("256x2 top-1", ("256x2-25", "256x2-default"), "top1", (0.03,), 6),
    Suite("256x4 maximum", ("256x4-25", "256x4-default"), "maximum", (0.03,), 20, limit_s=30.0),
    Suite("256x4 others", ("256x4-25", "256x4-default"), "distance", (0.03,), 8, (*_FACTORS, 2.0)),
    Suite("weights moved, maximum", _MOVED, "maximum", (0.03,), 8),
    Suite("weights moved, top-1", _MOVED, "top1", (0.03,), 12),
    Suite("acas", _ACAS, "distance", delta=0.05, limit_s=60.0),
    Suite("acas maximum", _ACAS, "maximum", limit_s=60.0),
)
QUICK = (
    Suite("digits", ("digits-25-tuned",), "distance", (0.03,), 2, _FACTORS, limit_s=5.0),
    Suite("digits top-1 .05", ("digits-25-tuned",), "top1", (0.05,), 1, limit_s=5.0),
    Suite("digits maximum", ("digits-25-tuned",), "maximum", (0.03,), 1, limit_s=5.0),
)
"""A few seconds for each engine."""


@dataclass(frozen=True, eq=False)
class Query:
    """One question about one pair on one box."""

    suite: Suite
    pair_name: str
    pair: Pair
    region: Region
    radius: float
    image: int
    attacked: float
    """Largest |f - g| that the attack found, as onnxruntime computes it on the shipped files; 0 for top1."""
    factor: float | None
    delta: float | None
    """Threshold of a distance."""

    @property
    def kind(self) -> str:
        """As that of the suite."""
        return self.suite.kind

    @property
    def place(self) -> str:
        """Pair and box."""
        return f"{self.pair_name}/{self.radius:g}/{self.image}"

    @property
    def name(self) -> str:
        """One of a kind."""
        return f"{self.suite.name}/{self.place}"

    @property
    def statement(self) -> Property:
        """What holds or does not; of a maximum: |f - g| < 0, whose margin is minus the distance."""
        outputs = self.pair.original.num_outputs
        return decides_like(outputs) if self.kind == "top1" else distance_at_most(self.delta or 0.0, outputs)

    @property
    def task(self) -> Task:
        """The same for the library."""
        kind = "top1_equivalent" if self.kind == "top1" else "output_distance"
        return Task(self.name, kind, "pair", self.region, None, self.delta)

    @property
    def ground(self) -> str:
        """Changes with the networks and the box."""
        box = self.region.lower.tobytes() + self.region.upper.tobytes()
        return hashlib.sha256(self.pair.digest + box).hexdigest()[:16]

    @property
    def digest(self) -> str:
        """Changes with anything that an answer depends on, but for the engine."""
        return f"{self.ground} {self.kind} {self.delta} {self.suite.limit_s:g}"


def queries(
    suites: Sequence[Suite], pairs: Sequence[str], shop: Workshop, *, deadline: float = np.inf
) -> Iterator[Query | None]:
    """A query of each suite and pair in turn, so that a run that is stopped has some of all; each box is attacked once.

    pairs: what suites ask about others is left out. deadline: of `time.perf_counter`; None stands for queries on boxes
    that were not attacked before it.
    """
    plans = [_plan(suite, name) for suite in suites for name in suite.pairs if name in pairs]
    attacks = _Attacks(shop.cache / "attacks.json", deadline)
    for k in range(max(map(len, plans), default=0)):
        for plan in plans:
            if k < len(plan):
                yield _with_threshold(_query(shop, *plan[k]), attacks)


def _with_threshold(query: Query, attacks: _Attacks) -> Query | None:
    if query.kind == "top1":
        return query
    reached, factor = attacks.largest_difference(query), query.factor
    if reached is None:
        return None
    delta = query.suite.delta if factor is None else factor * max(reached, FLOOR)
    return replace(query, attacked=reached, delta=delta)


def _query(shop: Workshop, suite: Suite, name: str, radius: float, image: int, factor: float | None) -> Query:
    pair = shop.pair(name)
    region = pair.box
    if pair.images is not None:
        (region,) = linf_regions(Dataset(pair.images[image : image + 1], None, name), eps=radius, domain=(0.0, 1.0))
    if region is None:
        raise ValueError(f"{name} has neither images nor a box")
    return Query(suite, name, pair, region, radius, image, 0.0, factor, None)


def _plan(suite: Suite, name: str) -> list[tuple[Suite, str, float, int, float | None]]:
    """All queries of a suite about one pair; thresholds take turns over images, starting elsewhere at every radius."""
    first = suite.pairs.index(name)
    plan = []
    for image, (r, radius) in product(range(suite.images), enumerate(suite.radii)):
        factor = suite.factors[(first + r + image) % len(suite.factors)] if suite.factors else None
        plan.append((suite, name, radius, image, factor))
    return plan


class _Attacks:
    """The fixed attack, once for every pair and box; what it reached is kept in a file."""

    def __init__(self, path: Path, deadline: float) -> None:
        self._path, self._deadline = path, deadline
        self._effort = f"{RESTARTS} {STEPS} {SLOPES} {files_digest(('attack.py',))}"
        self._known: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}

    def largest_difference(self, query: Query) -> float | None:
        """Of the outputs in onnxruntime; None: unknown, and it is too late."""
        key = f"{query.ground} {self._effort}"
        if key not in self._known and time.perf_counter() < self._deadline:
            self._known[key] = _attacked(query.pair, query.region)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._known, indent=1))
        return self._known.get(key)


def _attacked(pair: Pair, region: Region) -> float:
    networks = (pair.original, pair.pruned)
    soft = region.centre[None]
    for slope in SLOPES:
        soft = _ascent([_leaky(network, slope) for network in networks], region, soft, (8, 40))
    starts = ((soft, (8, 60)), (region.centre[None], (RESTARTS, STEPS)))
    points = np.concatenate([_ascent(networks, region, start, effort) for start, effort in starts])
    f, g = (OnnxProgram(shipped_onnx(network)).run(points).astype(np.float64) for network in networks)
    return float(np.abs(f - g).max())


def _ascent(
    networks: Sequence[Network], region: Region, start: Float32Array, effort: tuple[int, int]
) -> Float32Array:  # fmt: skip
    """A point of the region with a large difference. Shape (1, *input_shape); effort: restarts and steps."""
    prop = distance_at_most(0.0, networks[0].num_outputs)
    return attack(
        networks, region.lower[None], region.upper[None], prop.rows, prop.offsets, prop.clauses, restarts=effort[0],
        steps=effort[1], seed=0, centre=start,
    ).points  # fmt: skip


def _leaky(network: Network, slope: float) -> Network:
    nodes = [replace(n, op=LeakyRelu(slope)) if isinstance(n.op, Relu) else n for n in network.nodes]
    return Network(network.input_shape, tuple(nodes), network.name)
