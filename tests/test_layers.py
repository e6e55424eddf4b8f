"""The layers of ARCHITECTURE.md hold, and no module imports another in a circle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]


def test_contracts_hold() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_no_import_cycles() -> None:
    graph = grimp.build_graph("paoding_verify", cache_dir=None)
    above = {module: graph.find_downstream_modules(module) for module in graph.modules}
    circles = [
        (a, b) for a in graph.modules for b in graph.find_modules_directly_imported_by(a) if b in above[a] and a != b
    ]
    assert circles == []


def test_printing_stays_in_the_command_line() -> None:
    import ast

    for path in sorted((ROOT / "paoding_verify").rglob("*.py")):
        if "cli" in path.parts:
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], path
