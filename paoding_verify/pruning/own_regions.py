"""The pruner's own regions: boxes around its anchors, which no audit counts.

There are up to four disjoint sets of them. Methods are steered by the first; a portfolio chooses its candidate on the
second; on the third, held out, nothing is chosen or fitted: it measures what a certified budget allows. On the fourth
it is decided whether a repair is taken. Anchors come from the caller's regions, from the caller's unlabelled inputs, or
are synthesised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from paoding_verify.anchors import DEFAULT_DOMAIN, Domain, synthesise_anchors
from paoding_verify.errors import ConfigError, RegionError
from paoding_verify.network.graph import Array, Float32Array, Network
from paoding_verify.pruning.signal import Boxes, CertifiedSignal, bound_method, choose_method
from paoding_verify.regions import Region, box_digest

__all__ = ["OwnRegions", "Wanted", "anchors_from_inputs", "apart", "balanced", "given_regions", "synthesised_regions"]

_NUM_ANCHORS = {"crown": 128, "crown-ibp": 64}
"""Anchors of each set by bound method: large networks, where a bound costs more, get fewer."""
_NUM_HELD_OUT = 200
"""Held-out anchors: a share is measured to half a percent."""
_NUM_FOR_RADIUS = 40
"""Anchors on which the radius is found and the bound method chosen."""
_CERTIFIED_SHARE = 0.75
"""Of the original's margins at the radius chosen: margins far below zero say more about the relaxation."""
_RADII = tuple(0.2 * 2.0 ** (-k / 2) for k in range(24))
"""Radii that are tried, as fractions of the domain: from 0.2 down to 0.00007."""
_LARGEST = 0.05
"""Radius around the caller's inputs that is not exceeded unless it is given, as a fraction of the domain. A network
that was trained to be certified has three quarters of its margins certified at the radius of its training, where bounds
of whatever is pruned are so loose that they no longer tell good candidates from bad ones. Synthetic anchors, which are
harder, lead to smaller radii by themselves.
"""
_MIN_TO_SHARE = 16
"""Regions or inputs of the caller below which they are not divided: all steer, and the other sets are synthesised."""

Record = dict[str, str | int | float]


@dataclass(frozen=True)
class Wanted:
    """Which sets of anchors are needed beside the one that steers, and how large their boxes are."""

    selection: bool = False
    held_out: bool = False
    acceptance: bool = False
    eps: float | None = None
    """Radius in input units; None: found by `synthesised_regions`."""


@dataclass(frozen=True, eq=False)
class OwnRegions:
    """Signals on disjoint sets of boxes, and where these came from."""

    signal: CertifiedSignal
    """Steers methods."""
    selection: CertifiedSignal | None
    """Chooses between candidates."""
    held_out: CertifiedSignal | None
    """Measures, and nothing else."""
    acceptance: CertifiedSignal | None
    """Decides whether a repair is taken."""
    independent: bool
    """Whether the held-out anchors are a random part of what the caller gave: they then speak for its source."""
    domain: Domain
    record: Record
    """For the trace."""


def given_regions(
    network: Network, regions: Sequence[Region], domain: Domain | None, *, seed: int = 0, wanted: Wanted = Wanted()
) -> OwnRegions:
    """Regions from the caller, dealt out at random to the sets that are needed; few of them all steer, and the other
    sets are synthesised. Without a domain, the hull of the regions is the domain of synthetic inputs.

    Raises: RegionError if there is none, or one has not the shape of the network's input.
    """
    if not regions:
        raise RegionError("an empty list of regions was given to the pruner; give at least one, or None to synthesise")
    for region in regions:
        if region.lower.shape != network.input_shape:
            raise RegionError(
                f"region {region.id} has shape {region.lower.shape}, but the network takes {network.input_shape}"
            )
    lower, upper = np.stack([r.lower for r in regions]), np.stack([r.upper for r in regions])
    points = np.stack([r.centre for r in regions])
    hull = (lower.min(axis=0), upper.max(axis=0)) if domain is None else domain
    radii = {r.eps for r in regions}
    record: Record = {
        "source": "given", "count": len(regions), "domain": "hull of the regions" if domain is None else "given",
    }  # fmt: skip
    eps = next(iter(radii)) if len(radii) == 1 else None
    if eps is None:
        eps = float(np.mean(upper - lower)) / 2
    else:
        record["eps"] = float(eps)
    dealt = _dealt(Boxes(lower, upper, network.forward(points).argmax(axis=1), points), wanted, seed)
    return _own(network, dealt, _Setting(hull, np.asarray(eps), seed, wanted), record)


