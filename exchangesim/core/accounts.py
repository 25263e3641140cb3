"""Users' accounts at one exchange: keys, permissions and balances that reserve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from exchangesim.core.orders import ZERO


@dataclass(slots=True)
class Balance:
    """What an account holds of one asset; ``locked`` is reserved by its open orders."""

    free: Decimal = ZERO
    locked: Decimal = ZERO

    @property
    def total(self) -> Decimal:
        return self.free + self.locked


@dataclass(slots=True, kw_only=True)
class Account:
    """One API key and the funds behind it. ``secret`` is an HMAC secret or a public (or private) key in PEM."""

    api_key: str
    uid: int
    secret: str = field(repr=False)
    passphrase: str = field(default="", repr=False)
    permissions: frozenset[str] = frozenset({"read", "trade"})
    """Any of ``read``, ``trade``, ``withdraw``."""
    balances: dict[str, Balance] = field(default_factory=dict)
    updated_ms: int = 0
    revoked: bool = False
    """The key is no longer known; what it did stays."""

    def balance(self, asset: str) -> Balance:
        """Return the balance of an asset, making an empty one when there is none yet."""
        balance = self.balances.get(asset)
        if balance is None:
            balance = self.balances[asset] = Balance()
        return balance

    def free(self, asset: str) -> Decimal:
        balance = self.balances.get(asset)
        return ZERO if balance is None else balance.free

    def reserve(self, asset: str, amount: Decimal) -> None:
        balance = self.balance(asset)
        assert amount <= balance.free, f"reserve {amount} of {balance.free} free {asset}"
        balance.free -= amount
        balance.locked += amount

    def release(self, asset: str, amount: Decimal) -> None:
        balance = self.balance(asset)
        assert amount <= balance.locked, f"release {amount} of {balance.locked} locked {asset}"
        balance.locked -= amount
        balance.free += amount

    def spend_locked(self, asset: str, amount: Decimal) -> None:
        balance = self.balance(asset)
        assert amount <= balance.locked, f"spend {amount} of {balance.locked} locked {asset}"
        balance.locked -= amount

    def credit(self, asset: str, amount: Decimal) -> None:
        self.balance(asset).free += amount


def account_of(accounts: Mapping[str, Account], api_key: str) -> Account | None:
    """Return the account of a key that is in force."""
    account = accounts.get(api_key)
    return None if account is None or account.revoked else account
