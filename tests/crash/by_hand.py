"""Kill an engine host again and again while trades by hand are entered, protected, held and closed; judge what is left.

A person asks for one trade after the other on each exchange in turn. The host dies at moments of its life that are seen
in the database; the next host has to end what the last one began: one entry, protection that is as large as what is
held, a close that was asked for, an answer to each command, and nothing at the exchange that nobody holds.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

from bots.models import Balance, Bot, Command, Order, Ticket, Trade
from bots.services.leases import leases_end
from bots.services.tickets import manual_close_request, manual_trade_request
from tests.crash.judge import LIMIT, verdict
from tests.crash.loop import PLACEMENTS, QUIET_SECONDS, inject, is_quiet
from tests.crash.stage import NAMES, Stage, until
from tests.exchanges.exit_rig import EXIT_OPERATIONS
from trading.messages import PROTECTIVE, TradeState
from trading.tickets import CLOSE_LEG

SYMBOL, QUANTITY = "BTC/USDT", Decimal("0.02")
# So far from the price that it never comes there: what ends a trade here is what was asked for.
CAP, PROFIT, LOSS = Decimal("1.01"), Decimal("1.05"), Decimal("0.95")
OPERATIONS = (*PLACEMENTS, *sorted({(name, operation) for (name, _), operation in EXIT_OPERATIONS.items()}))
ENDED = (TradeState.CLOSED.value, TradeState.FAILED.value)
REFUSED = "refused"
HELD, CLOSE_ASKED, OVER = "held", "close asked", "closed"
MOMENTS = ("asked", "entry sent", "protection sent", HELD, CLOSE_ASKED, "close sent", OVER)
# A loaded machine stands still now and then; here that is no reason to refuse a trade.
PATIENT = {"ARB_MAX_LOOP_LAG_SECONDS": "60"}
MOST_KEPT = 3  # trades that stay held while others are made
OPEN = frozenset({"NEW", "PENDING_NEW", "PARTIALLY_FILLED"})


class ByHand:
    """One trade of a person's, from the request on."""

    def __init__(self, stage: Stage, account: int, key: str) -> None:
        self.account = account
        self.exchange = stage.keys[account][0]
        self._owner = stage.owners[0]
        self._key = key
        ask = Decimal(stage.simulator.market(self.exchange, SYMBOL)["asks"][0][0])
        asked = {
            "mode": "live", "account_id": account, "symbol": SYMBOL, "side": "buy", "amount": f"{QUANTITY}",
            "order": "market", "limit_price": f"{round(ask * CAP)}", "take_profit": f"{round(ask * PROFIT)}",
            "stop_loss": f"{round(ask * LOSS)}",
        }  # fmt: skip
        entry = manual_trade_request(owner=self._owner, actor=None, data=asked, idempotency_key=f"{key}-entry")
        self._asked = [entry.pk]

    def __str__(self) -> str:
        return f"by hand {self._key} on {self.exchange}, {self.state or 'nothing yet'}"

    def told(self) -> str:
        """Return all that is known of it, for who has waited in vain."""
        asked = [f"{one.kind} {one.status} {one.result!r}" for one in self.commands]
        rows = Order.objects.filter(trade__ticket__command_id=self._asked[0]).order_by("pk")
        orders = [f"{row.client_order_id} {row.kind} {row.state}" for row in rows]
        return f"{self}: {'; '.join([*asked, *orders])}"

    @property
    def commands(self) -> list[Command]:
        """Return what was asked for: the trade, and to close it if that was."""
        return list(Command.objects.filter(pk__in=self._asked).order_by("pk"))

    @property
    def is_answered(self) -> bool:
        return all(command.status != Command.Status.PENDING for command in self.commands)

    @property
    def trade(self) -> Trade | None:
        return Trade.objects.filter(ticket__command_id=self._asked[0]).first()

    @property
    def state(self) -> str:
        """Return the trade's state; without a trade ``refused`` if that was the answer, else an empty string."""
        trade = self.trade
        if trade is not None:
            return str(trade.state)
        return REFUSED if self.commands[0].status == Command.Status.FAILED else ""

    @property
    def has_ended(self) -> bool:
        return self.state in {*ENDED, REFUSED}

    def close(self) -> None:
        """Ask for all of it to be closed."""
        trade = self.trade
        assert trade is not None
        asked = {"trade_id": trade.trade_id, "order": "market"}
        key = f"{self._key}-close"
        command = manual_close_request(owner=self._owner, actor=None, data=asked, idempotency_key=key)
        self._asked.append(command.pk)

    def has_come_to(self, moment: str) -> bool:
        """Return whether it has come to a moment of its life, or has ended."""
        orders = Order.objects.filter(trade__ticket__command_id=self._asked[0])
        if self.has_ended:
            return True
        match moment:
            case "asked" | "close asked":
                return True
            case "entry sent":
                return orders.exists()
            case "protection sent":  # the engine's own is no order
                return orders.filter(kind__in=PROTECTIVE).exists() or self.state == TradeState.HOLDING
            case "held":
                return self.state == TradeState.HOLDING
            case "close sent":
                return orders.filter(leg=CLOSE_LEG).exists()
        return False