def synthesised_regions(network: Network, seed: int, domain: Domain | None, *, wanted: Wanted = Wanted()) -> OwnRegions:
    """Boxes around synthetic anchors; unless one is given, the radius is the largest tried at which three quarters of
    the original's margins are certified, so that the signal can move both ways.
    """
    count = _NUM_ANCHORS[bound_method(network)]
    points = synthesise_anchors(network, count, seed=seed, domain=domain)
    setting = _setting(network, points, domain, seed, wanted)
    record: Record = {"source": "synthesised", "count": count, "seed": seed, **_rule(setting, domain)}
    return _own(network, {"steering": _balls(network, points, setting)}, setting, record)


def anchors_from_inputs(
    network: Network, inputs: Float32Array, domain: Domain | None, *, seed: int, wanted: Wanted = Wanted()
) -> tuple[OwnRegions, Float32Array]:
    """Boxes around a random part of the caller's inputs, and the rest of the inputs, which may be fitted to.

    With fewer than 16 inputs all may be fitted to, and anchors are synthesised. The radius: see
    `synthesised_regions`, but at most a twentieth of the domain. Shapes: inputs (N, *input_shape).
    """
    if len(inputs) < _MIN_TO_SHARE:
        return synthesised_regions(network, seed, domain, wanted=wanted), inputs
    most, share = _NUM_ANCHORS[bound_method(network)], len(inputs) // (5 if wanted.acceptance else 4)
    sizes = {"steering": min(most, share)}
    sizes |= {"selection": min(most, share)} if wanted.selection else {}
    sizes |= {"held_out": min(_NUM_HELD_OUT, share)} if wanted.held_out else {}
    sizes |= {"acceptance": min(most, share)} if wanted.acceptance else {}
    order = np.random.default_rng([_DEALING, seed]).permutation(len(inputs))
    ends = np.cumsum(list(sizes.values()))
    places = dict(zip(sizes, np.split(order[: ends[-1]], ends[:-1]), strict=True))
    setting = _setting(network, inputs[places["steering"]], domain, seed, wanted, largest=_LARGEST)
    rule = _rule(setting, domain, limit=", but at most a twentieth of the domain")
    record: Record = {"source": "given inputs", "count": int(ends[-1]), "seed": seed, **rule}
    dealt = {name: _balls(network, inputs[rows], setting) for name, rows in places.items()}
    return _own(network, dealt, setting, record), inputs[np.sort(order[ends[-1] :])]


_DEALING, _SELECTION, _HELD_OUT, _ACCEPTANCE = 11, 12, 13, 14
"""Streams of randomness."""


@dataclass(frozen=True, eq=False)
class _Setting:
    """What all sets of anchors of one pruning have in common."""

    domain: Domain
    reach: Array
    """Radius of the boxes in input units; broadcasts to the input's shape."""
    seed: int
    wanted: Wanted


def _setting(
    network: Network, points: Float32Array, domain: Domain | None, seed: int, wanted: Wanted, *, largest: float = np.inf
) -> _Setting:
    """The radius as given, or found on some of the points among those up to `largest`, a fraction of the domain."""
    box = DEFAULT_DOMAIN if domain is None else domain
    if wanted.eps is not None:
        return _Setting(box, np.asarray(wanted.eps), seed, wanted)
    width = np.asarray(box[1], dtype=np.float64) - np.asarray(box[0], dtype=np.float64)
    settings = [_Setting(box, radius * width, seed, wanted) for radius in _RADII if radius <= largest]
    some = points[:_NUM_FOR_RADIUS]
    signal = CertifiedSignal(network, _balls(network, some, settings[0]), bound_method(network))
    first, last = 0, len(settings) - 1
    while first < last:  # certified margins only shrink as the radius grows
        middle = (first + last) // 2
        margins = signal.on(_balls(network, some, settings[middle])).baseline
        first, last = (first, middle) if float(np.mean(margins > 0)) >= _CERTIFIED_SHARE else (middle + 1, last)
    return settings[first]


