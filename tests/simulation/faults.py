"""The fault catalogue as far as a simulation can express it: what each fault does to a history.

Faults of the wire's format (a page instead of JSON, a body cut short) appear as what they come to at the Venue port.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.database import Backup
from tests.simulation.exchange import Refused, Turn
from tests.simulation.incidents import POINTS, Incident
from tests.simulation.redis import SimRedis
from tests.simulation.venue import WINDOW, Kept, Link, Plan, SimVenue, Unanswered
from trading.messages import OrderIntent, TradeState

if TYPE_CHECKING:
    from tests.simulation.world import Levels, World

D = Decimal
Arm = Callable[["World", str], None]
BACKEND = 9.0  # seconds a request may wait inside an exchange
SOON = 0.05  # a connection that breaks is noticed about now


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``number`` is the catalogue's."""

    number: int
    name: str
    what: str
    arm: Arm


FAULTS: list[Fault] = []
BY_NAME: dict[str, Fault] = {}


def fault(number: int, word: str, what: str) -> Callable[[Arm], Arm]:
    """Register what a fault does under ``<number>_<word>``."""

    def register(arm: Arm) -> Arm:
        one = Fault(number, f"{number:02d}_{word}", what, arm)
        FAULTS.append(one)
        BY_NAME[one.name] = one
        return arm

    return register


def _on_a_placement(world: World, name: str, plan: Plan) -> None:
    """Let ``plan`` happen to one of the first placements: a first leg mostly, a repair sometimes.

    A name that ends with a colon only makes room for its fault, and is not counted.
    """
    number = world.random.choice((1, 1, 1, 2, 2, 2, 3, 4))
    while number in world.place_plans:
        number += 1
    world.place_plans[number] = (name, plan)


def make_way(world: World, point: str) -> None:
    """Let a process come to a point of the trade path that it reaches only when something goes wrong."""
    part = D("0.4")
    if point.startswith("cancel"):
        _on_a_placement(world, ":", Plan(turn=Turn(most=part, rests=True), bare=True))
        world.active_until = max(world.active_until, 20.0)
    elif point.startswith("commit_repair"):
        _on_a_placement(world, ":", Plan(turn=Turn(most=part)))
    elif point.startswith("trade_of"):  # of a trade that another engine has finished
        _on_a_placement(world, ":", Plan(turn=Turn(most=D(0), late=D(1), late_after=world.random.uniform(6.0, 9.0))))
        world.at(world.random.uniform(2.5, 4.5), lambda: world.kill_newest("await"))
        world.active_until = max(world.active_until, 14.0)
    elif point.startswith("query"):
        _on_a_placement(world, ":", Plan(answer_lost=True, reset_after=SOON, turn=Turn(most=part, rests=True)))


def _placement(number: int, word: str, what: str) -> Callable[[Callable[[Random], Plan]], None]:
    def register(make: Callable[[Random], Plan]) -> None:
        fault(number, word, what)(lambda world, name: _on_a_placement(world, name, make(world.random)))

    return register


def _about_now(random: Random) -> float:
    """Return a time around the first trade."""
    return random.uniform(0.6, 3.0)


def _for_a_while(world: World, name: str, start: float, seconds: float, on: Callable[[], None],
                 off: Callable[[], None]) -> None:  # fmt: skip
    def begin() -> None:
        if not world.healed:
            world.inject(name)
            on()
            world.loop.outside(seconds, off)

    world.at(start, begin)
    world.active_until = max(world.active_until, start + seconds + 0.5)


# -- placements ---------------------------------------------------------------------------------------------------


@_placement(1, "answer_lost", "the order is taken, its answer is lost")
def _(random: Random) -> Plan:
    return Plan(answer_lost=True, reset_after=random.choice((0.0, SOON, 1.0)))


@_placement(2, "request_lost", "the order never arrives")
def _(random: Random) -> Plan:
    return Plan(request_lost=True, reset_after=random.choice((0.0, SOON)))


@_placement(3, "request_late", "the request arrives late, inside its window")
def _(random: Random) -> Plan:
    arrives = random.uniform(0.2, WINDOW - 0.2)
    backend = random.choice((0.0, random.uniform(0.0, BACKEND)))
    return Plan(request_delay=arrives + backend, backend=backend, reset_after=SOON)