def hand_loop(folder: Path, *, kills: int, seed: int, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Kill ``kills`` times, then close what is held; return the verdict with what was done.

    Each trade is killed at up to four moments, half of them while exchanges lose or delay answers. A third or so stay
    held while others are made, so that a host that starts has several to take up.
    """
    began = time.monotonic()
    with Stage(folder, by_hand=True, host_environment=PATIENT) as stage:
        person = Person(stage, seed, kills, say)
        person.begin()
        for account in cycle(stage.keys):
            if person.killed.total() == kills:
                break
            person.trade(account)
        person.close_all()
        found = verdict(stage)
        trades = person.trades
        return {
            "seed": seed,
            "kills": kills,
            "killed": dict(person.killed),
            "by_hand": len(trades),
            "refused": [one.commands[0].result for one in trades if one.state == REFUSED],
            "seconds": round(time.monotonic() - began, 1),
            **found,
            "problems": [*person.problems, *found["problems"], *at_end(stage, trades)],
        }


class Person:
    """Makes trades by hand while hosts are killed; ``problems`` is what was wrong with a trade while it was held."""

    def __init__(self, stage: Stage, seed: int, kills: int, say: Callable[[str], None]) -> None:
        self.stage = stage
        self.trades: list[ByHand] = []
        self.killed: Counter[str] = Counter()
        self.problems: list[str] = []
        self._seed = seed
        self._kills = kills
        self._say = say
        self._draws = random.Random(seed)

    def begin(self) -> None:
        """Start a host and wait until it trades by hand."""
        self._host = self.stage.nursery.start()
        known = Balance.objects.filter(asset="USDT", account__in=self.stage.keys)
        until(lambda: known.count() == len(NAMES), "the balances of each account")
        until(Bot.objects.filter(observed_state=Bot.Observed.RUNNING).exists, "the bot is seen to run")

    def trade(self, account: int) -> None:
        """Make a trade, and kill the host at some moments of its life; it may stay held."""
        draws = self._draws
        deadly = draws.sample(MOMENTS, min(draws.randint(1, 4), self._kills - self.killed.total()))
        is_kept = draws.random() < 0.33 and sum(not one.has_ended for one in self.trades) < MOST_KEPT
        if draws.random() < 0.5:
            inject(self.stage, draws, OPERATIONS)
        one = ByHand(self.stage, account, f"{self._seed}-{len(self.trades)}")
        self.trades.append(one)
        for moment in MOMENTS:
            if moment == CLOSE_ASKED:
                self._look(one)
                if is_kept:
                    break
                if not one.has_ended:
                    one.close()
            self._until(one, partial(one.has_come_to, moment), moment)
            if moment in deadly:
                self._kill(one, moment)
        self.stage.simulator.clear_faults()

    def close_all(self) -> None:
        """Close what is still held, and let the host end."""
        for one in self.trades:
            self._look(one)
        for one in self.trades:
            if not one.has_ended:
                one.close()
        for one in self.trades:
            self._until(one, lambda one=one: one.is_answered and one.has_ended, OVER)
        until(is_quiet, f"every order has ended (log: {self.stage.nursery.log})", QUIET_SECONDS)
        self.stage.nursery.stop(self._host)

    def _look(self, one: ByHand) -> None:
        """Wait until a trade is at rest, then see to it that it is as it should be."""
        self._until(one, lambda: one.is_answered and one.has_come_to(HELD), HELD)
        self.problems += while_held(self.stage, self.trades)

    def _until(self, one: ByHand, condition: Callable[[], object], moment: str) -> None:
        try:
            until(condition, f"{one}: {moment}", QUIET_SECONDS)
        except AssertionError as problem:
            raise AssertionError(f"{problem}. Now {one.told()}") from None

    def _kill(self, one: ByHand, moment: str) -> None:
        draws = self._draws
        time.sleep(draws.choice((0.0, draws.uniform(0.0, 0.1))))
        self.stage.nursery.kill(self._host)
        self.stage.simulator.clear_faults()
        if draws.random() < 0.9:
            leases_end()
        self.killed[moment] += 1
        self._say(f"kill {self.killed.total()} of {self._kills}: {moment}; {one}")
        self._host = self.stage.nursery.start()


def while_held(stage: Stage, trades: list[ByHand]) -> Iterator[str]:
    """At rest: each entry was executed once, and what is open at the exchanges protects what is held, once."""
    held: defaultdict[int, list[Decimal]] = defaultdict(list)
    for one in trades:
        trade = one.trade
        if trade is None or one.has_ended:
            continue
        ticket = Ticket.objects.get(trade=trade)
        name, key = stage.keys[one.account]
        rows = set(Order.objects.filter(trade=trade).values_list("client_order_id", flat=True))
        fills = [fill for fill in stage.simulator.fills(name, api_key=key, limit=LIMIT) if fill["client_id"] in rows]
        bought = sum((Decimal(fill["quantity"]) for fill in fills if fill["side"].lower() == "buy"), Decimal(0))
        if bought != QUANTITY or len(fills) != sum(fill["side"].lower() == "buy" for fill in fills):
            yield f"{trade.trade_id}: {QUANTITY} was asked for, {bought} bought, in {len(fills)} fills"
        if ticket.held != bought:
            yield f"{trade.trade_id}: holds {ticket.held} of {bought} bought"
        by = "engine" if name == "bybit" else "exchange"
        if ticket.protected_by != by:
            yield f"{trade.trade_id}: protected by {ticket.protected_by!r} on {name} ({ticket.protection_note})"
        if by == "exchange":
            held[one.account].append(bought)
    for account in stage.keys:
        pairs = [sorted(sizes) for sizes in _open(stage, account).values()]
        if sorted(pairs) != sorted([size, size] for size in held[account]):
            yield f"account {account} ({stage.keys[account][0]}): open are {pairs}, held {held[account]}"


def _open(stage: Stage, account: int) -> dict[object, list[Decimal]]:
    """Return what may still be sold by orders that are open at an account's exchange, by order list."""
    name, key = stage.keys[account]
    found: defaultdict[object, list[Decimal]] = defaultdict(list)
    for order in stage.simulator.orders(name, api_key=key, limit=LIMIT):
        if order["status"] in OPEN:
            found[order["list_id"]].append(Decimal(order["quantity"]) - Decimal(order["filled"]))
    return dict(found)


def at_end(stage: Stage, trades: list[ByHand]) -> Iterator[str]:
    """Everything that was held is sold, nothing is open, and each command was answered in a way that is true."""
    for account in stage.keys:
        if left := _open(stage, account):
            yield f"account {account}: {left} are still open"
    for one in trades:
        trade = one.trade
        for command in one.commands:
            is_refusal = command.status == Command.Status.FAILED and trade is None
            if command.status != Command.Status.DONE and not is_refusal:
                yield f"command {command.pk} ({command.kind}): {command.status}: {command.result}"
        if trade is None:
            continue
        if trade.state not in ENDED or trade.residual_base:
            yield f"{trade.trade_id}: {trade.state} with {trade.residual_base}: {trade.reason}"
    if Ticket.objects.count() != sum(one.trade is not None for one in trades):
        yield f"{Ticket.objects.count()} tickets for {len(trades)} requests"
