"""What an owner's accounts hold for the pairs that their bots trade, and what was proposed about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.utils import timezone

from bots.fields import plain
from bots.live_cache import last_known
from bots.models import Asset, Balance, BasisPosition, Bot, Exchange, ExchangeAccount, Fill, ListedAsset, Market, Ticket
from risk.models import RebalanceRequest, RebalanceSettings
from risk.models.rebalancing import OPEN_STATES
from risk.policy.rebalancing import Holding, RebalanceRules, parts_of
from risk.policy.tradability import Listing, Sameness, sameness
from risk.services.rebalancing import DECIDE
from trading.messages import TradeState

ZERO, BPS = Decimal(0), Decimal(10_000)
FILL_AGE = timedelta(hours=24)  # a price of longer ago says nothing
# A trade in one of these may hold what it has bought.
HOLDING_TRADES = (TradeState.OPEN, TradeState.HOLDING, TradeState.REPAIRING, TradeState.EXPOSED)


class Pair(NamedTuple):
    """The accounts of one kind of money that trade one pair; ``markets`` and ``accounts`` by account id."""

    base: str
    quote: str
    holdings: tuple[Holding, ...]
    markets: Mapping[int, Market]
    accounts: Mapping[int, ExchangeAccount]
    apart: frozenset[frozenset[int]]


def rebalance_settings() -> RebalanceSettings:
    """Return what operators have set, else the defaults."""
    return RebalanceSettings.objects.first() or RebalanceSettings()


def rebalance_rules() -> RebalanceRules:
    return rebalance_settings().to_policy()


def rebalance_pairs(*, owner_id: int) -> list[Pair]:
    """Return what the accounts of an owner's live two-leg bots have free for each pair, where prices are known.

    What an account has of an asset is divided between the pairs that use it there; what tickets and pairs of spot and
    perpetual hold is left out. Ten queries, and two for each pair.
    """
    markets, accounts = _markets(owner_id)
    uses: dict[tuple[int, str], int] = defaultdict(int)
    for (account_id, _, _), market in markets.items():
        uses[account_id, market.base_id] += 1
        uses[account_id, market.quote_id] += 1
    free = _free(owner_id, accounts)
    quotes = _quotes(owner_id, {market.pk: market for market in markets.values()})
    grouped: dict[tuple[str, str, str], dict[int, Market]] = defaultdict(dict)
    for (account_id, base, quote), market in markets.items():
        grouped[accounts[account_id].exchange.environment, base, quote][account_id] = market
    pairs = []
    for (_, base, quote), by_account in sorted(grouped.items()):
        holdings = tuple(
            _holding(
                account_id, market, *quotes[market.pk],
                base=parts_of(free.get((account_id, base), ZERO), uses[account_id, base]),
                quote=parts_of(free.get((account_id, quote), ZERO), uses[account_id, quote]),
            )
            for account_id, market in sorted(by_account.items())
            if market.pk in quotes
        )  # fmt: skip
        if holdings:
            used = {holding.account: accounts[holding.account] for holding in holdings}
            pairs.append(Pair(base, quote, holdings, by_account, used, _apart(used.values(), base, quote)))
    return pairs


def rebalance_open(*, owner_id: int) -> list[RebalanceRequest]:
    return list(RebalanceRequest.objects.filter(owner_id=owner_id, state__in=OPEN_STATES))


def move_refusal(*, account: ExchangeAccount, to_account: ExchangeAccount, asset: str) -> str:
    """Return why an asset can't be sent from one account to another, or an empty string; needs their exchanges."""
    if account.exchange.environment != to_account.exchange.environment:
        return f"{account} and {to_account} hold different kinds of money: nothing can be sent between them."
    if account.exchange_id == to_account.exchange_id:
        return ""  # within one exchange the same code is the same coin, and no wallet is in the way
    listings = _listings([account, to_account], {asset})
    confirmed = Asset.objects.filter(pk=asset, confirmed=True).exists()
    return _move_refusal(account, to_account, asset, listings, confirmed=confirmed)


