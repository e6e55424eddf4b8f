"""Bounds from auto_LiRPA: what the search believes until the checker has proved it.

The only module that uses auto_LiRPA. Bounds are computed in float32 without rigorous rounding, so a positive lower
bound is a reason to ask the checker, never a certificate.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf, prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from paoding_verify.bounds.lirpa_compat import load_lirpa, quiet
from paoding_verify.bounds.lowering import lower as lower_network
from paoding_verify.errors import ConfigError, EngineError, MissingComponentError, ModelError
from paoding_verify.evidence.certificate import SCALE, Slopes
from paoding_verify.network.graph import Array, Conv2d, Dense, Network, Relu
from paoding_verify.network.torch_out import to_module

__all__ = ["METHODS", "Bounds", "LirpaBounder"]

METHODS = {"ibp": "IBP", "crown-ibp": "CROWN-IBP", "crown": "CROWN", "alpha-crown": "CROWN-Optimized"}
"""Methods from fast to tight, and what auto_LiRPA calls them."""

_ALPHA_FLOATS = 1 << 24
"""Slopes that alpha-CROWN may hold at a time; Adam keeps four numbers for each."""

_COEFFICIENTS = 1 << 26
"""Numbers that a backward pass of CROWN may hold for one value: rows of a layer times size of a value times boxes."""

_ROWS, _REUSED = 256, 1 << 21
"""Where a layer has more rows than that, CROWN bounds so many at a time, or more while a pass holds no more numbers for
one value: an allocator gives small arrays out again, and page faults no longer take most of the time."""

_HEAVY = 1 << 23
"""In networks whose backward passes hold more numbers than that for one value and box, alpha-CROWN optimises the slopes
behind the property's rows alone, on the bounds of CROWN: those behind all other bounds take minutes for every box."""

_TABLE = 1 << 18
"""Slopes that a certificate may hold for one pair of layers and box; beyond it, all rows share their mean."""

_OPTIONS: dict[str, Any] = {
    # The other mode, "patches", crashes on grouped convolutions in 0.3 or gives bounds that are too high.
    "conv_mode": "matrix",
    # Dense slopes have one layout in all versions, and it is that of certificates.
    "sparse_features_alpha": False,
    "sparse_spec_alpha": False,
}


@dataclass(frozen=True, eq=False)
class Bounds:
    """Lower bounds of rows over boxes, as computed in float32."""

    lower: Array
    """(N, R) float64; -inf where the engine gave no number."""
    slopes: tuple[Slopes, ...] | None
    """Per box, the slopes of alpha-CROWN in the form of a certificate; None for the other methods."""
    coefficients: Array | None = None
    """(N, R, *input_shape) of the linear lower bound in the input, where it was asked for."""


