"""Programs saved by torch.export (.pt2), read without torch: the graph is JSON, the weights are raw bytes.

`torch.export.load` unpickles sample inputs, evaluates shape expressions as Python and loads compiled libraries that
the archive may hold. None of that is looked at here.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from paoding_verify.errors import ModelError
from paoding_verify.network.archive import check_members
from paoding_verify.network.aten import BATCH, AtenGraph, AtenNode, Constant, Ref
from paoding_verify.network.aten_in import to_network
from paoding_verify.network.graph import Network
from paoding_verify.network.limits import LoadLimits, clean
from paoding_verify.network.simplify import simplify

__all__ = ["load_pt2"]

MAX_JSON_BYTES = 64 * 2**20
MAX_RATIO = 200.0
"""Unpacked over packed size; torch itself writes archives without compression."""
DTYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f2", 7: "<f4", 8: "<f8", 12: "?"}
"""Numbers of element types in torch's schema; the others are not used by weights."""
NAMES_OF_DTYPES = {7: "float32", 8: "float64", 6: "float16"}


def load_pt2(path: str | Path, limits: LoadLimits | None = None) -> Network:
    """The canonical network of an exported program; nothing in the file is executed or unpickled.

    The program has one float32 input (batch, *input_shape), the batch open or fixed, and one output.
    Raises: ModelError if the archive is damaged, too large, or of another format; UnsupportedOpError naming the node.
    """
    path, limits = Path(path), limits or LoadLimits()
    try:
        with zipfile.ZipFile(path) as archive:
            graph = _Archive(archive, path, limits).graph()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise ModelError(f"{clean(path.name)} is a damaged archive: {clean(str(error))}") from error
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, OverflowError) as error:
        raise ModelError(f"{clean(path.name)} is no program that torch.export of torch 2.8 or later wrote") from error
    return simplify(to_network(graph, clean(path.stem), limits))


