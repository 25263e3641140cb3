"""What a person asks for by hand, read and checked field by field against the market, the account and the balance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import FilteredRelation, OuterRef, Q, QuerySet, Subquery

from bots.fields import plain
from bots.live_cache import last_known
from bots.models import Bot, Exchange, ExchangeAccount, Market
from bots.services.ticket_margin import UNKNOWN, Entry, free_of, leverage_refusal, liquidation_of
from bots.services.written import Written
from trading import instruments
from trading.execution.pricing import WorkingStyle, limit_price_in_spread
from trading.execution.repair import smallest_order
from trading.execution.reserving import needed
from trading.instruments import Side, base_quantity, limit_price, lot_quantity, positive
from trading.tickets import CAP_BPS

SIDES: Mapping[str, Side] = {"buy": "buy", "long": "buy", "sell": "sell", "short": "sell"}
ORDERS = ("adaptive", "market")
PATHS = ("auto", "websocket")
MAX_TIMEOUT_SECONDS = 600
BPS = Decimal(10_000)
HUNDRED = Decimal(100)
MOST_PERCENT = Decimal(10_000)  # a level further away than that is a slip of the hand


class Wrong(NamedTuple):
    """What is wrong with one field: one sentence, the limit it breaks and what was given."""

    field: str
    message: str
    limit: str = ""
    given: str = ""

    @property
    def text(self) -> str:
        given = f" (given {self.given})" if self.given and self.given not in self.message else ""
        return f"{self.field}: {self.message.rstrip('.')}{given}."


def wrong(field: str, message: str, *, limit: str = "", given: str = "") -> ValidationError:
    """Return the error of one field, to be raised."""
    return refused([Wrong(field, message, limit, given)])


def refused(found: Iterable[Wrong]) -> ValidationError:
    """Return the error of several fields, each with its limit and what was given, to be raised."""
    errors: dict[str, list[ValidationError]] = {}
    for one in found:
        given = f" (given {one.given})" if one.given and one.given not in one.message else ""
        # Django fills a message in with its params, so a per cent sign in it is doubled.
        message = f"{one.message.rstrip('.')}{given}.".replace("%", "%%")
        params = {"limit": one.limit, "given": one.given}
        errors.setdefault(one.field, []).append(ValidationError(message, code="refused", params=params))
    return ValidationError(errors)


class Quote(NamedTuple):
    bid: Decimal
    ask: Decimal

    @property
    def middle(self) -> Decimal:
        return (self.bid + self.ask) / 2


class Request:
    """A trade as asked for: ``refusals`` is empty if nothing speaks against it here."""

    def __init__(self, *, mode: str) -> None:
        self.mode = mode
        self.refusals: list[Wrong] = []
        self.account: ExchangeAccount | None = None
        self.row: Market | None = None
        self.market: instruments.Market | None = None
        self.quote: Quote | None = None
        self.side: Side = "buy"
        self.order = "adaptive"
        self.path = "auto"
        self.quantity: Decimal | None = None
        self.limit_price: Decimal | None = None
        self.take_profit: Decimal | None = None
        self.stop_loss: Decimal | None = None
        self.leverage: int | None = None
        self.timeout_seconds: int | None = None
        self.running_bot: int | None = None
        """The owner's bot for trades by hand in this mode, if it is to run."""
        self.free: Decimal | None = None
        """What the account may still bind of the asset the trade takes, if that is known."""
        self.liquidation: Decimal | None = None
        self.liquidation_note = ""

    def refuse(self, field: str, message: str, *, limit: object = "", given: object = "") -> None:
        self.refusals.append(Wrong(field, message, str(limit), str(given)[:80]))

    @property
    def opens_nothing(self) -> bool:
        """Whether it sells what the account holds on a spot market."""
        return self.market is not None and self.market.kind == "spot" and self.side == "sell"

    @property
    def price(self) -> Decimal | None:
        """What the entry is expected to pay: in the spread if it is adaptive, else the best price."""
        if self.quote is None or self.market is None:
            return None
        best = self.quote.ask if self.side == "buy" else self.quote.bid
        if self.order == "market" or not self.quote.bid < self.quote.ask:
            return best
        share = WorkingStyle().share(self.side)
        return limit_price_in_spread(self.market, self.quote.bid, self.quote.ask, self.side, share, self.cap or best)

    @property
    def cap(self) -> Decimal | None:
        """The worst price the entry may pay: its limit, or what the engine would allow at this quote."""
        if self.limit_price is not None or self.quote is None or self.market is None:
            return self.limit_price
        reach = CAP_BPS / BPS
        worst = self.quote.ask * (1 + reach) if self.side == "buy" else self.quote.bid * (1 - reach)
        return limit_price(self.market, worst, self.side)

    @property
    def notional(self) -> Decimal | None:
        """What the entry is expected to be worth, in the quote asset."""
        price, market, quantity = self.price or self.limit_price, self.market, self.quantity
        if price is None or market is None or quantity is None:
            return None
        if market.kind == "inverse":
            return quantity * market.contract_size
        return base_quantity(market, quantity, price) * price

    @property
    def margin(self) -> Decimal | None:
        """What a contract's entry is expected to bind until it is closed, in the quote asset; None without one."""
        notional = self.notional
        if notional is None or self.market is None or self.market.kind != "linear":
            return None
        return notional / (self.leverage or 1)

    def payload(self) -> dict[str, Any]:
        """Return what the command carries."""
        assert self.market is not None
        assert self.account is not None
        assert self.row is not None
        assert self.quantity is not None
        return {
            "mode": self.mode,
            "account_id": self.account.pk,
            "market_id": self.row.pk,
            "market": self.market.key,
            "symbol": self.market.symbol,
            "side": self.side,
            "quantity": f"{plain(self.quantity):f}",
            "order": self.order,
            "limit_price": _text(self.limit_price),
            "timeout_seconds": self.timeout_seconds,
            "leverage": self.leverage,
            "take_profit": _text(self.take_profit),
            "stop_loss": _text(self.stop_loss),
            "path": self.path,
            "is_close_only": self.opens_nothing,
        }

    def estimate(self) -> dict[str, Any]:
        """Return what it would cost at the newest quote; None where that cannot be said."""
        price, market = self.price, self.market
        notional = None if price is None else self.notional
        fee = None if notional is None or market is None else notional * market.taker_fee
        slippage: float | None = None
        if price is not None and self.quote is not None:
            away = price - self.quote.middle if self.side == "buy" else self.quote.middle - price
            slippage = round(float(away / self.quote.middle * BPS), 3)
        environment = "paper"
        if self.mode == Bot.Mode.LIVE and self.account is not None:
            environment = self.account.exchange.environment
        return {
            "price": _text(price),
            "notional": _text(notional),
            "fee": _text(fee),
            "margin": _text(self.margin),
            "slippage_bps": slippage,
            "liquidation_price": _text(self.liquidation),
            "liquidation_note": self.liquidation_note,
            "path": "paper" if self.mode == Bot.Mode.PAPER else self.path,
            "environment": environment,
        }


