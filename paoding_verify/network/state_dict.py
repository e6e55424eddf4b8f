"""Weights from strangers (.pth, .pt, .safetensors) into a module whose code the user vouches for."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paoding_verify.errors import ConfigError, ModelError
from paoding_verify.network.limits import LoadLimits, clean

__all__ = ["Architecture", "load_state_dict", "read_weights"]

Architecture = str | nn.Module | Callable[[], nn.Module]
"""What the weights belong to: a module, a function or class that makes one when called without arguments, or its name
as "package.module:function" or "path/to/file.py:function".
"""

CONTAINER_KEYS = ("state_dict", "model_state_dict", "model", "net", "params")
"""Under these keys training scripts store the weights beside other things."""


def load_state_dict(path: str | Path, arch: Architecture, limits: LoadLimits | None = None) -> nn.Module:
    """A new module in evaluation mode with the weights of the file: every one of them, and no others.

    The file is data only: pickled objects are never made, and sizes are compared with the file before they are used.
    The module's own code (`arch`) is imported and run, which is the user's decision. Weights may stand in a container
    such as {"state_dict": [weights], ...}.
    Raises: ModelError if the file is too large, damaged, holds a pickled module, or if names or shapes do not match;
    ConfigError if `arch` names no module.
    """
    path = Path(path)
    state = read_weights(path, limits or LoadLimits())
    module = _make(arch)
    _check_match(module, state, path)
    module.load_state_dict(state)
    return module.eval()


def read_weights(path: Path, limits: LoadLimits) -> dict[str, torch.Tensor]:
    """Name -> weights, as data only. Raises: ModelError as `load_state_dict`."""
    state = _state(_read(path, limits), path)
    for name, tensor in state.items():
        _check_tensor(tensor, f"{clean(path.name)}: {clean(name)!r}", limits)
    return state


def _read(path: Path, limits: LoadLimits) -> Any:
    if not path.is_file():
        raise ModelError(f"there is no file {clean(str(path))}")
    if path.stat().st_size > limits.max_model_bytes:
        raise ModelError(
            f"{clean(path.name)} has {path.stat().st_size} bytes; the limit is {limits.said('max_model_bytes')}"
        )
    if path.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            raise ModelError(f"{clean(path.name)} is no safetensors file: {clean(str(error))}") from error
    mapped = _is_plain_zip(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats, which are refused or read all the same
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error).upper():
            raise ModelError(
                f"{clean(path.name)} holds a pickled module or other Python objects, which are never executed; save "
                "the state dict instead: torch.save(module.state_dict(), path)"
            ) from error
        raise ModelError(f"{clean(path.name)} is damaged: it is no file of weights") from error
    except Exception as error:  # damaged files make torch raise errors of every kind
        raise ModelError(f"{clean(path.name)} cannot be read as weights: {clean(str(error))}") from error


def _is_plain_zip(path: Path) -> bool:
    """Whether the file is a zip as torch writes it, uncompressed. It is then mapped, so that no size it claims is
    trusted: torch checks mapped storages against the file, but not those that it reads.

    Raises: ModelError for a zip with compressed members or a damaged one.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise ModelError(f"{clean(path.name)} has compressed members, as no state dict that torch saves")
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise ModelError(f"{clean(path.name)} is a damaged archive: {clean(str(error))}") from error
    return True


def _state(found: Any, path: Path) -> dict[str, torch.Tensor]:
    for _ in range(4):
        if isinstance(found, (list, tuple)) and len(found) == 1:
            found = found[0]
            continue
        if not isinstance(found, Mapping):
            break
        if found and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in found.items()):
            return dict(found)
        keys = [key for key in CONTAINER_KEYS if key in found]
        if len(keys) != 1:
            break
        found = found[keys[0]]
    raise ModelError(
        f"{clean(path.name)} holds no state dict (names with tensors), neither itself nor under one of "
        f"{', '.join(CONTAINER_KEYS)}"
    )


def _check_tensor(tensor: torch.Tensor, where: str, limits: LoadLimits) -> None:
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise ModelError(f"{where} is no plain tensor")
    stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() > min(stored, limits.max_elements):
        raise ModelError(
            f"{where} claims {tensor.numel()} numbers and holds {stored}; at most {limits.max_elements} are read"
        )


def _check_match(module: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    own = module.state_dict()
    missing, unexpected = [k for k in own if k not in state], [k for k in state if k not in own]
    if missing or unexpected:
        raise ModelError(
            f"{clean(path.name)} does not fit {type(module).__name__}: missing {_listed(missing)}; "
            f"unexpected {_listed(unexpected)}"
        )
    for name, tensor in own.items():
        if tensor.shape != state[name].shape or tensor.dtype != state[name].dtype:
            raise ModelError(
                f"{clean(path.name)}: {clean(name)!r} is {state[name].dtype} {tuple(state[name].shape)}, "
                f"{type(module).__name__} needs {tensor.dtype} {tuple(tensor.shape)}"
            )


def _listed(names: list[str]) -> str:
    shown = ", ".join(clean(name) for name in names[:8])
    return (f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown) or "none"


def _make(arch: Architecture) -> nn.Module:
    if isinstance(arch, nn.Module):
        return copy.deepcopy(arch)
    factory = _imported(arch) if isinstance(arch, str) else arch
    try:
        module = factory()
    except (Exception, SystemExit) as error:  # the user's code
        raise ModelError(f"the architecture {_name(arch)} failed: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise ConfigError(f"the architecture {_name(arch)} gave a {type(module).__name__}, not a torch module")
    return module


def _imported(arch: str) -> Callable[[], Any]:
    where, separator, name = arch.rpartition(":")
    if not (separator and where and name.isidentifier()):
        raise ConfigError(f"the architecture {arch!r} must be written module:function or path/to/file.py:function")
    if where.endswith(".py") and not Path(where).is_file():
        raise ConfigError(f"the architecture {arch!r} cannot be imported: there is no file {where}")
    try:
        module = _imported_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    except (Exception, SystemExit) as error:  # the user's code
        raise ConfigError(f"the architecture {arch!r} cannot be imported: {type(error).__name__}: {error}") from error
    factory = getattr(module, name, None)
    if not callable(factory):
        raise ConfigError(f"the architecture {arch!r} cannot be made: {where} has no function {name}")
    return factory


def _imported_file(path: Path) -> Any:
    name = f"paoding_verify_architecture_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _name(arch: Architecture) -> str:
    return repr(arch) if isinstance(arch, str) else getattr(arch, "__name__", type(arch).__name__)
