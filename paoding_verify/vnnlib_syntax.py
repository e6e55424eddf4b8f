"""VNN-LIB text to nested tuples of words: an SMT-LIB subset, read iteratively within limits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from paoding_verify.errors import SpecError
from paoding_verify.limits import SpecLimits

__all__ = ["Form", "SpecLimits", "read_forms"]

Form = str | tuple["Form", ...]
"""A word, or a parenthesised list of forms."""

TOKEN = re.compile(r'[()]|;[^\n]*|"(?:[^"]|"")*"|\|[^|\\]*\||[^\s();"|]+|["|]')
"""Parentheses, comments, strings, quoted symbols, words; a last quote or bar alone opens what is never closed."""


def read_forms(path: Path, limits: SpecLimits) -> Iterator[tuple[int, Form]]:
    """The top-level forms of a file with the line on which each begins.

    Raises: SpecError naming file and line if it cannot be read, is unbalanced, or exceeds the limits.
    """
    text = _read_text(path, limits)
    stack: list[list[Form]] = []
    first = line = seen = 0
    for count, match in enumerate(TOKEN.finditer(text)):
        token = match.group()
        if token[0] == ";":
            continue
        line += text.count("\n", seen, match.start())
        seen = match.start()
        if token in ('"', "|"):
            what = "a string" if token == '"' else "a quoted symbol"
            raise SpecError(f"{path.name}, line {line + 1}: {what} is opened here and never closed")
        if token[0] == '"' and "\\" in token:  # SMT-LIB 2.0 and 2.6 disagree about where such a string ends
            raise SpecError(f"{path.name}, line {line + 1}: a string with a backslash: write it without")
        if count >= limits.max_spec_tokens:
            raise SpecError(f"{path.name}: more than {limits.max_spec_tokens} words")
        if token == "(":
            if len(stack) >= limits.max_spec_depth:
                raise SpecError(f"{path.name}, line {line + 1}: nested deeper than {limits.max_spec_depth}")
            first = first if stack else line
            stack.append([])
        elif not stack:
            raise SpecError(f"{path.name}, line {line + 1}: {token[:40]!r} stands outside of any parentheses")
        elif token == ")":
            form = tuple(stack.pop())
            if stack:
                stack[-1].append(form)
            else:
                yield first + 1, form
        else:
            stack[-1].append(token)
    if stack:
        raise SpecError(f"{path.name}, line {first + 1}: a parenthesis is never closed")


def _read_text(path: Path, limits: SpecLimits) -> str:
    if not path.is_file():
        raise SpecError(f"{path} is not a file")
    try:
        if path.stat().st_size > limits.max_spec_bytes:
            raise SpecError(
                f"{path.name} has {path.stat().st_size} bytes; the limit is {limits.said('max_spec_bytes')}"
            )
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(f"{path.name} is no text file: {error}") from error
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror or error}") from error
