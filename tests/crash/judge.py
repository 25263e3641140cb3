"""The verdict: what the simulated exchanges executed against what the platform knows, booked and believes.

The exchanges' books are the witness: they commit each operation before its answer leaves, and share no code with the
platform.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from bots.fields import exact_sum
from bots.models import UNFINISHED_ORDERS, Fill, LedgerEntry, LedgerLine, Order, OwnerLease, Trade
from tests.crash.stage import BALANCES, Stage
from trading.messages import OrderState

LIMIT = "100000"


def verdict(stage: Stage) -> dict[str, Any]:
    """Return figures and ``problems``, sentences that must not be there. Ask once nothing is under way."""
    orders = {account: stage.simulator.orders(name, api_key=key, limit=LIMIT) for account, (name, key) in
              stage.keys.items()}  # fmt: skip
    fills = {account: stage.simulator.fills(name, api_key=key, limit=LIMIT) for account, (name, key) in
             stage.keys.items()}  # fmt: skip
    rows = {row.client_order_id: row for row in Order.objects.select_related("market", "trade")}
    _give_names(orders, fills, rows)
    problems = [
        *_orders(orders, rows),
        *_fills(fills),
        *_ledger(stage),
        *_tokens(orders, rows),
        *_unresolved(rows),
        *_trades(fills, rows),
    ]
    return {
        "orders": len(rows),
        "orders_at_exchanges": sum(map(len, orders.values())),
        "fills": sum(map(len, fills.values())),
        "trades": dict(Counter(Trade.objects.values_list("state", flat=True))),
        "states": dict(Counter(row.state for row in rows.values())),
        "tokens": max(OwnerLease.objects.values_list("token", flat=True), default=0),
        "problems": problems,
    }


def _give_names(
    orders: Mapping[int, list[dict[str, Any]]], fills: Mapping[int, list[dict[str, Any]]], rows: Mapping[str, Order]
) -> None:
    """Name the orders of OKX's algo orders, which have no client id there: the algo order has that of one of them."""
    pairs = {(row.trade_id, row.attempt, row.trigger): name for name, row in rows.items() if row.trigger is not None}
    for account, found in orders.items():
        names = {}
        for order in found:
            known = rows.get(order["list_client_id"] or "")
            if not order["client_id"] and known is not None:
                trigger = Decimal(order["trigger_price"])
                order["client_id"] = names[order["id"]] = pairs.get((known.trade_id, known.attempt, trigger), "")
        for fill in fills[account]:
            fill["client_id"] = fill["client_id"] or names.get(fill["order_id"], "")


def _orders(orders: Mapping[int, list[dict[str, Any]]], rows: Mapping[str, Order]) -> list[str]:
    """Every order an exchange has is known, is there once, and executed as much as we believe."""
    problems = []
    seen: Counter[str] = Counter()
    for account, found in orders.items():
        for order in found:
            name = order["client_id"]
            seen[name] += 1
            row = rows.get(name)
            if row is None:
                problems.append(f"{name}: the exchange has an order nobody knows")
            elif row.account_id != account:
                problems.append(f"{name}: is of account {row.account_id}, the exchange has it in {account}")
            elif row.filled != Decimal(order["filled"]):
                problems.append(f"{name}: {row.state} with {row.filled} filled, the exchange says {order['filled']}")
            elif row.state == OrderState.FAILED:
                problems.append(f"{name}: believed absent or refused, the exchange has it as {order['status']}")
    problems += [f"{name}: {count} orders with one client id" for name, count in seen.items() if count > 1]
    for name, row in rows.items():
        if name not in seen and row.filled:
            problems.append(f"{name}: {row.filled} filled, and no exchange has such an order")
    return problems


