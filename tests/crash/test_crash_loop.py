"""Faults 57 and 58: an engine host that is killed again and again loses no order and sends none twice.

Ten kills on each database; ARB_CRASH_KILLS asks for more (a night's run: 500), ARB_CRASH_SEED for other moments.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from django.db import connection

from tests.exchangesim.simulator import ROOT

KILLS = int(os.environ.get("ARB_CRASH_KILLS", "10"))
SEED = int(os.environ.get("ARB_CRASH_SEED", "1"))


@pytest.mark.database
@pytest.mark.timeout(400 + 30 * KILLS)
def test_fault_57_and_58_kills_at_any_moment_lose_nothing_and_send_nothing_twice() -> None:
    database = "postgres" if connection.vendor == "postgresql" else "sqlite"
    command = [sys.executable, "-m", "tests.crash", "--kills", str(KILLS), "--seed", str(SEED), "--database", database]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr[-4000:]
    result = json.loads(done.stdout)
    assert result["problems"] == []
    assert result["kills"] == KILLS
    assert result["orders_at_exchanges"] > 0
