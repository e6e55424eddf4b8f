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
