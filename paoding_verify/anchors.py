"""Inputs without data: synthetic points, spread evenly over the classes of a network.

A point starts as structured noise and takes gradient steps towards the class (index mod number of classes). Where the
input is a picture (channels, height, width), or a flattened one, smooth random fields and strokes imitate what pictures
have in common; everything else gets sparse, uniform, normal and correlated noise. Nothing here has seen data.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt, prod

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from paoding_verify.errors import ConfigError
from paoding_verify.generators import noise, num_kinds
from paoding_verify.network.graph import Affine, Array, Dense, Float32Array, Network, Reshape, Shape
from paoding_verify.network.torch_out import to_module

__all__ = [
    "DEFAULT_DOMAIN", "Domain", "compensation_inputs", "picture_layout", "synthesise_anchors", "training_inputs",
]  # fmt: skip

Domain = tuple[npt.ArrayLike, npt.ArrayLike]
"""Smallest and largest legal input: numbers, or arrays that broadcast to the input's shape."""

DEFAULT_DOMAIN: Domain = (0.0, 1.0)
"""Used where the caller states none: the range of pixels and of scaled features."""

_MIN_SIDE = 6
_SMOOTHNESS = 0.25
"""Mean cosine between first-layer weights of neighbouring pixels above which a vector counts as a flattened picture."""
_STEP = 0.03
"""Length of one gradient step, as a fraction of the domain."""
_MIN_ANCHOR_STEPS = 6
_SMOOTH_STEPS = 20
"""Points that have not arrived after so many smooth steps go on along the plain sign of the gradient."""
_FADE = 0.2
"""How far a point goes towards 0 where the gradient vanishes because every unit is saturated."""
_MAX_FADES = 20
_OWN_SHARES = (0.6, 0.4, 0.25, 0.1)
"""Of a stuck point in its blend with one that reached the class."""
_REACH = 4.0
"""Largest entry of a smoothed step, in steps."""
_ANCHOR_STREAM, _COMPENSATION_STREAM, _TRAINING_STREAM = 1, 2, 3


def synthesise_anchors(network: Network, count: int, *, seed: int, domain: Domain | None = None) -> Float32Array:
    """Points of the domain, point i drawn towards class i mod num_outputs until the network predicts it.

    The same arguments give the same points. A class that the gradient does not reach in 40 steps keeps the point it
    came to. Shapes: (count, *input_shape).
    Raises: ConfigError if the count is not positive or the domain is empty.
    """
    rng = np.random.default_rng([_ANCHOR_STREAM, seed])
    draft = _draft(network, count, rng, domain)
    return _pursue(network, draft, steps=np.full(count, 40), until_reached=True)


def compensation_inputs(network: Network, count: int, *, seed: int, domain: Domain | None = None) -> Float32Array:
    """A more diverse set than `synthesise_anchors`, from a disjoint stream of randomness: every point takes between 0
    and 15 steps, so that undecided points are among them. Shapes: (count, *input_shape).

    Raises: ConfigError if the count is not positive or the domain is empty.
    """
    return _diverse(network, count, np.random.default_rng([_COMPENSATION_STREAM, seed]), domain)


def training_inputs(network: Network, count: int, *, seed: int, domain: Domain | None = None) -> Float32Array:
    """As `compensation_inputs`, from a stream of randomness of its own. Shapes: (count, *input_shape).

    Raises: ConfigError if the count is not positive or the domain is empty.
    """
    return _diverse(network, count, np.random.default_rng([_TRAINING_STREAM, seed]), domain)


def _diverse(network: Network, count: int, rng: np.random.Generator, domain: Domain | None) -> Float32Array:
    draft = _draft(network, count, rng, domain)
    return _pursue(network, draft, steps=rng.integers(0, 16, count), until_reached=False)