class _Archive:
    """The members of a .pt2 file below the folder that all of them share."""

    def __init__(self, archive: zipfile.ZipFile, path: Path, limits: LoadLimits) -> None:
        members = check_members(archive, path, max_bytes=limits.max_model_bytes, max_ratio=MAX_RATIO, error=ModelError)
        self._archive, self._limits, self._name = archive, limits, clean(path.name)
        self._members = {name.partition("/")[2]: info for name, info in members.items()}
        models = [name for name in self._members if re.fullmatch(r"models/[^/]+\.json", name)]
        if len(models) != 1:
            raise ModelError(
                f"{self._name} holds {len(models)} exported programs; expected one, as torch.export.save of torch 2.8 "
                "or later writes it"
            )
        self._model = models[0].removeprefix("models/").removesuffix(".json")

    def _read(self, name: str, max_bytes: int) -> bytes:
        if name not in self._members:
            raise ModelError(f"{self._name} lacks its member {clean(name)!r}")
        if self._members[name].file_size > max_bytes:
            raise ModelError(f"{self._name}: its member {clean(name)!r} is larger than {max_bytes} bytes")
        return self._archive.read(self._members[name])

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self._read(name, MAX_JSON_BYTES))
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{self._name}: its member {clean(name)!r} is no JSON") from error

    def graph(self) -> AtenGraph:
        if self._read("byteorder", 16) != b"little":
            raise ModelError(f"{self._name} was written on a big-endian machine")
        module = self._json(f"models/{self._model}.json")["graph_module"]
        signature, graph = module["signature"], module["graph"]
        (output,) = signature["output_specs"]
        users = [spec["user_input"]["arg"] for spec in signature["input_specs"] if "user_input" in spec]
        if len(users) != 1 or "user_output" not in output:
            raise ModelError(f"{self._name}: a program must have one input, one output, and change no buffers")
        name = str(users[0]["as_tensor"]["name"])
        meta = graph["tensor_values"][name]
        sizes = [size.get("as_int", BATCH) for size in meta["sizes"]]
        if len(sizes) < 2 or not all(type(n) is int for n in sizes[1:]) or meta["dtype"] != 7:
            raise ModelError(f"{self._name}: its input must be float32 of shape (batch, ...), only the batch open")
        return AtenGraph(
            name,
            tuple(sizes[1:]),
            sizes[0],
            self._constants(signature["input_specs"]),
            tuple(_node(node) for node in graph["nodes"]),
            str(output["user_output"]["arg"]["as_tensor"]["name"]),
        )

    def _constants(self, specs: list[dict[str, Any]]) -> dict[str, Constant]:
        weights = self._json(f"data/weights/{self._model}_weights_config.json")["config"]
        lifted = self._json(f"data/constants/{self._model}_constants_config.json")["config"]
        constants = {}
        for spec in specs:
            ((kind, content),) = spec.items()
            if kind in ("parameter", "buffer"):
                key = content[f"{kind}_name"]
                persistent = key in weights
                entry, folder = (weights if persistent else lifted)[key], "weights" if persistent else "constants"
            elif kind == "tensor_constant":
                entry, folder = lifted[content["tensor_constant_name"]], "constants"
            elif kind == "user_input":
                continue
            else:
                raise ModelError(f"{self._name}: inputs of the kind {clean(kind)!r} are not supported")
            constants[str(content["arg"]["name"])] = self._tensor(entry, folder)
        return constants

    def _tensor(self, entry: dict[str, Any], folder: str) -> Constant:
        meta, member = entry["tensor_meta"], f"data/{folder}/{entry['path_name']}"
        shape, strides = ([n["as_int"] for n in meta[key]] for key in ("sizes", "strides"))
        offset = meta["storage_offset"]["as_int"]
        if entry["use_pickle"] or meta["dtype"] not in DTYPES:
            raise ModelError(f"{self._name}: {clean(member)!r} is pickled or of an unusual type")
        if any(type(n) is not int or n < 0 for n in (*shape, *strides, offset)) or len(shape) != len(strides):
            raise ModelError(f"{self._name}: {clean(member)!r} has an impossible layout")
        stored = np.frombuffer(self._read(member, self._limits.max_model_bytes), DTYPES[meta["dtype"]])
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        count = prod(shape)
        if len(shape) > self._limits.max_rank or count > min(len(stored), self._limits.max_elements):
            raise ModelError(f"{self._name}: {clean(member)!r} claims {count} numbers and holds {len(stored)}")
        if count and last >= len(stored):
            raise ModelError(f"{self._name}: {clean(member)!r} reaches beyond its data")
        step = stored.itemsize
        view = np.lib.stride_tricks.as_strided(stored[offset:], shape, [n * step for n in strides], writeable=False)
        return view.copy()


def _node(node: dict[str, Any]) -> AtenNode:
    outputs = []
    for number, output in enumerate(node["outputs"]):
        ((_, content),) = output.items()
        outputs.append(_output_name(content) or f"{node['target']}.{number}")
    arguments = {str(argument["name"]): _argument(argument["arg"]) for argument in node["inputs"]}
    return AtenNode(str(node["target"]).removeprefix("torch.ops."), arguments, tuple(outputs) or ("nothing",))


def _output_name(content: Any) -> str:
    found = content.get("name", content.get("as_name", "")) if isinstance(content, dict) else ""
    return str(found)


def _argument(argument: dict[str, Any]) -> Any:
    """A value by the kind that the archive gives; what no operation of the whitelist takes becomes its kind's name."""
    ((kind, value),) = argument.items()
    if kind == "as_tensor":
        return Ref(str(value["name"]))
    if kind in ("as_tensors", "as_optional_tensors"):
        return [Ref(str(item.get("name", item.get("as_tensor", {}).get("name")))) for item in value]
    if kind == "as_sym_int":
        return _size(value)
    if kind == "as_sym_ints":
        return [_size(item) for item in value]
    if kind == "as_none":
        return None
    if kind in ("as_int", "as_float", "as_bool", "as_string"):
        return value if isinstance(value, (int, float, bool, str)) else kind
    if kind in ("as_ints", "as_floats", "as_bools"):
        return list(value)
    if kind == "as_scalar_type":
        return NAMES_OF_DTYPES.get(value, f"type {value}")
    return kind


def _size(value: dict[str, Any]) -> Any:
    return value["as_int"] if "as_int" in value else Ref(str(value["as_name"]))
