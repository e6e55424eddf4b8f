"""Training after pruning, where labelled data is at hand.

Source: prune, then fine-tune with the objective that made the network robust: arXiv 1906.06110.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from paoding_verify.bounds.lirpa_training import trainable
from paoding_verify.data import Dataset, fit_shape
from paoding_verify.errors import ConfigError, DataError, JournalError
from paoding_verify.evidence.codec import from_plain
from paoding_verify.evidence.pruning import FinetuneRecord
from paoding_verify.linf import Domain
from paoding_verify.memo import FORGETFUL, Checkpoint, Memo, Record
from paoding_verify.network.graph import Network
from paoding_verify.network.torch_out import CanonicalModule, to_module
from paoding_verify.network.transform import as_float32
from paoding_verify.pruning.keeping import array_in, plain_in, state_in, state_of
from paoding_verify.pruning.objectives import OBJECTIVES, Loss, Recipe, make_loss
from paoding_verify.pruning.unstructured import Masks
from paoding_verify.task import Progress

__all__ = ["FinetuneResult", "finetune", "labels_of"]

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
"""What torch's Adam keeps for each parameter."""


@dataclass(frozen=True, eq=False)
class FinetuneResult:
    """A trained network and the record of the training."""

    network: Network
    """Of the nodes and shapes it had; every parameter is a float32 number."""
    record: FinetuneRecord


def finetune(  # noqa: PLR0913 - the front door of training
    network: Network,
    dataset: Dataset,
    *,
    objective: str,
    eps: float,
    epochs: int = 5,
    seed: int = 0,
    domain: Domain | None = None,
    masks: Masks | None = None,
    recipe: Recipe | None = None,
    memo: Memo = FORGETFUL,
    progress: Progress | None = None,
) -> FinetuneResult:
    """The network with its dense layers and convolutions trained on the dataset; weights that `masks` exclude are zero.

    objective: natural (cross-entropy), adversarial (cross-entropy at attacked points), certified (an upper bound of the
    cross-entropy on the whole box, CROWN-IBP); eps is the radius of the boxes, cut to `domain`. Normalisation layers
    stay as they are. Training goes on after the epochs that `memo` kept of the same call. Runs on the CPU; the same
    arguments give the same network on the same machine with the same number of threads.
    Raises: ConfigError on options out of range or a training that diverges; DataError without labels, or with labels
    that are no class; MissingComponentError if the objective is certified and auto_LiRPA is not installed.
    Source: arXiv 1906.06110 (robust fine-tuning after pruning).
    """
    _check(objective, eps, epochs, seed)
    if network.num_outputs < 2:
        raise ConfigError("fine-tuning is steered by classes: the network needs at least two outputs")
    dataset = fit_shape(dataset, network.input_shape)
    labels = labels_of(dataset, network)
    recipe = recipe or Recipe()
    module = to_module(as_float32(network))
    attacks = torch.Generator().manual_seed(seed)
    loss = make_loss(module, objective, eps=eps, domain=domain, recipe=recipe, generator=attacks)
    trainer = _Trainer(module, loss, masks or {}, recipe)
    x, y = torch.as_tensor(dataset.x), torch.as_tensor(labels)
    generators = np.random.default_rng(seed), attacks
    checkpoint = Checkpoint(memo, "epochs")
    losses = _begun(trainer, generators, checkpoint.recall())
    for epoch in range(len(losses), epochs):
        losses.append(trainer.epoch(x, y, generators[0], (epoch, epochs)))
        checkpoint.offer(partial(_state, trainer, generators, losses))
        if progress is not None:
            progress(f"fine-tuning ({objective})", epoch + 1, epochs)
    record = FinetuneRecord(
        objective=objective, eps=eps, epochs=epochs, seed=seed, source=dataset.source, num_rows=len(dataset),
        sha256=_digest(dataset.x, labels), losses=tuple(losses),
    )  # fmt: skip
    return FinetuneResult(replace(module.current(), name=network.name), record)


def labels_of(dataset: Dataset, network: Network) -> npt.NDArray[np.int64]:
    """The labels of a dataset. Raises: DataError if there are none, or one is no class of the network."""
    where = dataset.source or "data"
    if dataset.y is None:
        raise DataError(f"{where}: fine-tuning needs a label for every row, an array y (N,)")
    if int(dataset.y.max()) >= network.num_outputs:
        raise DataError(f"{where}: label {int(dataset.y.max())} is no class of {network.num_outputs} outputs")
    return dataset.y


_Generators = tuple[np.random.Generator, torch.Generator]
"""Of the order of the rows, and of the starting points of attacks."""


