"""The wheel: built without a network, complete, with its command."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Members of the wheel."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_every_module_is_inside(names: dict[str, bytes]) -> None:
    wanted = {str(path.relative_to(ROOT)) for path in (ROOT / "paoding_verify").rglob("*.py")}
    assert wanted <= set(names)


def test_templates_are_inside(names: dict[str, bytes]) -> None:
    folder = ROOT / "reports" / "templates"
    wanted = {f"paoding_verify/report/templates/{path.name}" for path in folder.iterdir() if path.is_file()}
    assert wanted
    assert wanted <= set(names)


def test_the_command_and_the_licence_are_inside(names: dict[str, bytes]) -> None:
    (entry,) = (data for name, data in names.items() if name.endswith("entry_points.txt"))
    assert b"paoding-verify = paoding_verify.cli.main:main" in entry
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_nothing_else_is_inside(names: dict[str, bytes]) -> None:
    assert {name.split("/")[0].split("-")[0] for name in names} == {"paoding_verify"}
