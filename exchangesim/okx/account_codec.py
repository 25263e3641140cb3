"""Accounts, fees and assets as OKX writes them; the rules of ``codec`` hold here too."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from exchangesim.core.accounts import Account, Balance
from exchangesim.core.coins import Coin
from exchangesim.core.rules import SymbolRules
from exchangesim.core.text import plain
from exchangesim.okx.codec import Json, UsdPrice


def balance_detail(asset: str, balance: Balance, time_ms: int, usd_price: UsdPrice) -> Json:
    price = usd_price(asset)
    usd = plain(balance.total * price) if price is not None else "0"
    total = plain(balance.total)
    return {
        "accAvgPx": "",
        "availBal": plain(balance.free),
        "availEq": plain(balance.free),
        "borrowFroz": "",
        "cashBal": total,
        "ccy": asset,
        "clSpotInUseAmt": "",
        "coinUsdPrice": plain(price) if price is not None else "",
        "colBorrAutoConversion": "0",
        "collateralEnabled": False,
        "collateralRestrict": False,
        "crossLiab": "",
        "disEq": usd,
        "eq": total,
        "eqUsd": usd,
        "fixedBal": "0",
        "frozenBal": plain(balance.locked),
        "imr": "0",
        "interest": "",
        "isoEq": "0",
        "isoLiab": "",
        "isoUpl": "0",
        "liab": "",
        "maxLoan": "",
        "maxSpotInUseAmt": "",
        "mgnRatio": "",
        "mmr": "0",
        "notionalLever": "0",
        "openAvgPx": "",
        "ordFrozen": plain(balance.locked),
        "rewardBal": "0",
        "smtSyncEq": "0",
        "spotBal": "",
        "spotCopyTradingEq": "0",
        "spotInUseAmt": "",
        "spotIsoBal": "0",
        "spotUpl": "",
        "spotUplRatio": "",
        "stgyEq": "0",
        "totalPnl": "",
        "totalPnlRatio": "",
        "twap": "0",
        "uTime": str(time_ms),
        "upl": "0",
        "uplLiab": "",
    }


def account(owner: Account, assets: Iterable[str] | None, time_ms: int, usd_price: UsdPrice) -> Json:
    """Return the one row of account/balance and of the ``account`` channel; ``assets`` None means all held."""
    wanted = None if assets is None else set(assets)
    details = [
        balance_detail(asset, balance, owner.updated_ms or time_ms, usd_price)
        for asset, balance in owner.balances.items()
        if (asset in wanted if wanted is not None else balance.total > 0)
    ]
    worth = sum(
        (balance.total * price for asset, balance in owner.balances.items() if (price := usd_price(asset)) is not None),
        Decimal(0),
    )
    return {
        "adjEq": "",
        "availEq": "",
        "borrowFroz": "",
        "details": details,
        "imr": "",
        "isoEq": "0",
        "mgnRatio": "",
        "mmr": "",
        "notionalUsd": "",
        "notionalUsdForBorrow": "",
        "notionalUsdForFutures": "",
        "notionalUsdForOption": "",
        "notionalUsdForSwap": "",
        "ordFroz": "",
        "totalEq": plain(worth),
        "uTime": str(time_ms),
        "upl": "",
    }


def account_config(owner: Account) -> Json:
    permissions = {"read": "read_only", "trade": "trade", "withdraw": "withdraw"}
    uid = str(owner.uid)
    return {
        "acctLv": "1",
        "acctStpMode": "cancel_maker",
        "autoLoan": False,
        "ctIsoMode": "automatic",
        "enableSpotBorrow": False,
        "feeType": "0",
        "greeksType": "PA",
        "ip": "",
        "kycLv": "2",
        "label": "",
        "level": "Lv1",
        "levelTmp": "",
        "liquidationGear": "-1",
        "mainUid": uid,
        "mgnIsoMode": "automatic",
        "opAuth": "0",
        "perm": ",".join(permissions[name] for name in ("read", "withdraw", "trade") if name in owner.permissions),
        "posMode": "net_mode",
        "roleType": "0",
        "settleCcy": "",
        "settleCcyList": [],
        "spotBorrowAutoRepay": False,
        "spotOffsetType": "",
        "spotRoleType": "0",
        "spotTraderInsts": [],
        "stgyType": "0",
        "traderInsts": [],
        "type": "0",
        "uid": uid,
    }


def trade_fee(rules: SymbolRules, time_ms: int) -> Json:
    """Return one row of account/trade-fee: negative is what the user pays."""
    return {
        "category": "1",
        "delivery": "",
        "exercise": "",
        "instType": "SPOT",
        "level": "Lv1",
        "maker": plain(-rules.maker_fee),
        "makerU": "",
        "makerUSDC": "",
        "taker": plain(-rules.taker_fee),
        "takerU": "",
        "takerUSDC": "",
        "ts": str(time_ms),
        "uly": "",
    }


# What the exchange calls the networks in ``chain``, behind the coin's code.
CHAINS = {"BTC": "Bitcoin", "ETH": "ERC20", "SOL": "Solana", "XRP": "Ripple", "TRX": "TRC20", "BSC": "BSC"}


def currency(coin: Coin) -> Json:
    """Return one row of asset/currencies: the coin on its network.

    Source: https://www.okx.com/docs-v5/en/#funding-account-rest-api-get-currencies
    """
    return {
        "burningFeeRate": "0",
        "canDep": coin.deposit,
        "canInternal": True,
        "canWd": coin.withdraw,
        "ccy": coin.code,
        "chain": f"{coin.code}-{CHAINS.get(coin.network, coin.network)}",
        "ctAddr": coin.contract,
        "depEstOpenTime": "",
        "depQuotaFixed": "",
        "depQuoteDailyLayer2": "",
        "fee": "0",
        "logoLink": "",
        "mainNet": True,
        "maxFee": "0",
        "maxFeeForCtAddr": "",
        "maxWd": "1000000",
        "minDep": "0.00000001",
        "minDepArrivalConfirm": "1",
        "minFee": "0",
        "minFeeForCtAddr": "",
        "minInternal": "0.00000001",
        "minWd": "0.00000001",
        "minWdUnlockConfirm": "2",
        "name": coin.code,
        "needTag": False,
        "usedDepQuotaFixed": "",
        "usedWdQuota": "0",
        "wdEstOpenTime": "",
        "wdQuota": "10000000",
        "wdTickSz": "8",
    }