@_placement(4, "request_too_late", "the request arrives after its window")
def _(random: Random) -> Plan:
    return Plan(request_delay=random.uniform(WINDOW + 0.1, 18.0), reset_after=SOON)


@_placement(5, "timeout_but_live", "error -1007, and the order lives")
def _(random: Random) -> Plan:
    return Plan(answer=Unanswered("-1007", "Timeout waiting for response from backend server."))


@_placement(6, "timeout_and_dead", "error -1007, and there is no order")
def _(random: Random) -> Plan:
    return Plan(request_lost=True, reset_after=SOON)


@_placement(7, "html_body", "HTTP 502 with a page")
def _(random: Random) -> Plan:
    page = Unanswered("502", "Bad Gateway")
    return Plan(answer=page) if random.random() < 0.5 else Plan(request_lost=True, reset_after=SOON)


@_placement(8, "json_cut", "HTTP 200 with half a body")
def _(random: Random) -> Plan:
    return Plan(answer=Unanswered("200", "unreadable"))


@_placement(9, "no_order_id", "HTTP 200 without an order id")
def _(random: Random) -> Plan:
    return Plan(answer=Unanswered("200", "no order id"))


@_placement(12, "firewall", "HTTP 403 with a page")
def _(random: Random) -> Plan:
    return Plan(request_lost=True, reset_after=SOON)


@_placement(13, "clock_rejected", "the signature's time is off: -1021")
def _(random: Random) -> Plan:
    return Plan(skewed=WINDOW + 1)


@_placement(14, "balance_gone", "the money is gone: -2010")
def _(random: Random) -> Plan:
    return Plan(refuse=Refused("-2010", "Account has insufficient balance for requested action."))


@_placement(15, "duplicate_word", "'Duplicate order sent.' while the first lives")
def _(random: Random) -> Plan:
    return Plan(answer=Unanswered("-2010", "Duplicate order sent."))


@_placement(16, "id_taken_again", "the order fills at once, its id is free again, the answer is lost")
def _(random: Random) -> Plan:
    return Plan(answer_lost=True, reset_after=SOON / 2)


@_placement(21, "fill_before_answer", "the stream tells of the fill before the answer does")
def _(random: Random) -> Plan:
    return Plan(answer_delay=random.uniform(0.1, 3.0))


@_placement(25, "partial_then_silence", "a part fills, the rest rests, nothing more is said")
def _(random: Random) -> Plan:
    return Plan(turn=Turn(most=D("0.4"), rests=True), bare=random.random() < 0.5)


@_placement(26, "expired_with_part", "an IOC order ends with a part filled")
def _(random: Random) -> Plan:
    return Plan(turn=Turn(most=random.choice((D("0.1"), D("0.5"), D("0.9")))))


@_placement(27, "overfill", "more fills than was ordered")
def _(random: Random) -> Plan:
    return Plan(turn=Turn(over=D("0.0010")))


@_placement(28, "fee_elsewhere", "the fee is in a third coin, or comes later")
def _(random: Random) -> Plan:
    return Plan(turn=Turn(fee_asset="BNB", fee_after=random.choice((0.0, 0.5, 4.0))), bare=random.random() < 0.5)


@_placement(29, "fee_tripled", "the fee is three times the schedule's")
def _(random: Random) -> Plan:
    return Plan(turn=Turn(fee_factor=D(3)))


@_placement(30, "quantity_cut", "the exchange takes the quantity in coarser lots")
def _(random: Random) -> Plan:
    return Plan(turn=Turn(cut=D("0.0010")))


@_placement(31, "filters_changed", "filters changed: -1013")
def _(random: Random) -> Plan:
    return Plan(refuse=Refused("-1013", "Filter failure: LOT_SIZE"))


@_placement(32, "market_halted", "the market is closed")
def _(random: Random) -> Plan:
    return Plan(refuse=Refused("-1013", "Market is closed."))


@_placement(53, "not_sent", "no connection: not one byte left")
def _(random: Random) -> Plan:
    return Plan(before_send=True)


