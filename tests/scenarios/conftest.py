"""One simulator for all scenarios: every scenario makes its own accounts and sets all books it looks at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.exchangesim.simulator import Simulator, running_simulator


@pytest.fixture(scope="package")
def simulator() -> Iterator[Simulator]:
    with running_simulator() as running:
        yield running
