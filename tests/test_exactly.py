"""Claims in exact arithmetic: what is shown, what is refused, what is too large, and that nothing else happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from paoding_verify.bounds.branching import search_cases
from paoding_verify.bounds.differential import PairBounder
from paoding_verify.checker import exact_pair, exactly
from paoding_verify.checker.claims import Setting
from paoding_verify.checker.crown import enclose, lower_bounds
from paoding_verify.checker.exactly import prove_exactly
from paoding_verify.checker.prove import prove
from paoding_verify.errors import SoundnessError
from paoding_verify.evidence.certificate import LEAF, Certificate, ReluTree, Split
from paoding_verify.evidence.property import Property, distance_at_most
from paoding_verify.network.evaluate import evaluate
from paoding_verify.network.graph import Dense, Network
from tests.checker_suite import smooth_net
from tests.exact_questions import tiny_net
from tests.networks import chain, conv_net, dense_net, residual_net
from tests.pairs import identity_alignment, perturbed, without_units

PAIRS = ("perturbed", "removed", "conv", "residual")


def pair(name: str) -> tuple[Network, Network, tuple[tuple[int, ...], ...]]:
    """Two networks and their alignment."""
    f = {"conv": conv_net, "residual": residual_net}.get(name, dense_net)(3)
    if name != "removed":
        return f, perturbed(f, 1, 0.02), identity_alignment(f)
    kept = (tuple(range(1, 12)), tuple(range(1, 10)))
    return f, without_units(f, kept), kept


def box(network: Network, eps: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    centre = np.random.default_rng(0).uniform(size=network.input_shape)
    return centre - eps, centre + eps


def proved(networks: Sequence[Network], prop: Property, certificate: Certificate, *ends: np.ndarray) -> bool:
    """Whether the float checker proves it."""
    (proof,) = prove(networks, ends[0][None], ends[1][None], [prop], [certificate], semantics="float32")
    return proof.proved


def searched(networks: tuple[Network, ...], prop: Property, certificate: Certificate, *ends: np.ndarray) -> Certificate:
    """A certificate with cases."""
    state = enclose(networks, ends[0][None], ends[1][None], "float32", hints=[certificate], num_rows=len(prop.rows))
    outcome = search_cases(networks, state, prop, max_leaves=3000, limit_s=30.0)
    assert outcome.decided, outcome.limit
    assert outcome.trees
    return replace(certificate, slopes=outcome.slopes, shares=outcome.shares, trees=outcome.trees)


def threshold(name: str) -> tuple[tuple[Network, Network], Certificate, float, float]:
    """The joint bound of |f - g|, which the separate one exceeds, and the largest value at random points."""
    f, g, alignment = pair(name)
    low, high = (end[None] for end in box(f))
    joint, alone = (PairBounder(f, g, a).distance(low, high)[0] for a in (alignment, None))
    assert joint < 0.9 * alone
    points = np.random.default_rng(1).uniform(low[0], high[0], size=(4000, *f.input_shape))
    seen = float(np.abs(evaluate(f, points) - evaluate(g, points)).max())
    return (f, g), Certificate("differential", alignment=alignment), float(joint), seen


@pytest.mark.parametrize("name", PAIRS)
def test_joint_bounds_are_shown(name: str) -> None:
    networks, certificate, bound, seen = threshold(name)
    ends, outputs = box(networks[0]), networks[0].num_outputs
    for limit, true in ((1.05 * bound, True), (0.99 * seen, False)):
        prop = distance_at_most(limit, outputs)
        assert proved(networks, prop, certificate, *ends) is true
        why = prove_exactly(Setting(networks, prop, *ends), certificate)
        assert (why == "") is true
        assert true or why == "its margin is not positive in exact arithmetic"
    apart = replace(certificate, alignment=None)
    assert prove_exactly(Setting(networks, distance_at_most(1.05 * bound, outputs), *ends), apart) != ""


@pytest.mark.parametrize("name", ["perturbed", "removed"])
def test_cases_of_pairs_are_shown_and_forged_ones_refused(name: str) -> None:
    networks, plain, bound, seen = threshold(name)
    ends = box(networks[0])
    prop = distance_at_most(0.3 * seen + 0.7 * bound, networks[0].num_outputs)
    certificate = searched(networks, prop, plain, *ends)
    setting = Setting(networks, prop, *ends)
    assert not proved(networks, prop, plain, *ends)
    assert prove_exactly(setting, plain) == "its margin is not positive in exact arithmetic"
    assert prove_exactly(setting, certificate) == ""
    for forged in forgeries(certificate):
        assert not proved(networks, prop, forged, *ends)
        assert prove_exactly(setting, forged) != ""


def forgeries(certificate: Certificate) -> list[Certificate]:
    """Certificates that claim to cover what they do not."""
    tree = next(tree for tree in certificate.trees if len(tree.scales) > 2)
    others = tuple(each for each in certificate.trees if each is not tree)
    last = len(tree.nodes) - 1
    split = next(k for k in range(last, -1, -1) if tree.nodes[k] != LEAF)
    trees = (
        replace(tree, nodes=tree.nodes[:-1], units=tree.units[:-1]),  # a leaf is missing
        replace(tree, nodes=tree.nodes[:-1], units=tree.units[:-1], scales=tree.scales[:-1]),
        replace(tree, **{item: without(getattr(tree, item), split) for item in ("nodes", "units")}),
        replace(tree, nodes=(LEAF,), units=tree.units[-1:], scales=(0.0,), multipliers=tree.multipliers[:0]),
        replace(tree, scales=(*tree.scales[:-1], -1.0)),
        replace(tree, clause=len(certificate.trees) + 99),
    )  # fmt: skip
    found = [replace(certificate, trees=(*others, forged)) for forged in trees]
    return [*found, replace(certificate, trees=others), replace(certificate, split=Split(0, 0.5))]


def test_cases_of_one_network_are_shown() -> None:
    network, (low, high) = dense_net(1, sizes=(6, 12, 10, 1)), (np.full(6, -0.5), np.full(6, 0.5))
    row = np.ones((1, 1))
    bound = float(lower_bounds([network], low[None], high[None], row, np.zeros(1))[0, 0])
    seen = float(evaluate(network, np.random.default_rng(0).uniform(low, high, size=(4000, 6))).min())
    prop = Property(row, np.array([-bound - 0.3 * (seen - bound)]), ((0,),))
    certificate, setting = (
        searched((network,), prop, Certificate("crown"), low, high),
        Setting((network,), prop, low, high),
    )
    assert not proved([network], prop, Certificate("crown"), low, high)
    assert prove_exactly(setting, certificate) == ""
    for forged in forgeries(certificate):
        assert not proved([network], prop, forged, low, high)
        assert prove_exactly(setting, forged) != ""


def without(entries: tuple[int, ...], place: int) -> tuple[int, ...]:
    return entries[:place] + entries[place + 1 :]


def halved(depth: int) -> Split | None:
    """Bisections of feature 0 of [0, 1], all at .5 or at an end of what is left."""
    return None if depth == 0 else Split(0, 0.5, halved(depth - 1), halved(depth - 1))


def test_what_is_too_large_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    f = dense_net(0)
    prop = Property(np.zeros((1, 4)), np.ones(1), ((0,),))
    setting = Setting((f,), prop, np.full(6, 0.25), np.full(6, 0.75))
    assert prove_exactly(setting, Certificate("crown")) == ""
    assert prove_exactly(setting, Certificate("crown", split=halved(6))) == ""
    why = prove_exactly(setting, Certificate("crown", split=halved(7)))
    assert why == "its region is split into 128 boxes, too many for exact arithmetic"
    tree = ReluTree(0, (1, LEAF, LEAF), (0, 0, 0), (0.0, 0.0), np.zeros((2, 2), dtype=np.uint8))
    monkeypatch.setattr(exactly, "MAX_CASES", 1)
    why = prove_exactly(setting, Certificate("crown", trees=(tree,)))
    assert why == "it is proved by 2 cases of ReLUs, too many for exact arithmetic"
    wide = chain((3000,), Dense(np.zeros((3000, 3000)), np.ones(3000)))
    prop = Property(np.ones((1, 3000)), np.zeros(1), ((0,),))
    why = prove_exactly(Setting((wide,), prop, np.zeros(3000), np.ones(3000)), Certificate("crown"))
    assert why == "a layer from (3000,) to (3000,) is too large for exact arithmetic"
    smooth = smooth_net(0)
    prop = Property(np.ones((1, 3)), np.full(1, 1e3), ((0,),))
    why = prove_exactly(Setting((smooth,), prop, np.zeros(4), np.ones(4)), Certificate("crown"))
    assert "no exact rational value" in why


def test_false_contradictions_and_doubled_trees_are_refused() -> None:
    f = tiny_net(1, dense_net(0).nodes[1].op)  # type: ignore[arg-type]
    prop = Property(np.zeros((1, 2)), np.zeros(1), ((0,),))
    leaf = ReluTree(0, (LEAF,), (0,), (0.0,), np.zeros((0, 2), dtype=np.uint8))
    setting = Setting((f,), prop, np.zeros(2), np.ones(2))
    assert "not positive" in prove_exactly(setting, Certificate("crown", trees=(leaf,)))
    assert "two trees for one clause" in prove_exactly(setting, Certificate("crown", trees=(leaf, leaf)))


def test_a_wrongly_widened_network_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact bounds of a pair do not rest on the code that writes g in the shapes of f."""
    for name in PAIRS:
        f, g, alignment = pair(name)
        wide, kept = exact_pair.widen(f, g, alignment)
        exact_pair.exact_pair_program(f, g, alignment)
        for index, node in enumerate(wide.nodes):
            if not isinstance(node.op, Dense):
                continue
            row, column = kept[index][0], (kept[node.inputs[0] - 1] if node.inputs[0] else [0])[0]
            for change in ({"weight": changed(node.op.weight, (row, column))}, {"bias": changed(node.op.bias, (row,))}):
                nodes = list(wide.nodes)
                nodes[index] = replace(node, op=replace(node.op, **change))
                wrong = Network(wide.input_shape, tuple(nodes))
                monkeypatch.setattr(exact_pair, "widen", lambda *_, wrong=wrong, kept=kept: (wrong, kept))
                with pytest.raises(SoundnessError, match=f"not the pruned one at step {index}"):
                    exact_pair.exact_pair_program(f, g, alignment)
        monkeypatch.undo()


def test_outputs_in_other_places_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A widened network with its outputs reversed has every unit, and answers another question."""
    f, g, alignment = pair("perturbed")
    wide, kept = exact_pair.widen(f, g, alignment)
    last = wide.nodes[-1]
    assert isinstance(last.op, Dense)
    op = replace(last.op, weight=last.op.weight[::-1].copy(), bias=last.op.bias[::-1].copy())
    wrong = Network(wide.input_shape, (*wide.nodes[:-1], replace(last, op=op)))
    moved = [*kept[:-1], kept[-1][::-1]]
    monkeypatch.setattr(exact_pair, "widen", lambda *_: (wrong, moved))
    with pytest.raises(SoundnessError, match="outputs in other places"):
        exact_pair.exact_pair_program(f, g, alignment)


def changed(array: np.ndarray, place: tuple[int, ...]) -> np.ndarray:
    """The array with one number moved by the last bit."""
    copy = array.copy()
    copy[place] = np.nextafter(copy[place], np.inf)
    return copy
