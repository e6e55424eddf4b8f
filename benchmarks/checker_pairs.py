"""Proofs by joint bounds, optimised lines, cases of ReLUs and input splitting: how many of those that the search finds
the checker makes again. Library for checker.py.

A claim goes to the searches in turn, cheapest first, until one reaches a proof by its own bounds, whatever the checker
thinks of it; its certificate is then proved again in exact arithmetic (real) and for every float32 program. Some are
proved in rationals as well. What no search proves is counted as open; a comparison may still refute it, or leave it to
a solver.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from equivalence_pairs import Workshop
from equivalence_queries import Query, Suite, queries

from paoding_verify.bounds.branching import search_cases
from paoding_verify.checker.claims import Setting
from paoding_verify.checker.crown import enclose
from paoding_verify.checker.exactly import prove_exactly
from paoding_verify.checker.prove import prove
from paoding_verify.equivalence.alignment import find_alignment
from paoding_verify.equivalence.engines import PairEngines
from paoding_verify.equivalence.pair_splitting import MAX_FEATURES, split_pair
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.property import Property, predicts
from paoding_verify.network.graph import Array, Network
from paoding_verify.task import SearchConfig

__all__ = ["SEMANTICS", "Tally", "ask_network", "ask_pairs"]

SEMANTICS = ("real", "float32")
STAGES = ("joint bounds", "input splitting", "optimised lines", "cases of ReLUs")
LIMIT_S = 5.0
"""Seconds of one search."""
MAX_PARTS = 2000
EXACT = 5
"""Claims of every row of the table that are proved in rationals."""
DIGITS = ("digits-25", "digits-25-tuned", "digits-25-tuned-20")

SUITES = (
    Suite("digits", DIGITS, "top1", (0.03, 0.06, 0.1), 8),
    Suite("digits", DIGITS, "distance", (0.03, 0.06, 0.1), 6, (1.05, 1.5, 2.0)),
    Suite("256x2", ("256x2-25",), "top1", (0.02, 0.03, 0.04), 6),
    Suite("256x2", ("256x2-25",), "distance", (0.02, 0.03, 0.04), 6, (1.05, 1.5, 2.0)),
    Suite("acas", ("acas-1_1-half", "acas-3_3-noise"), "distance", delta=0.05),
)
QUICK = (Suite("digits", ("digits-25-tuned",), "top1", (0.06,), 4),)

Box = tuple[Array, Array]
Found = tuple[str, Certificate]


class Tally:
    """Counts by subject and stage."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}
        self.open: dict[str, int] = {}
        """Subject -> claims that no search proved."""

    def add(self, name: str, networks: Sequence[Network], box: Box, prop: Property, found: Found | None) -> None:
        """One claim, and the proof that the search has of it."""
        self.open[name] = self.open.get(name, 0) + (found is None)
        if found is None:
            return
        stage, certificate = found
        new = {"found": 0, "proved": dict.fromkeys(SEMANTICS, 0), "not_exact": [], "exact_s": []}
        row = self._rows.setdefault((name, stage), {"subject": name, "stage": stage, **new})
        row["found"] += 1
        for semantics in SEMANTICS:
            row["proved"][semantics] += _prove(networks, box, prop, certificate, semantics)
        if len(row["exact_s"]) < EXACT:
            start = time.process_time()
            reason = prove_exactly(Setting(tuple(networks), prop, *box), certificate)
            row["exact_s"].append(time.process_time() - start)
            row["not_exact"] += filter(None, [reason])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """In the order of stages."""
        return sorted(self._rows.values(), key=lambda row: (row["subject"], STAGES.index(row["stage"])))

    @property
    def shares(self) -> dict[str, float]:
        """Of what the search proved, how much the checker proved again, by arithmetic."""
        found = sum(row["found"] for row in self.rows)
        return {s: sum(row["proved"][s] for row in self.rows) / found if found else 0.0 for s in SEMANTICS}


def ask_pairs(tally: Tally, shop: Workshop, *, quick: bool) -> None:
    """Equivalence and distance of pairs; those whose data are missing are left out."""
    suites = QUICK if quick else SUITES
    names = dict.fromkeys(name for suite in suites for name in suite.pairs if shop.data or name.startswith("digits"))
    engines: dict[str, PairEngines] = {}
    for query in queries(suites, list(names), shop):
        if query is None:
            continue
        if query.pair_name not in engines:
            engines[query.pair_name] = _engines(query)
        box = query.region.lower, query.region.upper
        found = _search_pair(engines[query.pair_name], box, query.statement)
        tally.add(query.pair_name, engines[query.pair_name].networks, box, query.statement, found)


def ask_network(tally: Tally, name: str, network: Network, x: Array, y: Array, eps: float) -> None:
    """Robustness of one network at some inputs, where the checker's own bounds do not decide."""
    for centre, label in zip(x.astype(np.float64), y, strict=True):
        box = np.clip(centre - eps, 0, 1), np.clip(centre + eps, 0, 1)
        prop = predicts(int(label), network.num_outputs)
        if not _prove((network,), box, prop, Certificate("crown"), SEMANTICS[-1]):
            found = _search_cases((network,), box, prop, Certificate("crown"))
            tally.add(f"{name} alone", (network,), box, prop, found)


def _engines(query: Query) -> PairEngines:
    """Units are matched on points of the box and of the pair's images."""
    low, high, pair = query.region.lower, query.region.upper, query.pair
    points = np.random.default_rng(0).uniform(low, high, (64, *low.shape))
    if pair.images is not None:
        points = np.concatenate([points, pair.images[:64]])
    alignment = find_alignment(pair.original, pair.pruned, points)
    return PairEngines(pair.original, pair.pruned, alignment, SearchConfig(timeout_s=LIMIT_S))


def _search_pair(engines: PairEngines, box: Box, prop: Property) -> Found | None:
    """The stage that proves a claim about a pair, and the certificate."""
    plain = Certificate("differential", alignment=engines.alignment)
    rows = engines.joint_bounds(box[0][None], box[1][None], prop).lower
    if prop.margins(rows)[0] > 0:
        return "joint bounds", plain
    if prod(engines.original.input_shape) <= MAX_FEATURES:
        outcome = split_pair(engines, box, prop, max_leaves=MAX_PARTS, limit_s=LIMIT_S)
        if outcome.decided:
            return "input splitting", Certificate("differential", split=outcome.split, alignment=engines.alignment)
    return _search_cases(engines.networks, box, prop, plain)


def _search_cases(networks: Sequence[Network], box: Box, prop: Property, plain: Certificate) -> Found | None:
    state = enclose(networks, box[0][None], box[1][None], SEMANTICS[-1], hints=[plain])
    outcome = search_cases(networks, state, prop, max_leaves=MAX_PARTS, limit_s=LIMIT_S)
    if not outcome.decided:
        return None
    certificate = Certificate(
        plain.kind, outcome.slopes, alignment=plain.alignment, shares=outcome.shares, trees=outcome.trees
    )  # fmt: skip
    return "cases of ReLUs" if outcome.trees else "optimised lines", certificate


def _prove(networks: Sequence[Network], box: Box, prop: Property, certificate: Certificate, semantics: str) -> bool:
    (proof,) = prove(networks, box[0][None], box[1][None], [prop], [certificate], semantics=semantics)
    return proof.proved