@_placement(54, "reset_midway", "the connection breaks inside the answer")
def _(random: Random) -> Plan:
    return Plan(answer_lost=True, reset_after=SOON * 2)


@_placement(62, "venue_raises", "our own code around an exchange raises")
def _(random: Random) -> Plan:
    return Plan(raises=True)


@_placement(20, "fill_after_cancelled", "reported cancelled, filled afterwards")
def _(random: Random) -> Plan:
    return Plan(turn=Turn(most=D(0), late=random.choice((D(1), D("0.5"))), late_after=random.uniform(0.3, 20.0)))


@_placement(38, "state_restored", "the exchange restores a state without an acknowledged order")
def _(random: Random) -> Plan:
    return Plan(turn=Turn(most=D(0), rests=True, vanish_after=random.uniform(0.3, 5.0)), bare=True)


# -- cancellations and resting orders -----------------------------------------------------------------------------


@fault(18, "cancel_race", "the cancellation meets an order just filled: -2011")
def _cancel_race(world: World, name: str) -> None:
    _on_a_placement(world, f"{name}:", Plan(turn=Turn(most=D("0.3"), rests=True), bare=True))

    def turn(venue: SimVenue, intent: OrderIntent) -> Plan:
        world.inject(name)
        exchange = venue.link.exchange
        for order in exchange.by_client.get(intent.client_order_id, ()):
            if order.status in {"NEW", "PARTIALLY_FILLED"}:
                world.loop.outside(0.0, exchange.fill_rest, order)
        return Plan()

    world.cancel_turns.append(turn)
    if world.random.random() < 0.7:
        for code in world.exchanges:  # nor does the stream tell of it
            _mute(world, code, 10.0, 20.0)
    world.active_until = max(world.active_until, 32.0)


@fault(19, "cancel_lost", "cancellations are lost")
def _cancel_lost(world: World, name: str) -> None:
    _on_a_placement(world, f"{name}:", Plan(turn=Turn(most=D("0.3"), rests=True), bare=True))

    def turn(venue: SimVenue, intent: OrderIntent) -> Plan:
        world.inject(name)
        return Plan(request_lost=world.random.random() < 0.5, answer_lost=True)

    world.cancel_turns += [turn, turn]
    world.active_until = max(world.active_until, 60.0)


# -- the account --------------------------------------------------------------------------------------------------


def _refusing(world: World, name: str, refusal: Refused, seconds: float) -> None:
    link = world.links[world.random.choice(list(world.links))]

    def on() -> None:
        link.exchange.refusing = refusal.args

    def off() -> None:
        link.exchange.refusing = None

    _for_a_while(world, name, _about_now(world.random), seconds, on, off)


def _silent(world: World, name: str, refusal: Refused, seconds: float, *, blind: float = 0.0) -> None:
    """Let an exchange answer nothing for a time, from just after an order whose answer is the first to be lost.

    ``blind`` is for so long afterwards a replica answers each question first that has fallen behind.
    """

    def begin(link: Link) -> None:
        if world.healed:
            return
        world.inject(name)
        link.exchange.refusing, link.down = refusal.args, Unanswered(*refusal.args)
        for venue in list(link.streams):
            venue.lose_stream()
        world.loop.outside(seconds, end, link)
        world.active_until = max(world.active_until, world.loop.time() + seconds + blind + 0.5)

    def end(link: Link) -> None:
        link.exchange.refusing, link.down = None, None
        if blind and not world.healed:
            link.exchange.blind_until = world.loop.time() + blind

    # One that rests unfilled moves no money: nothing but the answers speaks of it.
    turn = Turn(most=D(0), rests=True) if blind and world.random.random() < 0.7 else None

    def plan(venue: SimVenue) -> Plan:
        return Plan(answer_lost=True, reset_after=SOON, turn=turn, after=lambda: begin(venue.link))

    world.place_turns.append(plan)
    world.active_until = max(world.active_until, seconds + blind + 4.0)


