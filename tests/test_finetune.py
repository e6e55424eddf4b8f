"""Fine-tuning: the bounds it minimises, what it may change, and how rows are kept apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from paoding_verify.auditing.config import AuditConfig
from paoding_verify.auditing.drawing import draw_regions
from paoding_verify.auditing.run import audit
from paoding_verify.bounds.lirpa import LirpaBounder
from paoding_verify.bounds.lirpa_training import TrainingBounds, certified_loss
from paoding_verify.data import Dataset
from paoding_verify.errors import ConfigError, DataError
from paoding_verify.evidence.codec import dumps, loads
from paoding_verify.evidence.property import predicts
from paoding_verify.evidence.pruning import PruneTrace
from paoding_verify.network.digest import canonical_digest
from paoding_verify.network.graph import Affine, Network, Relu, Reshape, parameters
from paoding_verify.network.onnx_out import to_onnx
from paoding_verify.network.torch_out import to_module
from paoding_verify.network.transform import with_normalisation
from paoding_verify.pruning.finetune import finetune
from paoding_verify.pruning.objectives import OBJECTIVES, Recipe
from paoding_verify.pruning.options import PruneOptions
from paoding_verify.pruning.prune import PruneResult, prune
from paoding_verify.pruning.refine import refine, split_rows
from paoding_verify.pruning.unstructured import UNSTRUCTURED, kept_weights, zero_share
from paoding_verify.regions import Region
from paoding_verify.task import SearchConfig
from tests.networks import chain, conv_net, dense_net, pooled_net, random_conv, random_dense, residual_net

DOMAIN = (0.0, 1.0)
EPS = 0.04
QUICK = Recipe(batch_size=32, learning_rate=1e-2)


def same_padded_net(seed: int) -> Network:
    """A dilated convolution with different padding on opposite sides: lowering grows its kernel by zeros."""
    rng = np.random.default_rng(seed)
    conv = random_conv(rng, 3, 1, 2, padding=(0, 0, 2, 1), dilation=(2, 2))
    return chain((1, 5, 5), conv, Relu(), Reshape((60,)), random_dense(rng, 3, 60))


def classes(count: int, seed: int = 0) -> Dataset:
    """Three Gaussian classes in six dimensions."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.7, 0.7, 0.3, 0.3, 0.3, 0.3], [0.3, 0.3, 0.7, 0.7, 0.3, 0.3], [0.3, 0.3, 0.3, 0.3, 0.7, 0.7]])
    y = np.arange(count) % 3
    x = np.clip(centres[y] + 0.08 * rng.normal(size=(count, 6)), 0, 1).astype(np.float32)
    return Dataset(x, y, f"classes{seed}.npz")


def small_net() -> Network:
    return dense_net(1, (6, 16, 12, 3))


