"""onnxruntime on an ONNX file: the deployed program that loads and witnesses are compared with."""

from __future__ import annotations

import numpy as np
import onnxruntime

from paoding_verify.errors import EngineError
from paoding_verify.network.graph import Float32Array

__all__ = ["OnnxProgram"]


class OnnxProgram:
    """One ONNX model with one float32 input and one float32 output, run on the CPU by a single thread."""

    def __init__(self, model: bytes) -> None:
        """Raises: EngineError if onnxruntime refuses the file."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            # Without its fallback, which would print to stdout and try the same once more.
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # onnxruntime raises its own, undocumented types
            raise EngineError(f"onnxruntime cannot open the model: {error}") from error
        self._input = self._session.get_inputs()[0]

    def run(self, x: Float32Array) -> Float32Array:
        """Outputs of the program. Shapes: (N, *input_shape) -> (N, num_outputs).

        A file with a fixed batch size of one, or with no batch axis at all, is run point by point.
        """
        dims = list(self._input.shape)
        if len(dims) == x.ndim and not isinstance(dims[0], int):
            return self._once(x).reshape(len(x), -1)
        shape = tuple(x.shape[1:]) if len(dims) == x.ndim - 1 else (1, *x.shape[1:])
        return np.stack([self._once(point.reshape(shape)).reshape(-1) for point in x])

    def _once(self, x: Float32Array) -> Float32Array:
        try:
            (output, *_) = self._session.run(None, {self._input.name: np.ascontiguousarray(x, dtype=np.float32)})
        except Exception as error:  # undocumented types here as well
            raise EngineError(f"onnxruntime fails while it runs the model: {error}") from error
        return np.asarray(output, dtype=np.float32)