def _state(trainer: _Trainer, generators: _Generators, losses: list[float]) -> Record:
    """Everything on which the epochs still to come depend, and the losses so far."""
    attacks = generators[1].get_state().numpy()
    return {
        "arrays": [tensor.detach().numpy().copy() for tensor in trainer.tensors()], "order": state_of(generators[0]),
        "attacks": attacks, "losses": list(losses),
    }  # fmt: skip


def _begun(trainer: _Trainer, generators: _Generators, kept: Record | None) -> list[float]:
    """Takes everything to a kept state; the losses of the epochs that are done.

    Raises: JournalError if the state is not one of this training.
    """
    if kept is None:
        return []
    arrays, attacks = plain_in(kept, "arrays", list), kept.get("attacks")
    trainer.resume(arrays)
    state_in(generators[0], kept.get("order"))
    try:
        generators[1].set_state(torch.as_tensor(np.array(attacks, dtype=np.uint8)))
    except (RuntimeError, TypeError, ValueError) as error:
        raise JournalError(f"a kept generator of random numbers is damaged: {error}") from error
    return list(from_plain(tuple[float, ...], kept.get("losses"), "kept losses"))


class _Trainer:
    """A module, its optimiser and its masks."""

    def __init__(self, module: CanonicalModule, loss: Loss, masks: Masks, recipe: Recipe) -> None:
        self._loss, self._recipe = loss, recipe
        nodes = trainable(module.network)
        self._parameters = [module.get_parameter(f"p{k}_{j}").requires_grad_(True) for k in nodes for j in range(2)]
        self._masks = [(module.get_parameter(f"p{k}_0"), torch.as_tensor(mask)) for k, mask in masks.items()]
        self._optimiser = torch.optim.Adam(self._parameters, recipe.learning_rate)
        self._zero()

    def epoch(self, x: torch.Tensor, y: torch.Tensor, rng: np.random.Generator, position: tuple[int, int]) -> float:
        """Mean loss of one pass over the rows in an order drawn by `rng`; position: (epochs done, epochs in all).

        Raises: ConfigError if the loss is not finite.
        """
        batches = torch.as_tensor(rng.permutation(len(x))).split(self._recipe.batch_size)  # type: ignore[no-untyped-call]
        total = 0.0
        for number, rows in enumerate(batches):
            over = (position[0] + number / len(batches)) / position[1]
            total += len(rows) * self._step(x[rows], y[rows], over)
        if not math.isfinite(total):
            raise ConfigError(f"fine-tuning diverged in epoch {position[0] + 1}: use a smaller eps or more epochs")
        return total / len(x)

    def tensors(self) -> list[torch.Tensor]:
        """All that training changes: parameters, then the optimiser's moments and number of steps of each."""
        moments = [self._optimiser.state[p][key] for p in self._parameters for key in _MOMENTS]
        return [*self._parameters, *moments]

    def resume(self, arrays: Sequence[object]) -> None:
        """Takes parameters and optimiser to where `tensors` gave these. Raises: JournalError if they do not fit."""
        for parameter in self._parameters:
            empty = (torch.zeros_like(parameter), torch.zeros_like(parameter), torch.tensor(0.0))
            self._optimiser.state[parameter] = dict(zip(_MOMENTS, empty, strict=True))
        goals = self.tensors()
        if len(goals) != len(arrays):
            raise JournalError(f"kept epochs hold {len(arrays)} arrays, and this training has {len(goals)}")
        with torch.no_grad():
            for k, (goal, array) in enumerate(zip(goals, arrays, strict=True)):
                goal.copy_(torch.as_tensor(array_in({str(k): array}, str(k), tuple(goal.shape)).astype(np.float32)))

    def _step(self, x: torch.Tensor, y: torch.Tensor, over: float) -> float:
        for group in self._optimiser.param_groups:
            group["lr"] = self._recipe.learning_rate * (1.0 - over)
        self._optimiser.zero_grad()
        loss = self._loss(x, y, over)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters, self._recipe.clip)
        self._optimiser.step()
        self._zero()
        return float(loss.detach())

    @torch.no_grad()
    def _zero(self) -> None:
        for weight, mask in self._masks:
            weight.mul_(mask)


def _check(objective: str, eps: float, epochs: int, seed: int) -> None:
    if objective not in OBJECTIVES:
        raise ConfigError(f"unknown objective {objective!r}; choose one of {', '.join(OBJECTIVES)}")
    if not (math.isfinite(eps) and eps >= 0):
        raise ConfigError(f"the radius of fine-tuning must be a finite number of at least 0; got {eps}")
    if epochs < 1:
        raise ConfigError(f"fine-tuning needs at least one epoch; got {epochs}")
    if seed < 0:
        raise ConfigError(f"the seed must be at least 0; got {seed}")


def _digest(x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> str:
    return hashlib.sha256(x.astype("<f4").tobytes() + y.astype("<i8").tobytes()).hexdigest()
