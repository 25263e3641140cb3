// Routes that were profitable, and what was done: taken, or the first check that refused it.

import { setAge } from "./ages.js";
import { KeyedList, el, setBadge, setSign, setText } from "./dom.js";
import { amount, bps, money, parseMarket, venueName } from "./format.js";

const OLD_SECONDS = 30;

export class Opportunities {
  constructor(root, store) {
    this.store = store;
    this.empty = root.querySelector("[data-empty]");
    this.meta = root.querySelector("[data-meta]");
    this.list = new KeyedList(root.querySelector("[data-list]"), createRow, updateRow);
    this.order = new Map(); // route -> rank of its first appearance: rows do not jump when they are updated
    this.appeared = 0;
    store.subscribe(["opportunity"], () => this.render());
  }

  render() {
    const known = this.store.kinds.opportunity;
    for (const key of this.order.keys()) if (!known.has(key)) this.order.delete(key);
    for (const [key] of [...known].sort((a, b) => a[1].at - b[1].at)) {
      if (!this.order.has(key)) this.order.set(key, (this.appeared += 1));
    }
    const rows = [...known].sort((a, b) => this.order.get(b[0]) - this.order.get(a[0]));
    this.list.show(rows, ([key]) => key);
    this.empty.hidden = rows.length > 0 || !this.store.loaded;
    const taken = rows.filter(([, item]) => item.taken).length;
    setText(this.meta, rows.length ? `${taken} of ${rows.length} routes taken last` : "");
  }
}

/** What was done about an opportunity, in words. */
export function outcome(opportunity) {
  if (opportunity.taken) return "taken";
  return opportunity.reason || opportunity.check.replaceAll("_", " ") || "not taken";
}

function createRow() {
  const parts = {
    pair: el("strong"), route: el("span", { class: "route" }), quantity: el("span", { class: "num muted quantity" }),
    profit: el("span", { class: "num profit" }), edge: el("span", { class: "num edge" }),
    age: el("span", { class: "num age" }), badge: el("span", { class: "badge" }), why: el("span", { class: "why" }),
  };
  const row = el("li", { class: "opportunity", "data-row": true },
    el("div", { class: "line" }, parts.pair, parts.route, parts.quantity, parts.profit, parts.edge),
    el("div", { class: "line second" }, parts.badge, parts.why, parts.age));
  row.parts = parts;
  return row;
}

function updateRow(row, [, item]) {
  const { parts } = row;
  const buy = parseMarket(item.buy);
  const sell = parseMarket(item.sell);
  setText(parts.pair, buy.pair);
  setText(parts.route, `${venueName(buy.exchange, buy.symbol)} → ${venueName(sell.exchange, sell.symbol)}`);
  setText(parts.edge, `${bps(item.net_bps)} bps`);
  setSign(parts.edge, Math.sign(item.net_bps));
  setText(parts.quantity, amount(item.quantity, 4));
  setText(parts.profit, `${money(profitText(item))} ${item.quote}`);
  setBadge(parts.badge, item.taken ? "taken" : "refused", item.taken ? "good" : "quiet");
  setText(parts.why, item.taken ? `by ${item.bot}` : outcome(item));
  setAge(parts.age, item.at, OLD_SECONDS);
}

function profitText(item) {
  return Number.isFinite(item.profit) ? item.profit.toFixed(8) : "";
}
