"""Fixtures that any test may use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data: `VLA_KIT_TEST_DATA`, or `../shared/data` beside the project."""
    named = os.environ.get("VLA_KIT_TEST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set VLA_KIT_TEST_DATA to the folder")
    return folder
