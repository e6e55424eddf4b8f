"""Sections at the end of a verb's help: lists that would be out of date if they were typed twice."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping

__all__ = ["section"]

WIDTH = 100


def section(name: str) -> str:
    """A section by name: methods, policy, configuration, models or limits."""
    return _SECTIONS[name]()


def _methods() -> str:
    from paoding_verify.pruning.prune import METHODS
    from paoding_verify.pruning.unstructured import UNSTRUCTURED

    return textwrap.fill(
        f"pruning methods: {', '.join([*METHODS, *UNSTRUCTURED])}",
        WIDTH,
        subsequent_indent="  ",
        break_on_hyphens=False,
    )


def _policy() -> str:
    from paoding_verify.evidence.measures import RULES
    from paoding_verify.evidence.policy import DEFAULT_RULES

    width = max(map(len, RULES))
    lines = ["rules of a policy file (RULE = THRESHOLD, one a line; * with its threshold in the built-in policy):"]
    for name, rule in RULES.items():
        default = f"  * {DEFAULT_RULES[name]:g}" if name in DEFAULT_RULES else ""
        worst = ", at every eps" if rule.by_eps else ""
        lines.append(f"  {name:{width}}  {rule.text}{worst}{default}")
    lines += [
        'for one radius alone: RULE = { "0.01" = THRESHOLD }; statistical_level = 0.95 asks shares of regions of all',
        'inputs like them, with that confidence; required_semantics = "float32" (or "real") asks how all was proved',
    ]
    return "\n".join(lines)


def _configuration() -> str:
    from paoding_verify.auditing.config import setting_names

    keys = ", ".join(setting_names())
    return _filled(f"keys of a configuration file: {keys}")


def _filled(text: str, indent: int = 2) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def _models() -> str:
    return (
        "model files: .onnx, .pt2, and weights (.pth, .pt, .safetensors) together with --arch and --input-shape;\n"
        "  --mean and --std belong together: one number, or one per channel"
    )


def _limits() -> str:
    from paoding_verify.cli.limits import described

    rows = [(f"{option} N", f"{words} ({default})") for option, default, words in described()]
    width = max(len(option) for option, _ in rows)
    lines = (_filled(f"  {option:{width}}  {words}", width + 4) for option, words in rows)
    return "\n".join(["caps on what input files may claim; beyond them a file is refused before it is read:", *lines])


_SECTIONS: Mapping[str, Callable[[], str]] = {
    "methods": _methods, "policy": _policy, "configuration": _configuration, "models": _models,
    "limits": _limits,
}  # fmt: skip
