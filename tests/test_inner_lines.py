"""Slopes behind hidden units: narrower intervals, which hold at every point, and which the checker finds again."""

from __future__ import annotations

import numpy as np
import pytest

from paoding_verify.bounds.inner_lines import inner_slopes
from paoding_verify.checker.backward import State
from paoding_verify.errors import UnsupportedOpError
from paoding_verify.evidence.certificate import Certificate, Slopes
from paoding_verify.evidence.codec import dumps, loads
from paoding_verify.evidence.property import distance_at_most
from paoding_verify.network.evaluate import evaluate_all
from paoding_verify.network.graph import Network
from tests.networks import conv_net, dense_net, pooled_net, residual_net
from tests.pairs import identity_alignment, perturbed, root_state, without_units

KEPT = tuple(tuple(range(2, 16)) for _ in range(3))
DEEP = dense_net(2, (6, 16, 16, 16, 3))
PAIRS = {
    "removed": (DEEP, without_units(DEEP, KEPT), KEPT),
    "no alignment": (DEEP, without_units(DEEP, KEPT), None),
    "residual": (residual_net(3), perturbed(residual_net(3), 4, 0.02), identity_alignment(residual_net(3))),
    "convolution": (conv_net(1), perturbed(conv_net(1), 2, 0.02), identity_alignment(conv_net(1))),
}


def box_of(network: Network) -> tuple[np.ndarray, np.ndarray]:
    centre = np.random.default_rng(0).uniform(size=network.input_shape)
    return centre - 0.2, centre + 0.2


def widths(state: State) -> np.ndarray:
    """Of all values that rectifiers of hidden layers read."""
    read = [step.inputs[0] for step in state.program.steps if type(step.op).__name__ == "Relu"]
    return np.concatenate([(state.values[v].upper - state.values[v].lower).ravel() for v in read])


@pytest.mark.parametrize("name", PAIRS)
def test_hidden_units_are_narrower_and_hold_every_point(name: str) -> None:
    f, g, alignment = PAIRS[name]
    box = box_of(f)

    def enclosed(slopes: Slopes) -> State:
        hints = Certificate("differential", slopes, alignment=alignment)
        again = loads(Certificate, dumps(hints), "certificate")
        return root_state([f, g], *box, distance_at_most(0.0, f.num_outputs), again, "float32")

    found, state = inner_slopes(enclosed)
    plain = enclosed({})
    assert found
    assert widths(state).sum() < 0.998 * widths(plain).sum()
    assert (widths(state) == widths(enclosed(found))).all()
    points = np.random.default_rng(1).uniform(*box, size=(500, *f.input_shape))
    of = {0: evaluate_all(f, points), len(f.nodes): evaluate_all(g, points)}
    for value, step in enumerate(state.program.steps, 1):
        side = len(f.nodes) * (step.number >= len(f.nodes))
        seen = of[side][step.number - side + 1].reshape(len(points), -1)
        low, high = (
            end.reshape(-1) if step.kept is None else end.reshape(-1)[step.kept]
            for end in (state.values[value].lower, state.values[value].upper)
        )
        assert (seen >= low).all()
        assert (seen <= high).all()


def test_one_hidden_layer_has_no_choice() -> None:
    f = dense_net(1, (4, 8, 2))
    box, hints = box_of(f), Certificate("differential", alignment=identity_alignment(f))
    found, _ = inner_slopes(lambda _: root_state([f, f], *box, distance_at_most(0.0, 2), hints, "real"))
    assert not found


def test_max_pooling_is_refused() -> None:
    f = pooled_net(0)
    box = box_of(f)
    with pytest.raises(UnsupportedOpError, match="max pooling"):
        inner_slopes(lambda _: root_state([f, f], *box, distance_at_most(0.0, 3), Certificate("differential"), "real"))
