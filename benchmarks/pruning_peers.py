"""Ways to prune that pruning is compared with. Library for the scripts beside it."""

from __future__ import annotations

import copy

import numpy as np
import torch
from pruning_networks import Subject
from torch import nn

from paoding_verify.network.evaluate import evaluate_all
from paoding_verify.network.graph import Network
from paoding_verify.network.load import load_network
from paoding_verify.pruning.budget import plan_removals
from paoding_verify.pruning.compensation import refit
from paoding_verify.pruning.groups import find_units
from paoding_verify.pruning.saliency import GroupPrices
from paoding_verify.pruning.surgery import mask_units, remove_units

__all__ = ["NUM_REAL_INPUTS", "torch_pruning", "with_real_inputs"]

NUM_REAL_INPUTS = 5000
_RIDGE = 1e-2


def torch_pruning(subject: Subject, sparsity: float) -> Network:
    """Group magnitude pruning by the package torch-pruning: the same share of every layer, no compensation.

    Raises: ImportError if it is not installed.
    Source: arXiv 2301.12900.
    """
    import torch_pruning as tp  # type: ignore[import-untyped,import-not-found,unused-ignore] # optional

    module = copy.deepcopy(subject.module).requires_grad_(True)
    pruner = tp.pruner.BasePruner(
        module, torch.zeros(1, *subject.network.input_shape), importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=sparsity, ignored_layers=[layer for layer in module if isinstance(layer, nn.Linear)][-1:],
    )  # fmt: skip
    pruner.step()
    return load_network(module.requires_grad_(False), input_shape=subject.network.input_shape)


def with_real_inputs(subject: Subject, sparsity: float) -> Network:
    """The line that pruning without data aims for: cheapest units first (optimal brain surgeon), then least squares,
    both on 5,000 inputs of the training set, or all there are.
    """
    original = subject.network
    units = find_units(original)
    counts = plan_removals(units, sum(original.num_units), sparsity)
    targets = evaluate_all(original, subject.real_inputs[:NUM_REAL_INPUTS])
    removed: set[int] = set()
    for group, count in zip(units.groups, counts, strict=True):
        prices = GroupPrices(original, units, group, targets, _RIDGE)
        for _ in range(count):
            alive = [atom for atom in group.atoms if atom not in removed]
            atom = alive[int(np.argmin(prices.price(alive)))]
            prices.eliminate(atom)
            removed.add(atom)
    network, _ = refit(mask_units(original, units, removed), units, removed, targets, _RIDGE)
    return remove_units(network, units, removed)
