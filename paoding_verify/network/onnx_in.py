"""An ONNX model to the canonical network."""

from __future__ import annotations

import numpy as np
import onnx

from paoding_verify.errors import ModelError, UnsupportedOpError
from paoding_verify.network.builder import Builder, Call, Tensor
from paoding_verify.network.graph import Network, Shape
from paoding_verify.network.limits import LoadLimits, clean
from paoding_verify.network.onnx_fold import FOLDERS, Constant, attributes_of, fold
from paoding_verify.network.onnx_ops import HANDLERS, HINTS
from paoding_verify.network.onnx_proto import parse_model, tensor_array
from paoding_verify.network.record import multiply_accumulates
from paoding_verify.network.simplify import simplify

__all__ = ["OPSETS", "read_onnx"]

OPSETS = (7, 22)
"""Oldest and newest supported version of the default operator set."""
STANDARD = ("", "ai.onnx")
"""Names of the default operator set."""


def read_onnx(data: bytes, limits: LoadLimits | None = None) -> Network:
    """The canonical, simplified network that an ONNX file (external data inlined) computes; without a source.

    The leading axis of the input is the batch (open, or 1) and is dropped; an input with one axis has no batch.
    Raises: ModelError naming the node if the file is malformed, beyond the limits, or computes anything else;
    UnsupportedOpError if an operation is outside the whitelist.
    """
    limits = limits or LoadLimits()
    model = parse_model(data, limits)
    try:
        network = _Reader(model, limits).network()
    except RecursionError as error:
        raise ModelError("the model stacks too many changes of shape") from error
    macs = multiply_accumulates(network)
    if macs > limits.max_macs:
        raise ModelError(
            f"one inference takes {macs} multiply-accumulate operations; the limit is {limits.said('max_macs')}"
        )
    return network


