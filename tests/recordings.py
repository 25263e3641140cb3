"""Find the real recordings that some tests read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def recording(name: str) -> Path:
    """Return the path of a recording below ARB_DATA_DIR; skip the test where it is absent, fail it where CI=true."""
    folder = Path(os.environ.get("ARB_DATA_DIR") or ROOT.parent / "shared" / "data")
    path = folder / name
    if not path.exists():
        line = f"recording {name} is not in {folder} (ARB_DATA_DIR names the folder of recordings)"
        if os.environ.get("CI") == "true":
            pytest.fail(line)
        pytest.skip(line)
    return path
