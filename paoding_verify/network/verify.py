"""The canonical network against the file it was read from, run by onnxruntime: a guard against misreading."""

from __future__ import annotations

import numpy as np

from paoding_verify.errors import EngineError, ModelError
from paoding_verify.network.evaluate import evaluate, evaluate_op
from paoding_verify.network.graph import Add, Affine, Array, Conv2d, Dense, Float32Array, Network
from paoding_verify.network.limits import clean
from paoding_verify.network.linear import absolute, product
from paoding_verify.network.runtime import OnnxProgram

__all__ = ["NOISE_FACTOR", "TOLERANCE", "check_against_runtime", "compare_outputs"]

TOLERANCE = 1e-4
"""Largest difference, relative to the largest output, that counts as floating-point error."""
NOISE = 8 * 2.0**-24
"""Relative error that each layer is assumed to make; see `_noisy`."""
NOISE_FACTOR = 4.0
"""Differences up to this multiple of what such errors change in the outputs count as floating-point error too."""


def check_against_runtime(network: Network, onnx: bytes) -> None:
    """Returns if network and file give the same outputs, up to float32 error, at a few plain and extreme inputs.

    Raises: ModelError with the largest difference otherwise, or if onnxruntime cannot run the file.
    """
    try:
        program = OnnxProgram(onnx)
        for what, points in _inputs(network).items():
            actual = program.run(points)
            compare_outputs(network, points, actual, what)
    except EngineError as error:
        raise ModelError(f"the model cannot be run: {clean(str(error), 300)}") from error
    except (RuntimeError, ValueError, MemoryError) as error:
        raise ModelError(f"onnxruntime fails on the model: {clean(str(error), 300)}") from error


def _inputs(network: Network) -> dict[str, Float32Array]:
    rng = np.random.default_rng(0)
    shape = network.input_shape
    ones = np.ones((1, *shape))
    points = {
        "zeros and ones": np.concatenate([0 * ones, ones]),
        "uniform inputs in [0, 1]": rng.uniform(size=(2, *shape)),
        "normal inputs": rng.normal(size=(2, *shape)),
        "large inputs": np.concatenate([100 * ones, -100 * ones, 100 * rng.normal(size=(1, *shape))]),
    }
    return {what: array.astype(np.float32) for what, array in points.items()}


def compare_outputs(network: Network, points: Float32Array, actual: Float32Array, what: str) -> None:
    """Returns if `actual`, the outputs of another program at `points`, are the network's, up to float32 error.

    Points at which float32 arithmetic overflows are left out. `what` describes the points in the message.
    Raises: ModelError with the largest difference otherwise.
    """
    with np.errstate(all="ignore"):
        exact = evaluate(network, points.astype(np.float64))
        noisy = [_noisy(network, points.astype(np.float64), seed) for seed in range(3)]
        noise = np.max([np.abs(outputs - exact) for outputs in noisy], axis=0)
        if actual.shape != exact.shape:
            raise ModelError(f"the model gives outputs of shape {actual.shape}; the network read {exact.shape}")
        finite = np.isfinite(evaluate(network, points)).all(axis=1)  # float32 programs may overflow at large inputs
        exact, noise, actual = exact[finite], noise[finite], actual[finite]
        scale = np.abs(exact).max(initial=0.0)
        allowed = TOLERANCE * scale + NOISE_FACTOR * noise.max(initial=0.0)
        difference = np.abs(actual - exact).max(initial=0.0)
    if not difference <= allowed:
        raise ModelError(
            f"the network that was read and the model itself disagree by {difference:.3g} on {what} "
            f"(largest output {scale:.3g}): the model does something that was not understood"
        )


def _noisy(network: Network, x: Array, seed: int) -> Array:
    """Outputs when every linear layer errs at random, relative to the magnitude of the terms that it sums up.

    Networks whose terms cancel compute mostly rounding error; two honest programs then differ by as much.
    """
    rng = np.random.default_rng(seed)
    values = [x]
    for node in network.nodes:
        inputs = [values[i] for i in node.inputs]
        value = evaluate_op(node.op, *inputs)
        if isinstance(node.op, (Dense, Conv2d, Affine)):
            value = value + NOISE * product(absolute(node.op), np.abs(inputs[0])) * rng.uniform(-1, 1, value.shape)
        elif isinstance(node.op, Add):
            value = value + NOISE * np.abs(value) * rng.uniform(-1, 1, value.shape)
        values.append(value)
    return values[-1]
