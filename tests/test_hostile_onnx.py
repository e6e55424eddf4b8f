"""Hostile and broken ONNX files: each is refused at once, by a sentence that says what is wrong."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from paoding_verify.errors import ModelError
from paoding_verify.network.limits import LoadLimits
from paoding_verify.network.load import load_network
from paoding_verify.network.onnx_in import read_onnx
from tests.onnx_models import assemble, dense_nodes, node, weights

Change = Callable[[onnx.ModelProto], None]


def good() -> onnx.ModelProto:
    """A correct dense model, for the cases to spoil."""
    return assemble(dense_nodes("x", "y"), {"w": weights(0, 6, 4), "b": weights(1, 4)}, ("N", 6))


def huge_claim(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [10**6, 10**6]


def overflowing_claim(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [2**32, 2**32, 2]


def empty_claim(model: onnx.ModelProto) -> None:
    """Found by fuzzing: numpy cannot make an array of that shape, although it holds nothing."""
    model.graph.initializer[0].dims[:] = [0, 2**62, 8]
    model.graph.initializer[0].raw_data = b""


def negative_claim(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [-6, -4]


def short_data(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [600, 4]


def many_axes(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [1] * 1000


def not_finite(model: onnx.ModelProto) -> None:
    array = np.array(weights(0, 6, 4))
    array[3, 3] = np.nan
    model.graph.initializer[0].raw_data = array.tobytes()


def unknown_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 99


def double_weights(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.raw_data, tensor.data_type = weights(0, 6, 4).astype(np.float64).tobytes(), TensorProto.DOUBLE


def strings(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.STRING, [1], [b"x"]))


def twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def shadowed(model: onnx.ModelProto) -> None:
    model.graph.node[0].output[0] = "b"


def missing(model: onnx.ModelProto) -> None:
    del model.graph.initializer[1]


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "y"


def two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["N", 6]))


def two_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("m0", TensorProto.FLOAT, None))


def no_such_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "nowhere"


def open_axis(model: onnx.ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "width"]))


def fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, 6]))


def huge_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2**40, 2**40]))


def half_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["N", 6]))


def dangling(model: onnx.ModelProto) -> None:
    model.graph.node.append(node("Relu", ["x"], ["unused"], "loose end"))


def old_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 6


def no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def standard_redefined(model: onnx.ModelProto) -> None:
    parts = [node("Add", ["a", "a"], ["c"])]
    model.functions.append(helper.make_function("", "MatMul", ["a", "b"], ["c"], parts, list(model.opset_import)))


def control_flow(model: onnx.ModelProto) -> None:
    model.graph.node.append(node("If", ["y"], ["z"], then_branch=good().graph, else_branch=good().graph))


def concat_bomb(model: onnx.ModelProto) -> None:
    for k in range(64):
        source = "b" if k == 0 else f"c{k - 1}"
        model.graph.node.insert(k, node("Concat", [source, source], [f"c{k}"], axis=0))


def fill_bomb(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("size", TensorProto.INT64, [2], [10**6, 10**7]))
    model.graph.node.insert(0, node("ConstantOfShape", ["size"], ["filled"]))


def broadcast_bomb(model: onnx.ModelProto) -> None:
    for name, dims in (("row", [1, 2**18]), ("column", [2**18, 1])):
        zeros = np.zeros(dims, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(zeros, name))
    model.graph.node.insert(0, node("Add", ["row", "column"], ["table"]))


def padding_bomb(model: onnx.ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 4, 4]))
    del model.graph.node[:]
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights(0, 1, 1, 2, 2), "k"))
    model.graph.node.append(node("Conv", ["x", "k"], ["y"], pads=[2**40] * 4))


def wrong_attribute(model: onnx.ModelProto) -> None:
    del model.graph.node[:]
    model.graph.node.append(node("Flatten", ["x"], ["y"], "flat", axis="one"))


def attribute_twice(model: onnx.ModelProto) -> None:
    del model.graph.node[:]
    model.graph.node.append(node("LeakyRelu", ["x"], ["y"], "leaky", alpha=0.5))
    model.graph.node[0].attribute.append(helper.make_attribute("alpha", 2.0))


def long_name(model: onnx.ModelProto) -> None:
    model.graph.node[0].name = "n" * 20_000


def escape_codes(model: onnx.ModelProto) -> None:
    model.graph.node[0].name, model.graph.node[0].op_type = "\x1b[2J\nnode", "Erf"


def sparse(model: onnx.ModelProto) -> None:
    values, indices = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0]), helper.make_tensor("i", 7, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))


def tower(model: onnx.ModelProto) -> None:
    """Permute and Reshape in turns, so that none of them cancel, and a Relu above."""
    del model.graph.node[:]
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 3]))
    model.graph.initializer.append(helper.make_tensor("to", TensorProto.INT64, [3], [-1, 2, 3]))
    for k in range(2000):
        source = "x" if k == 0 else f"r{k - 1}"
        model.graph.node.append(node("Transpose", [source], [f"t{k}"], perm=[0, 2, 1]))
        model.graph.node.append(node("Reshape", [f"t{k}", "to"], [f"r{k}"]))
    model.graph.node.append(node("Relu", ["r1999"], ["q"]))
    model.graph.node.append(node("Flatten", ["q"], ["y"]))


def beside(location: str, **more: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **more}.items():
            tensor.external_data.add(key=key, value=value)

    return change


CASES: dict[str, tuple[Change, str]] = {
    "a claim of 1e12 numbers": (huge_claim, r"tensor 'w' of shape .* claims 1000000000000 values; the limit is"),
    "a claim beyond 64 bits": (overflowing_claim, r"tensor 'w' of shape .* claims \d+ values; the limit is"),
    "an empty tensor of huge axes": (empty_claim, r"tensor 'w' of shape .* claims 0 values; the limit is"),
    "a negative claim": (negative_claim, r"tensor 'w' claims the negative shape \(-6, -4\)"),
    "too little data": (short_data, r"tensor 'w' claims shape \(600, 4\) and holds 96 bytes"),
    "many axes": (many_axes, r"tensor 'w' has 1000 axes; the limit is 8"),
    "NaN": (not_finite, "tensor 'w' has values that are not finite"),
    "unknown type": (unknown_type, "tensor 'w' has type 99; only float32"),
    "double": (double_weights, "has type float64; only float32"),
    "strings": (strings, "tensor 'w' has type STRING; only float32"),
    "an initializer twice": (twice, "an initializer defines 'w', which is defined before"),
    "a node that shadows": (shadowed, r"node 'matmul0' \(MatMul\) defines 'b', which is defined before"),
    "a missing initializer": (missing, r"node 'add0' \(Add\) reads 'b', which neither a node nor an initializer"),
    "a cycle": (cycle, r"node 'matmul0' \(MatMul\) reads 'y' before it is computed: the graph has a cycle"),
    "two inputs": (two_inputs, r"2 inputs \('x', 'more'\); exactly one"),
    "two outputs": (two_outputs, "2 outputs; exactly one"),
    "no such output": (no_such_output, "no node computes the model's output 'nowhere'"),
    "an open axis": (open_axis, "every axis but the batch must have a fixed length"),
    "a fixed batch": (fixed_batch, "fixed batch of 64"),
    "a huge input": (huge_input, "beyond the limit"),
    "a half-precision input": (half_input, "the input 'x' is not float32"),
    "a loose end": (dangling, "node 'loose end' computes a value that the output does not use"),
    "an old opset": (old_opset, "operator set 6; sets 7 to 22 are supported"),
    "no opset": (no_opset, "does not say which ONNX operator set"),
    "redefined operations": (standard_redefined, "redefines standard operations"),
    "control flow": (control_flow, r"node 'z' \(If\).* unusual attribute"),
    "a doubling constant": (concat_bomb, r"node 'c21' \(Concat\): all constants .* exceed 16777216"),
    "a filled constant": (fill_bomb, r"\(ConstantOfShape\): a constant of 10000000000000 values"),
    "a broadcast constant": (broadcast_bomb, r"\(Add\): a constant of 68719476736 values"),
    "padding": (padding_bomb, r"node 'y' \(Conv\): a value of shape .* is beyond the limits"),
    "an attribute of another type": (wrong_attribute, r"node 'flat' \(Flatten\) is malformed"),
    "an attribute twice": (attribute_twice, "node 'leaky' gives the attribute 'alpha' twice|'alpha' twice"),
    "a long name": (long_name, "a name in the model has 20000 characters"),
    "escape codes": (escape_codes, r"node '\?\[2J\?node' \(Erf\)"),
    "sparse weights": (sparse, "sparse weights"),
    "a tower of transposes": (tower, "stacks too many changes of shape"),
    "an absolute path": (beside("/etc/passwd"), "outside the model's folder"),
    "a path upwards": (beside("../secret.bin"), "outside the model's folder"),
    "a path up and down": (beside("sub/../../secret.bin"), "outside the model's folder"),
    "a Windows path": (beside("..\\secret.bin"), "outside the model's folder"),
    "no path": (beside(""), "outside the model's folder"),
    "a missing file": (beside("none.bin"), "there is no file 'none.bin' beside the model"),
    "the folder itself": (beside("."), "there is no file"),
    "a link outwards": (beside("link.bin"), "a link out of the model's folder"),
    "a linked folder": (beside("linked/secret.bin"), "a link out of the model's folder"),
    "a short file": (beside("short.bin"), "needs 96 bytes of external data; its file ends after 10"),
    "an offset beyond the end": (beside("full.bin", offset="8"), "its file ends after 88"),
    "a wrong length": (beside("full.bin", length="95"), "needs 96 bytes of external data, claims 95"),
    "a negative offset": (beside("full.bin", offset="-1"), "no count: '-1'"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_refused_at_once(tmp_path: Path, case: str) -> None:
    change, message = CASES[case]
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(96))
    (folder / "short.bin").write_bytes(bytes(10))
    (folder / "full.bin").write_bytes(bytes(96))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "linked").symlink_to(tmp_path)
    model = good()
    change(model)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    tracemalloc.start()
    started = time.monotonic()
    with pytest.raises(ModelError, match=message) as caught:
        load_network(path)
    elapsed_s, peak = time.monotonic() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert elapsed_s < 5
    assert peak < 200 * 2**20
    assert len(str(caught.value)) < 700
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 50, b"PK\x03\x04not a zip", b"\x80\x04pickle", b"\x0a\xff\xff\xff\xff"]
)
def test_other_files_are_no_models(content: bytes) -> None:
    with pytest.raises(ModelError, match="not an ONNX file"):
        read_onnx(content)


def test_every_prefix_and_flipped_byte_is_refused_or_read() -> None:
    data = good().SerializeToString()
    rng = np.random.default_rng(0)
    spoiled = [data[:k] for k in range(0, len(data), 3)]
    for position, value in zip(rng.integers(len(data), size=300), rng.integers(256, size=300), strict=True):
        spoiled += [data[:position] + bytes([int(value)]) + data[position + 1 :]]
    for content in spoiled:
        try:
            read_onnx(content)
        except ModelError:
            continue  # any other exception fails the test


def test_names_that_are_no_text_are_refused() -> None:
    model = good()
    model.graph.node[0].name = "MATMUL"
    data = model.SerializeToString().replace(b"MATMUL", b"MA\xff\xfeUL")
    with pytest.raises(ModelError, match="is no valid text"):
        read_onnx(data)


def test_size_limits_come_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(2**33)  # a sparse file: no disk space
    with pytest.raises(ModelError, match="8589934592 bytes; the limit is 2147483648"):
        load_network(path)
    path.write_bytes(good().SerializeToString())
    with pytest.raises(ModelError, match="bytes; the limit is 100"):
        load_network(path, limits=LoadLimits(max_model_bytes=100))


def test_external_data_counts_towards_the_size_limit(tmp_path: Path) -> None:
    model = good()
    beside("full.bin")(model)
    (tmp_path / "full.bin").write_bytes(bytes(96))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    size = path.stat().st_size
    with pytest.raises(ModelError, match="95 are allowed"):
        load_network(path, limits=LoadLimits(max_model_bytes=size + 95))
    load_network(path, limits=LoadLimits(max_model_bytes=size + 96))


def test_shared_weights_count_every_time() -> None:
    constants = {"w": weights(0, 64, 64), "b": weights(1, 64)}
    nodes = [item for k in range(50) for item in dense_nodes(f"v{k}" if k else "x", f"v{k + 1}", number=k)]
    nodes.append(node("Identity", ["v50"], ["y"]))
    data = assemble(nodes, constants, ("N", 64)).SerializeToString()
    with pytest.raises(ModelError, match="more than 100000 parameters"):
        read_onnx(data, LoadLimits(max_parameters=100_000))
    assert len(read_onnx(data).nodes) == 50


def test_all_activations_together_are_limited() -> None:
    model = good()
    for k in range(20):
        model.graph.node.insert(k, node("Relu", [f"r{k - 1}" if k else "x"], [f"r{k}"]))
    model.graph.node[20].input[0] = "r19"
    with pytest.raises(ModelError, match="hold more than 100 numbers"):
        read_onnx(model.SerializeToString(), LoadLimits(max_total_elements=100))


def test_long_files_are_read_in_reasonable_time() -> None:
    nodes = [node("Relu" if k % 2 else "Transpose", [f"v{k}" if k else "x"], [f"v{k + 1}"]) for k in range(6000)]
    for item in nodes[::2]:
        item.attribute.append(helper.make_attribute("perm", [0, 2, 1]))
    nodes.append(node("Flatten", ["v6000"], ["y"]))
    started = time.monotonic()
    network = read_onnx(assemble(nodes, {}, ("N", 2, 3)).SerializeToString())
    assert time.monotonic() - started < 20
    assert len(network.nodes) == 3001


def test_many_folded_constants_are_too_many() -> None:
    model = good()
    for k in range(20):
        model.graph.node.insert(0, node("Concat", ["w"] * 40, [f"c{k}"], axis=0))
    with pytest.raises(ModelError, match="all constants that must be computed exceed 10000 values"):
        read_onnx(model.SerializeToString(), LoadLimits(max_folded_elements=10_000))