def read_request(*, owner: User, data: Mapping[str, Any]) -> Request:
    """Read a request; what is wrong with it stands in its ``refusals``."""
    request = Request(mode=str(data.get("mode", "")))
    if request.mode not in Bot.Mode.values:
        request.refuse("mode", "Must be paper or live", limit="paper, live", given=request.mode)
    _choices(request, data)
    account, row = _asked_for(request, owner, data)
    _account(request, account, data)
    _market(request, row, data)
    if request.market is not None:
        _quantity(request, data)
        _leverage(request, data)
        _levels(request, data)
        _balance(request)
        _liquidation(request, data)
    return request


def _choices(request: Request, data: Mapping[str, Any]) -> None:
    side = str(data.get("side", ""))
    if side not in SIDES:
        request.refuse("side", "Must be buy, sell, long or short", limit=", ".join(SIDES), given=side)
    request.side = SIDES.get(side, "buy")
    for name, allowed in (("order", ORDERS), ("path", PATHS)):
        value = str(data.get(name) or allowed[0])
        if value not in allowed:
            request.refuse(name, f"Must be {' or '.join(allowed)}", limit=", ".join(allowed), given=value)
        else:
            setattr(request, name, value)
    seconds = data.get("timeout_seconds")
    if seconds is not None:
        limit = f"1 to {MAX_TIMEOUT_SECONDS}"
        if not isinstance(seconds, int) or isinstance(seconds, bool) or not 1 <= seconds <= MAX_TIMEOUT_SECONDS:
            request.refuse("timeout_seconds", f"Must be {limit} seconds", limit=limit, given=seconds)
        else:
            request.timeout_seconds = seconds


