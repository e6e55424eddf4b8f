"""The benchmark of equivalence: its peers are right, its judge is strict, and it resumes."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paoding_verify.bounds.lirpa import LirpaBounder
from paoding_verify.errors import SoundnessError
from paoding_verify.evidence.property import decides_like, distance_at_most
from paoding_verify.network.graph import Dense, Network, Node, Relu
from paoding_verify.regions import Region

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def import_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def chain(seed: int, *sizes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    shapes = zip(sizes[1:], sizes[:-1], strict=True)
    layers = [(rng.normal(size=shape) / np.sqrt(shape[1]), rng.normal(size=shape[0]) / 4) for shape in shapes]
    return [(np.round(w * 16) / 16, np.round(b * 16) / 16) for w, b in layers]


def network(layers: list[tuple[np.ndarray, np.ndarray]]) -> Network:
    ops = [op for w, b in layers for op in (Dense(w, b), Relu())][:-1]
    return Network((layers[0][0].shape[1],), tuple(Node(op, (k,), f"node{k}") for k, op in enumerate(ops)))


def peer_query(seed: int, delta: float | None, **changes: Any) -> Any:
    """Two unrelated networks 2-4-3-3 on a box; delta None: do they decide alike."""
    from equivalence_peer import Query

    prop = decides_like(3) if delta is None else distance_at_most(delta, 3)
    clauses = [list(clause) for clause in prop.clauses]
    pair = chain(seed, 2, 4, 3, 3), chain(seed + 100, 2, 4, 3, 3)
    end = np.full(2, 0.5)
    query = Query(pair, -end, end, prop.rows, prop.offsets, clauses, 20.0, False)
    return replace(query, **changes)


def outputs(query: Any, x: np.ndarray) -> np.ndarray:
    """(f(x), g(x)) in float64."""
    found = []
    for layers in query.networks:
        values = x
        for k, (weight, bias) in enumerate(layers):
            values = values @ weight.T + bias
            values = np.maximum(values, 0) if k < len(layers) - 1 else values
        found.append(values)
    return np.hstack(found)


def margins(query: Any, x: np.ndarray) -> np.ndarray:
    rows = outputs(query, x) @ query.rows.T + query.offsets
    return np.min([rows[:, clause].max(axis=1) for clause in query.clauses], axis=0)


def points(query: Any, count: int = 4000) -> np.ndarray:
    return np.random.default_rng(1).uniform(query.lower, query.upper, (count, len(query.lower)))


@pytest.mark.parametrize("seed", range(3))
def test_solvers_agree_with_each_other_and_with_samples(seed: int) -> None:
    from equivalence_peer import ask_highs, ask_z3

    base = peer_query(seed, 0.0)
    largest = -margins(base, points(base)).min()
    near = peer_query(seed, None)
    small = replace(near, lower=near.lower / 64, upper=near.upper / 64)
    for query in (peer_query(seed, 0.8 * largest), peer_query(seed, 1.2 * largest), near, small):
        seen = margins(query, points(query)).min()
        answers = [ask(query, time.perf_counter() + 20) for ask in (ask_highs, ask_z3)]
        assert len({answer["status"] for answer in answers}) == 1
        for answer in answers:
            assert answer["status"] == ("violated" if seen <= 0 else "holds")
            if "point" in answer:
                assert margins(query, np.array([answer["point"]]))[0] < 1e-5


def test_programming_brackets_the_maximum() -> None:
    from equivalence_peer import ask_highs

    query = peer_query(0, 0.0, maximum=True)
    bound = ask_highs(query, time.perf_counter() + 20)["bound"]
    reached = -margins(query, points(query, 100_000)).min()
    assert reached <= bound < 1.05 * reached


def test_bounds_of_the_peer_hold() -> None:
    from equivalence_peer import crown

    for seed in range(5):
        query = peer_query(seed, 0.0)
        layers, values = query.networks[0], points(query)
        for (weight, bias), (low, high) in zip(layers, crown(layers, query.lower, query.upper), strict=True):
            computed = values @ weight.T + bias
            assert (low <= computed).all()
            assert (computed <= high).all()
            assert (high - low < 3 * (computed.max(axis=0) - computed.min(axis=0)) + 1).all()
            values = np.maximum(computed, 0)


def test_the_product_network_computes_both() -> None:
    from equivalence_pairs import chain_of, product_network

    f, g = network(chain(0, 3, 6, 4)), network(chain(1, 3, 5, 4))
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    assert np.allclose(product_network(f, g).forward(x), np.hstack([f.forward(x), g.forward(x)]), atol=1e-6)
    assert all(np.array_equal(a, b) for a, b in zip(chain_of(f)[1], chain(0, 3, 6, 4)[1], strict=True))


def test_units_with_the_smallest_outgoing_weights_leave() -> None:
    from equivalence_pairs import _without_units

    first, (following, offset) = chain(0, 3, 4, 2)
    following[:, 2] /= 1e6
    kept = _without_units(network([first, (following, offset)]), 0.25)
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    assert kept.num_units == (3,)
    assert np.allclose(kept.forward(x), network([first, (following, offset)]).forward(x), atol=1e-5)


def test_the_digits_are_asked_forty_eight_queries_by_rule() -> None:
    from equivalence_queries import SUITES, _plan

    suite = SUITES[0]
    planned = [entry for name in suite.pairs for entry in _plan(suite, name)]
    assert len(planned) == 48
    assert Counter(factor for *_, factor in planned) == dict.fromkeys(suite.factors, 16)
    assert [len(s.pairs) * s.images for s in SUITES if "top-1" in s.name and "digits" in s.name] == [24, 24]


def row(engine: str, status: str, **more: Any) -> dict[str, Any]:
    """About one box, where the attack reaches 1."""
    base = {"suite": "digits", "pair": "pair", "place": "here", "name": "query", "kind": "distance", "attacked": 1.0,
            "delta": None, "bound": None, "reached": None, "margin": None, "engine": engine, "status": status,
            "limit_s": 10.0, "elapsed_s": 1.0, "cpu_s": 0.5, "reason": "",
            "decided": status != "undecided"}  # fmt: skip
    return base | more


def test_contradictions_stop_the_run() -> None:
    from equivalence_engines import refuse_contradictions

    refuse_contradictions([row("cascade", "holds", delta=1.2), row("z3", "violated", delta=1.1, reached=1.15)])
    for wrong in (
        [row("cascade", "holds", delta=1.0)],
        [row("highs", "holds", delta=0.9)],
        [row("cascade", "bounded", kind="maximum", bound=1.1), row("z3", "violated", delta=1.1, reached=1.15)],
        [row("marabou", "holds", delta=1.2), row("cascade", "violated", delta=1.2, reached=1.3)],
        [row("z3", "holds", kind="top1"), row("cascade", "violated", kind="top1", margin=-0.1)],
    ):
        with pytest.raises(SoundnessError):
            refuse_contradictions(wrong)


def test_peers_have_a_tolerance_and_this_package_has_none() -> None:
    from equivalence_engines import refuse_contradictions

    close = {"delta": 1.0 - 1e-7}
    refuse_contradictions([row("highs", "holds", **close)])
    with pytest.raises(SoundnessError):
        refuse_contradictions([row("cascade", "holds", **close)])


@pytest.fixture
def asked() -> Any:
    """A query that fails at the point (1, 1), where f - g is 2, and holds at the origin."""
    from equivalence_pairs import Pair
    from equivalence_queries import Query, Suite

    f, g = (network([(np.full((2, 2), w), np.zeros(2)), (np.eye(2), np.zeros(2))]) for w in (1.0, 0.0))
    box = Region("r0", np.zeros(2), np.ones(2))
    suite = Suite("digits", ("pair",), "distance", (0.1,), factors=(1.0,))
    return Query(suite, "pair", Pair(f, g, None, box), box, 0.0, 0, 2.0, 1.0, 1.5)


@pytest.mark.parametrize(
    ("engine", "point", "status"),
    [("z3", (1.0, 1.0), "violated"), ("z3", (9.0, 9.0), "violated"), ("cascade", (1.0, 1.0), "violated")],
)
def test_points_are_replayed(
    asked: Any, engine: str, point: tuple[float, ...], status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import equivalence_engines as engines

    monkeypatch.setitem(engines.ENGINES, engine, lambda _query: engines.Answer("violated", 0.1, 0.1, point=point))
    found = engines.answered(engine, asked)
    assert (found["status"], found["reached"], found["margin"]) == (status, 2.0, -0.5)


def test_points_that_break_nothing_count_for_nothing(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import equivalence_engines as engines

    always = replace(asked, delta=2.5)
    for engine in ("z3", "cascade"):
        monkeypatch.setitem(engines.ENGINES, engine, lambda _: engines.Answer("violated", 0.1, 0.1, point=(1.0, 1.0)))
    assert engines.answered("z3", always)["status"] == "undecided"
    with pytest.raises(SoundnessError, match="does not reproduce"):
        engines.answered("cascade", always)
    assert always.digest != asked.digest


def test_answers_after_the_time_limit_do_not_count(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import equivalence_engines as engines

    monkeypatch.setitem(engines.ENGINES, "z3", lambda _: engines.Answer("violated", 10.5, 10.5, point=(1.0, 1.0)))
    assert not engines.answered("z3", asked)["decided"]


def test_marabou_without_its_environment_is_absent(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import equivalence_engines as engines

    monkeypatch.delenv(engines.MARABOU, raising=False)
    assert engines.answered("marabou", asked)["status"] == "absent"


def test_tables_count_what_is_undecided_as_the_limit() -> None:
    from equivalence_tables import criteria, table

    rows = [row("cascade", "holds", name=str(k), elapsed_s=0.01) for k in range(2)]
    rows += [row("z3", "holds", name="0", elapsed_s=4.0), row("z3", "undecided", name="1", elapsed_s=10.2)]
    rows += [row("highs", "bounded", kind="maximum", bound=1.5), row("marabou", "absent", reason="no Python")]
    text = table(rows)
    assert "7.100" in text, "median of 4 and 10.2 seconds"
    assert "1.500 [1.50, 1.50]" in text
    assert "absent: no Python" in text
    found = {criterion.name: criterion for criterion in criteria(rows)}
    z3 = found["digits: at least 100 times faster than plain z3"]
    assert "decided 1 of 2 asked: median 400" in z3.found
    assert z3.met is None
    every = found["digits: 48 of 48 decided within 10 s"]
    assert (every.found, every.met) == ("2 of 2 asked, median 0.010 s", None)


def test_ratios_count_what_any_attack_reaches() -> None:
    from equivalence_tables import ratios, with_largest

    rows = [
        row("cascade", "bounded", kind="maximum", bound=1.5, attacked=0.5, found=1.0, reached=None, place="a"),
        row("highs", "bounded", kind="maximum", bound=3.0, attacked=0.5, found=None, reached=None, place="a"),
        row("highs", "bounded", kind="maximum", bound=3.0, attacked=0.5, found=None, reached=None, place="b"),
    ]
    assert ratios(with_largest(rows)) == [1.5, 3.0, 6.0]


def test_moved_is_what_training_changed(tmp_path: Path) -> None:
    from equivalence_pairs import Workshop

    shop = Workshop(None, tmp_path)
    exact, little, tuned = (shop.pair(f"digits-25{end}").moved for end in ("", "-tuned-1", "-tuned-20"))
    assert exact == 0
    assert little is not None
    assert tuned is not None
    assert 0 < little < tuned < 1


def test_criteria_are_met_only_by_whole_suites() -> None:
    from equivalence_tables import criteria

    def met(name: str, rows: list[dict[str, Any]]) -> bool | None:
        return next(criterion.met for criterion in criteria(rows) if criterion.name.startswith(name))

    rows = [row("cascade", "holds", name=str(k), elapsed_s=0.01) for k in range(48)]
    assert met("digits: 48", rows)
    assert met("digits: median", rows)
    assert met("digits: 48", rows[1:]) is None
    assert met("digits: 48", [row("cascade", "undecided"), *rows[1:]]) is False
    maxima = [
        row("cascade", "bounded", suite="256x2 maximum", pair="256x2-25", kind="maximum", bound=1.4, attacked=a)
        for a in [1.0] * 11 + [0.0] * 9
    ]
    assert met("256x2, 25 % removed, .03: median", maxima)
    assert met("256x2, 25 % removed, .03: median", maxima[::-1][:9] * 2 + maxima[:2]) is False
    late = row("cascade", "holds", suite="acas", pair="acas-1_1-half", elapsed_s=25.0, limit_s=60.0)
    assert met("acas 1_1", [late]) is False
    assert met("acas 2_2", [late | {"pair": "acas-2_2-half"}])
    assert met("violations", [row("cascade", "violated", margin=0.1)]) is False


@pytest.mark.skipif(not LirpaBounder.available(), reason="auto_LiRPA is not installed")
def test_a_quick_run_asks_everybody_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from equivalence import main

    monkeypatch.setenv("PAODING_VERIFY_DATA", str(tmp_path / "nowhere"))
    monkeypatch.delenv("PAODING_VERIFY_MARABOU", raising=False)
    engines = ["cascade", "alpha-crown", "highs", "marabou"]
    arguments = ["--quick", "--engines", *engines, "--cache", str(tmp_path), "--json", str(tmp_path / "found.json")]
    main(arguments)
    stored = (tmp_path / "equivalence.jsonl").read_text()
    shown = capsys.readouterr().out
    main([*arguments, "--minutes", "0"])
    assert (tmp_path / "equivalence.jsonl").read_text() == stored
    found = json.loads((tmp_path / "found.json").read_text())
    rows = {engine: [r for r in found["results"] if r["engine"] == engine] for engine in engines}
    assert [len(rows[engine]) for engine in engines] == [4, 4, 4, 0]
    assert all(r["status"] == "violated" for r in rows["cascade"] if r["factor"] == 0.8)
    assert all(r["bound"] >= r["attacked"] for r in found["results"] if r["bound"] is not None)
    assert "absent" in shown
    assert "of 2 asked" in next(c["found"] for c in found["criteria"] if c["name"].startswith("digits: 48"))


@pytest.mark.realdata
def test_truncated_weights_are_sixteen_bit_numbers(tmp_path: Path, data_dir: Path) -> None:
    from equivalence_pairs import Workshop, chain_of

    pair = Workshop(data_dir, tmp_path).pair("acas-1_1-half")
    for weight, _ in chain_of(pair.pruned):
        assert np.array_equal(weight, weight.astype(np.float16))
    assert pair.images is None
    assert pair.box is not None
    assert not np.array_equal(chain_of(pair.original)[0][0], chain_of(pair.pruned)[0][0])