class LirpaBounder:
    """Lower bounds of linear functions of one network's outputs over batches of boxes; deterministic."""

    def __init__(self, network: Network, *, device: str = "cpu", chunk: int = 64) -> None:
        """Translates the network once; at most `chunk` boxes are bounded at a time, fewer of a large network.

        Raises: MissingComponentError if auto_LiRPA is not installed, UnsupportedOpError naming a node it cannot bound,
        EngineError if it fails to read the network.
        """
        self._lirpa = load_lirpa()
        self._source = network
        self._lowered = lower_network(network)
        self._module = to_module(self._lowered.network).to(device)
        self._device = device
        self._chunk = chunk
        example = torch.zeros(1, *network.input_shape, device=device)
        with self._naming("reading the graph"):
            self._bounded = self._lirpa.bounded(self._module, example, dict(_OPTIONS), device)
        # auto_LiRPA turns gradients of weights on; alpha-CROWN needs those of its slopes only.
        self._bounded.requires_grad_(False)

    @staticmethod
    def available() -> bool:
        """Whether auto_LiRPA can be imported."""
        try:
            load_lirpa()
        except MissingComponentError:
            return False
        return True

    def load(self, network: Network) -> None:
        """Takes over the parameters of a network of the same nodes and shapes, without translating it again.

        Raises: ModelError if nodes or shapes differ.
        """
        lowered = lower_network(network).network
        if _signature(lowered) != _signature(self._lowered.network):
            raise ModelError(f"network {network.name!r} differs from {self._source.name!r} in its nodes or shapes")
        self._source = network
        self._module.load(lowered)

    def lower_bounds(  # noqa: PLR0913 - box, rows and method
        self,
        lower: Array,
        upper: Array,
        rows: Array,
        offsets: Array,
        *,
        method: str = "crown",
        iterations: int = 20,
        coefficients: bool = False,
    ) -> Bounds:
        """Lower bounds of rows @ y + offsets for every box; `iterations` counts for alpha-crown alone.

        Shapes: lower, upper (N, *input_shape) float64; rows (R, outputs) or (N, R, outputs); offsets (R,) or (N, R).
        With `coefficients` (crown and crown-ibp) the linear bound in the input comes along.
        Raises: ConfigError on an unknown method, EngineError naming method and place if auto_LiRPA fails.
        Source: IBP arXiv:1810.12715; CROWN arXiv:1811.00866; CROWN-IBP arXiv:1906.06316; alpha-CROWN arXiv:2011.13824.
        """
        if method not in METHODS:
            raise ConfigError(f"unknown bound method {method!r}; choose one of {', '.join(METHODS)}")
        if coefficients and method not in ("crown", "crown-ibp"):
            raise ConfigError(f"{method} gives no linear bound in the input; use crown or crown-ibp")
        count, num_rows = len(lower), rows.shape[-2]
        rows = np.broadcast_to(rows, (count, *rows.shape[-2:]))
        offsets = np.broadcast_to(offsets, (count, num_rows))
        self._set_iterations(iterations)
        parts = []
        # auto_LiRPA cannot hand out linear bounds beside a layer that it bounds part by part.
        step, rows_at_a_time = self._at_a_time(num_rows, method, whole=coefficients)
        self._bounded.set_bound_opts({"crown_batch_size": rows_at_a_time})
        for start in range(0, count, step):
            part = slice(start, start + step)
            with self._naming(method):
                parts.append(self._compute(lower[part], upper[part], rows[part], method, coefficients))
        bounds = np.concatenate([p.lower for p in parts]) if parts else np.zeros((0, num_rows))
        return Bounds(
            np.where(np.isnan(bounds), -np.inf, bounds) + offsets,
            tuple(s for p in parts for s in p.slopes or ()) if method == "alpha-crown" else None,
            np.concatenate([p.coefficients for p in parts if p.coefficients is not None]) if coefficients else None,
        )

    def bias_gradients(self, lower: Array, upper: Array, rows: Array, *, method: str = "crown") -> dict[int, Array]:
        """How the worst margin of each box moves with the outputs of each dense layer and convolution: the gradient of
        the smooth minimum of the rows' lower bounds with respect to the biases, by node.

        Shapes: as in `lower_bounds`, rows (N, R, outputs); values (N, outputs or channels of the node). `method` is
        crown or crown-ibp.
        Raises: EngineError naming method and place if auto_LiRPA fails.
        """
        places = {
            origin: place
            for place, (node, origin) in enumerate(zip(self._lowered.network.nodes, self._lowered.origin, strict=True))
            if origin is not None and isinstance(self._source.nodes[origin].op, (Dense, Conv2d))
        }
        self._bounded.set_bound_opts({"crown_batch_size": inf})
        biases = [self._module.get_parameter(f"p{place}_1").requires_grad_(True) for place in places.values()]
        found: list[list[Array]] = []
        try:
            for box in range(len(lower)):
                with self._naming(f"gradients of {method}"), quiet():
                    bounds = self._differentiable(lower[box], upper[box], rows[box], method)
                    gradients = torch.autograd.grad(-torch.logsumexp(-bounds, dim=1).sum(), biases, allow_unused=True)
                used = zip(gradients, biases, strict=True)
                found.append([(torch.zeros_like(b) if g is None else g).cpu().numpy().astype(float) for g, b in used])
        finally:
            for bias in biases:
                bias.requires_grad_(False)
        return {origin: np.stack([box[k] for box in found]) for k, origin in enumerate(places)}

    def _differentiable(self, lower: Array, upper: Array, rows: Array, method: str) -> torch.Tensor:
        """Lower bounds of one box, with the graph that leads to them. Shape (1, R)."""
        low = torch.as_tensor(lower[None].astype(np.float32), device=self._device)
        high = torch.as_tensor(upper[None].astype(np.float32), device=self._device)
        box = self._lirpa.perturbation(norm=np.inf, x_L=low, x_U=high)
        weights = torch.as_tensor(rows[None].astype(np.float32), device=self._device)
        point = self._lirpa.tensor(low / 2 + high / 2, box)
        result = self._bounded.compute_bounds(x=(point,), C=weights, method=METHODS[method], bound_upper=False)
        return torch.as_tensor(result[0])

    def _compute(self, lower: Array, upper: Array, rows: Array, method: str, coefficients: bool) -> Bounds:
        low = torch.as_tensor(_rounded_down(lower), device=self._device)
        high = torch.as_tensor(-_rounded_down(-upper), device=self._device)
        box = self._lirpa.perturbation(norm=np.inf, x_L=low, x_U=high)
        weights = torch.as_tensor(rows.astype(np.float32), device=self._device)
        wanted: dict[str, Any] = {}
        if coefficients:
            names = self._bounded.output_name[0], self._bounded.input_name[0]
            wanted = {"return_A": True, "needed_A_dict": {names[0]: {names[1]}}}
        optimised = method == "alpha-crown"
        with quiet(), torch.set_grad_enabled(optimised):
            point = self._lirpa.tensor(low / 2 + high / 2, box)
            # Not for alpha-CROWN: 0.3 then misses the slopes of layers that the intervals alone leave stable.
            if method == "crown":
                wanted["reference_bounds"] = self._interval_bounds(point, weights)
            elif optimised and prod(self._largest_pass(len(rows[0]))) > _HEAVY:
                wanted["intermediate_layer_bounds"] = self._crown_bounds(point, weights)
            result = self._bounded.compute_bounds(
                x=(point,), C=weights, method=METHODS[method], bound_upper=False, **wanted
            )
        found = np.asarray(result[0].detach().cpu().numpy(), dtype=np.float64)
        slopes = self._slopes(len(lower), inner="intermediate_layer_bounds" not in wanted) if optimised else None
        linear = result[2][names[0]][names[1]]["lA"].detach().cpu().numpy().astype(np.float64) if coefficients else None
        return Bounds(found, slopes, linear)

    def _interval_bounds(self, point: Any, weights: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        """Interval bounds of every pre-activation, to be intersected with those of CROWN.

        auto_LiRPA bounds only rows that intervals leave unstable somewhere in the batch, and keeps the intervals of
        the others; with the intersection a box gets the same lines in whatever batch it comes, up to the second
        activation. Deeper, intervals that start from bounds of such rows may differ a little from batch to batch.
        """
        with torch.no_grad():
            self._bounded.compute_bounds(x=(point,), C=weights, method="IBP", bound_upper=False)
        return self._inner_bounds()

    def _crown_bounds(self, point: Any, weights: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        """Bounds of every pre-activation by CROWN."""
        with torch.no_grad():
            wanted = {"reference_bounds": self._interval_bounds(point, weights)}
            self._bounded.compute_bounds(x=(point,), C=weights, method="CROWN", bound_upper=False, **wanted)
        return self._inner_bounds()

    def _inner_bounds(self) -> dict[str, list[torch.Tensor]]:
        inputs = [engine.inputs[0] for engine in self._bounded.optimizable_activations]
        return {value.name: [value.lower.detach(), value.upper.detach()] for value in inputs}

    def _set_iterations(self, iterations: int) -> None:
        options = {
            "iteration": iterations,
            "early_stop_patience": iterations,
            "loss_reduction_func": _unproved_first,
            # All units of a layer share the slopes behind their bounds, as they do in certificates: nothing that is
            # optimised is lost on the way to the checker, and hardly anything is gained by slopes of their own.
            "use_shared_alpha": True,
        }
        self._bounded.set_bound_opts({"optimize_bound_args": options})

    def _largest_pass(self, num_rows: int) -> tuple[int, int]:
        """Most rows of a backward pass, and most numbers of one row. That of the first layer needs none: intervals."""
        shapes = self._lowered.network.shapes
        return max([num_rows, *self._units()[1:]]), max(map(prod, shapes))

    def _units(self) -> list[int]:
        network = self._lowered.network
        return [prod(network.shapes[k + 1]) for k in network.activations]

    def _at_a_time(self, num_rows: int, method: str, *, whole: bool) -> tuple[int, float]:
        """Boxes, and rows of a layer (`whole`: all), that are bounded together, so that they fit into memory."""
        if method in ("ibp", "crown-ibp"):
            return self._chunk, inf
        widest, largest = self._largest_pass(num_rows)
        boxes = max(1, min(self._chunk, _COEFFICIENTS // (widest * largest)))
        if method == "alpha-crown":
            boxes = min(boxes, self._alpha_chunk(num_rows))
        elif widest > _ROWS and not whole:
            boxes = max(1, min(self._chunk, _REUSED // (_ROWS * largest)))
        if whole or widest <= _ROWS or (method == "alpha-crown" and widest * largest <= _HEAVY):
            return boxes, inf
        return boxes, max(_ROWS, _REUSED // (boxes * largest))

    def _alpha_chunk(self, num_rows: int) -> int:
        """Boxes whose slopes fit into memory together."""
        units = self._units()
        per_box = 2 * sum(n * (num_rows + len(units)) for n in units)
        return max(1, _ALPHA_FLOATS // max(1, per_box))

    def _slopes(self, count: int, *, inner: bool) -> tuple[Slopes, ...]:
        """The slopes of all ReLU nodes after an optimisation, box by box; with `inner` those of units' bounds too."""
        engines = [n for n in self._bounded.relus if type(n).__name__ == "BoundRelu"]
        places = [k for k, node in enumerate(self._lowered.network.nodes) if isinstance(node.op, Relu)]
        if len(engines) != len(places):
            raise EngineError(f"auto_LiRPA sees {len(engines)} ReLU layers in a network that has {len(places)}")
        starts = {self._bounded.final_name: len(self._source.nodes)}
        for engine, place in zip(engines, places, strict=True):
            origin = self._lowered.origin[place]
            if origin is not None and inner:
                starts[engine.inputs[0].name] = origin
        found: list[dict[tuple[int, int], npt.NDArray[np.uint8]]] = [{} for _ in range(count)]
        for engine, place in zip(engines, places, strict=True):
            node = self._lowered.origin[place]
            for name, alpha in engine.alpha.items():
                if node is None or name not in starts:
                    continue
                values = _per_row(alpha, is_property=name == self._bounded.final_name)
                for box in range(count):
                    found[box][starts[name], node] = values[:, box]
        return tuple(found)

    @contextmanager
    def _naming(self, doing: str) -> Iterator[None]:
        """Any failure inside becomes an EngineError that says what was being done, and where."""
        try:
            yield
        except (EngineError, MemoryError):
            raise
        except Exception as error:
            raise EngineError(
                f"auto_LiRPA failed on network {self._source.name!r} ({doing}, {_place(error)}): {error}"
            ) from error


def _per_row(alpha: torch.Tensor, *, is_property: bool) -> npt.NDArray[np.uint8]:
    """Slopes in 1 / SCALE. Shapes: alpha (2: lower and upper, rows or 1, N, *units) -> (rows, or 2, or 1, N, units)."""
    values = alpha.detach()[0] if is_property else alpha.detach()[:, 0]
    if values.shape[0] * values[0, 0].numel() > _TABLE:
        values = values.mean(dim=0, keepdim=True)
    flat = values.reshape(values.shape[0], values.shape[1], -1).cpu().numpy()
    return np.asarray(np.rint(np.clip(flat, 0.0, 1.0) * SCALE), dtype=np.uint8)


def _unproved_first(bounds: torch.Tensor) -> torch.Tensor:
    """What alpha-CROWN maximises: rows below zero count fully, proved ones a tenth. Shapes: (N, R) -> (N, 1)."""
    return torch.where(bounds > 0, 0.1 * bounds, bounds).sum(1, keepdim=True)


def _rounded_down(values: Array) -> npt.NDArray[np.float32]:
    """The largest float32 numbers that do not exceed `values`."""
    nearest = values.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > values, below, nearest)


def _signature(network: Network) -> tuple[object, ...]:
    return network.shapes, tuple((type(n.op), n.inputs) for n in network.nodes)


def _place(error: BaseException) -> str:
    """The innermost node of auto_LiRPA's graph that was at work."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        node: Any = frame.f_locals.get("self")
        if type(node).__name__.startswith("Bound") and hasattr(node, "name"):
            return f"node {type(node).__name__} {node.name}"
    return "no particular node"
