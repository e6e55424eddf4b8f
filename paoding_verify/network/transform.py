"""Networks made from networks: rounded to float32, or with a normalisation layer in front."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from paoding_verify.errors import ConfigError, ModelError
from paoding_verify.network.graph import Affine, Array, Conv2d, Dense, LeakyRelu, Network, Node, Op
from paoding_verify.network.verify import check_against_runtime

__all__ = ["as_float32", "with_normalisation"]


def as_float32(network: Network) -> Network:
    """The network with every parameter rounded to the nearest float32 and no folded rounding left; without a source.

    It is another network, close to the given one: claims about it are claims about the file that `to_onnx` writes.
    Raises: ModelError if a parameter is too large for float32.
    """
    nodes = tuple(replace(node, op=_rounded(node)) for node in network.nodes)
    return replace(network, nodes=nodes, source=None)


def _rounded(node: Node) -> Op:
    op = node.op

    def to_float32(array: Array) -> Array:
        if (np.abs(array) > np.finfo(np.float32).max).any():
            raise ModelError(f"node {node.name!r} has parameters that are too large for float32")
        return array.astype(np.float32).astype(np.float64)

    if isinstance(op, (Dense, Conv2d)):
        return replace(op, weight=to_float32(op.weight), bias=to_float32(op.bias), bias_magnitude=None, roundings=0)
    if isinstance(op, Affine):
        return Affine(to_float32(op.scale), to_float32(op.shift))
    if isinstance(op, LeakyRelu):
        return LeakyRelu(float(np.float32(op.slope)))
    return op


def with_normalisation(network: Network, mean: npt.ArrayLike, std: npt.ArrayLike) -> Network:
    """The network of (x - mean) / std, as x * float32(1 / std) + float32(-mean / std): eps is then in units of x.

    mean and std are single numbers, or one per channel (entry of the input's first axis). If the network has a source,
    its ONNX file gets the same two operations in front, so that it still computes what the network computes; this is
    checked with onnxruntime.
    Raises: ConfigError if mean or std do not fit; ModelError if the file cannot be extended.
    """
    scale, shift = _affine(network, mean, std)
    moved = tuple(replace(node, inputs=tuple(i + 1 for i in node.inputs)) for node in network.nodes)
    nodes = (Node(Affine(scale, shift), (0,), "normalisation"), *moved)
    if network.source is None:
        return replace(network, nodes=nodes)
    shipped = _prepend(network.source.onnx, scale.astype(np.float32), shift.astype(np.float32))
    kind = f"{network.source.format.removesuffix(', normalised')}, normalised"
    source = replace(network.source, onnx=shipped, format=kind)
    extended = replace(network, nodes=nodes, source=source)
    check_against_runtime(extended, shipped)
    return extended


def _affine(network: Network, mean: npt.ArrayLike, std: npt.ArrayLike) -> tuple[Array, Array]:
    """Scale and shift with the rank of the input, every entry a float32."""
    try:
        centre, spread = (np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in (mean, std))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"mean and std must be numbers, one for all channels or one per channel: {error}") from None
    channels = network.input_shape[0]
    for what, value in (("mean", centre), ("std", spread)):
        if value.ndim != 1 or len(value) not in (1, channels):
            raise ConfigError(f"{what} has shape {value.shape}; the input has {channels} channel(s)")
        if not np.isfinite(value).all():
            raise ConfigError(f"{what} must be finite; got {value.tolist()}")
    if not (spread > 0).all():
        raise ConfigError(f"std must be positive; got {spread.tolist()}")
    with np.errstate(over="ignore"):
        scale, shift = (1.0 / spread).astype(np.float32), (-centre / spread).astype(np.float32)
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()) or not (scale > 0).all():
        raise ConfigError(f"mean {centre.tolist()} and std {spread.tolist()} leave the range of float32")
    rank = (-1,) + (1,) * (len(network.input_shape) - 1)
    return scale.astype(np.float64).reshape(rank), shift.astype(np.float64).reshape(rank)


def _prepend(
    data: bytes,
    scale: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    shift: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> bytes:
    """The ONNX file with `x * scale + shift` between its input and everything that reads it."""
    model = onnx.ModelProto.FromString(data)
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    (entry,) = [value for value in graph.input if value.name not in constants]
    taken = constants | {value.name for value in graph.input} | {name for node in graph.node for name in node.output}
    raw, scaled, factor, offset = _fresh(taken, "raw", "scaled", "scale", "shift")
    for kind, array in ((factor, scale), (offset, shift)):
        graph.initializer.append(numpy_helper.from_array(array, kind))
        if model.ir_version < 4:
            graph.input.append(helper.make_tensor_value_info(kind, onnx.TensorProto.FLOAT, array.shape))
    nodes = [
        helper.make_node("Mul", [raw, factor], [scaled], f"{scaled}.mul"),
        helper.make_node("Add", [scaled, offset], [entry.name], f"{scaled}.add"),
    ]
    old = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *old])
    entry.name = raw
    return model.SerializeToString(deterministic=True)


def _fresh(taken: set[str], *wanted: str) -> list[str]:
    """Names that start with the wanted ones and are not taken."""
    number = 0
    while any(f"normalisation{number}.{name}" in taken for name in wanted):
        number += 1
    return [f"normalisation{number}.{name}" for name in wanted]