def _asked_for(request: Request, owner: User, data: Mapping[str, Any]) -> tuple[ExchangeAccount | None, Market | None]:
    """Return the owner's account that is meant and the market of that name on its exchange, as far as they exist."""
    account_id = data.get("account_id")
    if not isinstance(account_id, int) or isinstance(account_id, bool):
        return None, None
    account = next(iter(_ASKED(owner.pk, account_id, str(data.get("symbol", "")), request.mode)), None)
    row: Market | None = getattr(account, "asked", None)
    if account is not None:
        request.running_bot = account.running_bot  # type: ignore[attr-defined]  # annotated
        if row is not None:
            row.exchange = account.exchange
    return account, row


def _asked_rows(owner: int, account: int, symbol: str, mode: str) -> QuerySet[ExchangeAccount]:
    named = FilteredRelation("exchange__markets", condition=Q(exchange__markets__symbol=symbol))
    bots = Bot.objects.filter(
        owner=OuterRef("owner"), strategy=Bot.Strategy.MANUAL, mode=mode, desired_state=Bot.Desired.RUNNING
    )
    rows = ExchangeAccount.objects.filter(owner=owner, pk=account).annotate(
        asked=named, running_bot=Subquery(bots.order_by().values("pk")[:1])
    )
    return rows.select_related("exchange", "asked").order_by()  # type: ignore[misc]  # one annotated


# What a request names, in one query.
_ASKED = Written(_asked_rows, int, int, str, str)


def _account(request: Request, account: ExchangeAccount | None, data: Mapping[str, Any]) -> None:
    """Check the account: the owner's, enabled, and for live with the yeses that real orders want."""
    given = data.get("account_id")
    if account is None:
        request.refuse("account_id", "Is not an account of yours", given=given)
        return
    request.account = account
    if not account.enabled or not account.exchange.enabled:
        what = f"account {account.label}" if not account.enabled else f"exchange {account.exchange}"
        request.refuse("account_id", f"The {what} is disabled", given=given)
    if request.mode != Bot.Mode.LIVE:
        return
    if not account.has_credentials:
        message = f"Account {account.label} has no credentials: it trades on paper only"
        request.refuse("mode", message, limit="paper", given="live")
    elif account.exchange.environment == Exchange.Environment.LIVE:
        if not settings.ARB_ALLOW_LIVE_ORDERS:
            message = "This installation sends no live orders (ARB_ALLOW_LIVE_ORDERS=1 allows them)"
            request.refuse("mode", message, limit="paper", given="live")
        elif not account.armed_for_live:
            request.refuse("mode", f"Account {account.label} is not armed for live", limit="paper", given="live")


def _market(request: Request, row: Market | None, data: Mapping[str, Any]) -> None:
    if request.account is None:
        return
    symbol = str(data.get("symbol", ""))
    exchange = request.account.exchange
    if row is None or not row.listed:
        request.refuse("symbol", f"{exchange} lists no such market", given=symbol)
        return
    if not row.active:
        request.refuse("symbol", f"{exchange} does not trade it now", given=symbol)
    request.row, request.market = row, row.to_engine()
    request.quote = newest_quote(request.market)
    if request.market.kind == "spot" and str(data.get("side")) == "short":
        message = "A spot market can't be sold short: sell what the account holds, or choose a contract"
        request.refuse("side", message, limit="buy, sell, long", given="short")


