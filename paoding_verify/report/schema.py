"""The JSON Schema of audit.json, generated from the dataclasses that it is written from."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from paoding_verify.evidence.codec import derived_names, plain_names
from paoding_verify.evidence.result import SCHEMA_VERSION, AuditResult

__all__ = ["json_schema", "render_schema"]

_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def render_schema() -> str:
    """The schema as JSON text."""
    return json.dumps(json_schema(), indent=2) + "\n"


def json_schema() -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) that every audit.json of this version satisfies; unknown fields are refused."""
    definitions: dict[str, Any] = {}
    root = _schema(AuditResult, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"paoding_verify audit.json, version {SCHEMA_VERSION}",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _schema(cls: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if cls in _SCALARS:
        return {"type": _SCALARS[cls]}
    if cls is type(None):
        return {"type": "null"}
    if is_dataclass(cls):
        return _dataclass(cls, definitions)
    if isinstance(cls, type) and issubclass(cls, Enum):
        return {"enum": [member.value for member in cls]}
    origin, args = get_origin(cls), get_args(cls)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(arg, definitions) for arg in args]}
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return {"type": "array", "items": _schema(args[0], definitions)}
    if origin is tuple:
        items = [_schema(arg, definitions) for arg in args]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(args[1], definitions)}
    raise TypeError(f"{cls} has no JSON Schema")


def _dataclass(cls: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    name = cls.__name__
    if name not in definitions:
        definitions[name] = {}  # a type may contain itself
        hints = get_type_hints(cls)
        derived = {key: get_type_hints(getattr(cls, key).fget)["return"] for key in derived_names(cls)}
        hints, kept = {**derived, **hints}, [*derived, *plain_names(cls)]
        definitions[name] = {
            "type": "object",
            "description": (cls.__doc__ or "").split("\n", 1)[0],
            "properties": {field: _schema(hints[field], definitions) for field in kept},
            "required": kept,
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{name}"}