@fault(10, "rate_limited", "429 with Retry-After")
def _rate_limited(world: World, name: str) -> None:
    random = world.random
    if random.random() < 0.5:
        _refusing(world, name, Refused("-1003", "Too many requests"), random.uniform(1.0, 5.0))
        return
    link = world.links[random.choice(list(world.links))]

    def wait() -> None:
        if not world.healed:
            world.inject(name)
            link.budget_from = world.loop.time() + random.uniform(0.5, 5.0)

    world.at(_about_now(random), wait)


@fault(11, "banned", "418: banned for a time, questions too")
def _banned(world: World, name: str) -> None:
    _silent(world, name, Refused("418", "banned"), world.random.uniform(10.0, 60.0))


@fault(33, "maintenance", "cancel only: no new orders")
def _maintenance(world: World, name: str) -> None:
    _refusing(world, name, Refused("-1008", "Maintenance"), world.random.uniform(2.0, 20.0))


@fault(34, "account_restricted", "the account may not trade")
def _restricted(world: World, name: str) -> None:
    _refusing(world, name, Refused("-2010", "This action is disabled on this account."), 60.0)


@fault(35, "key_revoked", "the key is revoked")
def _revoked(world: World, name: str) -> None:
    _silent(world, name, Refused("-2015", "Invalid API-key"), world.random.uniform(5.0, 90.0))


@fault(36, "key_narrowed", "the key may only read")
def _narrowed(world: World, name: str) -> None:
    _refusing(world, name, Refused("-2015", "permissions for action"), world.random.uniform(5.0, 30.0))


@fault(37, "by_hand", "the owner trades and transfers by hand")
def _by_hand(world: World, name: str) -> None:
    random = world.random

    def act() -> None:
        if world.healed:
            return
        world.inject(name)
        exchange = world.exchanges[random.choice(list(world.exchanges))]
        client_id = random.choice(("web_1234", "", "x-other-bot-77"))
        exchange.by_hand("BTC/USDT", random.choice(("buy", "sell")), D("0.01"), client_id)
        exchange.transfer(random.choice(("BTC", "USDT")), D(random.choice((-3, 2))))
        exchange.rest_by_hand("BTC/USDT", "buy", D(40_000), D("0.01"), f"{client_id}r")

    world.at(_about_now(random), act)


@fault(40, "balances_late", "pushed balances lag behind fills")
def _balances_late(world: World, name: str) -> None:
    code = world.random.choice(list(world.exchanges))
    until = world.random.uniform(2.0, 10.0)

    def act() -> None:
        world.inject(name)
        world.balance_holds[code] = until

    world.at(0.7, act)


@fault(17, "questions_lag", "questions do not see a new order or fill for seconds")
def _questions_lag(world: World, name: str) -> None:
    random = world.random
    kind = random.choice(("blind", "forgetful", "slow"))
    if kind == "blind":
        _silent(world, name, Refused("-1003", "busy"), random.uniform(26.0, 45.0), blind=12.0)
        return
    if kind == "forgetful":  # a closed order is found by its id no more, and its executions may not name it
        for code, exchange in world.exchanges.items():
            exchange.forgets_closed, exchange.nameless = True, random.random() < 0.5
            _mute(world, code, 0.5, 60.0)
        _on_a_placement(world, name, Plan(answer_lost=True, reset_after=SOON, turn=Turn(most=D("0.6"))))
        world.active_until = max(world.active_until, 62.0)
        return
    _on_a_placement(world, name, Plan(answer_lost=True, reset_after=SOON))
    for exchange in world.exchanges.values():
        exchange.hide_seconds = random.uniform(0.5, 5.0)
        exchange.fills_hidden_seconds = random.choice((0.0, exchange.hide_seconds))
    for code in world.exchanges:
        _mute(world, code, 0.5, 6.0)


# -- the private stream -------------------------------------------------------------------------------------------


def _mute(world: World, code: str, start: float, seconds: float) -> None:
    """Let a stream's events vanish for a time, without a word."""

    def hook(venue: SimVenue, kept: list[Kept]) -> list[Kept]:
        return [] if venue.exchange == code and start <= world.loop.time() <= start + seconds else kept

    world.stream_hooks.append(hook)


