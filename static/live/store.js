// What the page knows: one map per kind, fed by snapshots and updates. Views are told once per animation frame.

const MAX_TRADES = 50;
const MAX_OPPORTUNITIES = 40;
const MAX_POINTS = 1500;

export const KINDS = ["quote", "feed", "bot", "opportunity", "trade", "balance", "pnl", "breaker", "switch"];
const LISTS = {
  quote: "quotes", feed: "feeds", bot: "bots", opportunity: "opportunities", trade: "trades", balance: "balances",
  breaker: "breakers", switch: "switches",
};
const KEY_OF = {
  quote: (data) => data.market,
  feed: (data) => data.exchange,
  bot: (data) => String(data.id),
  opportunity: (data) => `${data.bot_id}:${data.buy}>${data.sell}`,
  trade: (data) => data.id,
  balance: (data) => `${data.account_id}:${data.asset}`,
  pnl: (data) => `${data.mode}:${data.quote}`,
  breaker: (data) => `${data.scope}:${data.key}`,
  switch: (data) => `${data.scope}:${data.key}`,
};
const UNFINISHED = new Set(["OPEN", "HOLDING", "REPAIRING", "EXPOSED"]);

export class Store {
  constructor(schedule = (run) => requestAnimationFrame(run)) {
    this.kinds = Object.fromEntries(KINDS.map((kind) => [kind, new Map()]));
    this.figures = null;
    this.pnlAtSnapshot = new Map();
    this.newTrades = new Set(); // since the snapshot
    this.loaded = false;
    this._schedule = schedule;
    this._views = [];
    this._dirty = new Set();
    this._scheduled = false;
  }

  /** Call `view(dirtyKinds)` in the next animation frame after any of `kinds` changed. */
  subscribe(kinds, view) {
    this._views.push({ kinds, view });
  }

  values(kind) {
    return [...this.kinds[kind].values()];
  }

  get(kind, key) {
    return this.kinds[kind].get(key);
  }

  /** Take a snapshot's data: it replaces everything. */
  replace(snapshot) {
    for (const [kind, list] of Object.entries(LISTS)) {
      this.kinds[kind] = new Map((snapshot[list] ?? []).map((data) => [KEY_OF[kind](data), data]));
    }
    const points = new Map();
    for (const point of snapshot.pnl ?? []) {
      const key = KEY_OF.pnl(point);
      if (!points.has(key)) points.set(key, []);
      points.get(key).push(point);
    }
    for (const list of points.values()) list.sort((a, b) => a.at - b.at);
    this.kinds.pnl = points;
    this.figures = snapshot.figures ?? null;
    this.pnlAtSnapshot = new Map([...points].map(([key, list]) => [key, list[list.length - 1].total]));
    this.newTrades.clear();
    this.loaded = true;
    this._touch(...KINDS);
  }

  /** Take an update's items: the latest value of each kind and key wins. Kinds of a newer server are ignored. */
  apply(items) {
    for (const { kind, key, data } of items) {
      if (kind === "pnl") this._addPoint(key, data);
      else if (!(kind in LISTS)) continue;
      else if (data.version < this.kinds[kind].get(key)?.version) continue; // a late one
      else {
        if (kind === "trade" && !this.kinds.trade.has(key)) this.newTrades.add(key);
        this.kinds[kind].set(key, data);
      }
      this._touch(kind);
    }
    this._bound();
  }

  /** Newest first; what is unfinished stays however old it is. */
  trades() {
    return this.values("trade").sort((a, b) => b.opened_at - a.opened_at || (a.id < b.id ? 1 : -1));
  }

  unfinishedTrades() {
    return this.values("trade").filter((trade) => UNFINISHED.has(trade.state));
  }

  _addPoint(key, point) {
    const points = this.kinds.pnl.get(key) ?? [];
    const last = points[points.length - 1];
    if (last && point.at < last.at) return; // a late one: the line already knows better
    if (last && point.at === last.at) points[points.length - 1] = point;
    else points.push(point);
    // Thin the older half; the line keeps its shape and the page its memory.
    if (points.length > MAX_POINTS) {
      const half = points.length >> 1;
      points.splice(0, half, ...points.slice(0, half).filter((_, index) => index % 2 === 0));
    }
    this.kinds.pnl.set(key, points);
  }

  _bound() {
    const trades = this.kinds.trade;
    if (trades.size > MAX_TRADES) {
      this.trades().slice(MAX_TRADES).forEach((trade) => UNFINISHED.has(trade.state) || trades.delete(trade.id));
    }
    const opportunities = this.kinds.opportunity;
    if (opportunities.size > MAX_OPPORTUNITIES) {
      [...opportunities].sort((a, b) => b[1].at - a[1].at).slice(MAX_OPPORTUNITIES)
        .forEach(([key]) => opportunities.delete(key));
    }
  }

  _touch(...kinds) {
    kinds.forEach((kind) => this._dirty.add(kind));
    if (this._scheduled) return;
    this._scheduled = true;
    this._schedule(() => this.flush());
  }

  /** Tell the views now. */
  flush() {
    this._scheduled = false;
    const dirty = this._dirty;
    this._dirty = new Set();
    for (const { kinds, view } of this._views) {
      if (kinds.some((kind) => dirty.has(kind))) view(dirty);
    }
  }
}