def newest_quote(market: instruments.Market) -> Quote | None:
    """Return the best prices this process heard of last; None without any."""
    for told in last_known.latest("quote"):
        if told["market"] == market.key and told["bid"] and told["ask"]:
            return Quote(Decimal(repr(float(told["bid"]))), Decimal(repr(float(told["ask"]))))
    return None


def _quantity(request: Request, data: Mapping[str, Any]) -> None:
    market = request.market
    assert market is not None
    if data.get("limit_price") is not None:
        request.limit_price = _price(request, "limit_price", data["limit_price"])
    quantity = _number(request, "amount", data.get("amount"))
    if quantity is None:
        return
    if lot_quantity(quantity, market) != quantity:
        request.refuse("amount", f"Must be whole lots of {market.lot:f}", limit=f"{market.lot:f}", given=data["amount"])
        return
    request.quantity = quantity
    price = request.limit_price or request.price
    least = smallest_order(market, price) if price is not None else max(market.lot, market.min_amount)
    if quantity < least:
        worth = f", worth at least {market.min_notional:f} {market.quote}" if market.min_notional else ""
        request.refuse("amount", f"At least {least:f}{worth}", limit=f"{least:f}", given=data["amount"])


def _leverage(request: Request, data: Mapping[str, Any]) -> None:
    market, leverage = request.market, data.get("leverage")
    assert market is not None
    if leverage is None:
        return
    if market.kind == "spot":
        if leverage != 1:
            request.refuse("leverage", "A spot market has none: leave it out", limit="1", given=leverage)
        return
    if not isinstance(leverage, int) or isinstance(leverage, bool):
        request.refuse("leverage", "Must be a whole number", given=leverage)
        return
    assert request.row is not None
    why, limit = leverage_refusal(request.row, leverage, request.notional)
    if why:
        request.refuse("leverage", why, limit=limit, given=leverage)
    else:
        request.leverage = leverage


def _levels(request: Request, data: Mapping[str, Any]) -> None:
    """Read take-profit and stop-loss, as prices or in percent of the entry, and see that they are on their sides."""
    entry = request.limit_price or request.price
    for name in ("take_profit", "stop_loss"):
        given, percent = data.get(name), data.get(f"{name}_percent")
        if given is None and percent is None:
            continue
        if request.opens_nothing:
            message = "A sale on a spot market opens no position, so nothing of it can be protected: leave it out"
            request.refuse(name, message, given=given if given is not None else f"{percent} percent")
            continue
        if given is not None and percent is not None:
            request.refuse(name, f"Give a price or {name}_percent, not both", given=f"{given} and {percent} percent")
            continue
        # A profit is above the entry of a purchase, a loss below; of a sale the other way.
        above = (name == "take_profit") == (request.side == "buy")
        if percent is not None:
            level = _of_percent(request, f"{name}_percent", percent, above=above)
        else:
            level = _price(request, name, given)
            if level is not None and entry is not None and (level <= entry if above else level >= entry):
                word = "above" if above else "below"
                message = f"Must be {word} the entry's price of about {entry.normalize():f}"
                request.refuse(name, message, limit=f"{entry.normalize():f}", given=given)
                continue
        if level is not None:
            setattr(request, name, level)


