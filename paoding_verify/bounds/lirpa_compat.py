"""auto_LiRPA, imported without side effects, from version 0.3 (PyPI) to 0.7 (git).

Importing auto_LiRPA adds a handler to the root logger and a global warnings filter; both are undone. Version 0.3 was
written for torch 1.12 and numpy 1: the names it misses are lent for the import, or for the moment in which it reads a
graph, and taken back afterwards. What is missing is detected name by name, never by a version number.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import logging
import sys
import types
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch

from paoding_verify.errors import MissingComponentError

__all__ = ["INSTALL", "Lirpa", "load_lirpa", "quiet"]

INSTALL = "pip install --no-deps auto-LiRPA==0.3 packaging appdirs pyyaml"
"""The command that installs what this package needs."""


class Lirpa:
    """The names of auto_LiRPA that this package uses."""

    def __init__(self, module: Any) -> None:
        self._module_class = module.BoundedModule
        self.tensor = module.BoundedTensor
        self.perturbation = module.PerturbationLpNorm

    def bounded(self, module: torch.nn.Module, example: torch.Tensor, options: dict[str, Any], device: str) -> Any:
        """`module` wrapped for bound computation (a BoundedModule)."""
        kind: Any = self._module_class
        if "remove_duplicate" not in inspect.signature(kind._named_members).parameters:
            kind = _with_remove_duplicate(kind)
        with quiet(), _graph_reading():
            return kind(module, example, bound_opts=options, device=device)


@cache
def load_lirpa() -> Lirpa:
    """auto_LiRPA; loggers and warnings filters are as before the call.

    Raises: MissingComponentError with the command that installs it.
    """
    try:
        with quiet(), _names_lent():
            return Lirpa(importlib.import_module("auto_LiRPA"))
    except ImportError as error:
        raise MissingComponentError(f"bounds need auto_LiRPA ({error}); install it with: {INSTALL}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing that auto_LiRPA prints or warns about gets out: the library reports through results alone."""
    # Recording swallows every warning, even where auto_LiRPA sets a filter of its own; "ignore", where they are errors.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(record=True), _logging_kept():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _logging_kept() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    depth = sys.getrecursionlimit()  # set to a million by the import: deeply nested JSON would then crash the process
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        sys.setrecursionlimit(depth)


@contextlib.contextmanager
def _names_lent() -> Iterator[None]:
    """Names that auto_LiRPA 0.3 imports although newer torch and numpy lack them; tqdm, which its metadata forgets."""
    symbolic_helper = importlib.import_module("torch.onnx.symbolic_helper")
    lend_setter = not hasattr(symbolic_helper, "_set_opset_version")
    if lend_setter:
        symbolic_helper.__dict__["_set_opset_version"] = _set_opset_version
    modules: dict[str, dict[str, Any]] = {
        "numpy.lib.arraysetops": {"isin": np.isin},
        "tqdm": {"tqdm": lambda items, **_: items},
    }
    lent = [name for name in modules if not _importable(name)]
    for name in lent:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__dict__.update(modules[name])
    try:
        yield
    finally:
        for name in lent:
            del sys.modules[name]
        if lend_setter:
            del symbolic_helper.__dict__["_set_opset_version"]


@contextlib.contextmanager
def _graph_reading() -> Iterator[None]:
    """State of torch's TorchScript exporter in which auto_LiRPA can read a traced graph; put back afterwards."""
    exporter = _exporter_globals()
    before = exporter.export_onnx_opset_version, exporter.autograd_inlining
    node: Any = torch._C.Node
    lend = not hasattr(node, "__getitem__")
    exporter.autograd_inlining = False
    if lend:
        node.__getitem__ = _attribute
    try:
        yield
    finally:
        exporter.export_onnx_opset_version, exporter.autograd_inlining = before
        if lend:
            del node.__getitem__


def _attribute(node: Any, key: str) -> Any:
    """An attribute of a graph node, whatever its kind."""
    return getattr(node, node.kindOf(key))(key)


def _set_opset_version(version: int) -> None:
    _exporter_globals().export_onnx_opset_version = version


def _exporter_globals() -> Any:
    for name in ("torch.onnx._internal.torchscript_exporter._globals", "torch.onnx._globals"):
        if _importable(name):
            return importlib.import_module(name).GLOBALS
    raise MissingComponentError(f"torch {torch.__version__} has no TorchScript exporter; install torch 2.10 to 2.13")


def _importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _with_remove_duplicate(bounded_module: Any) -> Any:
    """A BoundedModule whose member listing takes the keyword that torch has passed since 2.0."""

    class Compatible(bounded_module):  # type: ignore[misc]
        def _named_members(
            self, get_members_fn: Any, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
        ) -> Any:
            return super()._named_members(get_members_fn, prefix, recurse)

    return Compatible
