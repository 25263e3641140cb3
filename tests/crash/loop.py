"""Kill an engine host again and again while it trades, at moments drawn from a seed, and judge what is left."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bots.models import UNFINISHED_ORDERS, JournaledIntent, Order, Trade
from bots.services.leases import leases_end
from tests.crash.judge import verdict
from tests.crash.stage import NAMES, Stage, until
from tests.exchanges.venue_rig import ORDER_OPERATIONS, SOCKET_OPERATIONS
from trading.messages import OrderState, TradeState

OWNERS = 4
PLACEMENTS = tuple((name, operations[name]) for operations in (ORDER_OPERATIONS, SOCKET_OPERATIONS) for name in NAMES)
# The longest proof of absence, from the last order: request window, backend timeout, margin; and a busy machine.
QUIET_SECONDS = 180.0
FAULTS: tuple[tuple[str, dict[str, object]], ...] = (
    ("drop_response", {"how": "reset"}),
    ("drop_response", {"how": "hang"}),
    ("delay_request", {"ms": 700}),
    ("delay_response", {"ms": 700}),
)


def crash_loop(folder: Path, *, kills: int, seed: int, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Kill ``kills`` times, then let everything come to rest; return the verdict with what was done.

    Of the kills a third falls into the first second, while trades of before are taken up and accounts connect; the
    others wait for orders of the new host and fall somewhere into the next moment. In half of the rounds exchanges lose
    or delay answers. Most rounds end the dead host's leases, as the embedded platform does at its start; the others
    wait for them to run out.
    """
    draws = random.Random(seed)
    early = waited = faulty = traded = 0
    began = time.monotonic()
    with Stage(folder, owners=OWNERS) as stage:
        for number in range(kills):
            faults = draws.random() < 0.5
            faulty += faults
            if faults:
                inject(stage, draws, PLACEMENTS)
            host = stage.nursery.start()
            if draws.random() < 0.33:
                early += 1
                time.sleep(draws.uniform(0.05, 1.0))
            else:
                token = max(stage.tokens().values(), default=0)
                before = stage.arrived()
                what = f"kill {number}: a new order (token {token})"
                until(lambda before=before: stage.arrived() > before, what, QUIET_SECONDS)
                traded += 1
                time.sleep(draws.uniform(0.0, 0.4))
            stage.nursery.kill(host)
            stage.simulator.clear_faults()
            if draws.random() < 0.9:
                leases_end()
            else:
                waited += 1
            say(f"kill {number + 1} of {kills}: {stage.arrived()} orders")
        stage.stop_bots()
        last = stage.nursery.start()
        quiet = until(is_quiet, f"every order has ended (log: {stage.nursery.log})", QUIET_SECONDS)
        stage.nursery.stop(last)
        return {
            "seed": seed,
            "kills": kills,
            "early": early,
            "while_trading": traded,
            "with_faults": faulty,
            "leases_run_out": waited,
            "seconds": round(time.monotonic() - began, 1),
            "quiet_after_seconds": round(quiet, 1),
            **verdict(stage),
        }


def inject(stage: Stage, draws: random.Random, operations: Iterable[tuple[str, str]]) -> None:
    """Let one kind of fault befall some of the requests from now on; ``operations`` by exchange."""
    kind, parameters = draws.choice(FAULTS)
    for name, operation in operations:
        stage.simulator.fault(kind, exchange=name, operation=operation, probability=0.3, parameters=parameters)


def is_quiet() -> bool:
    unresolved = [state for state in UNFINISHED_ORDERS if state != OrderState.DISPUTED]
    under_way = Trade.objects.filter(state__in=[TradeState.OPEN.value, TradeState.REPAIRING.value])
    waiting = (JournaledIntent.objects.all(), Order.objects.filter(state__in=unresolved), under_way)
    return not any(rows.exists() for rows in waiting)  # in this order: an intent becomes orders, which end