def box_of(network: Network, count: int, eps: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((count, *network.input_shape), generator=generator)
    labels = torch.randint(network.num_outputs, (count,), generator=generator)
    return x - eps, x + eps, labels


NETS = [dense_net, conv_net, pooled_net, residual_net, same_padded_net]


@pytest.mark.parametrize("make", NETS)
@pytest.mark.parametrize("tightness", [0.0, 0.4, 1.0])
def test_the_certified_loss_is_above_the_loss_at_every_point_sampled(make, tightness):
    network = make(2)
    module = to_module(network)
    lower, upper, labels = box_of(network, 4, EPS)
    margins = TrainingBounds(module).margins(lower, upper, labels, tightness=tightness)
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        x = lower + torch.rand(lower.shape, generator=generator).round(decimals=1) * (upper - lower)
        for k in range(len(x)):
            worst = certified_loss(margins[k : k + 1]).item()
            assert F.cross_entropy(module(x[k : k + 1]), labels[k : k + 1]).item() <= worst + 1e-4


@pytest.mark.parametrize("make", NETS)
@pytest.mark.parametrize(("method", "tightness"), [("ibp", 0.0), ("crown-ibp", 1.0)])
def test_margins_are_those_of_the_bounder(make, method, tightness):
    network = make(0)
    lower, upper, labels = box_of(network, 5, EPS)
    rows = np.stack([predicts(int(label), network.num_outputs).rows for label in labels])
    expected = LirpaBounder(network).lower_bounds(
        lower.double().numpy(), upper.double().numpy(), rows, np.zeros(rows.shape[:2]), method=method
    )
    found = TrainingBounds(to_module(network)).margins(lower, upper, labels, tightness=tightness)
    np.testing.assert_allclose(found.detach().numpy(), expected.lower, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", NETS)
def test_gradients_of_the_bounds_are_their_slopes(make):
    """Against finite differences, along a random direction of all parameters that are trained."""
    module = to_module(make(3))
    bounds = TrainingBounds(module)
    lower, upper, labels = box_of(module.network, 3, EPS)
    trained = [p for k, n in enumerate(module.network.nodes) for p in arrays(module, k) if not isinstance(n.op, Affine)]
    for parameter in trained:
        parameter.requires_grad_(True)
    loss = certified_loss(bounds.margins(lower, upper, labels, tightness=0.5))
    gradients = torch.autograd.grad(loss, trained)
    generator = torch.Generator().manual_seed(2)
    direction = [torch.randn(p.shape, generator=generator) for p in trained]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    values, step = [], 2e-3 / sum(float((d * d).sum()) for d in direction) ** 0.5
    with torch.no_grad():
        for move in (step, -2 * step):
            for parameter, d in zip(trained, direction, strict=True):
                parameter.add_(move * d)
            values.append(float(certified_loss(bounds.margins(lower, upper, labels, tightness=0.5))))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=0.05, abs=0.5 * abs(loss.item()) * 1e-2)


def arrays(module: torch.nn.Module, index: int) -> list[torch.nn.Parameter]:
    return [p for name, p in module.named_parameters() if name.startswith(f"p{index}_")]


def margin_loss(network: Network, data: Dataset) -> float:
    x, y = torch.as_tensor(data.x), torch.as_tensor(data.y)
    lower, upper = (x - 0.1).clamp(0, 1), (x + 0.1).clamp(0, 1)
    return float(certified_loss(TrainingBounds(to_module(network)).margins(lower, upper, y, tightness=1.0)))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_training_lowers_the_loss_it_is_named_after(objective):
    network, train, fresh = small_net(), classes(300), classes(90, seed=1)
    result = finetune(network, train, objective=objective, eps=EPS, epochs=8, domain=DOMAIN, recipe=QUICK)
    trained = result.network
    assert np.mean(trained.forward(fresh.x).argmax(axis=1) == fresh.y) > 0.9
    assert result.record.losses[-1] < result.record.losses[0]
    to_onnx(trained)  # refuses parameters that are no float32 numbers


def test_certified_training_bounds_the_worst_case_better_than_natural_training():
    network, train, fresh = small_net(), classes(300), classes(90, seed=1)
    options = {"eps": 0.1, "epochs": 12, "domain": DOMAIN, "recipe": QUICK}
    found = {o: finetune(network, train, objective=o, **options).network for o in ("natural", "certified")}
    assert margin_loss(found["certified"], fresh) < 0.9 * margin_loss(found["natural"], fresh)


def test_same_seed_same_network_and_another_seed_another():
    options = {"objective": "adversarial", "eps": EPS, "epochs": 2, "domain": DOMAIN}
    one, again, other = (finetune(small_net(), classes(60), seed=s, **options) for s in (0, 0, 1))
    assert canonical_digest(one.network) == canonical_digest(again.network) != canonical_digest(other.network)
    assert one.record == again.record


@pytest.mark.parametrize("make", NETS[1:])
@pytest.mark.parametrize("objective", ["natural", "certified"])
def test_every_kind_of_network_keeps_its_nodes_and_shapes(make, objective):
    network = make(0)
    rng = np.random.default_rng(0)
    data = Dataset(rng.random((12, *network.input_shape), dtype=np.float32), np.arange(12) % 3)
    trained = finetune(network, data, objective=objective, eps=0.01, epochs=1).network
    assert trained.shapes == network.shapes
    for before, after in zip(network.nodes, trained.nodes, strict=True):
        same = [np.array_equal(a, b) for a, b in zip(parameters(before.op), parameters(after.op), strict=True)]
        assert all(same) == (not same or isinstance(before.op, Affine))


def test_a_normalisation_layer_stays_as_it_is():
    network = with_normalisation(small_net(), 0.4, 0.3)
    trained = finetune(network, classes(60), objective="certified", eps=EPS, epochs=1).network
    for before, after in zip(parameters(network.nodes[0].op), parameters(trained.nodes[0].op), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_masked_weights_stay_zero(objective):
    pruned = prune(small_net(), target_sparsity=0.6, method="lwm").network
    masks = kept_weights(pruned)
    trained = finetune(pruned, classes(60), objective=objective, eps=EPS, epochs=2, masks=masks).network
    for index, mask in masks.items():
        assert not parameters(trained.nodes[index].op)[0][~mask].any()
    assert zero_share(trained) >= zero_share(pruned)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "magic"}, "choose one of natural, adversarial, certified"),
        ({"eps": -0.1}, "radius"),
        ({"eps": float("nan")}, "radius"),
        ({"epochs": 0}, "at least one epoch"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_options_are_config_errors(options, message):
    with pytest.raises(ConfigError, match=message):
        finetune(small_net(), classes(9), **{"objective": "natural", "eps": EPS, **options})


def test_one_output_is_a_config_error():
    with pytest.raises(ConfigError, match="two outputs"):
        finetune(dense_net(0, (6, 4, 1)), classes(9), objective="natural", eps=EPS)


def test_labels_are_needed_and_must_be_classes():
    data = classes(9)
    with pytest.raises(DataError, match="needs a label"):
        finetune(small_net(), replace(data, y=None), objective="natural", eps=EPS)
    with pytest.raises(DataError, match="label 7 is no class of 3"):
        finetune(small_net(), replace(data, y=np.full(9, 7)), objective="natural", eps=EPS)


def test_a_training_that_diverges_is_an_error():
    with pytest.raises(ConfigError, match="diverged in epoch"):
        finetune(
            small_net(), classes(300), objective="natural", eps=EPS, epochs=9, recipe=Recipe(learning_rate=float("inf"))
        )


# rows kept apart, figures of every stage


def region_around(x: np.ndarray, eps: float) -> Region:
    return Region("r0", x.astype(np.float64) - eps, x.astype(np.float64) + eps)


def test_rows_in_audited_regions_are_neither_trained_on_nor_measured():
    data = classes(50)
    regions = [region_around(data.x[k], 0.0) for k in (3, 8)]
    split = split_rows(data, seed=0, audited=regions)
    assert split.num_excluded == 2
    rows = split.training.rows + split.held_out.rows
    assert sorted(rows) == [k for k in range(50) if k not in (3, 8)]
    assert len(split.held_out) == 9
    for part in (split.training, split.held_out):
        assert part.y is not None
        np.testing.assert_array_equal(part.x, data.x[list(part.rows)])
        np.testing.assert_array_equal(part.y, list(np.array(data.y)[list(part.rows)]))
    assert split_rows(data, seed=0).num_excluded is None
    assert split_rows(data, seed=1).held_out.rows != split_rows(data, seed=0).held_out.rows


def test_near_copies_of_audited_inputs_are_left_out_too():
    data = classes(30)
    copies = replace(data, x=data.x + np.float32(0.001), rows=())
    assert split_rows(copies, seed=0, audited=[region_around(x, 0.01) for x in data.x[:5]]).num_excluded >= 5


def test_no_rows_left_is_an_error():
    data = classes(4)
    with pytest.raises(DataError, match=r"1 rows are left .* \(3\) were taken out"):
        split_rows(data, seed=0, audited=[region_around(x, 0.0) for x in data.x[:3]])


def test_the_split_is_claimed_only_for_the_regions_that_were_kept_out():
    network, data = small_net(), classes(30)
    config = AuditConfig(samples=2, search=SearchConfig(timeout_s=5))
    regions, others = draw_regions(data, config), draw_regions(data, replace(config, eps=(0.02,)))
    found = prune(network, target_sparsity=0.3, method="lwm")
    options = {"objective": "natural", "eps": EPS, "epochs": 1}
    words = []
    for audited in (regions[::-1], others, None):
        refined = refine(network, found, data, **options, audited=audited)
        result = audit(network, refined.network, regions, config=config, trace=refined.trace)
        words.append(result.provenance.data_split)
    assert "(2) were left out of training" in words[0]
    assert all("is not known" in text for text in words[1:])
    assert all("Fine-tuning trained on" in text for text in words)
    told = audit(network, refined.network, regions, config=replace(config, data_split="Told."), trace=refined.trace)
    assert told.provenance.data_split.startswith("Told. Fine-tuning trained on")


def test_a_budget_measured_before_training_is_not_passed_off_as_one_of_the_result():
    network, data = small_net(), classes(30)
    options = PruneOptions(max_certified_drop=0.9, eps=0.01)
    found = prune(network, method="random", options=options)
    refined = refine(network, found, data, objective="natural", eps=EPS, epochs=1)
    assert found.trace.warnings == refined.trace.warnings[:-1]
    assert "before fine-tuning" in refined.trace.warnings[-1]


@pytest.fixture(scope="module")
def trained() -> Network:
    options = {"objective": "certified", "eps": EPS, "epochs": 10, "domain": DOMAIN}
    return finetune(small_net(), classes(300), **options, recipe=QUICK).network


@pytest.mark.parametrize("method", ["magnitude-l2", *UNSTRUCTURED])
def test_the_three_figures_of_every_stage_are_in_the_trace(trained, method):
    found = prune(trained, target_sparsity=0.6, method=method, domain=DOMAIN)
    data = classes(400, seed=2)
    options = {"objective": "certified", "eps": EPS, "epochs": 6, "domain": DOMAIN}
    refined = refine(trained, found, data, **options, audited=[], recipe=QUICK)
    trace = refined.trace
    assert [s.stage for s in trace.stages] == ["original", "pruned", "fine-tuned"]
    assert {s.num_inputs for s in trace.stages} == {80}
    for s in trace.stages:
        assert s.certified_accuracy <= s.empirical_robust_accuracy <= s.natural_accuracy
    before, _, after = trace.stages
    assert before.certified_accuracy > 0.6
    assert after.certified_accuracy >= 0.85 * before.certified_accuracy
    assert trace.finetuning is not None
    assert (trace.finetuning.num_rows, trace.finetuning.num_excluded) == (320, 0)
    assert loads(PruneTrace, dumps(trace), "trace") == trace
    assert refined.network.num_units == found.network.num_units
    if method in UNSTRUCTURED:
        assert zero_share(refined.network) >= trace.sparsity


def test_the_figures_come_from_rows_that_were_not_trained_on(trained):
    """Labels of the training rows alone are wrong: the figures of the untrained stages do not notice."""
    found = prune(trained, target_sparsity=0.3, method="lwm")
    data = classes(100, seed=2)
    held = list(split_rows(data, seed=0).held_out.rows)
    y = (np.arange(100) + 1) % 3
    y[held] = np.arange(100)[held] % 3
    options = {"objective": "natural", "eps": EPS, "epochs": 1, "domain": DOMAIN}
    right, wrong = (refine(trained, found, d, **options).trace for d in (data, replace(data, y=y)))
    assert right.stages[:2] == wrong.stages[:2]
    assert right.stages[2].natural_accuracy > 0.9
    assert right.finetuning is not None
    assert wrong.finetuning is not None
    assert right.finetuning.sha256 != wrong.finetuning.sha256


def test_a_pruned_network_is_not_changed_by_refining(trained):
    found: PruneResult = prune(trained, target_sparsity=0.3, method="lwm")
    before = canonical_digest(found.network)
    refine(trained, found, classes(30), objective="natural", eps=EPS, epochs=1)
    assert canonical_digest(found.network) == before
    assert found.trace.finetuning is None
