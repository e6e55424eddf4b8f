"""Torch modules, exported programs and files of weights to the canonical network."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import nn

from paoding_verify.errors import ModelError, UnsupportedOpError
from paoding_verify.network.aten import AtenGraph, AtenNode, Ref
from paoding_verify.network.aten_in import to_network
from paoding_verify.network.evaluate import evaluate
from paoding_verify.network.graph import Network, Shape
from paoding_verify.network.limits import LoadLimits
from paoding_verify.network.pt2 import load_pt2
from paoding_verify.network.simplify import simplify
from paoding_verify.network.state_dict import load_state_dict
from paoding_verify.network.verify import NOISE_FACTOR, TOLERANCE

__all__ = ["from_module", "load_pt2", "load_state_dict"]

BATCH_SIZE = 5
"""Inputs in the batch with which a module is traced: a size that fits no other axis by accident."""


def from_module(
    module: nn.Module, input_shape: Shape, *, name: str | None = None, limits: LoadLimits | None = None
) -> Network:
    """The canonical network of a module, compared with the module's own outputs on random inputs.

    The module is traced by torch.export in evaluation mode, which runs its `forward`; its mode is restored afterwards
    and its parameters are copied. Shapes: it takes (N, *input_shape) float32 and gives (N, num_outputs).
    Raises: UnsupportedOpError naming the operation outside the whitelist; ModelError if the module cannot be traced,
    is not float32, or computes something else than the network read from it.
    """
    name = name or type(module).__name__
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        network = simplify(to_network(_traced(module, input_shape, name), name, limits or LoadLimits()))
        _compare(network, module)
        return network
    finally:
        for part, mode in modes:
            part.training = mode


def _traced(module: nn.Module, input_shape: Shape, name: str) -> AtenGraph:
    example = torch.zeros((BATCH_SIZE, *input_shape))
    try:
        with torch.no_grad():
            program = torch.export.export(module, (example,))
    except Exception as error:  # torch.export raises errors of many kinds, the module's own among them
        raise ModelError(f"{name} cannot be traced with inputs of shape {input_shape}: {_short(error)}") from error
    signature = program.graph_signature
    tensors = {**program.state_dict, **program.constants}
    lifted = {spec.arg.name: spec.target for spec in signature.input_specs if spec.target is not None}
    constants = {key: _array(tensors[target]) for key, target in lifted.items() if target in tensors}
    if len(signature.user_inputs) != 1 or len(signature.user_outputs) != 1 or len(signature.output_specs) != 1:
        raise UnsupportedOpError(f"{name}: a module must have one input, one output, and leave its buffers as they are")
    nodes = [n for n in program.graph.nodes if n.op == "call_function"]
    return AtenGraph(
        str(signature.user_inputs[0]),
        tuple(input_shape),
        BATCH_SIZE,
        constants,
        tuple(_node(n) for n in nodes if n.target is not operator.getitem),
        str(signature.user_outputs[0]),
    )


def _node(node: torch.fx.Node) -> AtenNode:
    """A node with its arguments by name; its results are the node itself or the items that are taken out of it."""
    items = {user.args[1]: user.name for user in node.users if user.target is operator.getitem}
    outputs = tuple(items.get(k, f"{node.name}.{k}") for k in range(3)) if items else (node.name,)
    if not isinstance(node.target, torch._ops.OpOverload):
        return AtenNode(str(node.target), {}, outputs)
    names = [argument.name for argument in node.target._schema.arguments]
    arguments = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    return AtenNode(str(node.target), {key: _argument(value) for key, value in arguments.items()}, outputs)


def _argument(value: Any) -> Any:
    if isinstance(value, torch.fx.Node):
        return Ref(value.name)
    if isinstance(value, (list, tuple)):
        return [_argument(item) for item in value]
    return str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else value


def _array(tensor: torch.Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    return tensor.detach().cpu().numpy().copy()


def _compare(network: Network, module: nn.Module) -> None:
    """Raises: ModelError unless network and module agree on random inputs, up to float32 error."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((BATCH_SIZE, *network.input_shape), generator=generator)
    with torch.no_grad():
        theirs = module(x).double().cpu().numpy()
    exact, rough = evaluate(network, x.double().numpy()), evaluate(network, x.numpy())
    if theirs.shape != exact.shape:
        raise ModelError(f"{network.name}: the module gives outputs of shape {theirs.shape}, not {exact.shape}")
    allowed = TOLERANCE * np.abs(exact).max() + NOISE_FACTOR * np.abs(rough - exact).max()
    difference = np.abs(theirs - exact).max()
    if not difference <= allowed:
        raise ModelError(f"{network.name}: the network read from the module differs from it by {difference:g}")


def _short(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