def _hook(world: World, name: str, change: Callable[[list[Kept]], list[Kept]], share: float) -> None:
    def hook(venue: SimVenue, kept: list[Kept]) -> list[Kept]:
        if not kept or world.random.random() > share:
            return kept
        changed = change(kept)
        if changed is not kept:
            world.inject(name)
        return changed

    world.stream_hooks.append(hook)


@fault(22, "fill_twice", "the stream repeats events")
def _fill_twice(world: World, name: str) -> None:
    _hook(
        world, name,
        lambda kept: [*kept, replace(kept[-1], late=world.random.uniform(0.0, 2.0), out_of_order=True)], 0.7,
    )  # fmt: skip


@fault(23, "fill_without_id", "an event names the fill without its id")
def _fill_without_id(world: World, name: str) -> None:
    def change(kept: list[Kept]) -> list[Kept]:
        report = kept[-1].report
        return [replace(kept[-1], report=replace(report, executions=()))] if report.executions else kept

    if world.random.random() < 0.5:  # and questions do not have it yet either
        for exchange in world.exchanges.values():
            exchange.fills_hidden_seconds = world.random.uniform(0.3, 3.0)
    _hook(world, name, change, 0.9)


@fault(24, "out_of_order", "NEW arrives after FILLED")
def _out_of_order(world: World, name: str) -> None:
    _hook(
        world, name,
        lambda kept: [replace(one, late=world.random.uniform(0.0, 1.5), out_of_order=True) for one in kept], 0.6,
    )  # fmt: skip


@fault(45, "stream_gap", "events are missing from the stream")
def _stream_gap(world: World, name: str) -> None:
    _hook(world, name, lambda kept: [], 0.4)


def _lose_streams(world: World, name: str, *, mute: float, times: int) -> None:
    random = world.random
    for _ in range(times):
        code = random.choice(list(world.exchanges))
        at = _about_now(random)
        if mute:
            _mute(world, code, at, mute)

        def act(code: str = code) -> None:
            if world.healed:
                return
            world.inject(name)
            for venue in list(world.links[code].streams):
                venue.lose_stream()

        world.at(at + mute, act)


@fault(41, "stream_closed", "the exchange closes the stream after its day")
def _stream_closed(world: World, name: str) -> None:
    _lose_streams(world, name, mute=0.0, times=1)


@fault(42, "server_shutdown", "the exchange's servers change: closed again and again")
def _server_shutdown(world: World, name: str) -> None:
    _lose_streams(world, name, mute=0.0, times=4)


@fault(43, "stream_mute", "the stream is dead and looks alive")
def _stream_mute(world: World, name: str) -> None:
    random = world.random
    if random.random() < 0.5:
        _lose_streams(world, name, mute=random.uniform(2.0, 10.0), times=1)
        return
    # What it hides is a fill of an order that was reported as ended: nobody asks about it any more.
    seconds = random.uniform(1.0, 4.0)

    def lose(venue: SimVenue) -> None:
        if not world.healed:
            world.inject(name)
            venue.lose_stream()

    def plan(venue: SimVenue) -> Plan:
        late = Turn(most=D(0), late=D(1), late_after=seconds)
        at = world.loop.time() + seconds
        _mute(world, venue.exchange, at - 0.1, 1.0)
        world.at(at + 1.0, lambda: lose(venue))
        world.active_until = max(world.active_until, at + 3.0)
        return Plan(turn=late)

    world.place_turns.append(plan)


@fault(44, "key_of_stream_expired", "the stream's key expired: nothing comes")
def _stream_expired(world: World, name: str) -> None:
    random = world.random
    if random.random() < 0.5:
        _lose_streams(world, name, mute=random.uniform(0.3, 2.0), times=2)
        return
    # A new key is not to be had for a time, while the market offers trades.
    link = world.links[random.choice(list(world.links))]
    start, seconds = random.uniform(0.5, 2.0), random.uniform(5.0, 10.0)

    def on() -> None:
        link.no_streams = True
        for venue in list(link.streams):
            venue.lose_stream()

    def off() -> None:
        link.no_streams = False

    _for_a_while(world, name, start, seconds, on, off)
    world.at(
        start + seconds * 0.9,
        lambda: world.edge(*random.sample(list(world.exchanges), 2), bps=80, seconds=0.5, after=0),
    )