def _markets(owner_id: int) -> tuple[dict[tuple[int, str, str], Market], dict[int, ExchangeAccount]]:
    """Return spot markets by account, base and quote, and the accounts that an engine trades on with real orders."""
    bots = Bot.objects.filter(owner_id=owner_id, strategy=Bot.Strategy.CROSS_EXCHANGE, mode=Bot.Mode.LIVE)
    rows = bots.filter(desired_state=Bot.Desired.RUNNING).prefetch_related("pairs", "accounts__exchange")
    wanted: set[tuple[int, str, str]] = set()
    accounts: dict[int, ExchangeAccount] = {}
    for bot in rows:
        for account in bot.accounts.all():
            if not (account.enabled and account.exchange.enabled and account.has_credentials):
                continue
            if account.observed_state != ExchangeAccount.Observed.LIVE:
                continue  # its balances are of another time
            accounts[account.pk] = account
            wanted |= {(account.pk, pair.base_id, pair.quote_id) for pair in bot.pairs.all()}
    exchanges = {account.exchange_id for account in accounts.values()}
    listed = {
        (market.exchange_id, market.base_id, market.quote_id): market
        for market in Market.objects.filter(
            exchange__in=exchanges, kind=Market.Kind.SPOT, listed=True, active=True
        ).filter(_of_pairs({(base, quote) for _, base, quote in wanted})).select_related("exchange")
    }  # fmt: skip
    markets = {
        (account_id, base, quote): market
        for account_id, base, quote in sorted(wanted)
        if (market := listed.get((accounts[account_id].exchange_id, base, quote))) is not None
    }
    return markets, accounts


def _of_pairs(pairs: Collection[tuple[str, str]]) -> Q:
    condition = Q(pk__in=())
    for base, quote in sorted(pairs):
        condition |= Q(base=base, quote=quote)
    return condition


def _free(owner_id: int, accounts: Collection[int]) -> dict[tuple[int, str], Decimal]:
    """Return what is free by account and asset: less our orders, and less what is held on purpose."""
    rows = Balance.objects.filter(account__in=accounts).with_reserved()
    free = {(row.account_id, row.asset): row.free - row.reserved for row in rows}  # type: ignore[attr-defined]
    tickets = Ticket.objects.filter(owner_id=owner_id, held__gt=0, side="buy", market__kind=Market.Kind.SPOT)
    for ticket in tickets.filter(trade__state__in=HOLDING_TRADES, is_close_only=False).select_related("market"):
        _take(free, (ticket.account_id, ticket.market.base_id), ticket.held)
    pairs = BasisPosition.objects.filter(owner_id=owner_id, held__gt=0, trade__state__in=HOLDING_TRADES)
    for held in pairs.select_related("spot"):
        # Which of several accounts holds it is the trade's to know: it is kept on each.
        for account_id, asset in list(free):
            if asset == held.spot.base_id:
                _take(free, (account_id, asset), held.held)
    return {key: max(amount, ZERO) for key, amount in free.items()}


def _take(free: dict[tuple[int, str], Decimal], key: tuple[int, str], amount: Decimal) -> None:
    if key in free:
        free[key] -= amount


def _quotes(owner_id: int, markets: Mapping[int, Market]) -> dict[int, tuple[Decimal, Decimal | None]]:
    """Return price and half the spread in basis points by market: of the newest quote, else the last fill's price."""
    told = {quote["market"]: quote for quote in last_known.latest("quote") if quote["bid"] and quote["ask"]}
    found: dict[int, tuple[Decimal, Decimal | None]] = {}
    for pk, market in markets.items():
        quote = told.get(f"{market.exchange.code}:{market.symbol}")
        if quote is not None:
            bid, ask = Decimal(repr(float(quote["bid"]))), Decimal(repr(float(quote["ask"])))
            middle = (bid + ask) / 2
            found[pk] = middle, max(round((ask - bid) / 2 / middle * BPS, 4), ZERO)
            continue
        fills = Fill.objects.filter(owner_id=owner_id, market_id=pk, at__gte=timezone.now() - FILL_AGE)
        price = fills.order_by("-at").values_list("price", flat=True).first()
        if price is not None:
            found[pk] = price, None
    return found


def _holding(
    account_id: int, market: Market, price: Decimal, half_spread_bps: Decimal | None, *, base: Decimal, quote: Decimal
) -> Holding:
    return Holding(
        account=account_id,
        base=base,
        quote=quote,
        price=price,
        lot=market.lot,
        min_amount=market.min_amount,
        min_notional=market.min_notional,
        taker_fee=market.taker_fee,
        half_spread_bps=half_spread_bps,
    )


