"""What the demo starts with: an operator, two users, their accounts on simulated exchanges, and bots that run.

Everything is made through the same services as by hand. A second call goes on with what is there: it follows the
exchanges' new addresses and adds what is missing, but changes no password, no bot and no desired state.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import transaction

from bots import vault
from bots.models import Bot, Exchange, ExchangeAccount, Market, TradingPair
from bots.services.accounts import account_create
from bots.services.bots import bot_create, bot_start
from bots.services.exchanges import exchange_create, exchange_update, markets_sync
from bots.services.installation import installation_get
from bots.services.roles import USERS, roles_sync
from trading import instruments
from trading.config import Credentials

QUOTE = "USDT"
OPERATOR = "operator"
LIVE, PAPER = "Trading", "Paper"
PAPER_QUOTE = "25000"
PAPER_BASES = {"BTC": "0.25", "ETH": "5", "SOL": "100"}


class DemoExchange(NamedTuple):
    """A simulated exchange, how to reach it now, and what it lists."""

    code: str
    name: str
    ccxt_id: str
    urls: dict[str, str]
    markets: Sequence[instruments.Market]


class DemoUser(NamedTuple):
    """A user of the demo; ``password`` is None when the user was there before (it is stored nowhere in clear)."""

    username: str
    role: str
    password: str | None


class DemoAccount(NamedTuple):
    """What a simulated exchange must know to let a bot in."""

    exchange: str
    username: str
    credentials: Credentials


class _DemoBot(NamedTuple):
    name: str
    mode: str
    parameters: dict[str, object]


_BOTS: dict[str, tuple[_DemoBot, ...]] = {
    "anna": (
        _DemoBot("Wide net", "live", {"min_net_edge_bps": "1", "max_trade_notional": "1500", "max_open_trades": 3}),
    ),
    "ben": (
        _DemoBot("Careful", "live", {"min_net_edge_bps": "4", "max_trade_notional": "800", "max_open_trades": 2}),
        _DemoBot("On paper", "paper", {"min_net_edge_bps": "2", "max_trade_notional": "2000", "max_open_trades": 3}),
    ),
}

# (exchange code, user name) -> credentials that the simulated exchange will accept.
CredentialsFactory = Callable[[str, str], Credentials]


def demo_seed(*, exchanges: Sequence[DemoExchange], credentials: CredentialsFactory) -> list[DemoUser]:
    """Make the demo's rows where they are missing and return its users, new ones with their password.

    Raises
    ------
    ValidationError
        If an exchange's figures are wrong; nothing is half made.
    """
    with transaction.atomic():
        installation_get()
        roles_sync()
        ready = [(_exchange_ready(exchange), exchange) for exchange in exchanges]
        rows = [row for row, exchange in ready if any(market.kind == "spot" for market in exchange.markets)]
        contracts = [row for row, _ in ready if row not in rows]
        users = [_user_ready(OPERATOR, operator=True)]
        pairs = pairs_across(rows)
        for username, bots in _BOTS.items():
            demo_user = _user_ready(username, operator=False)
            users.append(demo_user)
            owner = User.objects.get(username=username)
            live = [_account_ready(owner, row, LIVE, credentials(row.code, username)) for row in rows]
            for row in contracts:  # no bot's: for trades by hand, with the exchange's simulated money or on paper
                _account_ready(owner, row, LIVE, credentials(row.code, username))
            modes = {bot.mode for bot in bots}
            paper = [_account_ready(owner, row, PAPER, None) for row in rows] if Bot.Mode.PAPER in modes else []
            for bot in bots:
                _bot_ready(owner, bot, pairs, live if bot.mode == Bot.Mode.LIVE else paper)
    return users


def demo_accounts() -> list[DemoAccount]:
    """Return the keys stored for simulated exchanges, which know nothing when they start anew."""
    accounts = ExchangeAccount.objects.filter(
        exchange__environment=Exchange.Environment.SIMULATED, credentials__isnull=False
    ).select_related("exchange", "owner")
    return [
        DemoAccount(row.exchange.code, row.owner.get_username(), vault.unseal(row.pk, row.credentials or ""))
        for row in accounts
    ]


def pairs_across(exchanges: Sequence[Exchange], quote: str = QUOTE) -> list[TradingPair]:
    """Return the pairs in a quote asset that at least two markets of these exchanges trade."""
    markets = Market.objects.filter(exchange__in=exchanges, active=True, quote=quote)
    counts = Counter(markets.values_list("base_id", flat=True))
    bases = [base for base, count in counts.items() if count >= 2]
    return list(TradingPair.objects.filter(quote=quote, base__in=bases))


def _exchange_ready(demo: DemoExchange) -> Exchange:
    exchange = Exchange.objects.filter(code=demo.code).first()
    if exchange is None:
        exchange = exchange_create(
            actor=None,
            code=demo.code,
            name=demo.name,
            ccxt_id=demo.ccxt_id,
            environment=Exchange.Environment.SIMULATED,
            urls=demo.urls,
        )
    elif exchange.environment != Exchange.Environment.SIMULATED:
        raise ValidationError(
            f"Exchange {demo.code} is {exchange.get_environment_display().lower()} in this database: "
            "the demo needs a state directory of its own (ARB_STATE_DIR)."
        )
    else:
        exchange_update(exchange=exchange, actor=None, urls=demo.urls)
    markets_sync(exchange=exchange, markets=demo.markets)
    return exchange


def _user_ready(username: str, *, operator: bool) -> DemoUser:
    role = "operator" if operator else "user"
    if User.objects.filter(username=username).exists():
        return DemoUser(username, role, None)
    password = secrets.token_urlsafe(12)
    user = User.objects.create_user(username, password=password, is_staff=True, is_superuser=operator)
    if not operator:
        user.groups.add(Group.objects.get(name=USERS))
    return DemoUser(username, role, password)


def _account_ready(owner: User, exchange: Exchange, label: str, credentials: Credentials | None) -> ExchangeAccount:
    account = ExchangeAccount.objects.filter(owner=owner, exchange=exchange, label=label).first()
    if account is not None:
        return account
    return account_create(
        owner=owner,
        actor=None,
        exchange=exchange,
        label=label,
        credentials=credentials,
        paper_balances=_paper_balances(exchange),  # of those with a key, for trades by hand on paper
    )


def _paper_balances(exchange: Exchange) -> dict[str, str]:
    """Return a start in the quote asset and in every coin the exchange trades against it."""
    bases = Market.objects.filter(exchange=exchange, active=True, quote=QUOTE, kind=Market.Kind.SPOT).values_list(
        "base_id", flat=True
    )
    return {QUOTE: PAPER_QUOTE, **{base: PAPER_BASES.get(base, "1000") for base in bases}}


def _bot_ready(owner: User, demo: _DemoBot, pairs: Sequence[TradingPair], accounts: Sequence[ExchangeAccount]) -> None:
    if Bot.objects.filter(owner=owner, name=demo.name).exists():
        return
    bot = bot_create(
        owner=owner, actor=None, name=demo.name, pairs=pairs, accounts=accounts, mode=demo.mode, **demo.parameters
    )
    bot_start(bot=bot, actor=None)