def _of_percent(request: Request, field: str, percent: Any, *, above: bool) -> Decimal | None:
    market, entry = request.market, request.price or request.limit_price
    assert market is not None
    share = _number(request, field, percent)
    if share is None:
        return None
    if not above and share >= HUNDRED:
        request.refuse(field, "Must be below 100 percent", limit="100", given=percent)
        return None
    if share > MOST_PERCENT:
        request.refuse(field, f"Must be at most {MOST_PERCENT} percent", limit=MOST_PERCENT, given=percent)
        return None
    if entry is None:
        request.refuse(field, f"No price of {market.key} is known now: give the price itself", given=percent)
        return None
    level = entry * (1 + share / HUNDRED) if above else entry * (1 - share / HUNDRED)
    rounded = (level / market.tick).to_integral_value() * market.tick
    if rounded <= 0 or rounded == entry:
        request.refuse(field, f"Is less than a tick of {market.tick:f} away from the entry", given=percent)
        return None
    return rounded


def _balance(request: Request) -> None:
    """Refuse what the account cannot pay, and real money of which nothing is known yet.

    Paper money of an account that has real money is known to its engine alone, which judges it.
    """
    market, account, quantity, price = request.market, request.account, request.quantity, request.cap
    if market is None or account is None or quantity is None or price is None:
        return
    middle = None if request.quote is None else request.quote.middle
    asset, amount = needed(market, request.side, quantity, price, leverage=request.leverage, mark=middle)
    request.free = free = free_of(account, asset, mode=request.mode)
    if free is None:
        # Before trading by hand was started no engine has asked for it; that is what is refused then.
        if request.mode == Bot.Mode.LIVE and request.running_bot is not None:
            request.refuse("account_id", f"The balance of {account.label} is not known yet: wait for its engine")
    elif amount > free:
        message = f"Needs {amount.normalize():f} {asset}; {account.label} has {free.normalize():f} free"
        request.refuse("amount", message, limit=f"{free.normalize():f}", given=f"{quantity:f}")


def _liquidation(request: Request, data: Mapping[str, Any]) -> None:
    """Work out where the position would be liquidated, and refuse a stop-loss that would come too late."""
    market, account, row, quantity = request.market, request.account, request.row, request.quantity
    price, quote = request.price, request.quote
    if market is None or account is None or row is None or quantity is None or price is None or quote is None:
        return
    if market.kind == "spot":
        return
    if request.free is None:
        request.liquidation_note = UNKNOWN
        return
    size = base_quantity(market, quantity, price)
    entry = Entry(request.side, size, price, mark=quote.middle, leverage=request.leverage)
    found = liquidation_of(account, row, market, entry, mode=request.mode, free=request.free)
    request.liquidation, request.liquidation_note = found
    at = request.liquidation
    stop = request.stop_loss
    if at is None or stop is None or (stop > at if request.side == "buy" else stop < at):
        return
    name = "stop_loss" if data.get("stop_loss") is not None else "stop_loss_percent"
    level, word = f"{at.normalize():f}", "above" if request.side == "buy" else "below"
    message = f"The stop-loss must be {word} about {level}, where the position would be liquidated before it is reached"
    request.refuse(name, message, limit=level, given=data[name])


def _price(request: Request, field: str, given: Any) -> Decimal | None:
    price = _number(request, field, given)
    market = request.market
    assert market is not None
    if price is not None and price % market.tick:
        request.refuse(field, f"Must be a multiple of the tick {market.tick:f}", limit=f"{market.tick:f}", given=given)
        return None
    return price


def as_written(text: str, *, field: str) -> Decimal:
    """Return a number above zero just as a person wrote it; raise ValueError if it is none that can be stored so."""
    number = positive(text, field=field)
    if number != Decimal(text):
        raise ValueError(f"{field}: at most 18 digits behind the point (given {text[:40]!r})")
    return number


def _number(request: Request, field: str, given: Any) -> Decimal | None:
    if not isinstance(given, str):
        request.refuse(field, 'Write it as a string, such as "0.01"', given=given)
        return None
    try:
        return as_written(given, field=field)
    except ValueError as problem:
        request.refuse(field, str(problem).removeprefix(f"{field}: ").partition(" (given")[0].capitalize(), given=given)
        return None


def _text(number: Decimal | None) -> str | None:
    return None if number is None else f"{plain(number):f}"
