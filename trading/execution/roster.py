"""An engine's bots: which run, what each is seen to do, and why one doesn't trade."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from trading.arbitrage.detector import Detector
from trading.basis import BASIS
from trading.config import MANUAL, BotConfig, OwnerConfig
from trading.execution import bots as observed
from trading.execution.basis_desk import BasisDesk
from trading.execution.bots import BotStatus, RunningBot
from trading.execution.desk import Desk
from trading.execution.purses import purses_of
from trading.execution.views import bot_view
from trading.instruments import Market
from trading.portfolio import Purse


class Roster:
    """Starts, changes, stops and observes bots; one bot's trouble is that bot's alone.

    ``open_purse`` starts an account on an exchange (ValueError if it can't). ``purse_fault`` says why an account takes
    no new trades ("" if it does) and whether it is only starting. ``on_resumed`` is told of a bot that trades (again).
    ``unsettled`` counts a bot's orders that may still do something, and says whether
    one of its trades (of before, too) is being worked on. ``follow`` is told of markets that no route names,
    ``on_started`` of a bot that runs now and did not before.
    """

    def __init__(
        self,
        desk: Desk,
        detector: Detector,
        basis: BasisDesk,
        *,
        open_purse: Callable[[Purse, str], None],
        purse_fault: Callable[[Purse], tuple[str, bool]],
        on_resumed: Callable[[RunningBot], None],
        unsettled: Callable[[int], tuple[int, bool]],
        follow: Callable[[Iterable[Market]], None],
        on_started: Callable[[BotConfig], None],
    ) -> None:
        self._desk = desk
        self._detector = detector
        self._basis = basis
        self._open_purse = open_purse
        self._purse_fault = purse_fault
        self._on_resumed = on_resumed
        self._unsettled = unsettled
        self._follow = follow
        self._on_started = on_started
        self._bots: dict[int, RunningBot] = {}
        self._refused: dict[int, BotStatus] = {}

    def __iter__(self) -> Iterator[RunningBot]:
        return iter(list(self._bots.values()))

    def get(self, bot_id: int) -> RunningBot | None:
        return self._bots.get(bot_id)

    def statuses(self) -> list[BotStatus]:
        return [*(bot.status() for bot in self._bots.values()), *self._refused.values()]

    def apply(self, config: OwnerConfig) -> None:
        """Make the running bots those of the configuration."""
        wanted = {bot.bot_id: bot for bot in config.bots}
        for bot in self:
            if bot.config.bot_id not in wanted:
                self.stop(bot)
        for bot_config in wanted.values():
            self._start(bot_config, config)
        self._refused = {bot_id: status for bot_id, status in self._refused.items() if bot_id in wanted}

    def stop(self, bot: RunningBot) -> None:
        """Take no new trades; the bot goes once its last trade has ended."""
        bot.stopping = True
        self._watch_no_more(bot)
        self.observe(bot)
        self._leave(bot)

    def fail(self, bot: RunningBot, error: BaseException) -> None:
        """A bot's exception stops that bot only."""
        self._desk.alarm(f"bot {bot.config.name} failed: {type(error).__name__}: {error}")
        bot.faults["failed"] = f"{type(error).__name__}: {error}"
        self._watch_no_more(bot)
        self.observe(bot)

    def _watch_no_more(self, bot: RunningBot) -> None:
        self._detector.remove_bot(bot.config.bot_id)
        self._basis.remove_bot(bot.config.bot_id)

    def trade_done(self, bot_id: int, trade: str, route: str) -> None:
        """Free what a trade of the bot occupied; its route rests for the bot's cool-down."""
        bot = self._bots.get(bot_id)
        if bot is None:
            return
        bot.open_trades.discard(trade)
        if bot.busy_routes.get(route) == trade:  # an old trade settled again has it no longer
            del bot.busy_routes[route]
        bot.cooling[route] = self._desk.clock.monotonic_ns() + int(bot.config.cooldown_ms * 1e6)
        self.observe(bot)
        self._leave(bot)

    def observe_all(self) -> None:
        for bot in self:
            self.observe(bot)

    def observe(self, bot: RunningBot) -> None:
        """Work out what a bot is seen to do, and publish it if that changed."""
        state, reason = self._observation(bot)
        if (state, reason) == (bot.observed, bot.reason):
            return
        resumed = state == observed.RUNNING and bot.observed != observed.RUNNING
        bot.observed, bot.reason = state, reason
        self._publish(bot.config, state, reason)
        if resumed:
            self._on_resumed(bot)

    def _start(self, config: BotConfig, owner: OwnerConfig) -> None:
        running = self._bots.get(config.bot_id)
        purses = purses_of(config, owner)
        if isinstance(purses, str):
            self._refuse(config, purses)
            return
        if running is not None and running.config == config and running.purses == purses and not running.stopping:
            return
        try:
            for exchange, purse in (*purses.by_exchange.items(), *purses.desk):
                self._open_purse(purse, exchange)
            if running is None:
                running = RunningBot(config, purses, self._desk.clock.time_ns())
                self._on_started(config)
            else:
                running.configure(config, purses)
                if running.stopping:
                    running.start_over()
                    self._on_started(config)
                running.faults.pop("failed", None)
            if running.config.strategy != config.strategy:
                self._watch_no_more(running)
            if config.strategy == MANUAL:
                self._follow(config.markets)
            elif config.strategy == BASIS:
                self._basis.add_bot(config)
            else:
                self._detector.add_bot(config)
        except Exception as error:
            self._refuse(config, f"Bot {config.name} can't be started: {error}")
            return
        self._bots[config.bot_id] = running
        self._refused.pop(config.bot_id, None)
        self.observe(running)

    def _refuse(self, config: BotConfig, reason: str) -> None:
        running = self._bots.get(config.bot_id)
        if running is not None:
            self.stop(running)
        status = BotStatus(
            bot_id=config.bot_id,
            name=config.name,
            observed=observed.FAILED,
            reason=reason,
            paper=config.mode != "live",
            open_trades=0,
            counters={},
        )
        if self._refused.get(config.bot_id) != status:
            self._refused[config.bot_id] = status
            self._publish(config, status.observed, reason)

    def _leave(self, bot: RunningBot) -> None:
        working = self._unsettled(bot.config.bot_id)[1]
        if bot.stopping and not bot.open_trades and not working and not bot.kept:
            self._bots.pop(bot.config.bot_id, None)

    def _observation(self, bot: RunningBot) -> tuple[str, str]:
        if self._desk.halted:
            return observed.STOPPED, self._desk.halted
        if bot.stopping:
            unsettled, working = self._unsettled(bot.config.bot_id)
            if bot.open_trades or working:
                return observed.STOPPING, f"stopping, {max(unsettled, len(bot.open_trades), 1)} unresolved"
            return observed.STOPPED, f"{unsettled} orders are unresolved" if unsettled else ""
        if "failed" in bot.faults:
            return observed.FAILED, bot.faults["failed"]
        for fault in bot.faults.values():
            return observed.BLOCKED, fault
        for purse in bot.purses.by_exchange.values():
            reason, starting = self._purse_fault(purse)
            if reason:
                return observed.STARTING if starting else observed.BLOCKED, reason
        return observed.RUNNING, bot.purses.why_paper if bot.config.mode == "live" else ""

    def _publish(self, config: BotConfig, state: str, reason: str) -> None:
        view = bot_view(config, state, reason)
        self._desk.publisher.publish(self._desk.owner_id, "bot", str(config.bot_id), view)