def picture_layout(network: Network) -> Shape | None:
    """(channels, height, width) if the input is a picture or looks like a flattened one, else None.

    A vector counts as a square picture of one or three channels if the first dense layer gives neighbouring pixels
    similar weights, as training on pictures does.
    """
    shape = network.input_shape
    if len(shape) == 3 and min(shape[1:]) >= _MIN_SIDE:
        return shape
    weight = _first_dense_weight(network)
    features = prod(shape)
    for channels in (1, 3):
        side = isqrt(features // channels)
        if weight is not None and channels * side * side == features and side >= _MIN_SIDE:
            pixels = weight.reshape(-1, channels, side, side)
            if (
                min(_cosine(pixels[..., 1:], pixels[..., :-1]), _cosine(pixels[:, :, 1:], pixels[:, :, :-1]))
                > _SMOOTHNESS
            ):
                return (channels, side, side)
    return None


def _first_dense_weight(network: Network) -> Array | None:
    for node in network.nodes:
        if isinstance(node.op, Dense):
            return node.op.weight
        if not isinstance(node.op, (Affine, Reshape)):
            return None
    return None


def _cosine(first: Array, second: Array) -> float:
    norm = np.linalg.norm(first) * np.linalg.norm(second)
    return float(np.sum(first * second) / norm) if norm > 0 else 0.0


@dataclass(frozen=True, eq=False)
class _Draft:
    """Starting points."""

    points: Float32Array
    lower: Float32Array
    upper: Float32Array
    layout: Shape | None
    smooth: npt.NDArray[np.bool_]
    """(count,) whether the point follows the smoothed gradient."""


def _draft(network: Network, count: int, rng: np.random.Generator, domain: Domain | None) -> _Draft:
    if count < 1:
        raise ConfigError(f"the number of synthetic inputs must be at least 1; got {count}")
    low, high = domain if domain is not None else DEFAULT_DOMAIN
    lower = np.broadcast_to(np.asarray(low, dtype=np.float32), network.input_shape)
    upper = np.broadcast_to(np.asarray(high, dtype=np.float32), network.input_shape)
    if not ((lower < upper).any() and (lower <= upper).all() and np.isfinite(upper - lower).all()):
        raise ConfigError("the domain must be finite, with its lower end below its upper end")
    layout = picture_layout(network)
    kind = (np.arange(count) // network.num_outputs) % num_kinds(layout)
    weight = _first_dense_weight(network)
    unit = noise(rng, kind, layout, np.zeros((1, prod(network.input_shape))) if weight is None else weight)
    points = lower + (upper - lower) * unit.reshape(count, *network.input_shape).astype(np.float32)
    smooth = (kind > 0) & (layout is not None)
    return _Draft(np.clip(points, lower, upper), lower, upper, layout, smooth)


def _pursue(network: Network, draft: _Draft, steps: npt.NDArray[np.int64], *, until_reached: bool) -> Float32Array:
    """Gradient steps towards the class (index mod outputs), clipped to the domain; a step that led away from the class
    is taken back and halved. Points at which the gradient vanishes fade first.
    """
    module = to_module(network)
    per_point = (-1, *(1 for _ in network.input_shape))
    lower, upper = torch.as_tensor(draft.lower.copy()), torch.as_tensor(draft.upper.copy())
    target = torch.arange(len(steps)) % network.num_outputs
    x = _revived(module, torch.as_tensor(draft.points), target, lower, upper).clone()
    loss, gradient, reached = _towards(module, x, target)
    stride = torch.full((len(x),), _STEP)
    for taken in range(int(steps.max(initial=0))):
        moving = torch.as_tensor(taken < steps)
        if until_reached:
            moving &= ~reached | (taken < _MIN_ANCHOR_STEPS)
        here = torch.nonzero(moving).flatten()
        if len(here) == 0:
            break
        smooth = draft.smooth[here.numpy()] & (taken < _SMOOTH_STEPS)
        direction = torch.as_tensor(_directions(gradient[here].numpy(), draft.layout, smooth))
        there = torch.clamp(x[here] - stride[here].reshape(per_point) * (upper - lower) * direction, lower, upper)
        new_loss, new_gradient, new_reached = _towards(module, there, target[here])
        better = new_loss <= loss[here]
        stride[here[~better]] /= 2
        gone = here[better]
        x[gone], gradient[gone] = there[better], new_gradient[better]
        loss[gone], reached[gone] = new_loss[better], new_reached[better]
    if until_reached:
        x = _blended(module, x, target, reached)
    return np.ascontiguousarray(x.numpy(), dtype=np.float32)


def _blended(module: torch.nn.Module, x: torch.Tensor, target: torch.Tensor, reached: torch.Tensor) -> torch.Tensor:
    """Points that did not reach their class mixed with some that did, with as much of their own as the class allows."""
    stuck, donor = ~reached, torch.arange(len(x))
    for label in sorted(set(target[stuck].tolist())):
        donors = torch.nonzero(reached & (target == label)).flatten()
        places = torch.nonzero(stuck & (target == label)).flatten()
        if len(donors):
            donor[places] = donors[torch.arange(len(places)) % len(donors)]
    waiting, result = stuck & (donor != torch.arange(len(x))), x.clone()
    for own in _OWN_SHARES:
        mixed = own * x + (1 - own) * x[donor]
        _, _, arrived = _towards(module, mixed, target)
        result[waiting & arrived] = mixed[waiting & arrived]
        waiting &= ~arrived
    return result


def _revived(
    module: torch.nn.Module, x: torch.Tensor, target: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor
) -> torch.Tensor:
    """Points moved towards 0 until the gradient is felt: noise can saturate every unit of a layer."""
    for _ in range(_MAX_FADES):
        _, gradient, _ = _towards(module, x, target)
        dead = (gradient == 0).flatten(1).all(dim=1)
        if not dead.any():
            break
        x = torch.clamp(torch.where(dead.reshape(-1, *(1 for _ in x.shape[1:])), (1 - _FADE) * x, x), lower, upper)
    return x


def _towards(
    module: torch.nn.Module, x: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss of each point, its gradient, and whether the target class is predicted."""
    x = x.detach().requires_grad_(True)
    outputs = module(x)
    loss = torch.nn.functional.cross_entropy(outputs, target, reduction="none")
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    return loss.detach(), gradient, outputs.argmax(dim=1) == target


def _directions(gradient: Float32Array, layout: Shape | None, smooth: npt.NDArray[np.bool_]) -> Float32Array:
    """Sign of the gradient; for smooth points the blurred gradient, scaled to a largest entry of _REACH."""
    direction = np.sign(gradient)
    if layout is not None and smooth.any():
        blurred = ndimage.gaussian_filter(gradient[smooth].reshape(-1, *layout), (0, 0, 1.0, 1.0))
        largest = np.abs(blurred).max(axis=(1, 2, 3), keepdims=True)
        direction[smooth] = (_REACH * blurred / np.maximum(largest, 1e-30)).reshape(-1, *gradient.shape[1:])
    return direction