class _Reader:
    """Walks the graph once in its own order, which must be topological."""

    def __init__(self, model: onnx.ModelProto, limits: LoadLimits) -> None:
        self._graph, self._functions, self._limits = model.graph, model.functions, limits
        self._opset = _opset(model)
        self._num_folded = 0
        self._values: dict[str, Tensor | Constant] = {}
        self._add_initializers()
        (name, shape, batched, symbolic) = self._input()
        self._builder = Builder(shape, batched, symbolic, limits)
        self._define(name, Tensor(0, shape), "the graph")

    def network(self) -> Network:
        outputs = [value.name for value in self._graph.output]
        if len(outputs) != 1:
            raise ModelError(f"the model has {len(outputs)} outputs; exactly one is supported")
        for node in self._graph.node:
            self._read(node)
        result = self._values.get(outputs[0])
        if not isinstance(result, Tensor) or not self._builder.nodes:
            raise ModelError(f"no node computes the model's output {clean(outputs[0])!r} from its input")
        self._check_all_used(result)
        if any(result.padding):
            raise UnsupportedOpError("the model's output is padded; padding is only supported in front of a Conv")
        long_axes = tuple(n for n in result.shape if n != 1) or (1,)
        if len(long_axes) != 1:
            raise ModelError(f"the output has shape {result.shape} per input; one vector per input is supported")
        self._builder.reshape("output", result, long_axes)
        name = clean(self._graph.name) or "network"
        return simplify(Network(self._builder.input_shape, tuple(self._builder.nodes), name))

    def _add_initializers(self) -> None:
        if any(function.domain in STANDARD for function in self._functions):
            raise ModelError("the model redefines standard operations, which is not supported")
        if self._graph.sparse_initializer:
            raise ModelError("the model has sparse weights, which are not supported")
        for tensor in self._graph.initializer:
            array = tensor_array(tensor, self._limits)
            self._define(tensor.name, Constant(array, array), "an initializer")

    def _input(self) -> tuple[str, Shape, bool, bool]:
        """Name and shape (without the batch) of the one input, whether it has a batch axis and whether that is open."""
        inputs = [value for value in self._graph.input if value.name not in self._values]
        if len(inputs) != 1:
            names = ", ".join(repr(clean(value.name)) for value in inputs[:5])
            raise ModelError(f"the model has {len(inputs)} inputs ({names}); exactly one is supported")
        kind = inputs[0].type.tensor_type
        name = clean(inputs[0].name)
        if kind.elem_type != onnx.TensorProto.FLOAT:
            raise ModelError(f"the input {name!r} is not float32; only float32 models are supported")
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
        if not dims:
            raise ModelError(f"the input {name!r} has no shape; export the model with one")
        batched = len(dims) > 1
        shape = dims[1:] if batched else dims
        if batched and dims[0] not in (None, 1, 0, -1):
            raise ModelError(f"the input {name!r} has a fixed batch of {dims[0]}; export it with an open batch, or 1")
        fixed = tuple(n for n in shape if n is not None and n > 0)
        if len(fixed) != len(shape) or len(shape) > self._limits.max_rank:
            raise ModelError(f"the input {name!r} has shape {dims}: every axis but the batch must have a fixed length")
        if np.prod(fixed, dtype=object) > self._limits.max_value_elements:
            raise ModelError(f"the input {name!r} of shape {fixed} is beyond the limit")
        return inputs[0].name, fixed, batched, batched and dims[0] != 1

    def _define(self, name: str, value: Tensor | Constant, what: str) -> None:
        if name in self._values:
            raise ModelError(f"{what} defines {clean(name)!r}, which is defined before")
        self._values[name] = value

    def _read(self, node: onnx.NodeProto) -> None:
        name = clean(node.name) or clean(node.output[0] if node.output else node.op_type)
        where = f"node {name!r} ({clean(node.op_type)})"
        if not node.output or not node.output[0]:
            raise ModelError(f"{where} has no output")
        inputs = tuple(self._lookup(i, where) for i in node.input)
        try:
            value = self._compute(node, name, inputs)
        except UnsupportedOpError as error:
            raise UnsupportedOpError(f"{where} is not supported: {error}") from None
        except ModelError as error:
            raise ModelError(f"{where}: {error}") from None
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
            # Attributes come with any type and length that the file likes; no handler reads one twice.
            raise ModelError(f"{where} is malformed: {clean(str(error))}") from error
        self._define(node.output[0], value, where)

    def _compute(
        self, node: onnx.NodeProto, name: str, inputs: tuple[Tensor | Constant | None, ...]
    ) -> Tensor | Constant:
        if node.domain not in STANDARD or node.overload:
            raise UnsupportedOpError(f"its domain {clean(node.domain)!r} is not the standard one")
        attributes = attributes_of(node)
        constants = tuple(value for value in inputs if not isinstance(value, Tensor))
        if node.op_type in FOLDERS and len(constants) == len(inputs):
            return self._folded(fold(node.op_type, constants, attributes, self._limits))
        call = Call(node.op_type, name, inputs, attributes, self._opset, self._builder)
        if node.op_type == "Shape":
            return self._shape(call)
        if node.op_type not in HANDLERS:
            hint = HINTS.get(node.op_type, "replace it by supported operations, or remove it, and export again")
            raise UnsupportedOpError(hint)
        if node.op_type == "BatchNormalization" and sum(map(bool, node.output)) > 1:
            raise UnsupportedOpError("batch normalisation must be in inference mode, with one output")
        return HANDLERS[node.op_type](call)

    def _folded(self, constant: Constant) -> Constant:
        self._num_folded += constant.one.size if constant.one.base is None else 0  # views take no memory
        if self._num_folded > self._limits.max_folded_elements:
            raise ModelError(f"all constants that must be computed exceed {self._limits.max_folded_elements} values")
        return constant

    def _shape(self, call: Call) -> Constant:
        shape = call.tensor().shape
        start, end = call.attributes.get("start", 0), call.attributes.get("end")
        if not self._builder.batched:
            array = np.array(shape[start:end], dtype=np.int64)
            return Constant(array, array)
        one, two = (np.array((n, *shape)[start:end], dtype=np.int64) for n in (1, 2))
        return Constant(one, two if self._builder.symbolic else one)

    def _lookup(self, name: str, where: str) -> Tensor | Constant | None:
        if not name:
            return None
        if name not in self._values:
            if any(name in node.output[:1] for node in self._graph.node):
                raise ModelError(f"{where} reads {clean(name)!r} before it is computed: the graph has a cycle")
            if any(name in node.output for node in self._graph.node):
                raise UnsupportedOpError(f"{where} reads {clean(name)!r}, a second output of a node")
            raise ModelError(f"{where} reads {clean(name)!r}, which neither a node nor an initializer defines")
        return self._values[name]

    def _check_all_used(self, result: Tensor) -> None:
        needed = {result.value}
        for number in range(len(self._builder.nodes), 0, -1):
            node = self._builder.nodes[number - 1]
            if number not in needed:
                raise ModelError(f"node {node.name!r} computes a value that the output does not use; remove it")
            needed.update(node.inputs)
        if 0 not in needed:
            raise ModelError("the output does not depend on the input")


def _opset(model: onnx.ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in STANDARD]
    if len(versions) != 1:
        raise ModelError("the model does not say which ONNX operator set it uses")
    low, high = OPSETS
    if not low <= versions[0] <= high:
        raise ModelError(f"the model uses ONNX operator set {versions[0]}; sets {low} to {high} are supported")
    return int(versions[0])
