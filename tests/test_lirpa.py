"""Bounds from auto_LiRPA: sound at sampled points, deterministic, and without side effects."""

import subprocess
import sys

import numpy as np
import pytest

from paoding_verify.bounds import lirpa, lirpa_compat
from paoding_verify.bounds.lirpa import METHODS, LirpaBounder
from paoding_verify.checker.crown import lower_bounds
from paoding_verify.errors import ConfigError, EngineError, MissingComponentError, ModelError
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.network.evaluate import evaluate
from paoding_verify.network.graph import LeakyRelu, Permute, Relu, Reshape, Sigmoid, Tanh
from tests.networks import chain, conv_net, dense_net, pooled_net, random_conv, random_dense, residual_net


def smooth_net(seed):
    rng = np.random.default_rng(seed)
    ops = [random_dense(rng, 9, 5), LeakyRelu(0.1), random_dense(rng, 8, 9), Sigmoid(), random_dense(rng, 8, 8), Tanh()]
    return chain((5,), *ops, random_dense(rng, 3, 8))


def permuted_net(seed):
    rng = np.random.default_rng(seed)
    conv = random_conv(rng, 3, 2, 3, padding=(0, 1, 1, 0), stride=(2, 1))
    return chain((2, 4, 4), conv, Relu(), Permute((1, 2, 0)), Reshape((18,)), random_dense(rng, 3, 18), Relu())


MAKERS = [dense_net, conv_net, pooled_net, residual_net, smooth_net, permuted_net]


def problem(network, seed, count=4, radius=0.15):
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(count, *network.input_shape))
    reach = rng.uniform(0, radius, size=centre.shape)
    rows = rng.normal(size=(5, network.num_outputs)).astype(np.float32).astype(np.float64)
    return centre - reach, centre + reach, rows, rng.normal(size=5)


def sampled_minimum(network, lower, upper, rows, offsets, rng):
    """Smallest values at random points, half of them corners, in float64."""
    samples = 400
    weights = rng.uniform(size=(samples, *lower.shape))
    weights[::2] = weights[::2] > 0.5
    x = lower + weights * (upper - lower)
    y = evaluate(network, x.reshape(-1, *network.input_shape)).reshape(samples, len(lower), -1)
    return (y @ rows.T + offsets).min(axis=0)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("method", METHODS)
def test_bounds_lie_below_every_sampled_point(make, method):
    network = make(5)
    lower, upper, rows, offsets = problem(network, 6)
    bounds = LirpaBounder(network).lower_bounds(lower, upper, rows, offsets, method=method, iterations=5)
    lowest = sampled_minimum(network, lower, upper, rows, offsets, np.random.default_rng(7))
    assert bounds.lower.shape == (4, 5)
    assert bounds.lower.dtype == np.float64
    assert (bounds.lower <= lowest + 1e-5 * (1 + np.abs(lowest))).all()


@pytest.mark.parametrize("make", MAKERS)
def test_methods_get_tighter(make):
    network = make(8)
    bounder, case = LirpaBounder(network), problem(network, 9)
    means = [bounder.lower_bounds(*case, method=method, iterations=10).lower.mean() for method in METHODS]
    assert means == sorted(means)
    assert means[0] < means[-1]


@pytest.mark.parametrize("make", [dense_net, conv_net])
def test_a_point_region_is_bounded_by_the_value(make):
    network = make(2)
    lower, _, rows, offsets = problem(network, 1)
    point = lower.astype(np.float32).astype(np.float64)
    for method in METHODS:
        bounds = LirpaBounder(network).lower_bounds(point, point, rows, offsets, method=method)
        np.testing.assert_allclose(bounds.lower, evaluate(network, point) @ rows.T + offsets, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [pooled_net, residual_net])
def test_boxes_do_not_influence_each_other(make):
    """Neither the rest of the batch, nor its chunks, nor earlier calls change a bound."""
    network = make(4)
    lower, upper, rows, offsets = problem(network, 3, count=9, radius=0.4)
    bounder = LirpaBounder(network, chunk=4)
    whole = bounder.lower_bounds(lower, upper, rows, offsets).lower
    bounder.lower_bounds(lower, upper, rows, offsets, method="alpha-crown", iterations=3)
    again = bounder.lower_bounds(lower, upper, rows, offsets).lower
    single = LirpaBounder(network).lower_bounds(lower[6:7], upper[6:7], rows, offsets).lower
    np.testing.assert_array_equal(whole, again)
    np.testing.assert_allclose(whole[6:7], single, rtol=1e-5, atol=1e-5)


