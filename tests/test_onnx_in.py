"""Reading ONNX files: every supported operation against onnxruntime, in every opset; the rest is named and refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from paoding_verify.errors import ModelError, UnsupportedOpError
from paoding_verify.network.digest import canonical_digest
from paoding_verify.network.graph import AveragePool2d, Conv2d, Dense, Network, Op
from paoding_verify.network.limits import LoadLimits
from paoding_verify.network.onnx_in import OPSETS, read_onnx
from paoding_verify.network.onnx_out import to_onnx
from paoding_verify.network.runtime import OnnxProgram
from tests import networks
from tests.onnx_models import assemble, dense_nodes, model_bytes, node, weights

IMAGE = ("N", 2, 6, 5)
ROW = ("N", 6)


def agrees(data: bytes, *, seed: int = 0) -> Network:
    """The network that was read; fails unless it computes what onnxruntime does."""
    network = read_onnx(data)
    x = np.random.default_rng(seed).normal(size=(5, *network.input_shape)).astype(np.float32)
    expected = OnnxProgram(data).run(x)
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(network.forward(x), expected, atol=2e-6 * scale, rtol=0)
    return network


def ops(network: Network) -> list[type[Op]]:
    return [type(item.op) for item in network.nodes]


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def squeeze(op_type: str, axes: tuple[int, ...], source: str, target: str, opset: int) -> onnx.NodeProto:
    """Squeeze or Unsqueeze, whose axes became an input in opset 13 (here the constant `axes`)."""
    if opset < 13:
        return node(op_type, [source], [target], axes=axes)
    return node(op_type, [source, "axes"], [target])


@pytest.mark.parametrize("opset", range(OPSETS[0], OPSETS[1] + 1))
def test_every_opset_of_a_convolutional_classifier(opset: int) -> None:
    clip = node("Clip", ["b1"], ["r1"], min=0.0) if opset < 11 else node("Clip", ["b1", "zero"], ["r1"])
    mean = (
        node("ReduceMean", ["p"], ["g"], axes=[2, 3], keepdims=0)
        if opset < 18
        else node("ReduceMean", ["p", "spatial"], ["g"], keepdims=0)
    )
    nodes = [
        node("Conv", ["x", "k", "kb"], ["c1"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c1", "gamma", "beta", "mu", "var"], ["b1"], epsilon=1e-3),
        clip,
        node("MaxPool", ["r1"], ["p"], kernel_shape=[2, 2], strides=[2, 1]),
        mean,
        squeeze("Unsqueeze", (1,), "g", "u", opset),
        squeeze("Squeeze", (1,), "u", "s", opset),
        node("Dropout", ["s"], ["d"]),
        node("Gemm", ["d", "w", "b"], ["l"], transB=1, alpha=0.5, beta=2.0),
        node("LeakyRelu", ["l"], ["y"], alpha=0.125),
    ]
    constants = {
        "k": weights(0, 3, 2, 3, 3), "kb": weights(1, 3), "gamma": weights(2, 3), "beta": weights(3, 3),
        "mu": weights(4, 3), "var": np.abs(weights(5, 3)) + 0.1, "w": weights(6, 4, 3), "b": weights(7, 4),
        "axes": ints(1), "spatial": ints(2, 3), "zero": np.float32(0),
    }  # fmt: skip
    used = {name for item in nodes for name in item.input}
    constants = {name: np.asarray(array) for name, array in constants.items() if name in used}
    network = agrees(model_bytes(nodes, constants, IMAGE, opset=opset))
    assert network.input_shape == (2, 6, 5)
    assert ops(network)[0] is Conv2d


def one(op_type: str, *inputs: str, **attributes: object) -> list[onnx.NodeProto]:
    return [node(op_type, ["x", *inputs], ["t"], "tested", **attributes), node("Flatten", ["t"], ["y"])]


IMAGE_CASES = {
    "conv same upper": one("Conv", "k", auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv same lower": one("Conv", "k", auto_pad="SAME_LOWER", strides=[2, 2]),
    "conv same with a stride beyond its window": one("Conv", "k2", auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv valid": one("Conv", "k", auto_pad="VALID", dilations=[1, 2]),
    "conv asymmetric": one("Conv", "k", pads=[0, 1, 2, 3]),
    "conv groups": one("Conv", "kg", "b4", group=2),
    "average pool": one("AveragePool", kernel_shape=[3, 2], pads=[1, 1, 0, 0], strides=[2, 1]),
    "average pool counting": one("AveragePool", kernel_shape=[3, 2], pads=[1, 1, 0, 0], count_include_pad=1),
    "average pool same": one("AveragePool", kernel_shape=[3, 3], auto_pad="SAME_UPPER"),
    "average pool ceil": one("AveragePool", kernel_shape=[2, 3], strides=[2, 1], ceil_mode=1),
    "max pool": one("MaxPool", kernel_shape=[2, 3], pads=[1, 0, 0, 2]),
    "max pool same": one("MaxPool", kernel_shape=[2, 2], auto_pad="SAME_LOWER", strides=[2, 2]),
    "global average": one("GlobalAveragePool"),
    "global max": one("GlobalMaxPool"),
    "mean of channels last": [
        node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]), node("ReduceMean", ["t"], ["y"], axes=[1, 2], keepdims=0),
    ],
    "mean with axes kept": one("ReduceMean", axes=[-1, -2]),
    "pads": [
        node("Pad", ["x", "pads"], ["p"]), node("Conv", ["p", "k"], ["t"], pads=[0, 1, 0, 0]),
        node("Flatten", ["t"], ["y"]),
    ],
    "scale, shift": [
        node("Mul", ["x", "c"], ["a"]), node("Add", ["c", "a"], ["b"]), node("Sub", ["c", "b"], ["s"]),
        node("Sub", ["s", "row"], ["e"]), node("Div", ["e", "c"], ["t"]), node("Flatten", ["t"], ["y"]),
    ],
    "transpose, flatten, dense": [
        node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]), node("Flatten", ["t"], ["f"]),
        node("MatMul", ["f", "w60"], ["y"]),
    ],
    "residual of values in channels last": [
        node("Conv", ["x", "k2"], ["conv"]), node("Transpose", ["conv"], ["ct"], perm=[0, 2, 3, 1]),
        node("Transpose", ["x"], ["xt"], perm=[0, 2, 3, 1]), node("Sub", ["xt", "ct"], ["s"]),
        node("Tanh", ["s"], ["r"]), node("Transpose", ["r"], ["t"], perm=[0, 3, 1, 2]), node("Flatten", ["t"], ["y"]),
    ],
    "per-feature scale behind a convolution": [
        node("Conv", ["x", "k2"], ["conv"]), node("Mul", ["conv", "image"], ["t"]), node("Flatten", ["t"], ["y"]),
    ],
    "sigmoid of a flattened convolution": [
        node("Conv", ["x", "k2"], ["conv"]), node("Flatten", ["conv"], ["f"]), node("Sigmoid", ["f"], ["y"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", IMAGE_CASES)
@pytest.mark.parametrize("batch", ["N", 1])
def test_operations_on_images(case: str, batch: int | str) -> None:
    nodes = IMAGE_CASES[case]
    constants = {
        "k": weights(0, 3, 2, 3, 2), "kg": weights(1, 4, 1, 2, 2), "b4": weights(2, 4), "k2": weights(3, 2, 2, 1, 1),
        "c": np.abs(weights(4, 2, 1, 1)) + 1, "row": weights(5, 5), "w60": weights(6, 60, 4),
        "pads": ints(0, 0, 1, 2, 0, 0, 0, 1), "image": weights(7, 1, 2, 6, 5),
    }  # fmt: skip
    used = {name for item in nodes for name in item.input}
    given = {name: array for name, array in constants.items() if name in used}
    agrees(model_bytes(nodes, given, (batch, *IMAGE[1:])))


ROW_CASES = {
    "gemm": [node("Gemm", ["x", "w"], ["y"])],
    "gemm with a scalar bias": [node("Gemm", ["x", "w", "one"], ["y"], alpha=3.0)],
    "two biases": [*dense_nodes("x", "h"), node("Add", ["h", "b"], ["y"])],
    "two readers": [*dense_nodes("x", "h"), node("Mul", ["h", "b"], ["s"]), node("Add", ["s", "h"], ["y"])],
    "column": [
        node("Unsqueeze", ["x", "last"], ["c"]), node("MatMul", ["wt", "c"], ["m"]), node("Flatten", ["m"], ["y"]),
    ],
    "double": [node("Add", ["x", "x"], ["y"])],
    "cast and identity": [node("Cast", ["x"], ["c"], to=1), node("Identity", ["c"], ["i"]), *dense_nodes("i", "y")],
    "reshape from the shape": [
        node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "zero"], ["n"]),
        node("Unsqueeze", ["n", "zeros"], ["n1"]), node("Concat", ["n1", "six"], ["to"], axis=0),
        node("Reshape", ["x", "to"], ["r"]), *dense_nodes("r", "y"),
    ],
    "reshape to a slice of the shape": [
        node("Shape", ["x"], ["shape"]), node("Slice", ["shape", "zeros", "ones"], ["n1"]),
        node("Concat", ["n1", "minus"], ["to"], axis=0), node("Reshape", ["x", "to"], ["r"]), *dense_nodes("r", "y"),
    ],
    "reshape with zero": [node("Reshape", ["x", "copy"], ["r"]), *dense_nodes("r", "y")],
    "reshape with an open batch": [node("Reshape", ["x", "open"], ["r"]), *dense_nodes("r", "y")],
    "weights behind a transpose": [node("Transpose", ["wt"], ["w2"]), node("MatMul", ["x", "w2"], ["y"])],
}  # fmt: skip


@pytest.mark.parametrize("case", ROW_CASES)
@pytest.mark.parametrize("batch", ["N", None, 1])
def test_operations_on_rows(case: str, batch: int | str | None) -> None:
    nodes = ROW_CASES[case]
    constants = {
        "w": weights(0, 6, 4), "wt": weights(1, 4, 6), "b": weights(2, 4), "one": np.ones(1, np.float32),
        "last": ints(2), "zero": np.array(0, np.int64), "zeros": ints(0), "ones": ints(1), "six": ints(6),
        "minus": ints(-1), "copy": ints(0, -1), "open": ints(-1, 6),
    }  # fmt: skip
    used = {name for item in nodes for name in item.input}
    network = agrees(model_bytes(nodes, {k: v for k, v in constants.items() if k in used}, (batch, 6)))
    assert network.input_shape == (6,)


def test_a_bias_that_meets_zero_is_taken_over_exactly() -> None:
    network = agrees(model_bytes(dense_nodes("x", "y"), {"w": weights(0, 6, 4), "b": weights(1, 4)}, ROW))
    (dense,) = (item.op for item in network.nodes)
    assert isinstance(dense, Dense)
    assert (dense.weight == weights(0, 6, 4).T).all()
    assert (dense.bias == weights(1, 4)).all()
    assert dense.roundings == 0
    assert dense.bias_magnitude is None


def test_a_fixed_batch_of_one_may_be_reshaped_to_one_row() -> None:
    nodes = [node("Reshape", ["x", "shape"], ["r"]), *dense_nodes("r", "y")]
    constants = {"shape": ints(1, -1), "w": weights(0, 6, 4), "b": weights(1, 4)}
    agrees(model_bytes(nodes, constants, (1, 2, 3)))
    with pytest.raises(UnsupportedOpError, match="mixes the batch axis"):
        read_onnx(model_bytes(nodes, constants, ("N", 2, 3)))


def test_an_input_with_one_axis_has_no_batch() -> None:
    nodes = [
        node("MatMul", ["w0", "x"], ["h"]), node("Relu", ["h"], ["r"]), node("Reshape", ["r", "row"], ["q"]),
        node("Gemm", ["q", "w1", "b1"], ["y"]),
    ]  # fmt: skip
    constants = {"w0": weights(0, 4, 3), "row": ints(1, 4), "w1": weights(1, 4, 2), "b1": weights(2, 2)}
    network = agrees(model_bytes(nodes, constants, (3,)))
    assert network.input_shape == (3,)
    assert network.num_outputs == 2


@pytest.mark.parametrize("shape", [(4, 1), (1, 4, 1), (1, 1, 4), (2,), (4, 4)])
def test_a_gemm_bias_that_is_no_row_is_refused(shape: tuple[int, ...]) -> None:
    """A column would be added along the batch."""
    nodes = [node("Gemm", ["x", "w", "b"], ["y"])]
    with pytest.raises(ModelError, match="bias of shape"):
        read_onnx(model_bytes(nodes, {"w": weights(0, 6, 4), "b": weights(1, *shape)}, ("N", 6)))


def test_the_size_of_the_batch_never_enters_the_computation() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]), node("Cast", ["shape"], ["numbers"], to=TensorProto.FLOAT),
        node("Gather", ["numbers", "zero"], ["n"]), node("Mul", ["x", "n"], ["y"]),
    ]  # fmt: skip
    with pytest.raises(UnsupportedOpError, match="depends on the size of the batch"):
        read_onnx(model_bytes(nodes, {"zero": ints(0)}, ROW))


@pytest.mark.parametrize("make", [networks.dense_net, networks.conv_net, networks.pooled_net, networks.residual_net])
def test_written_networks_are_read_back_as_they_were(make: object) -> None:
    network = make(3)  # type: ignore[operator]
    assert canonical_digest(read_onnx(to_onnx(network))) == canonical_digest(network)


UNSUPPORTED = {
    "Softmax": (one("Softmax", axis=-1), "export the model without it"),
    "Erf": (one("Erf"), r"node 'tested' \(Erf\) is not supported"),
    "Clip": (one("Clip", "low", "high"), r"Clip to \[0.0, 6.0\]"),
    "LeakyRelu": (one("LeakyRelu", alpha=1.5), "slope must lie in"),
    "Mul": ([node("Mul", ["x", "x"], ["y"])], "multiplies or divides two activations"),
    "Conv1d": (one("Conv", "k1"), "only images"),
    "MatMul": ([node("MatMul", ["x", "square"], ["y"])], "only one row per input"),
    "ceil_mode": (one("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), "partial windows"),
    "auto_pad": (one("MaxPool", kernel_shape=[2, 2], auto_pad="SAME_LOWER", strides=[2, 5]), "is ambiguous"),
    "Pad": ([node("Pad", ["x", "pads"], ["p"]), node("Relu", ["p"], ["y"])], "directly in front of a Conv"),
    "Transpose": ([node("Transpose", ["x"], ["y"], perm=[1, 0, 2, 3])], "mixes the batch axis"),
    "Broadcast": ([node("GlobalMaxPool", ["x"], ["g"]), node("Add", ["x", "g"], ["y"])], "must be equal"),
    "domain": ([node("Relu", ["x"], ["y"], domain="com.microsoft")], "domain 'com.microsoft'"),
    "mask": ([node("Dropout", ["x"], ["d", "mask"]), node("Add", ["d", "mask"], ["y"])], "second output"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_unsupported_operations_are_named(case: str) -> None:
    nodes, message = UNSUPPORTED[case]
    constants = {
        "low": np.float32(0), "high": np.float32(6), "k1": weights(0, 2, 2, 3), "square": weights(1, 5, 5),
        "pads": ints(0, 0, 1, 1, 0, 0, 1, 1),
    }  # fmt: skip
    shape = ("N", 2, 8) if case == "Conv1d" else IMAGE
    arrays = {name: np.asarray(array) for name, array in constants.items()}
    with pytest.raises(UnsupportedOpError, match=message):
        read_onnx(model_bytes(nodes, arrays, shape))


def test_weights_in_other_types_are_refused() -> None:
    for dtype in (np.float64, np.float16):
        constants = {"w": weights(0, 6, 4).astype(dtype), "b": weights(1, 4)}
        with pytest.raises(ModelError, match="only float32 models"):
            read_onnx(model_bytes(dense_nodes("x", "y"), constants, ROW))


def test_average_pooling_without_padding_has_one_form() -> None:
    network = read_onnx(model_bytes(one("AveragePool", kernel_shape=[2, 2]), {}, IMAGE))
    pool = network.nodes[0].op
    assert isinstance(pool, AveragePool2d)
    assert pool.count_include_pad


def test_limits_hold_for_values_and_work() -> None:
    data = model_bytes(dense_nodes("x", "y"), {"w": weights(0, 6, 4), "b": weights(1, 4)}, ROW)
    with pytest.raises(ModelError, match="24 multiply-accumulate operations; the limit is 23"):
        read_onnx(data, LoadLimits(max_macs=23))
    with pytest.raises(ModelError, match="beyond the limit"):
        read_onnx(data, LoadLimits(max_value_elements=5))
    with pytest.raises(ModelError, match="2 nodes; the limit is 1"):
        read_onnx(data, LoadLimits(max_nodes=1))
    read_onnx(data, LoadLimits(max_macs=24, max_value_elements=6, max_nodes=2))


def test_typed_fields_are_read_like_raw_data() -> None:
    model = assemble(dense_nodes("x", "y"), {"b": weights(1, 4)}, ROW)
    raw = weights(0, 6, 4)
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, raw.shape, raw.ravel().tolist()))
    plain = assemble(dense_nodes("x", "y"), {"b": weights(1, 4), "w": raw}, ROW)
    assert numpy_helper.to_array(plain.graph.initializer[1]).shape == raw.shape
    first, second = (read_onnx(m.SerializeToString()) for m in (model, plain))
    assert canonical_digest(first) == canonical_digest(second)
