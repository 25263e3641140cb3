// What the desk's pages know. Snapshots replace everything, increments replace what they are about.

import { byModeAndAsset } from "../live/modes.js";
import { Store } from "../live/store.js";

const MAX_ORDERS = 200;
const MAX_BY_HAND = 50; // kept beyond these, like what is open
const OPEN_ORDERS = new Set(["PENDING", "SENDING", "UNKNOWN", "PLACED", "PARTIALLY_FILLED", "DISPUTED"]);

/** What the desk knows beyond the live page's kinds. */
export const DESK_KINDS = ["money", "position", "order", "progress", "standing"];

/** A list of what may come as one object, as a list, or as `{items: [...]}`. */
export function listed(data) {
  if (data === null || data === undefined) return [];
  if (Array.isArray(data)) return data;
  return Array.isArray(data.items) ? data.items : [data];
}

export function isOpen(order) {
  return OPEN_ORDERS.has(String(order.status).toUpperCase());
}

export class DeskStore extends Store {
  constructor(schedule) {
    super(schedule);
    for (const kind of DESK_KINDS) this.kinds[kind] = new Map();
    this.standing = null; // how the server sees the connection: engine, feeds, accounts, latency
    this.mode = "";
  }

  /** Take the answer of GET /api/dashboard, or the snapshot on the socket, which is the same. */
  replace(data) {
    const { pnl, balance } = this.kinds; // not in the stream, see history.js
    super.replace({
      trades: data.trades, opportunities: data.opportunities, breakers: data.breakers, switches: data.switches, bots: data.bots,
    });
    Object.assign(this.kinds, { pnl, balance });
    this.mode = data.mode;
    this.kinds.money.clear();
    this._addMoney(listed(data.balance));
    this._setPositions(data.positions);
    this.kinds.order = new Map(listed(data.orders).map((order) => [order.id, order]));
    this.kinds.progress = new Map(listed(data.progress).map((progress) => [String(progress.command_id), progress]));
    this.standing = data.connection ?? null;
    this._touch(...DESK_KINDS);
  }

  /** Take one increment of the stream: its type and its data. Types of a newer server are ignored. */
  take(type, data) {
    if (type === "batch") listed(data).forEach((item) => this.take(item.type, item.data));
    else if (type === "balance") this._addMoney(listed(data));
    else if (type === "positions") this._setPositions(data);
    else if (type === "orders") this._addOrders(listed(data));
    else if (type === "progress") this._addProgress(listed(data));
    else if (type === "connection") this._setStanding(data);
    else if (TAKEN_AS_ITEMS.has(type)) {
      this.apply(listed(data).map((item) => ({ kind: type, key: KEY_OF[type](item), data: item })));
    }
  }

  /** What an environment's accounts hold in one quote asset, the most real first; never to be added together. */
  money() {
    return this.values("money")
      .sort((a, b) => byModeAndAsset({ mode: a.environment, asset: a.quote }, { mode: b.environment, asset: b.quote }));
  }

  /** The newest first; what is open, or by hand, stays however old it is. */
  orders() {
    return this.values("order").sort((a, b) => b.at - a.at || (a.id < b.id ? 1 : -1));
  }

  /** The line of running profit so far: points by mode and quote asset. */
  setProfits(lines) {
    this.kinds.pnl = lines;
    this._touch("pnl");
  }

  /** What each account holds of each asset. */
  setBalances(items) {
    this.kinds.balance = new Map(items.map((balance) => [`${balance.account_id}:${balance.asset}`, balance]));
    this._touch("balance");
  }

  _addMoney(rows) {
    for (const row of rows) this.kinds.money.set(`${row.environment}:${row.quote}`, row);
    this._touch("money");
  }

  _setPositions(data) {
    this.kinds.position = new Map(listed(data).map((position) => [String(position.id), position]));
    this._touch("position");
  }

  _addOrders(orders) {
    for (const order of orders) this.kinds.order.set(order.id, order);
    if (this.kinds.order.size > MAX_ORDERS) {
      const kept = new Set(this.orders().filter((order) => order.by_hand).slice(0, MAX_BY_HAND));
      this.orders().slice(MAX_ORDERS).forEach((order) => isOpen(order) || kept.has(order) || this.kinds.order.delete(order.id));
    }
    this._touch("order");
  }

  _addProgress(items) {
    for (const item of items) this.kinds.progress.set(String(item.command_id), item);
    this._touch("progress");
  }

  _setStanding(data) {
    this.standing = data;
    this._touch("standing");
  }
}

const KEY_OF = {
  trade: (data) => data.id,
  opportunity: (data) => `${data.bot_id}:${data.buy}>${data.sell}`,
  breaker: (data) => `${data.scope}:${data.key}`,
  switch: (data) => `${data.scope}:${data.key}`,
  bot: (data) => String(data.id),
};
const TAKEN_AS_ITEMS = new Set(Object.keys(KEY_OF));
