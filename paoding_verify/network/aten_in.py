"""Graphs of ATen operations, as torch.export gives them, to the canonical network."""

from __future__ import annotations

from paoding_verify.errors import ModelError, UnsupportedOpError
from paoding_verify.network.aten import AtenGraph, AtenNode, Call, Constant, Ref, Value
from paoding_verify.network.aten_fold import IGNORED, VIEWS, fold
from paoding_verify.network.aten_ops import HANDLERS
from paoding_verify.network.builder import Builder, Tensor
from paoding_verify.network.graph import Network, Node
from paoding_verify.network.limits import LoadLimits, clean
from paoding_verify.network.record import multiply_accumulates

__all__ = ["to_network"]


def to_network(graph: AtenGraph, name: str, limits: LoadLimits) -> Network:
    """The canonical network that computes what the graph computes, input by input; batch normalisation is an Affine.

    Raises: UnsupportedOpError naming the node and the operation outside the whitelist; ModelError.
    """
    if len(graph.nodes) > limits.max_nodes:
        raise ModelError(f"{clean(name)}: {len(graph.nodes)} nodes; the limit is {limits.said('max_nodes')}")
    state = _State(graph, limits)
    for node in graph.nodes:
        try:
            state.read(node)
        except ModelError as error:
            raise type(error)(f"node {clean(node.outputs[0])!r} ({clean(node.target)}): {error}") from None
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise ModelError(f"node {clean(node.outputs[0])!r} ({clean(node.target)}) is malformed") from error
    result = state.values.get(graph.output)
    if not isinstance(result, Tensor):
        raise ModelError(f"{clean(name)}: its output is not computed from its input")
    network = Network(graph.input_shape, _live(state.builder.nodes, result.value), name=name)
    macs = multiply_accumulates(network)
    if macs > limits.max_macs:
        raise ModelError(
            f"{clean(name)}: one inference takes {macs} multiply-accumulates; the limit is {limits.said('max_macs')}"
        )
    return network


class _State:
    """Values by name while a graph is read.

    An operation in place leaves its argument, and all views of it, with other contents than their names say: `memory`
    says which names share memory, and reading one of them afterwards is refused.
    """

    def __init__(self, graph: AtenGraph, limits: LoadLimits) -> None:
        self.batch = graph.batch
        self.builder = Builder(graph.input_shape, True, isinstance(graph.batch, str), limits)
        self.num_folded = 0
        self.values: dict[str, Value] = {**graph.constants, graph.input: Tensor(0, graph.input_shape)}
        self.memory = {name: name for name in self.values}

    def read(self, node: AtenNode) -> None:
        operation, _, overload = node.target.rpartition(".")
        target = f"{operation.removesuffix('_')}.{overload}"
        call = Call(node, self.values, self.builder, self.batch)
        (output, *_) = node.outputs
        if target in IGNORED:
            return
        if target == "aten.sym_size.int" and call.get("dim") == 0:
            self.values[output] = self.batch
        elif not call.depends:
            self.values[output] = self._counted(fold(target, call))
        elif target in HANDLERS:
            self.values[output] = HANDLERS[target](call)
        else:
            raise UnsupportedOpError("the operation is not supported")
        source = node.arguments.get("self")
        shared = self.memory.get(source.name, "") if isinstance(source, Ref) else ""
        self.memory[output] = shared if target in VIEWS and shared else output
        if operation.endswith("_") and target not in VIEWS:
            for name in [n for n, root in self.memory.items() if root == shared and n != output]:
                self.values.pop(name, None)

    def _counted(self, constant: Constant) -> Constant:
        self.num_folded += constant.size
        if self.num_folded > self.builder.limits.max_elements:
            raise ModelError(f"constants of more than {self.builder.limits.max_elements} numbers would be computed")
        return constant


def _live(nodes: list[Node], last: int) -> tuple[Node, ...]:
    """The nodes that value `last` needs, renumbered."""
    needed = {last}
    for index in range(last - 1, -1, -1):
        if index + 1 in needed:
            needed.update(nodes[index].inputs)
    number = {value: k for k, value in enumerate(sorted(needed | {0}))}
    return tuple(
        Node(nodes[value - 1].op, tuple(number[i] for i in nodes[value - 1].inputs), nodes[value - 1].name)
        for value in sorted(needed - {0})
    )