def _own(network: Network, dealt: dict[str, Boxes], setting: _Setting, record: Record) -> OwnRegions:
    """Signals on the sets that were dealt out; those that are missing and needed are synthesised, apart from all."""
    sets, independent = dict(dealt), "held_out" in dealt
    wanted, source = setting.wanted, record["source"]
    most = _NUM_ANCHORS[bound_method(network)]
    for name, needed, number, stream in (
        ("selection", wanted.selection, most, _SELECTION), ("held_out", wanted.held_out, _NUM_HELD_OUT, _HELD_OUT),
        ("acceptance", wanted.acceptance, most, _ACCEPTANCE),
    ):  # fmt: skip
        if needed and name not in sets:
            points = synthesise_anchors(network, 2 * number, seed=_derived(setting.seed, stream), domain=setting.domain)
            fresh = _balls(network, apart(points, [part.points for part in sets.values()]), setting)
            sets[name] = fresh[balanced(fresh.labels, number)]
        if needed:
            record[f"num_{name}"] = len(sets[name])
            record[f"{name}_source"] = source if name in dealt else "synthesised"
    first = CertifiedSignal(network, sets["steering"][:_NUM_FOR_RADIUS], bound_method(network))
    choice = choose_method(first)
    tight = bound_method(network)
    signals = {name: first.on(boxes, choice.method if name == "steering" else tight) for name, boxes in sets.items()}
    record |= {"bounds": choice.method, "bounds_reason": choice.reason, "sha256": _digest(sets)}
    record |= {"judging_bounds": tight} if len(sets) > 1 else {}
    return OwnRegions(
        signals["steering"],
        signals.get("selection"),
        signals.get("held_out"),
        signals.get("acceptance"),
        independent,
        setting.domain,
        record,
    )


def _digest(sets: dict[str, Boxes]) -> str:
    boxes = [pair for part in sets.values() for pair in zip(part.lower, part.upper, strict=True)]
    return hashlib.sha256("".join(box_digest(low, high) for low, high in boxes).encode()).hexdigest()


def _dealt(boxes: Boxes, wanted: Wanted, seed: int) -> dict[str, Boxes]:
    """Half of the boxes steer, the others are shared out; too few of them all steer."""
    others = [name for name in ("selection", "held_out", "acceptance") if getattr(wanted, name)]
    if len(boxes) < _MIN_TO_SHARE or not others:
        return {"steering": boxes}
    order = np.random.default_rng([_DEALING, seed]).permutation(len(boxes))
    half = len(boxes) // 2
    parts = np.array_split(order[half:], len(others))
    return {"steering": boxes[np.sort(order[:half])]} | {
        name: boxes[np.sort(part)] for name, part in zip(others, parts, strict=True)
    }


def apart(points: Float32Array, others: Sequence[Float32Array]) -> Float32Array:
    """The points that are none of the others: in a small domain clipped points can coincide.

    Raises: ConfigError if none is left. Shapes: all (any, *input_shape).
    """
    taken = {point.tobytes() for part in others for point in part}
    fresh = np.array([point.tobytes() not in taken for point in points], dtype=bool)
    if not fresh.any():
        raise ConfigError("no anchors can be told apart in this domain: state a wider one, or give inputs of your own")
    return points[fresh]


def _rule(setting: _Setting, domain: Domain | None, *, limit: str = "") -> Record:
    ladder = f"largest of a geometric ladder at which three quarters of the original's margins are certified{limit}"
    return {
        "eps": float(np.mean(setting.reach)), "eps_rule": ladder if setting.wanted.eps is None else "given",
        "domain": "default [0, 1]" if domain is None else "given",
    }  # fmt: skip


def balanced(labels: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    """Places of `count` labels, or of all if there are fewer, spread over the classes as evenly as they allow."""
    rank = np.array([int(np.sum(labels[:k] == label)) for k, label in enumerate(labels)])
    return np.sort(np.argsort(rank, kind="stable")[:count])


def _derived(seed: int, stream: int) -> int:
    """A seed of its own for each stream."""
    return int(np.random.SeedSequence([stream, seed]).generate_state(1)[0])


def _balls(network: Network, points: Float32Array, setting: _Setting) -> Boxes:
    low, high = (np.asarray(end, dtype=np.float64) for end in setting.domain)
    centres = points.astype(np.float64)
    labels = network.forward(points).argmax(axis=1)
    lower, upper = np.clip(centres - setting.reach, low, high), np.clip(centres + setting.reach, low, high)
    return Boxes(lower, upper, labels, points)
