"""Find the routes that became profitable when one market changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from trading.arbitrage.depth import BPS, BaseLevels, LegTerms, Limits, PairTerms, Refusal, joint_walk
from trading.arbitrage.opportunities import opportunity_of
from trading.arbitrage.routes import NO_EQUIVALENCE, AssetEquivalence, Route, two_leg_routes
from trading.config import BotConfig
from trading.instruments import Market
from trading.marketdata.book import Book
from trading.messages import AT_DEPTH, COMPARED, PAID, DecisionKey, Opportunity
from trading.ports import Clock

__all__ = ["Detector", "MarketState"]


class MarketState(Protocol):
    """What the hub knows of one market now. The best prices are the newest of the book's and the ticker's."""

    @property
    def book(self) -> Book: ...
    @property
    def bid(self) -> float: ...
    @property
    def bid_size(self) -> float: ...
    @property
    def ask(self) -> float: ...
    @property
    def ask_size(self) -> float: ...
    @property
    def status(self) -> str: ...
    @property
    def received_monotonic_ns(self) -> int: ...


Tally = dict[str, int]  # counts since they were last taken, of one bot and pair, by a DecisionKey's check


class _Watcher:
    """One bot's interest in a route: its own fees, its demands, and the price ratio above which it can pay."""

    __slots__ = ("bot_id", "factor", "limits", "name", "route", "tally", "terms")

    def __init__(self, bot: BotConfig, route: Route, tally: Tally) -> None:
        self.bot_id = bot.bot_id
        self.route = route
        self.tally = tally
        self.name = f"{bot.bot_id}:{route.key}"
        self.terms = PairTerms.of(LegTerms.of(route.buy), LegTerms.of(route.sell))
        self.limits = Limits(min_net_bps=bot.min_net_edge_bps, max_notional=float(bot.max_trade_notional))
        # bid (1 - sell fee) - ask (1 + buy fee) >= edge x ask, solved for bid / ask.
        wanted = 1.0 + self.terms.buy.fee + bot.min_net_edge_bps / BPS
        self.factor = wanted / (1.0 - self.terms.sell.fee)


class _Candidate:
    """A route with everybody who watches it."""

    __slots__ = ("buy", "sell", "watchers")

    def __init__(self, buy: MarketState, sell: MarketState) -> None:
        self.buy = buy
        self.sell = sell
        self.watchers: list[_Watcher] = []

    @property
    def factor(self) -> float:
        """The lowest price ratio any watcher asks for; infinite with none."""
        return min((watcher.factor for watcher in self.watchers), default=math.inf)


class _Peer:
    """Another market that one market has routes with, as the hot path sees it: few objects, prices read once."""

    __slots__ = ("buy_here", "buy_here_factor", "buy_there", "buy_there_factor", "state")

    def __init__(self, state: MarketState) -> None:
        self.state = state
        self.buy_here: _Candidate | None = None  # buy on the market that changed, sell on this one
        self.buy_there: _Candidate | None = None
        self.buy_here_factor = self.buy_there_factor = math.inf


class _Changed:
    """A market's own state, its peers, and how often it changed since its changes were last counted."""

    __slots__ = ("changes", "peers", "routes", "shares", "state")

    def __init__(self, state: MarketState) -> None:
        self.state = state
        self.peers: dict[str, _Peer] = {}
        self.routes = 0
        self.changes = 0
        self.shares: dict[int, tuple[Tally, int]] | None = None  # whose routes these are; None when they have changed

    def count(self) -> int:
        """Count the changes for everybody who watched; return how many routes they compared.

        A change compares every route through the market, so the hot path counts changes only.
        """
        changes, self.changes = self.changes, 0
        if changes:
            if self.shares is None:
                self.shares = self._share()
            for tally, routes in self.shares.values():
                tally[COMPARED] = tally.get(COMPARED, 0) + changes * routes
        return changes * self.routes

    def _share(self) -> dict[int, tuple[Tally, int]]:
        shares: dict[int, tuple[Tally, int]] = {}  # by the tally's identity: it has no other
        for peer in self.peers.values():
            for candidate in (peer.buy_here, peer.buy_there):
                for watcher in candidate.watchers if candidate is not None else ():
                    tally = watcher.tally
                    shares[id(tally)] = (tally, shares.get(id(tally), (tally, 0))[1] + 1)
        return shares