# -- market data --------------------------------------------------------------------------------------------------


def _books(world: World, name: str, turn: Callable[[Levels, Levels], tuple[Levels, Levels, str]]) -> None:
    code = world.random.choice(list(world.exchanges))

    def on() -> None:
        world.book_turns[code] = turn
        world.publish(code)

    def off() -> None:
        world.book_turns.pop(code, None)

    _for_a_while(world, name, world.random.uniform(0.6, 1.5), world.random.uniform(0.5, 3.0), on, off)


@fault(46, "book_gap", "a gap in the book's sequence")
def _book_gap(world: World, name: str) -> None:
    _books(world, name, lambda bids, asks: (bids, asks, "stale"))


@fault(47, "old_snapshot", "a snapshot older than the stream")
def _old_snapshot(world: World, name: str) -> None:
    _books(world, name, lambda bids, asks: (bids, asks, "connecting"))


@fault(48, "crossed_book", "a crossed or empty book")
def _crossed_book(world: World, name: str) -> None:
    empty = world.random.random() < 0.5
    _books(world, name, lambda bids, asks: ([], asks, "live") if empty else (asks, bids, "live"))


@fault(49, "frozen_book", "a book stands still while its connection lives")
def _frozen_book(world: World, name: str) -> None:
    code = world.random.choice(list(world.exchanges))
    _for_a_while(
        world, name, world.random.uniform(0.6, 1.2), world.random.uniform(2.0, 8.0),
        lambda: world.frozen.add(code), lambda: world.frozen.discard(code),
    )  # fmt: skip


@fault(50, "checksum", "a book's checksum does not fit")
def _checksum(world: World, name: str) -> None:
    _books(world, name, lambda bids, asks: (bids, asks, "down"))


@fault(51, "absurd_price", "prices a thousand times off, or next to nothing")
def _absurd_price(world: World, name: str) -> None:
    factor = world.random.choice((1000.0, 0.001, 10.0, 0.5))

    def turn(bids: Levels, asks: Levels) -> tuple[Levels, Levels, str]:
        return (
            [(price * factor, size) for price, size in bids],
            [(price * factor, size) for price, size in asks],
            "live",
        )

    _books(world, name, turn)


@fault(52, "other_coin", "another coin under the same ticker: a third off for good")
def _other_coin(world: World, name: str) -> None:
    code = world.random.choice(list(world.exchanges))

    def act() -> None:
        world.inject(name)
        world.book_turns[code] = lambda bids, asks: (
            [(price * 1.3, size) for price, size in bids], [(price * 1.3, size) for price, size in asks], "live",
        )  # fmt: skip
        world.publish(code)

    world.at(0.5, act)


# -- network ------------------------------------------------------------------------------------------------------


@fault(55, "one_exchange_cut_off", "one exchange cannot be reached")
def _partition(world: World, name: str) -> None:
    link = world.links[world.random.choice(list(world.links))]

    def on() -> None:
        link.blocked = True
        for venue in list(link.streams):
            venue.lose_stream()

    def off() -> None:
        link.blocked = False

    _for_a_while(world, name, _about_now(world.random), world.random.uniform(1.0, 40.0), on, off)


@fault(56, "slow_and_lossy", "seconds of delay, a tenth of all messages lost")
def _slow(world: World, name: str) -> None:
    def on() -> None:
        for link in world.links.values():
            link.slow, link.loss = world.random.uniform(0.1, 4.0), 0.1

    def off() -> None:
        for link in world.links.values():
            link.slow = link.loss = 0.0

    _for_a_while(world, name, world.random.uniform(0.7, 1.2), world.random.uniform(3.0, 20.0), on, off)


# -- processes ----------------------------------------------------------------------------------------------------


@fault(57, "killed_anywhere", "SIGKILL at any point")
def _killed(world: World, name: str) -> None:
    world.crash_somewhere(name)