def _fills(fills: Mapping[int, list[dict[str, Any]]]) -> list[str]:
    """Each execution is booked once, with its figures, and nothing else is."""
    executed = {
        (account, fill["trade_id"], fill["symbol"]): (
            fill["side"].lower(), Decimal(fill["price"]), Decimal(fill["quantity"]), Decimal(fill["fee"]),
        )
        for account, found in fills.items()
        for fill in found
    }  # fmt: skip
    booked: defaultdict[tuple[int, str, str], list[tuple[Any, ...]]] = defaultdict(list)
    unowned = []
    for row in Fill.objects.select_related("market"):
        key = (row.account_id, row.exchange_trade_id, row.market.symbol)
        booked[key].append((row.side, row.price, row.quantity, row.fee))
        if row.order_id is None:
            unowned.append(key)
    problems = [f"fill {key}: executed and not booked" for key in executed.keys() - booked.keys()]
    problems += [f"fill {key}: booked and not executed" for key in booked.keys() - executed.keys()]
    problems += [f"fill {key}: booked {len(found)} times" for key, found in booked.items() if len(found) != 1]
    problems += [f"fill {key}: booked without its order" for key in unowned]
    for key in executed.keys() & booked.keys():
        if booked[key][0] != executed[key]:
            problems.append(f"fill {key}: booked as {booked[key][0]}, executed as {executed[key]}")
    return problems


def _ledger(stage: Stage) -> list[str]:
    """Entries are zero in sum, and what accounts hold at the exchanges is their start and what the ledger moved since.

    Where the first comparison has opened the ledger, its opening balances lead to the same.
    """
    problems = []
    sums: defaultdict[tuple[int, str], list[Decimal]] = defaultdict(list)
    moved: defaultdict[tuple[int, str], list[Decimal]] = defaultdict(list)
    opened: defaultdict[tuple[int, str], list[Decimal]] = defaultdict(list)
    for line in LedgerLine.objects.select_related("entry"):
        sums[line.entry_id, line.asset].append(line.amount)
        if line.book == LedgerLine.Book.ACCOUNT:
            books = opened if line.entry.cause == LedgerEntry.Cause.OPENING else moved
            books[line.entry.account_id, line.asset].append(line.amount)
    problems += [f"ledger entry {key}: is not zero in sum" for key, amounts in sums.items() if exact_sum(amounts)]
    for account, (name, key) in stage.keys.items():
        held = stage.simulator.call("GET", f"/accounts/{name}/{key}")["balances"]
        for asset, start in BALANCES.items():
            booked = exact_sum([Decimal(start), *moved[account, asset]])
            if booked != Decimal(held[asset]["total"]):
                problems.append(f"account {account}: {asset} is {booked} by the ledger, {held[asset]['total']} there")
            since = exact_sum([*opened.get((account, asset), ()), *moved[account, asset]])
            if any(number == account for number, _ in opened) and since != booked:
                problems.append(f"account {account}: {asset} is {since} by its opening balance, {booked} by its start")
            if Decimal(held[asset]["locked"]):
                problems.append(f"account {account}: {held[asset]['locked']} {asset} are locked by an open order")
    return problems


def _tokens(orders: Mapping[int, list[dict[str, Any]]], rows: Mapping[str, Order]) -> list[str]:
    """Once an order of a later lease has arrived at an exchange, none of an earlier one arrives there."""
    problems = []
    newest: dict[tuple[int, int], int] = {}
    for account, found in orders.items():
        for order in sorted(found, key=lambda one: int(one["id"])):
            row = rows.get(order["client_id"])
            if row is None:
                continue
            key = (row.owner_id, account)
            if row.lease_token < newest.get(key, 0):
                problems.append(
                    f"{row.client_order_id}: sent under token {row.lease_token} after token {newest[key]} had sent"
                )
            newest[key] = max(newest.get(key, 0), row.lease_token)
    return problems


def _unresolved(rows: Mapping[str, Order]) -> list[str]:
    return [
        f"{name}: left {row.state}"
        for name, row in rows.items()
        if row.state in UNFINISHED_ORDERS and row.state != OrderState.DISPUTED
    ]


def _trades(fills: Mapping[int, list[dict[str, Any]]], rows: Mapping[str, Order]) -> list[str]:
    """What a trade says it left unhedged is what its executions come to."""
    residual: defaultdict[str, Decimal] = defaultdict(Decimal)
    for found in fills.values():
        for fill in found:
            row = rows.get(fill["client_id"])
            if row is not None and row.trade is not None:
                sign = 1 if fill["side"].lower() == "buy" else -1
                residual[row.trade.trade_id] += sign * Decimal(fill["quantity"])
    return [
        f"trade {trade.trade_id}: {trade.state} with {trade.residual_base} left, executed {residual[trade.trade_id]}"
        for trade in Trade.objects.all()
        if trade.residual_base != residual[trade.trade_id]
    ]
