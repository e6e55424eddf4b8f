"""What a pruning keeps of its finished parts: networks, outcomes and generators as records, exact to the last bit.

Records may come from a file, so that they are checked when they are read: what does not fit is a JournalError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar, get_type_hints

import numpy as np
import numpy.typing as npt

from paoding_verify.errors import JournalError
from paoding_verify.evidence.codec import from_plain, to_plain
from paoding_verify.memo import Memo, Record
from paoding_verify.network.graph import Affine, Conv2d, Dense, Network, parameters
from paoding_verify.pruning.problem import PruneOutcome

__all__ = [
    "array_in", "keep", "keep_outcome", "network_in", "outcome_in", "plain_in", "record_of_network",
    "record_of_outcome", "state_in", "state_of",
]  # fmt: skip

T = TypeVar("T")
_APART = ("network", "removed")
"""Fields of an outcome that have no plain form."""


def keep(
    memo: Memo, key: str, compute: Callable[[], T], write: Callable[[T], Record], read: Callable[[Record], T]
) -> T:
    """What was kept under the key, else what `compute` gives, kept from now on."""
    known = memo.recall(key)
    if known is not None:
        return read(known)
    value = compute()
    memo.store(key, write(value))
    return value


def keep_outcome(memo: Memo, key: str, original: Network, compute: Callable[[], PruneOutcome]) -> PruneOutcome:
    """The outcome kept under the key, else what `compute` gives, kept from now on; networks are of the original's
    operations and shapes.
    """
    return keep(
        memo, key, compute, lambda outcome: record_of_outcome(outcome, original), lambda r: outcome_in(r, original)
    )


def record_of_outcome(outcome: PruneOutcome, original: Network) -> Record:
    """An outcome as a record."""
    rest = {item.name: to_plain(getattr(outcome, item.name)) for item in fields(outcome) if item.name not in _APART}
    return {"network": record_of_network(outcome.network, original), "removed": sorted(outcome.removed), **rest}


def outcome_in(record: Any, original: Network) -> PruneOutcome:
    """The outcome that a record holds. Raises: JournalError if it holds none for this network."""
    names = [item.name for item in fields(PruneOutcome)]
    if not isinstance(record, dict) or set(record) != set(names):
        raise JournalError(f"a kept part of the pruning is damaged: it has not the fields {', '.join(names)}")
    hints = get_type_hints(PruneOutcome)
    rest = {n: from_plain(hints[n], record[n], f"a kept pruning, {n}") for n in names if n not in _APART}
    removed = frozenset(from_plain(tuple[int, ...], record["removed"], "a kept pruning, removed"))
    return PruneOutcome(network=network_in(record["network"], original), removed=removed, **rest)


def record_of_network(network: Network, original: Network) -> Record:
    """The parameters of a changed version of the original, of its operations and shapes, as a record."""
    if network is original:
        return {"original": True}
    nodes = {}
    for index, node in enumerate(network.nodes):
        if isinstance(node.op, (Dense, Conv2d, Affine)):
            arrays = {name: _lean(getattr(node.op, name)) for name in _arrays(node.op)}
            nodes[str(index)] = {**arrays, "roundings": node.op.roundings}
    return {"original": False, "nodes": nodes}


def network_in(record: Any, original: Network) -> Network:
    """The network that a record holds. Raises: JournalError if it is no changed version of the original."""
    if plain_in(record, "original", bool):
        return original
    kept, nodes = plain_in(record, "nodes", dict), list(original.nodes)
    for index, node in enumerate(original.nodes):
        op = node.op
        if not isinstance(op, (Dense, Conv2d, Affine)):
            continue
        found = plain_in(kept, str(index), dict)
        changed: dict[str, Any] = {"bias_magnitude": None, "roundings": plain_in(found, "roundings", int)}
        if "bias_magnitude" in found:
            changed["bias_magnitude"] = array_in(found, "bias_magnitude", parameters(op)[1].shape)
        for name in _arrays(replace(op, bias_magnitude=None)):
            changed[name] = array_in(found, name, getattr(op, name).shape)
        nodes[index] = replace(node, op=replace(op, **changed))
    return replace(original, nodes=tuple(nodes), source=None)


def _arrays(op: Dense | Conv2d | Affine) -> list[str]:
    """Names of the arrays that an operation has."""
    names = ["scale", "shift"] if isinstance(op, Affine) else ["weight", "bias"]
    return names if op.bias_magnitude is None else [*names, "bias_magnitude"]


def state_of(rng: np.random.Generator) -> Record:
    """The state of a generator of random numbers as a record."""
    return dict(rng.bit_generator.state)


def state_in(rng: np.random.Generator, state: Any) -> None:
    """Takes the generator to a kept state. Raises: JournalError if it is no state of such a generator."""
    try:
        rng.bit_generator.state = state
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise JournalError(f"a kept generator of random numbers is damaged: {error}") from error


def plain_in(record: Any, name: str, wanted: type[T]) -> T:
    """A value of a record, of exactly this type. Raises: JournalError if there is none."""
    value = record.get(name) if isinstance(record, dict) else None
    if type(value) is not wanted:
        raise JournalError(f"a kept part of the pruning is damaged: {name!r} is no {wanted.__name__}")
    return value


def array_in(record: Any, name: str, shape: tuple[int, ...] | None) -> npt.NDArray[np.float64]:
    """An array of a record, of this shape if one is given.

    Raises: JournalError if there is none, or it is not finite.
    """
    value = record.get(name) if isinstance(record, dict) else None
    if not isinstance(value, np.ndarray) or (shape is not None and value.shape != shape):
        raise JournalError(f"a kept part of the pruning is damaged: {name!r} is no array of shape {shape}")
    if not np.isfinite(value).all():
        raise JournalError(f"a kept part of the pruning is damaged: {name!r} is not finite")
    return value.astype(np.float64)


def _lean(array: npt.NDArray[np.float64]) -> npt.NDArray[np.floating]:
    """The array as float32 where that says the same."""
    short = array.astype("<f4")
    return short if np.array_equal(short, array) else array.astype("<f8")