def test_rows_and_offsets_for_each_box():
    network = dense_net(1)
    lower, upper, rows, offsets = problem(network, 2, count=3)
    bounder = LirpaBounder(network)
    shared = bounder.lower_bounds(lower, upper, rows, offsets).lower
    own = bounder.lower_bounds(lower, upper, np.stack([rows, rows[::-1], rows]), np.stack([offsets] * 3)).lower
    np.testing.assert_allclose(own[[0, 2]], shared[[0, 2]])
    np.testing.assert_allclose(own[1] - offsets, (shared[1] - offsets)[::-1])


@pytest.mark.parametrize("make", MAKERS)
def test_loading_parameters_equals_a_new_bounder(make):
    first, second = make(1), make(2)
    case = problem(first, 3)
    bounder = LirpaBounder(first)
    before = bounder.lower_bounds(*case).lower
    bounder.load(second)
    after = bounder.lower_bounds(*case).lower
    np.testing.assert_array_equal(after, LirpaBounder(second).lower_bounds(*case).lower)
    assert (before != after).any()


def test_loading_another_architecture_is_refused():
    with pytest.raises(ModelError, match="nodes or shapes"):
        LirpaBounder(dense_net(1)).load(dense_net(1, sizes=(6, 12, 9, 4)))


@pytest.mark.parametrize("make", [dense_net, conv_net, pooled_net, residual_net])
def test_slopes_have_the_form_of_certificates(make):
    network = make(3)
    lower, upper, rows, offsets = problem(network, 4, count=3)
    bounds = LirpaBounder(network).lower_bounds(lower, upper, rows, offsets, method="alpha-crown", iterations=3)
    assert bounds.slopes is not None
    assert len(bounds.slopes) == 3
    last = len(network.nodes)
    for slopes in bounds.slopes:
        assert {node for _, node in slopes} == set(network.activations)
        assert {start for start, _ in slopes} <= {last, *network.activations}
        for (start, node), table in slopes.items():
            units = int(np.prod(network.shapes[node + 1]))
            num_rows = 5 if start == last else 2
            assert table.dtype == np.uint8
            assert table.shape in ((num_rows, units), (1, units))


@pytest.mark.parametrize("make", MAKERS)
def test_alpha_crown_with_layers_that_are_stable(make):
    """Boxes so small that whole layers have no unstable unit, together with one that is larger."""
    network = make(3)
    lower, upper, rows, offsets = problem(network, 4, radius=1e-4)
    bounder = LirpaBounder(network)
    for radius in (0.0, 0.02):
        upper[0] += radius
        plain = bounder.lower_bounds(lower, upper, rows, offsets).lower
        found = bounder.lower_bounds(lower, upper, rows, offsets, method="alpha-crown", iterations=4).lower
        assert (found >= plain - 1e-2 * (1 + np.abs(plain))).all()


def test_slopes_help_the_checker():
    network = dense_net(11, sizes=(8, 30, 30, 30, 4))
    lower, upper, rows, offsets = problem(network, 12, count=8, radius=0.5)
    slopes = LirpaBounder(network).lower_bounds(lower, upper, rows, offsets, method="alpha-crown").slopes
    plain = lower_bounds([network], lower, upper, rows, offsets)
    hinted = lower_bounds([network], lower, upper, rows, offsets, hints=[Certificate("crown", s) for s in slopes])
    assert hinted.mean() > plain.mean() + 0.01 * np.abs(plain).mean()


def test_linear_bound_in_the_input():
    """The coefficients belong to a linear function that is below the rows, and whose minimum is the bound."""
    network = dense_net(2)
    lower, upper, rows, offsets = problem(network, 5)
    bounds = LirpaBounder(network).lower_bounds(lower, upper, rows, offsets, coefficients=True)
    linear = bounds.coefficients
    assert linear.shape == (4, 5, 6)
    corner = np.where(linear > 0, lower[:, None], upper[:, None])
    x = lower + 0.3 * (upper - lower)
    below = bounds.lower + np.einsum("nrj,nrj->nr", linear, x[:, None] - corner)
    assert (below <= evaluate(network, x) @ rows.T + offsets + 1e-4).all()


def test_unknown_method_and_missing_linear_bound():
    network = dense_net(1)
    bounder, case = LirpaBounder(network), problem(network, 1)
    with pytest.raises(ConfigError, match="choose one of ibp, crown-ibp, crown, alpha-crown"):
        bounder.lower_bounds(*case, method="forward")
    with pytest.raises(ConfigError, match="linear bound"):
        bounder.lower_bounds(*case, method="ibp", coefficients=True)


