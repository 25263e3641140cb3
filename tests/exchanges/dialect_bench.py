"""A venue whose exchange is a server of answers: for exchanges that nothing simulates."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from trading.clock import SystemClock
from trading.config import AccountConfig, Credentials, ExchangeSpec
from trading.exchanges.generic.venue import CcxtVenue, build_venue
from trading.exchanges.uuid_ids import as_uuid
from trading.execution.ids import client_order_id, trade_id
from trading.instruments import Market
from trading.messages import OrderIntent

D = Decimal
NATIVE = {"kraken": "XXBTZUSD", "coinbase": "BTC-USD", "kucoin": "BTC-USD", "gate": "BTC_USD"}
# Coinbase's keys sign tokens with an elliptic curve.
COINBASE_SECRET = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    .decode()
)
# An id whose first letter is Gate's prefix without its dash: ccxt would take it for prefixed.
ID = client_order_id(trade_id("t0ab", 7, 3, 42), 1, 2)
UUID = as_uuid(ID)


class Server(Protocol):
    url: str


class Bench:
    """A venue of one exchange, its markets known, in front of a server of answers."""

    def __init__(self, name: str, server: Server, ws: str = "ws://127.0.0.1:1") -> None:
        self.name = name
        self.server = server
        native_id = NATIVE.get(name, "BTC-USD")
        self.market = Market(
            exchange=f"{name}-x",
            symbol="BTC/USD",
            native_id=native_id,
            kind="spot",
            base="BTC",
            quote="USD",
            tick=D("0.01"),
            lot=D("0.00000001"),
            min_amount=D("0.0001"),
            min_notional=D("1"),
            taker_fee=D("0.001"),
            maker_fee=D("0.001"),
        )
        spec = ExchangeSpec(
            code=f"{name}-x", ccxt_id=name, environment="simulated", urls={"rest": server.url, "ws": ws}
        )
        secret = COINBASE_SECRET if name == "coinbase" else base64.b64encode(b"canary-secret").decode()
        keys = Credentials(api_key="canary-key", secret=secret, passphrase="canary-pass")
        account = AccountConfig(account_id=1, label="main", exchange=spec, credentials=keys)
        self.venue: CcxtVenue = build_venue(account, [self.market], SystemClock(), jitter=lambda: 0.0)
        client = self.venue._client
        client.options["timeDifference"] = 0
        client.set_markets(
            [
                client.safe_market_structure(
                    {
                        "id": native_id,
                        "symbol": "BTC/USD",
                        "base": "BTC",
                        "quote": "USD",
                        "baseId": "BTC",
                        "quoteId": "USD",
                        "type": "spot",
                        "spot": True,
                        "contract": False,
                        "active": True,
                        "precision": {"amount": "0.00000001", "price": "0.01"},
                        "info": {"altname": "XBTUSD"},
                    }
                )
            ]
        )
        self.venue._ready = True

    def intent(self, **changes: Any) -> OrderIntent:
        now = SystemClock().time_ns()
        settings: dict[str, Any] = {
            "client_order_id": ID,
            "trade_id": ID[:23],
            "account_id": 1,
            "market": self.market.key,
            "leg": 1,
            "attempt": 2,
            "side": "buy",
            "price": D("50000.01"),
            "quantity": D("0.12345678"),
            "deadline_ns": now + 15 * 10**9,
            "created_ns": now,
            **changes,
        }
        return OrderIntent(**settings)
