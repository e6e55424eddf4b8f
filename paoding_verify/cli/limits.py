"""--max-...: the caps on what input files may claim, an option for each."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import fields
from typing import TypeVar

from paoding_verify import limits
from paoding_verify.limits import DataLimits, LoadLimits, SpecLimits

__all__ = ["add_limits", "described", "limits_of"]

KINDS: tuple[type[LoadLimits | DataLimits | SpecLimits], ...] = (LoadLimits, DataLimits, SpecLimits)
L = TypeVar("L", LoadLimits, DataLimits, SpecLimits)


def add_limits(parser: argparse.ArgumentParser) -> None:
    """The options; the section "limits" of the help says what they are."""
    group = parser.add_argument_group("caps on input files")
    for kind in KINDS:
        for item in fields(kind):
            number = float if isinstance(item.default, float) else int
            group.add_argument(f"--{item.name.replace('_', '-')}", metavar="N", type=number, help=argparse.SUPPRESS)


def limits_of(args: argparse.Namespace, kind: type[L]) -> L:
    """The caps of a kind, with those that were given. Raises: ConfigError if one is not above zero."""
    given = {item.name: getattr(args, item.name, None) for item in fields(kind)}
    return kind(**{name: value for name, value in given.items() if value is not None})


def described() -> Iterator[tuple[str, str, str]]:
    """Option, default, and what it limits, of every cap; read from where the caps are defined."""
    import ast
    import inspect
    from itertools import pairwise

    tree = ast.parse(inspect.getsource(limits))
    bodies = {item.name: item.body for item in tree.body if isinstance(item, ast.ClassDef)}
    for kind in KINDS:
        body = bodies[kind.__name__]
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                words, name = ast.literal_eval(text.value), field.target.id
                yield f"--{name.replace('_', '-')}", f"{getattr(kind, name):_}", words.rstrip(".")
