"""Faults 57 and 58: an engine host that is killed again and again loses no order and sends none twice.

Ten kills on each database while bots trade, and ten while somebody trades by hand; ARB_CRASH_KILLS asks for more (a
night's run: 500), ARB_CRASH_SEED for other moments.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from django.db import connection

from tests.exchangesim.simulator import ROOT

KILLS = int(os.environ.get("ARB_CRASH_KILLS", "10"))
SEED = int(os.environ.get("ARB_CRASH_SEED", "1"))


pytestmark = [pytest.mark.database, pytest.mark.timeout(400 + 30 * KILLS)]


def killed_again_and_again(*options: str) -> dict[str, Any]:
    """Run the loop in a process of its own, on the kind of database this one has; return what it printed."""
    database = "postgres" if connection.vendor == "postgresql" else "sqlite"
    command = [sys.executable, "-m", "tests.crash", "--kills", str(KILLS), "--seed", str(SEED), "--database", database]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["kills"] == KILLS
    return result


def test_fault_57_and_58_kills_at_any_moment_lose_nothing_and_send_nothing_twice() -> None:
    result = killed_again_and_again()
    assert result["problems"] == []
    assert result["orders_at_exchanges"] > 0


def test_fault_57_kills_leave_trades_by_hand_entered_once_protected_and_closed_as_asked() -> None:
    result = killed_again_and_again("--by-hand")
    assert result["problems"] == []
    assert sum(result["killed"].values()) == KILLS
    assert result["trades"]["CLOSED"] > result["by_hand"] / 2
