"""What README.md shows can be typed: verbs, options, make targets, names of the library."""

from __future__ import annotations

import argparse
import ast
import re
from pathlib import Path

import pytest

import paoding_verify
from paoding_verify.cli.parser import VERBS, build_parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line.strip()
    for language, block in BLOCKS
    if language in ("", "sh", "console")
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip()
]


def options_of(verb: str) -> set[str]:
    parser = build_parser()
    (verbs,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {option for action in verbs.choices[verb]._actions for option in action.option_strings}


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("paoding-verify")])
def test_verbs_and_options_exist(command: str) -> None:
    words = command.split("#", maxsplit=1)[0].split()
    assert words[1] in VERBS
    assert {word for word in words if re.match(r"--?[a-z]", word)} <= options_of(words[1])


def test_make_targets_exist() -> None:
    targets = {line.split(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if ":" in line}
    wanted = {word for c in COMMANDS if c.startswith("make ") for word in c.split("#")[0].split()[1:]}
    assert wanted
    assert wanted <= targets


def test_library_names_exist() -> None:
    programs = [block for language, block in BLOCKS if language == "python"]
    assert programs
    used = {
        node.attr
        for program in programs
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pv"
    }
    assert used <= set(paoding_verify.__all__)


def test_pictures_and_links_exist() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_verb_and_exit_code_is_described() -> None:
    assert [verb for verb in VERBS if f"`{verb}`" not in README] == []
    assert [code for code in (0, 1, 2, 3, 4, 5, 130) if f"| {code} |" not in README] == []
