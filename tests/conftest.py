"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real models and data: PAODING_VERIFY_DATA, or ../shared/data beside the repository."""
    default = Path(__file__).resolve().parents[1] / "../shared/data"
    folder = Path(os.environ.get("PAODING_VERIFY_DATA", default)).resolve()
    if not folder.is_dir():
        pytest.skip(f"the real models and data are not at {folder}; set PAODING_VERIFY_DATA")
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Lists what tests recorded under "decided", also from other processes."""
    lines = [
        text
        for report in terminalreporter.getreports("passed")
        for name, text in report.user_properties
        if name == "decided"
    ]
    for text in sorted(map(str, lines)):
        terminalreporter.write_line(f"published answers, {text}")