def test_failures_of_the_engine_name_method_and_network(monkeypatch):
    network = dense_net(1)
    bounder = LirpaBounder(network)

    def fail(*_, **__):
        raise IndexError("tuple index out of range")

    monkeypatch.setattr(type(bounder._bounded.relus[0]), "bound_backward", fail)
    with pytest.raises(EngineError, match=r"'network' \(crown, .*\): tuple index out of range"):
        bounder.lower_bounds(*problem(network, 1))


def test_missing_component_says_how_to_install(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "auto_LiRPA"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "auto_LiRPA", None)
    lirpa_compat.load_lirpa.cache_clear()
    try:
        assert not LirpaBounder.available()
        with pytest.raises(MissingComponentError, match=r"pip install --no-deps auto-LiRPA==0\.3 packaging appdirs"):
            LirpaBounder(dense_net(1))
    finally:
        monkeypatch.undo()
        lirpa_compat.load_lirpa.cache_clear()
    assert LirpaBounder.available()


CONTAINMENT = """
import logging, sys, warnings
import numpy as np, torch
filters, handlers, level = list(warnings.filters), list(logging.getLogger().handlers), logging.getLogger().level
import paoding_verify.bounds.lirpa as lirpa
assert "auto_LiRPA" not in sys.modules
from tests.networks import residual_net
network = residual_net(0)
before = set(dir(torch._C.Node)), set(dir(sys.modules.get("torch.onnx.symbolic_helper", object)))
x = np.zeros((2, *network.input_shape))
for method in lirpa.METHODS:
    lirpa.LirpaBounder(network).lower_bounds(x, x + .1, np.eye(3), np.zeros(3), method=method, iterations=12)
assert "auto_LiRPA" in sys.modules
assert warnings.filters == filters, "warnings filters"
assert logging.getLogger().handlers == handlers and logging.getLogger().level == level, "root logger"
assert set(dir(torch._C.Node)) == before[0], "torch._C.Node"
assert "tqdm" not in sys.modules or sys.modules["tqdm"].__spec__ is not None, "lent module"
assert "numpy.lib.arraysetops" not in sys.modules
"""


def test_importing_and_bounding_leave_no_trace():
    """Neither the root logger, nor warnings, nor torch, nor the standard output are touched."""
    done = subprocess.run([sys.executable, "-c", CONTAINMENT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def wide_net(seed):
    rng = np.random.default_rng(seed)
    first, second = random_conv(rng, 9, 1, 3, padding=(1, 1, 1, 1)), random_conv(rng, 3, 9, 3)
    return chain((1, 24, 24), first, Relu(), second, Relu(), Reshape((1452,)), random_dense(rng, 3, 1452))


def test_layers_are_bounded_part_by_part_without_a_difference(monkeypatch):
    network = wide_net(0)
    lower, upper, rows, offsets = problem(network, 1, count=3, radius=0.2)
    found = LirpaBounder(network).lower_bounds(lower, upper, rows, offsets).lower
    monkeypatch.setattr(lirpa, "_ROWS", 1 << 20)
    whole = LirpaBounder(network).lower_bounds(lower, upper, rows, offsets).lower
    np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-4)


def test_slopes_of_large_networks_help_the_checker_as_they_stand(monkeypatch):
    """Slopes behind the property's rows alone, on bounds that the checker computes itself."""
    network = wide_net(2)
    lower, upper, rows, offsets = problem(network, 3, count=2, radius=0.4)
    assert len(rows) * 5184 < 1452 * 5184 <= lirpa._HEAVY
    monkeypatch.setattr(lirpa, "_HEAVY", 1 << 20)
    found = LirpaBounder(network).lower_bounds(lower, upper, rows, offsets, method="alpha-crown")
    assert all(start == len(network.nodes) for slopes in found.slopes for start, _ in slopes)
    plain = lower_bounds([network], lower, upper, rows, offsets)
    hinted = lower_bounds([network], lower, upper, rows, offsets, hints=[Certificate("crown", s) for s in found.slopes])
    assert (hinted > plain + 0.005 * np.abs(plain)).any()
    np.testing.assert_allclose(hinted, found.lower, rtol=1e-2)


def test_linear_bounds_of_wide_layers_come_whole():
    network = wide_net(4)
    lower, upper, rows, offsets = problem(network, 5, count=2, radius=0.4)
    plain = LirpaBounder(network).lower_bounds(lower, upper, rows, offsets)
    found = LirpaBounder(network).lower_bounds(lower, upper, rows, offsets, coefficients=True)
    assert found.coefficients is not None
    assert found.coefficients.shape == (2, 5, 1, 24, 24)
    np.testing.assert_allclose(found.lower, plain.lower, rtol=1e-4, atol=1e-4)