@fault(58, "killed_in_repair", "SIGKILL while a leg is cancelled or repaired")
def _killed_in_repair(world: World, name: str) -> None:
    random = world.random
    _on_a_placement(world, f"{name}:", Plan(turn=Turn(most=D("0.3"), rests=random.random() < 0.4), bare=True))
    point = random.choice(
        ("commit_repair:before", "commit_repair:durable", "commit_repair:after", "cancel:before", "cancel:answered")
    )
    world.incidents.append(Incident(point, 1, 1, fault=name))
    world.active_until = max(world.active_until, 25.0)


@fault(59, "two_engines", "the lease is lost unnoticed, a second engine starts")
def _two_engines(world: World, name: str) -> None:
    def act() -> None:
        body = world.newest
        if body is not None and not world.healed:
            world.inject(name)
            world.leases_cut.add(body.name)

    world.at(world.random.uniform(0.2, 2.0), act)
    world.active_until = max(world.active_until, 16.0)
    for _ in range(4):  # something to trade for both of them
        world.at(
            world.random.uniform(6.0, 14.0),
            lambda: world.edge(*world.random.sample(list(world.exchanges), 2), bps=80, seconds=0.5, after=0),
        )


@fault(60, "paused_engine_wakes", "SIGSTOP for a minute, another engine meanwhile")
def _paused(world: World, name: str) -> None:
    random = world.random
    point = random.choice([point for point in POINTS if point != "await"])
    world.incidents.append(Incident(point, 1, random.choice((1, 1, 2)), random.uniform(3.0, 60.0), fault=name))
    world.active_until = max(world.active_until, 65.0)


@fault(61, "loop_stalls", "the event loop stands still for seconds")
def _stall(world: World, name: str) -> None:
    def act() -> None:
        body = world.newest
        if body is not None and not world.healed:
            world.inject(name)
            world.pause(body, world.random.uniform(0.5, 3.0))

    if world.random.random() < 0.5:  # just when the intents are durable
        world.incidents.append(Incident("commit_trade:after", 1, 1, world.random.uniform(1.0, 4.0), fault=name))
    else:
        for _ in range(3):
            world.at(_about_now(world.random), act)


@fault(72, "deployment", "the engine is replaced while orders are open")
def _deployment(world: World, name: str) -> None:
    def act() -> None:
        if world.newest is not None and not world.healed:
            world.inject(name)
            world.stop_engine()

    world.at(_about_now(world.random), act)


@fault(70, "started_twice", "the task that starts an engine is delivered again")
def _started_twice(world: World, name: str) -> None:
    def act() -> None:
        held = world.database.holds(world.database.token)
        if world.healed or not held:
            return
        world.inject(name)
        if world.database.take("again") is not None:
            world.anomaly("lease_twice: a held lease was given to another")

    for _ in range(3):
        world.at(_about_now(world.random), act)


@fault(71, "clock_steps", "the machine's clock steps by minutes")
def _clock_steps(world: World, name: str) -> None:
    random = world.random

    def step() -> None:
        body = world.newest
        if body is not None and body.clock is not None and not world.healed:
            world.inject(name)
            body.clock.wall_offset += random.choice((45.0, 30.0, -30.0, -300.0, -3600.0))

    if random.random() < 0.5:
        world.at(_about_now(random), step)
        return

    # Just as an order is on its way, late, and the engine is replaced while its outcome is not known.
    def plan(venue: SimVenue) -> Plan:
        step()
        return Plan(request_delay=random.uniform(5.0, 9.5), reset_after=SOON)

    world.place_turns.append(plan)
    world.embedded = True
    world.incidents.append(Incident("query:answered", 1, random.randint(1, 3), fault=":"))
    world.active_until = max(world.active_until, 15.0)


# -- the database -------------------------------------------------------------------------------------------------


def _database_down(world: World, name: str, start: float, seconds: float, why: str) -> None:
    def on() -> None:
        world.database_down = why

    def off() -> None:
        world.database_down = ""

    _for_a_while(world, name, start, seconds, on, off)


@fault(63, "database_down_before", "the database is away before the intent")
def _down_before(world: World, name: str) -> None:
    _database_down(world, name, world.random.uniform(0.5, 1.0), world.random.uniform(0.5, 6.0), "connection refused")


