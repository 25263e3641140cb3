"""Coins at one exchange: on which networks, under which contract, and whether deposits and withdrawals are open.

Nothing moves over these networks; they are what an exchange tells about its wallets. What one code means is the same
on every simulated exchange until a test says otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

# Coins of a network's own, which have no contract. Everything else is a token on Ethereum.
NATIVE: Mapping[str, str] = MappingProxyType(
    {"BTC": "BTC", "ETH": "ETH", "SOL": "SOL", "XRP": "XRP", "TRX": "TRX", "BNB": "BSC"}
)
TOKENS_ON = "ETH"


@dataclass(slots=True, kw_only=True)
class Coin:
    """What an exchange calls a coin, and the one network it takes it on."""

    code: str
    network: str
    contract: str = ""
    deposit: bool = True
    withdraw: bool = True


def coin(code: str) -> Coin:
    """Return a coin as all simulated exchanges know it; a token's contract follows from its code."""
    if code in NATIVE:
        return Coin(code=code, network=NATIVE[code])
    digest = hashlib.sha256(f"contract of {code}".encode()).hexdigest()
    return Coin(code=code, network=TOKENS_ON, contract=f"0x{digest[:40]}")


class Coins:
    """The coins of one exchange, by code; made when first asked for."""

    def __init__(self, codes: Iterable[str]) -> None:
        self._coins = {code: coin(code) for code in dict.fromkeys(codes)}

    def __getitem__(self, code: str) -> Coin:
        if code not in self._coins:
            self._coins[code] = coin(code)
        return self._coins[code]

    def listed(self) -> tuple[Coin, ...]:
        """Return all coins known."""
        return tuple(self._coins.values())
