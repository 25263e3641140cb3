"""What is looked at before an order leaves, and what the answer to it proves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from trading.exchanges.ccxt_client import NamelessOrder, never_left
from trading.exchanges.generic.calls import Reply
from trading.exchanges.generic.dialect import Dialect, plain
from trading.exchanges.generic.grid import Grid, on_grid
from trading.exchanges.generic.scrub import Scrubber
from trading.exchanges.retries import Trouble
from trading.instruments import Market
from trading.messages import OrderEvent, OrderIntent, Outcome, PlaceResult, TimeInForce
from trading.ports import Clock

logger = logging.getLogger(__name__)

RAW_KEPT = 4_000
# Whether a refusal speaks of money: asked for once too often, balances cost a question.
WORDS_OF_MONEY = ("balance", "insufficient", "funds", "margin")


class Placing:
    """One account's. ``on_placed`` is told the exchange's order id and ours; ``on_money`` that an answer speaks of
    money, ``on_settings`` that the account is set otherwise than we know of."""

    def __init__(
        self,
        client: Any,
        dialect: Dialect,
        clock: Clock,
        scrub: Scrubber,
        *,
        account_id: int,
        exchange: str,
        on_placed: Callable[[str, str], None],
        on_money: Callable[[], None],
        on_settings: Callable[[], None],
    ) -> None:
        self._client = client
        self._dialect = dialect
        self._clock = clock
        self._scrub = scrub
        self._account_id = account_id
        self._exchange = exchange
        self._on_placed = on_placed
        self._on_money = on_money
        self._on_settings = on_settings
        self._grids: dict[str, Grid] = {}  # by the exchange's symbol
        # Of markets and times in force that are taken, where an order need only fit the steps of price and quantity.
        self._taken: dict[tuple[str, TimeInForce], tuple[Decimal, Decimal]] = {}

    def refusal(self, intent: OrderIntent, market: Market | None) -> str:
        """Return why the order can't be sent as it stands; then not one byte of it leaves."""
        steps = self._taken.get((intent.market, intent.time_in_force))
        if steps is not None and intent.trigger is None:
            tick, lot = steps
            price, quantity = intent.price, intent.quantity
            if tick <= price and lot <= quantity and not price % tick and not quantity % lot:
                return self._dialect.local_refusal(intent)
        return self._why_not(intent, market)

    def _why_not(self, intent: OrderIntent, market: Market | None) -> str:
        dialect = self._dialect
        if market is None:
            return f"{intent.market}: not a market of this account"
        if market.kind != dialect.kind:
            return f"{intent.market}: {self._exchange} takes orders for {dialect.kind} markets only"
        if intent.price <= 0 or intent.quantity <= 0:
            return f"only limit orders with a price and a quantity are sent (given {intent.price}, {intent.quantity})"
        if refused := dialect.local_refusal(intent):
            return refused
        if not dialect.takes(self._client, intent.time_in_force):
            return f"{self._exchange} takes no {intent.time_in_force.value} orders: one would rest on its book"
        if intent.trigger is None and on_grid(self._client, self._grids, market, intent):
            if (steps := self._grids[market.symbol]) is not None:
                self._taken[intent.market, intent.time_in_force] = steps
            return ""
        try:
            price = Decimal(self._client.price_to_precision(market.symbol, plain(intent.price)))
            wanted = intent.price if intent.trigger is None else intent.trigger
            trigger = Decimal(self._client.price_to_precision(market.symbol, plain(wanted)))
            quantity = Decimal(self._client.amount_to_precision(market.symbol, plain(intent.quantity)))
        except Exception as error:
            return f"{intent.market}: {self._scrub.error(error)}"
        if (price, quantity, trigger) != (intent.price, intent.quantity, wanted):
            return (
                f"price {intent.price}, trigger {wanted} and quantity {intent.quantity} don't fit the exchange's grid "
                f"(it would send {price}, {trigger} and {quantity}); load its markets again"
            )
        return ""

    def result(self, intent: OrderIntent, reply: Reply[Any]) -> PlaceResult:
        """Return what an answer proves, by the exchange's table; UNKNOWN where it proves nothing."""
        answer, error, reading = reply.answer, reply.error, reply.reading
        raw = self._scrub(answer.body)[:RAW_KEPT]
        if not answer.sent or isinstance(error, NamelessOrder):
            return PlaceResult(outcome=Outcome.REJECTED, code="LOCAL", message=self._scrub.error(error))
        if not answer.status:
            message = self._scrub.error(error)
            if error is not None and never_left(error):
                return PlaceResult(outcome=Outcome.REJECTED, code="NOT_SENT", message=message)
            return PlaceResult(outcome=Outcome.UNKNOWN, code="NO_ANSWER", message=message, path=answer.path)
        order = reply.value or {}
        order_id = reading.exchange_order_id or (str(order.get("id") or "") if error is None else "")
        ours = reading.client_order_id in {"", intent.client_order_id}
        if 200 <= answer.status < 300 and order_id and not reading.code and ours:
            self._on_placed(order_id, intent.client_order_id)
            events = self._events(intent, answer.body, order)
            return PlaceResult(
                outcome=Outcome.PLACED, exchange_order_id=order_id, events=events, raw=raw, path=answer.path
            )
        outcome, meaning = self._dialect.table.judge(answer.status, reading.code, reading.message)
        message = self._scrub(reading.message) or f"HTTP {answer.status}"
        if meaning and meaning.lower() not in message.lower():
            message = f"{message} ({meaning})"
        if any(word in message.lower() for word in WORDS_OF_MONEY):
            self._on_money()  # what is to be sent next is planned with the balances as they are
        if reading.code in self._dialect.settings_codes:
            self._on_settings()
        code = reading.code or str(answer.status)
        return PlaceResult(outcome=outcome, code=code, message=message, raw=raw, path=answer.path)

    def not_cancelled(self, reply: Reply[Any]) -> PlaceResult:
        """Return what the answer to a cancellation that wasn't taken proves: REJECTED: there is no such open order."""
        reading = reply.reading
        gone = reading.code in self._dialect.not_found | self._dialect.gone and reply.trouble is not Trouble.KEY
        return PlaceResult(
            outcome=Outcome.REJECTED if gone and reply.answer.status < 500 else Outcome.UNKNOWN,
            code=reading.code,
            message=self._scrub(reading.message) or self._scrub.error(reply.error),
        )

    def _events(self, intent: OrderIntent, body: str, order: Any) -> tuple[OrderEvent, ...]:
        try:
            events = self._dialect.answer_events(intent, body, order)
        except (ValueError, KeyError, TypeError) as error:
            # It is placed; what it filled will come by the stream or by asking.
            logger.warning("account %s: an order's answer can't be read: %s", self._account_id, type(error).__name__)
            return ()
        now = self._clock.time_ns()
        return tuple(msgspec.structs.replace(event, received_ns=now) for event in events)
