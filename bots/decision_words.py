"""What each check means to a person, and what can be done about it: one place for all pages."""

from __future__ import annotations

from typing import NamedTuple

from trading.messages import AT_DEPTH


class Words(NamedTuple):
    """A check as a heading, and what to do about what it refuses."""

    title: str
    cure: str


WORDS: dict[str, Words] = {
    # After the best prices paid, in the books.
    "depth:not_live": Words(
        "A market is not live",
        "A feed is down, stale or still loading its book: the live page says which and why.",
    ),
    "depth:empty": Words("A side of a book is empty", "Nobody quotes there now; choose busier markets."),
    "depth:no_edge": Words(
        "Gone in the book",
        "The newest best price paid, the book behind it does not: the price moved on. Faster feeds help, nothing else.",
    ),
    "depth:below_lot": Words(
        "Less than one lot pays", "Raise the bot's maximum trade notional, or choose markets with smaller lots."
    ),
    "depth:below_min_amount": Words(
        "Below the market's minimum amount",
        "Raise the bot's maximum trade notional if it is what limits the size; else too little is on offer.",
    ),
    "depth:below_min_notional": Words(
        "Below the market's minimum notional",
        "Raise the bot's maximum trade notional if it is what limits the size; else too little is on offer.",
    ),
    # Of spot against a perpetual, before the gate.
    "funding": Words(
        "The perpetual's funding is against it",
        "The rate is unknown, too old, or below the bot's least funding: wait, or change that.",
    ),
    "entry_edge": Words(
        "The entry edge is too small",
        "It pays its entry, not its exit and the reserve: the refusal has the figures. Lower the bot's minimum net "
        "edge or count on more hours of funding, if that is worth a trade.",
    ),
    "held": Words(
        "The account holds the perpetual already",
        "A pair is held once on an account, and never beside a position of another origin: close that first.",
    ),
    "leverage": Words(
        "The leverage isn't set", "The exchange is being asked, or refuses the bot's leverage: the refusal says why."
    ),
    # The gate, in its order.
    "route_busy": Words("The route has a trade under way", "None: a route makes one trade at a time."),
    "cooldown": Words("The route rests", "Shorten the bot's cool-down if it should trade again sooner."),
    "bot_state": Words("The bot is not running", "Its page says why; start it, or clear what blocks it."),
    "tradability": Words(
        "The coin can't be moved",
        "A wallet is closed, or nobody has confirmed that both exchanges mean the same coin. The bot's page names the "
        "routes left out; confirm the asset, or don't require open wallets.",
    ),
    "account": Words(
        "The account takes no orders now",
        "It is starting, blocked or not connected, or its orders can't leave the way that was asked for: the desk says "
        "which.",
    ),
    "loop_lag": Words(
        "The machine is too slow", "The engine stood still: give its machine more processor time or fewer bots."
    ),
    "switch": Words(
        "Trading is switched off", "An operator, or the owner, has set reduce only or kill: turn it back with a reason."
    ),
    "breaker": Words(
        "A circuit breaker is open, or wants a probe",
        "It lets trades through again by itself, in steps; an operator can reset it with a reason.",
    ),
    "sizing": Words(
        "Nothing is left of the size",
        "The decision shows which factor took it: thin books, a restless market, a small edge or a low score. Bounds "
        "are under Sizing.",
    ),
    "slippage": Words(
        "Too much slippage is expected",
        "The books are thin, prices move fast, or the exchange answers slowly; what is allowed is under Slippage.",
    ),
    "expected_costs": Words(
        "Costs take the edge",
        "After drift, impact and what slippage has taught too little is left: wait for better edges, or look at "
        "Slippage.",
    ),
    "allowed_pair": Words("The pair is not on a list of allowed pairs", "An operator can add it under Allowed pairs."),
    "order_rate": Words(
        "Too many orders within a minute", "Wait, or have the limit of orders a minute raised under Limits."
    ),
    "unhedged_time": Words(
        "Too much is unhedged for too long", "Open trades have to come to their end first; look at what holds them up."
    ),
    "asset_exposure": Words(
        "Too much of the asset may be unhedged", "Look at the open and exposed trades in it; the limit is under Limits."
    ),
    "exchange_exposure": Words(
        "Too much on the exchange may be unhedged", "Look at its open and exposed trades; the limit is under Limits."
    ),
    "account_exposure": Words(
        "Too much on the account may be unhedged", "Look at its open and exposed trades; the limit is under Limits."
    ),
    "total_exposure": Words(
        "Too much may be unhedged altogether", "Look at the open and exposed trades; the limit is under Limits."
    ),
    "market": Words(
        "A book can't be traded on", "Its feed is behind or crossed; it mends by itself when that is over."
    ),
    "comparison": Words(
        "An account is being compared", "For some seconds no trade begins while books and exchange are compared."
    ),
    "own_order": Words("The book may show our own order", "Wait: it is looked at again once the order has left."),
    "size": Words(
        "Nothing tradable is left of the size",
        "What is free on the accounts, or the maximum trade notional, is below the markets' smallest order: move or "
        "add balance, or raise the maximum trade notional.",
    ),
    "book_age": Words(
        "The book is too old",
        "A leg's book is older than the bot's maximum book age: raise it for quiet markets, or find out why the feed "
        "is slow.",
    ),
    "max_edge": Words(
        "Too good to be true",
        "Check that both markets trade the same asset; raise the bot's maximum edge only if they do.",
    ),
    "quote_deviation": Words(
        "A price stands apart", "One market is far from the pair's others: see whether its feed or its coin is wrong."
    ),
    "min_net_edge": Words("The edge is too small", "Lower the bot's minimum net edge if so little is worth a trade."),
    "open_trades": Words(
        "Enough trades are open", "Raise the bot's maximum of open trades, or the limit that the refusal names."
    ),
    "daily_loss": Words(
        "The day's loss limit is reached", "Trading goes on after midnight UTC, or with a higher limit set."
    ),
    "trade_amount": Words("The trade is too large", "Raise the maximum trade notional, or the limit that is below it."),
    "free_balance": Words("Too little free balance", "Move or add balance on the account that the refusal names."),
    "request_budget": Words(
        "The exchange's request budget is used up", "Fewer bots on this exchange, or longer cool-downs."
    ),
    "store": Words("The database did not answer", "Nothing is sent that isn't durable: see why the database is away."),
    "lease": Words("Another host took over", "None if it happens once: the trade was left to the host that took over."),
}


UNITS = ("bps", "ms")  # as names of figures end


def figure_words(name: str, value: object) -> tuple[str, str]:
    """Return a figure's name and value for reading: ``("Slippage limit", "0.96 bps")``."""
    stem, _, unit = name.rpartition("_")
    if unit not in UNITS:
        stem, unit = name, ""
    text = (f"{value:.2f}" if unit else f"{value:.6g}") if isinstance(value, float) else str(value)
    return stem.replace("_", " ").capitalize(), f"{text}\u00a0{unit}" if unit else text


def words_of(check: str) -> Words:
    """Return a check's words; for one that has none, its name as words."""
    known = WORDS.get(check)
    if known is not None:
        return known
    name = check.removeprefix(AT_DEPTH).replace("_", " ").strip() or "no check"
    return Words(name[0].upper() + name[1:], "Its refusals say what they compared, each with its figures.")