class Detector:
    """Turns a changed market into opportunities, for any number of bots.

    Bots share the detector: one that several bots watch costs one comparison per route, and a change looks only at the
    routes through the market that changed. The first test is the newest best prices against a ratio computed when the
    bot was added; nothing is allocated until it passes. Then the books decide: the walk leaves out what the newer best
    price says is gone and adds nothing the book doesn't hold, so ticker and book must both show the edge.

    ``state_of`` gives the hub's state of a market, and is asked once per market when a bot is added.
    """

    def __init__(self, state_of: Callable[[Market], MarketState], clock: Clock) -> None:
        self._state_of = state_of
        self._clock = clock
        self._candidates: dict[tuple[str, str], _Candidate] = {}
        self._by_market: dict[str, _Changed] = {}
        self._tallies: dict[tuple[int, str, str], Tally] = {}  # by bot, base and quote
        self._counted = 0  # of the routes evaluated, those that the tallies know
        self.top_profitable = 0  # of these, how often they paid for at least one bot
        self.opportunities = 0
        self.refused: dict[str, int] = {}  # by reason, after the best prices paid

    @property
    def evaluated(self) -> int:
        """How many routes' best prices were compared."""
        return self._counted + sum(changed.changes * changed.routes for changed in self._by_market.values())

    def add_bot(self, bot: BotConfig, equal: AssetEquivalence = NO_EQUIVALENCE) -> tuple[Route, ...]:
        """Watch every route between the bot's markets; return them. Adding a bot again replaces it."""
        self.remove_bot(bot.bot_id)
        routes = two_leg_routes(bot.markets, equal)
        for route in routes:
            key = (route.buy.key, route.sell.key)
            candidate = self._candidates.get(key)
            if candidate is None:
                candidate = self._candidates[key] = _Candidate(self._state_of(route.buy), self._state_of(route.sell))
            tally = self._tallies.setdefault((bot.bot_id, route.base, route.quote), {})
            candidate.watchers.append(_Watcher(bot, route, tally))
            self._refresh(key, candidate)
        return routes

    def remove_bot(self, bot_id: int) -> None:
        """Stop watching for a bot."""
        self._count()  # for those who watched until now
        for key, candidate in list(self._candidates.items()):
            kept = [watcher for watcher in candidate.watchers if watcher.bot_id != bot_id]
            if len(kept) == len(candidate.watchers):
                continue
            candidate.watchers = kept
            self._refresh(key, candidate)

    def _refresh(self, key: tuple[str, str], candidate: _Candidate) -> None:
        """Bring what the hot path reads of a route in line with its watchers."""
        buy, sell = key
        factor = candidate.factor
        wanted = candidate if candidate.watchers else None
        here = self._peer(buy, candidate.buy, sell, candidate.sell)
        here.buy_here, here.buy_here_factor = wanted, factor
        there = self._peer(sell, candidate.sell, buy, candidate.buy)
        there.buy_there, there.buy_there_factor = wanted, factor
        if wanted is None:
            del self._candidates[key]
        for market, other in (key, key[::-1]):
            changed = self._by_market[market]
            peer = changed.peers[other]
            if peer.buy_here is None and peer.buy_there is None:
                del changed.peers[other]
            changed.shares = None
            changed.routes = sum(
                (one.buy_here is not None) + (one.buy_there is not None) for one in changed.peers.values()
            )
            if not changed.peers:
                del self._by_market[market]

    def _peer(self, market: str, state: MarketState, other: str, other_state: MarketState) -> _Peer:
        changed = self._by_market.get(market)
        if changed is None:
            changed = self._by_market[market] = _Changed(state)
        peer = changed.peers.get(other)
        if peer is None:
            peer = changed.peers[other] = _Peer(other_state)
        return peer

    def on_change(self, key: str) -> Sequence[Opportunity]:
        """Return what the routes through the market ``key`` offer now. Called for every change of its best prices."""
        changed = self._by_market.get(key)
        if changed is None:
            return ()
        changed.changes += 1
        bid, ask = changed.state.bid, changed.state.ask
        found: Sequence[Opportunity] = ()
        for peer in changed.peers.values():
            other = peer.state
            # An empty side has price 0: it neither pays nor sells.
            if other.bid > ask * peer.buy_here_factor > 0.0 and peer.buy_here is not None:
                found = [*found, *self._opportunities(peer.buy_here)]
            if bid > other.ask * peer.buy_there_factor > 0.0 and peer.buy_there is not None:
                found = [*found, *self._opportunities(peer.buy_there)]
        return found or ()

    def counters(self) -> Mapping[str, int]:
        """Return the counts since the start."""
        return {
            "evaluated": self.evaluated,
            "top_profitable": self.top_profitable,
            "opportunities": self.opportunities,
            **{f"refused_{reason}": count for reason, count in self.refused.items()},
        }

    def take_counts(self) -> dict[DecisionKey, int]:
        """Return what was counted for each bot and pair since the last call: COMPARED, PAID, and AT_DEPTH by reason."""
        self._count()
        taken = {
            DecisionKey(*key, check): count for key, tally in self._tallies.items() for check, count in tally.items()
        }
        for tally in self._tallies.values():
            tally.clear()
        return taken

    def _count(self) -> None:
        self._counted += sum(changed.count() for changed in self._by_market.values())

    def _opportunities(self, candidate: _Candidate) -> list[Opportunity]:
        self.top_profitable += 1
        buy, sell = candidate.buy, candidate.sell
        found: list[Opportunity] = []
        tradable = _tradable((buy, sell))
        if not tradable:
            self._refuse("not_live")
        ratio = sell.bid / buy.ask
        for watcher in candidate.watchers:
            if ratio < watcher.factor:
                continue
            _note(watcher.tally, PAID)
            if not tradable:
                _note(watcher.tally, f"{AT_DEPTH}not_live")
                continue
            quote = joint_walk(
                BaseLevels(buy.book.asks, watcher.terms.buy, buy.ask, buy.ask_size),
                BaseLevels(sell.book.bids, watcher.terms.sell, sell.bid, sell.bid_size),
                watcher.terms,
                watcher.limits,
            )
            if isinstance(quote, Refusal):
                reason = quote.name.lower()
                self._refuse(reason)
                _note(watcher.tally, AT_DEPTH + reason)
            else:
                found.append(
                    opportunity_of(
                        self._clock,
                        quote,
                        watcher.terms,
                        (buy.received_monotonic_ns, sell.received_monotonic_ns),
                        bot_id=watcher.bot_id,
                        route=watcher.name,
                        assets=(watcher.route.base, watcher.route.quote),
                        net_bps=quote.net_bps,
                        net_profit=quote.net_profit,
                    )
                )
        self.opportunities += len(found)
        return found

    def _refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1


def _note(tally: Tally, check: str) -> None:
    tally[check] = tally.get(check, 0) + 1


def _tradable(states: Iterable[MarketState]) -> bool:
    return all(state.status == "live" and state.book.ready and not state.book.crossed for state in states)