@fault(64, "database_down_after", "the database goes away once the orders are out")
def _down_after(world: World, name: str) -> None:
    def watch() -> None:
        if world.healed or world.loop.time() > 8.0:
            return
        if world.sends:
            _database_down(world, name, world.loop.time(), world.random.uniform(0.5, 7.0), "connection refused")
        else:
            world.loop.outside(0.005, watch)

    world.at(0.8, watch)


@fault(65, "commit_unknown", "the connection is lost at COMMIT")
def _commit_unknown(world: World, name: str) -> None:
    def turn() -> str:
        world.inject(name)
        return world.random.choice(("durable", "lost"))

    world.commit_turns.append(turn)
    if world.random.random() < 0.5:  # the first trade's is whole, its repair's is not
        _on_a_placement(world, ":", Plan(turn=Turn(most=D("0.4"))))
        world.commit_turns.append(str)


@fault(66, "deadlock", "a transaction is refused and repeated")
def _deadlock(world: World, name: str) -> None:
    def turn() -> str:
        world.inject(name)
        return "retried"

    world.commit_turns += [turn, turn]


@fault(67, "disk_full", "the database takes no writes for long")
def _disk_full(world: World, name: str) -> None:
    _database_down(world, name, _about_now(world.random), world.random.uniform(5.0, 30.0), "No space left on device")


@fault(39, "taken_back", "the exchange takes an execution back")
def _taken_back(world: World, name: str) -> None:
    def act() -> None:
        if world.healed:
            return
        database = world.database
        for code, exchange in world.exchanges.items():
            account = world.accounts[code]
            for fill in exchange.executions:
                intent = database.intents.get(fill.client_id)
                settled = intent is not None and database.trades[intent.trade_id].state is TradeState.CLOSED
                booked = (account, world.markets[code].key, fill.trade_id) in database.fills
                # What the books were opened with already counts what was taken back before.
                if settled and booked and account in database.opened:
                    world.inject(name)
                    world.log("taken_back", fill.trade_id)
                    exchange.take_back(fill)
                    # Until a comparison may conclude it: lists of executions lag by up to a minute.
                    world.active_until = max(world.active_until, world.loop.time() + 150.0)
                    return
        world.loop.outside(1.0, act)

    world.at(world.random.uniform(7.0, 12.0), act)
    world.active_until = max(world.active_until, 20.0)


@fault(68, "backup_restored", "an older backup of the database is restored")
def _backup_restored(world: World, name: str) -> None:
    random = world.random
    at = random.uniform(0.5, 9.0)

    def save() -> None:
        backup = world.database.backup()
        if random.random() < 0.5:  # and an engine starts that the backup does not know either
            world.embedded = True
            world.kill_newest("await")
        world.at(at + random.uniform(0.5, 9.0), lambda: restore(backup))

    def restore(backup: Backup) -> None:
        if not world.healed:
            world.inject(name)
            world.restore(backup)

    world.at(at, save)
    for _ in range(2):  # something to be forgotten, and something to trade afterwards
        world.at(
            random.uniform(at, at + 8.0),
            lambda: world.edge(*random.sample(list(world.exchanges), 2), bps=80, seconds=0.5, after=0),
        )
    world.active_until = max(world.active_until, at + 90.0)


@fault(69, "redis_away", "Redis is empty or gone")
def _redis_away(world: World, name: str) -> None:
    random = world.random
    redis = world.redis = world.redis or SimRedis(world)
    start, seconds = random.uniform(0.5, 3.0), random.uniform(10.0, 16.0)

    def on() -> None:
        if random.random() < 0.3:
            redis.flush()
        else:
            redis.away = random.choice(("connection refused", "silent"))

    def off() -> None:
        redis.away = ""

    _for_a_while(world, name, start, seconds, on, off)
    # By then a server that is silent has been given up, and accounts have been compared for the first time.
    world.redis_edges.append(max(9.0, start + seconds * random.uniform(0.6, 0.9)))
    world.at(world.redis_edges[-1], lambda: world.edge(*list(world.exchanges)[:2], bps=80, seconds=0.5, after=0))
