"""The canonical network against the file it was read from, run by onnxruntime: a guard against misreading."""

from __future__ import annotations

import numpy as np

from paoding_verify.errors import EngineError, ModelError
from paoding_verify.network.evaluate import evaluate
from paoding_verify.network.graph import Float32Array, Network
from paoding_verify.network.runtime import OnnxProgram

__all__ = ["TOLERANCE", "check_against_runtime"]

TOLERANCE = 1e-4
"""Largest difference, relative to the largest output, that counts as floating-point error."""
NOISE_FACTOR = 100.0
"""Differences up to this multiple of what float32 changes in numpy's own result count as floating-point error too."""


def check_against_runtime(network: Network, onnx: bytes) -> None:
    """Returns if network and file give the same outputs, up to float32 error, at a few plain and extreme inputs.

    Raises: ModelError with the largest difference otherwise, or if onnxruntime cannot run the file.
    """
    try:
        program = OnnxProgram(onnx)
        for what, points in _inputs(network).items():
            actual = program.run(points)
            _compare(network, points, actual, what)
    except EngineError as error:
        raise ModelError(f"the model cannot be run: {error}") from error
    except (RuntimeError, ValueError, MemoryError) as error:
        raise ModelError(f"onnxruntime fails on the model: {str(error)[:300]}") from error


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


def _compare(network: Network, points: Float32Array, actual: Float32Array, what: str) -> None:
    with np.errstate(all="ignore"):
        exact = evaluate(network, points.astype(np.float64))
        rough = evaluate(network, points).astype(np.float64)
        if actual.shape != exact.shape:
            raise ModelError(f"the model gives outputs of shape {actual.shape}; the network read {exact.shape}")
        finite = np.isfinite(rough).all(axis=1) & (np.abs(exact) < np.finfo(np.float32).max).all(axis=1)
        exact, rough, actual = exact[finite], rough[finite], actual[finite]
        scale = np.abs(exact).max(initial=0.0)
        allowed = TOLERANCE * scale + NOISE_FACTOR * np.abs(rough - exact).max(initial=0.0)
        difference = np.abs(actual - exact).max(initial=0.0)
    if not difference <= allowed:
        raise ModelError(
            f"the network read from the model and onnxruntime disagree by {difference:.3g} on {what} "
            f"(largest output {scale:.3g}): the model does something that was not understood"
        )
