"""The layers of ARCHITECTURE.md hold, and no module imports another in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_contracts_hold() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def imported_at_once(path: Path) -> set[str]:
    """Modules that importing a file imports; not what functions import when they are called."""
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    found = {s.module for s in statements if isinstance(s, ast.ImportFrom) and s.module}
    return found | {alias.name for s in statements if isinstance(s, ast.Import) for alias in s.names}


def test_no_import_cycles() -> None:
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "paoding_verify").rglob("*.py")
    }
    order = TopologicalSorter({name: imported_at_once(path) & set(files) - {name} for name, path in files.items()})
    order.prepare()  # raises CycleError, naming the circle


def test_printing_stays_in_the_command_line() -> None:
    for path in sorted((ROOT / "paoding_verify").rglob("*.py")):
        if "cli" in path.parts:
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], path