def _apart(accounts: Iterable[ExchangeAccount], base: str, quote: str) -> frozenset[frozenset[int]]:
    """Return the accounts between which one of the coins can't be moved, each two of them."""
    known = list(accounts)
    listings = _listings(known, {base, quote})
    confirmed = set(Asset.objects.filter(pk__in=(base, quote), confirmed=True).values_list("pk", flat=True))
    return frozenset(
        frozenset({one.pk, other.pk})
        for one in known
        for other in known
        if one.exchange_id != other.exchange_id
        and any(
            _move_refusal(source, target, asset, listings, confirmed=asset in confirmed)
            for asset in (base, quote)
            for source, target in ((one, other), (other, one))
        )
    )


def _listings(accounts: Iterable[ExchangeAccount], assets: Collection[str]) -> dict[tuple[int, str], Listing]:
    exchanges = {account.exchange_id for account in accounts}
    rows = ListedAsset.objects.filter(exchange__in=exchanges, asset__in=assets).select_related("exchange")
    return {(row.exchange_id, row.asset_id): row.to_policy() for row in rows}


def _move_refusal(
    account: ExchangeAccount,
    to_account: ExchangeAccount,
    asset: str,
    listings: Mapping[tuple[int, str], Listing],
    *,
    confirmed: bool,
) -> str:
    source, target = (
        listings.get((one.exchange_id, asset)) or Listing(exchange=one.exchange.code, asset=asset)
        for one in (account, to_account)
    )
    same, why = sameness(source, target, confirmed=confirmed)
    real = account.exchange.environment == Exchange.Environment.LIVE
    if same is Sameness.DIFFERENT or (real and same is not Sameness.SAME):
        word = "another coin" if same is Sameness.DIFFERENT else "not known to be the same coin"
        return f"{asset} on {account.exchange} and on {to_account.exchange} is {word}: {why}."
    if source.can_withdraw is False:
        return f"{account.exchange} takes no withdrawals of {asset} now."
    if target.can_deposit is False:
        return f"{to_account.exchange} takes no deposits of {asset} now."
    return ""


def rebalance_data(row: RebalanceRequest) -> dict[str, Any]:
    """Return a request as pages and the API show it; needs accounts, exchanges, market, people and steps loaded."""

    def text(value: Decimal | None) -> str | None:
        return None if value is None else f"{plain(value):f}"

    return {
        "id": row.pk,
        "kind": row.kind,
        "state": row.state,
        "account_id": row.account_id,
        "account": str(row.account),
        "to_account_id": row.to_account_id,
        "to_account": "" if row.to_account is None else str(row.to_account),
        "symbol": "" if row.market is None else row.market.symbol,
        "environment": row.account.exchange.environment,
        "asset": row.asset,
        "side": row.side,
        "amount": text(row.amount),
        "value": text(row.value),
        "quote": row.quote,
        "price": text(row.price),
        "half_spread_bps": text(row.half_spread_bps),
        "cost_bps": text(row.cost_bps),
        "effects": row.effects,
        "reason": row.reason,
        "proposed_by": "" if row.proposed_by is None else str(row.proposed_by),
        "created_at": row.created_at.timestamp(),
        "expires_at": row.expires_at.timestamp(),
        "ended_at": None if row.ended_at is None else row.ended_at.timestamp(),
        "outcome": row.outcome,
        "trade_id": "" if row.trade is None else row.trade.trade_id,
        "filled": text(row.filled),
        "realised_price": text(row.realised_price),
        "improvement": text(row.improvement),
        "fees": row.fees,
        "history": [
            {
                "from_state": event.from_state,
                "to_state": event.to_state,
                "by": "" if event.by is None else str(event.by),
                "text": event.text,
                "at": event.at.timestamp(),
            }
            for event in row.events.all()
        ],
    }


def rebalance_rows(*, owner_id: int | None = None) -> QuerySet[RebalanceRequest]:
    """Return an owner's requests, or everybody's, with all that :func:`rebalance_data` shows."""
    rows = RebalanceRequest.objects.all() if owner_id is None else RebalanceRequest.objects.filter(owner_id=owner_id)
    return rows.select_related(
        "account__exchange", "to_account__exchange", "market", "proposed_by", "trade"
    ).prefetch_related("events__by")  # fmt: skip


def rebalance_may(row: RebalanceRequest, user: User) -> list[str]:
    """Return which decisions a user who sees a request may take now: approve, reject, cancel, moved."""
    if not user.has_perm(DECIDE):
        return []
    may = ["approve", "reject"] if row.state == "PROPOSED" and row.proposed_by_id != user.pk else []
    if row.state == "APPROVED" and row.kind == "move":
        may.append("moved")
    return [*may, "cancel"] if row.state in {"PROPOSED", "APPROVED"} and row.sent_id is None else may
