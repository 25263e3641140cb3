"""How all tests are run: properties with the same examples every time in CI, so that a run says the same of the same
code; and what takes minutes first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# Files are what test processes share out. A long one that is begun last has one process work while others are idle.
LONG = ("crash_points", "crash", "bench/test_bench_stream.py", "simulation", "platform", "host")
TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the files that take longest come first; the order is otherwise as it was."""
    places = {TESTS / name: place for place, name in enumerate(LONG)}

    def place(item: pytest.Item) -> int:
        return next((places[path] for path in (item.path, *item.path.parents) if path in places), len(LONG))

    items.sort(key=place)
