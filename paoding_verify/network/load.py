"""Any supported model source to a network that knows the ONNX file it stands for."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from paoding_verify.errors import ConfigError, ModelError
from paoding_verify.network.graph import Network, Shape, Source
from paoding_verify.network.limits import LoadLimits, clean
from paoding_verify.network.onnx_in import read_onnx
from paoding_verify.network.onnx_out import to_onnx
from paoding_verify.network.onnx_proto import read_capped, read_model
from paoding_verify.network.transform import as_float32
from paoding_verify.network.verify import check_against_runtime

if TYPE_CHECKING:
    from torch import nn

    from paoding_verify.network.state_dict import Architecture

__all__ = ["load_network"]

STATE_DICTS = {".pth": "pth", ".pt": "pth", ".safetensors": "safetensors"}


def load_network(
    source: str | Path | nn.Module,
    *,
    arch: Architecture | None = None,
    input_shape: Shape | None = None,
    limits: LoadLimits | None = None,
) -> Network:
    """The canonical network of a model; `source.onnx` is an ONNX file that onnxruntime agrees with.

    source: an .onnx or .pt2 file; a .pth, .pt or .safetensors file of weights together with `arch`, the module they
    belong to, a function that makes it, or "path/to/file.py:function" (whose code is run); or a module. Modules need
    `input_shape` (without the batch axis), or an attribute of that name.
    A network that does not come from ONNX is rounded to float32 and written to ONNX. Nothing that a model file holds
    is executed.
    Raises: ModelError naming what is wrong with the model; UnsupportedOpError for an operation outside the whitelist;
    ConfigError if `arch` or `input_shape` is missing.
    """
    limits = limits or LoadLimits()
    if not isinstance(source, (str, Path)):
        return _from_module(source, input_shape)
    path = Path(source)
    if not path.is_file():
        raise ModelError(f"there is no model file {clean(str(path))}")
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return _from_onnx(path, limits)
    if suffix == ".pt2":
        from paoding_verify.network.torch_io import load_pt2

        return _with_source(load_pt2(path, limits), path.name, "pt2", _file_digest(path, limits))
    if suffix in STATE_DICTS:
        if arch is None:
            from paoding_verify.network.state_dict import read_weights

            read_weights(path, limits)
            raise ConfigError(f"{clean(path.name)} holds weights only: pass the module they belong to as `arch`")
        from paoding_verify.network.torch_io import from_module, load_state_dict

        module = load_state_dict(path, arch, limits)
        network = from_module(module, _input_shape(module, input_shape), name=clean(path.stem))
        return _with_source(network, path.name, STATE_DICTS[suffix], _file_digest(path, limits))
    raise ModelError(
        f"{clean(path.name)} has an unknown type; supported are .onnx, .pt2, and weights (.pth, .pt, .safetensors) "
        "with their architecture"
    )


def _from_onnx(path: Path, limits: LoadLimits) -> Network:
    data, inlined = read_model(path, limits)
    network = read_onnx(inlined, limits)
    check_against_runtime(network, inlined)
    kind = "onnx" if inlined == data else "onnx, data inlined"
    return replace(network, source=Source(path.name, kind, hashlib.sha256(data).hexdigest(), inlined))


def _from_module(module: nn.Module, input_shape: Shape | None) -> Network:
    from paoding_verify.network.torch_io import from_module

    name = type(module).__name__
    return _with_source(from_module(module, _input_shape(module, input_shape), name=name), name, "module", None)


def _with_source(network: Network, path: str, kind: str, sha256: str | None) -> Network:
    """The network rounded to float32, with the ONNX file written from it as its source."""
    rounded = as_float32(network)
    onnx = to_onnx(rounded)
    check_against_runtime(rounded, onnx)
    return replace(rounded, source=Source(path, kind, sha256 or hashlib.sha256(onnx).hexdigest(), onnx))


def _input_shape(module: nn.Module, given: Shape | None) -> Shape:
    found = given if given is not None else getattr(module, "input_shape", None)
    try:
        shape = tuple(int(n) for n in found)  # type: ignore[union-attr] # None is no shape either
    except TypeError:
        raise ConfigError(
            f"the input shape of {type(module).__name__} is not known: pass `input_shape` (without the batch axis)"
        ) from None
    if not shape or min(shape) < 1:
        raise ConfigError(f"the input shape {shape} must be made of positive integers")
    return shape


def _file_digest(path: Path, limits: LoadLimits) -> str:
    return hashlib.sha256(read_capped(path, limits.max_model_bytes)).hexdigest()
