"""What a trade by hand in a contract would mean for its account's margin: leverage allowed, and liquidation."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple

from bots.models import Balance, Bot, ExchangeAccount, Market, Position, Ticket
from bots.selectors.desks import accounts_real
from bots.services.written import Written
from trading import instruments
from trading.instruments import Side
from trading.margin import Held, liquidation_price, most_leverage
from trading.messages import TradeState

ZERO = Decimal(0)
_BALANCE = Written(
    lambda account, asset: Balance.objects.filter(account=account, asset=asset).with_reserved().order_by(), int, str
)
UNKNOWN = "not known"
# What may hold a position of a trade by hand.
HOLDING = frozenset({TradeState.OPEN, TradeState.HOLDING, TradeState.REPAIRING, TradeState.EXPOSED})


class Entry(NamedTuple):
    """An entry as it is expected to be filled: ``quantity`` in base units, ``mark`` what the contract is worth."""

    side: Side
    quantity: Decimal
    price: Decimal
    mark: Decimal
    leverage: int | None


def leverage_refusal(row: Market, leverage: int, notional: Decimal | None) -> tuple[str, str]:
    """Return why a contract cannot be held with a leverage, and the most it may have; empty texts if it can.

    The exchange's own tiers decide: of the smallest position, and of one of this value where it is known.
    """
    tiers = row.tiers
    if not tiers:
        if leverage == 1:
            return "", ""
        why = f"The margin tiers of {row} are not known yet: they are asked for with the key of an account there"
        return f"{why}, so it is traded without leverage", "1"
    most = tiers[0].leverage
    if not 1 <= leverage <= most:
        return f"Must be 1 to {most}, the most {row} allows", f"{most}"
    allowed = most if notional is None else most_leverage(tiers, notional)
    if leverage > allowed:
        value = f"A position worth {(notional or ZERO).normalize():f} {row.quote_id}"
        if not allowed:
            return f"{value} is above all tiers of {row}, which end at {tiers[-1].cap.normalize():f}", "0"
        return f"{value} may have a leverage of at most {allowed} on {row}", f"{allowed}"
    return "", ""


def liquidation_of(
    account: ExchangeAccount, row: Market, market: instruments.Market, entry: Entry, *, mode: str, free: Decimal
) -> tuple[Decimal | None, str]:
    """Return about where the position would be liquidated, on the tick nearer to the entry; None, and why, if nowhere.

    ``free`` is what may stand behind new orders in the quote asset. Under cross margin it is what the account's other
    positions and orders leave, which is less than they leave to it in the end, so the true price is no nearer. What
    the owner holds by hand in this contract already becomes one position with it; where the account holds both sides
    apart, what is on the same side does, and the other counts as one of the other positions.
    """
    tiers = row.tiers
    if market.kind != "linear" or not tiers:
        return None, UNKNOWN
    tickets = list(_holding(account, row, mode=mode))
    if mode != Bot.Mode.PAPER and _is_hedged(account):
        tickets = [one for one in tickets if one.side == entry.side]
    held = Held()
    for ticket in tickets:
        side: Side = "buy" if ticket.side == "buy" else "sell"
        held = held.with_trade(side, ticket.held * market.contract_size, ticket.entry_price or ZERO)
    after = held.with_trade(entry.side, entry.quantity, entry.price)
    if not after.quantity or abs(after.quantity) < abs(held.quantity):
        return None, "none: it closes a position"
    if row.symbol in account.isolated_markets:
        if entry.leverage is None:
            return None, UNKNOWN  # the exchange's own setting decides what the position gets to itself
        margin = abs(after.cost) / entry.leverage
    else:
        # What the position there already has bound stands behind it too; what it has gained or lost is in its cost.
        bound = sum((t.held * market.contract_size * entry.mark / t.leverage for t in tickets if t.leverage), ZERO)
        gained = held.quantity * entry.mark - held.cost
        margin = free + bound - gained - entry.quantity * entry.price * max(market.taker_fee, ZERO)
    price = liquidation_price(after, margin, tiers)
    if price is None:
        return None, "none: the account covers any price"
    steps = (price / market.tick).to_integral_value(ROUND_CEILING if after.quantity > 0 else ROUND_FLOOR)
    return steps * market.tick, ""


def _is_hedged(account: ExchangeAccount) -> bool:
    """Return whether an account holds both sides of a contract apart, as far as its open positions tell."""
    return Position.objects.held().filter(account=account).exclude(side=Position.Side.BOTH).exists()


def free_of(account: ExchangeAccount, asset: str, *, mode: str) -> Decimal | None:
    """Return what an account may still bind of an asset; None if that is not known.

    That is real money of which nothing is stored yet, and paper money of an account whose real money is stored.
    """
    rows = _BALANCE(account.pk, asset)  # one, or none
    if not rows and not Balance.objects.filter(account=account).exists():
        return Decimal(account.paper_balances.get(asset, "0")) if mode == Bot.Mode.PAPER else None
    may_be_real = mode == Bot.Mode.PAPER and account.has_credentials
    if may_be_real and accounts_real([account], owner_id=account.owner_id):
        return None
    return sum((row.free - row.reserved for row in rows), ZERO)  # type: ignore[attr-defined]  # annotated


def _holding(account: ExchangeAccount, row: Market, *, mode: str) -> Iterable[Ticket]:
    tickets = Ticket.objects.filter(account=account, market=row, held__gt=0, entry_price__isnull=False)
    return tickets.filter(trade__state__in=HOLDING, trade__bot__mode=mode).order_by("pk")
