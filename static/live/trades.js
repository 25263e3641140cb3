// Trades as they happen, newest first, each with its legs.

import { closeButton, showCloseButton } from "../desk/pairs.js";
import { setAge } from "./ages.js";
import { KeyedList, el, setAttribute, setBadge, setSign, setText } from "./dom.js";
import { amount, bps, clockTime, money, signOf, venueName, words } from "./format.js";

// Older trades show their legs when asked to.
const OPEN_AT_FIRST = matchMedia("(max-width: 640px)").matches ? 3 : 8;
const FRESH_MS = 1_500; // tinted for so long after it came

const TRADE_TONES = { OPEN: "quiet", HOLDING: "good", REPAIRING: "warn", CLOSED: "good", EXPOSED: "bad", FAILED: "quiet" };
const TRADE_WORDS = { FAILED: "not executed", EXPOSED: "exposed" };
const ORDER_TONES = {
  FILLED: "good", PARTIALLY_FILLED: "warn", UNKNOWN: "warn", FAILED: "bad", DISPUTED: "bad",
};

export class Trades {
  /** `onClose(pair)` is called by the button of a pair that is held; without it there is none. */
  constructor(root, store, { onClose = null } = {}) {
    this.store = store;
    this.empty = root.querySelector("[data-empty]");
    this.meta = root.querySelector("[data-meta]");
    this.head = root.querySelector(".trade-head");
    this.list = new KeyedList(root.querySelector("[data-list]"), (item) => createTrade(item, onClose), updateTrade);
    this.shownBefore = false;
    store.subscribe(["trade"], () => this.render());
  }

  render() {
    const trades = this.store.trades();
    const fresh = this.shownBefore ? this.store.newTrades : new Set();
    const items = trades.map((trade, index) => ({ trade, open: index < OPEN_AT_FIRST, fresh: fresh.has(trade.id) }));
    this.list.show(items, (item) => item.trade.id);
    this.shownBefore ||= this.store.loaded;
    this.head.hidden = trades.length === 0;
    this.empty.hidden = trades.length > 0 || !this.store.loaded;
    setText(this.meta, trades.length ? `newest ${trades.length}` : "");
  }
}

/** "okx-sim → binance-sim": where the first attempts buy and sell; empty when a trade has no legs yet. */
export function routeOf(trade) {
  const place = (side) => {
    const leg = trade.legs.find((candidate) => candidate.side === side);
    return leg ? venueName(leg.exchange, leg.symbol) : "";
  };
  const [buy, sell] = [place("buy"), place("sell")];
  return buy && sell ? `${buy} → ${sell}` : buy || sell;
}

function createTrade({ open, fresh }, onClose) {
  const parts = {
    time: el("span", { class: "num t-time" }), age: el("span", { class: "num age t-age" }),
    pair: el("strong", { class: "t-pair" }), route: el("span", { class: "t-route" }), bot: el("span", { class: "t-bot muted" }),
    quantity: el("span", { class: "num t-quantity" }), expected: el("span", { class: "num muted t-expected" }),
    profit: el("strong", { class: "num t-profit" }), state: el("span", { class: "badge" }), reason: el("p", { class: "reason" }),
    figures: el("dl", { class: "pair-figures", hidden: true }),
    close: onClose && el("p", { class: "pair-close", hidden: true }, closeButton(onClose)),
  };
  const body = el("tbody");
  const details = el("details", { open },
    el("summary", {},
      parts.time, el("span", { class: "t-what" }, parts.pair, " ", parts.route), parts.quantity, parts.expected,
      parts.profit, el("span", { class: "t-state" }, parts.state), parts.age),
    el("div", { class: "trade-body" },
      el("table", { class: "legs" },
        el("caption", { class: "visually-hidden" }, "Orders of this trade"),
        el("thead", {}, el("tr", {}, ...["Side", "Exchange", "Average", "Limit", "Filled", "Fee", "State", "Order"].map(
          (name) => el("th", { scope: "col", class: LEG_CLASS[name] ?? "" }, name)))),
        body),
      parts.figures, ...(parts.close ? [parts.close] : []), parts.bot, parts.reason));
  const node = el("li", { class: fresh ? "trade fresh" : "trade" }, details);
  if (fresh) setTimeout(() => node.classList.remove("fresh"), FRESH_MS);
  node.parts = parts;
  node.legs = new KeyedList(body, createLeg, updateLeg);
  return node;
}

const LEG_CLASS = {
  Side: "l-side", Exchange: "l-exchange", Average: "num", Limit: "num l-limit", Filled: "num", Fee: "num l-fee", State: "l-state",
  Order: "l-order wide-only",
};

function updateTrade(node, { trade }) {
  const { parts } = node;
  setAttribute(node, "data-state", trade.state.toLowerCase());
  setText(parts.time, clockTime(trade.opened_at));
  setAge(parts.age, trade.closed_at ?? trade.opened_at);
  setText(parts.pair, `${trade.base}/${trade.quote}`);
  setText(parts.route, routeOf(trade) || trade.route);
  setText(parts.quantity, `${amount(trade.quantity, 6)} ${trade.base}`);
  setText(parts.expected, `${bps(trade.expected_bps)} bps`);
  setAttribute(parts.expected, "title", `expected ${money(trade.expected_profit)} ${trade.quote}`);
  setText(parts.profit, trade.profit === null ? "–" : `${money(trade.profit)} ${trade.quote}`);
  setSign(parts.profit, trade.profit === null ? 0 : signOf(trade.profit));
  setBadge(parts.state, TRADE_WORDS[trade.state] ?? words(trade.state), TRADE_TONES[trade.state] ?? "quiet");
  const residual = signOf(trade.residual) ? `unhedged: ${amount(trade.residual, 8)} ${trade.base}` : "";
  setText(parts.reason, [residual, trade.reason].filter(Boolean).join(" · "));
  parts.reason.hidden = !parts.reason.textContent;
  setText(parts.bot, `${trade.bot}, ${trade.mode}`);
  const isHeld = Boolean(trade.pair) && trade.state !== "CLOSED" && trade.state !== "FAILED";
  parts.figures.hidden = !isHeld;
  if (isHeld) showPair(parts.figures, trade);
  if (parts.close) {
    parts.close.hidden = !isHeld;
    if (isHeld) showCloseButton(parts.close.firstChild, trade);
  }
  const legs = [...trade.legs].sort((a, b) => a.leg - b.leg || a.attempt - b.attempt);
  node.legs.show(legs, (leg) => leg.client_order_id);
}

/** How a pair of spot against a perpetual stands, while it is held. */
function showPair(list, { pair, quote }) {
  const edge = (value) => (value === null ? "–" : `${bps(value)} bps`);
  const figures = [
    ["Spot leg", amount(pair.spot_price), 0], ["Perpetual leg", amount(pair.perp_price), 0],
    ["Entry edge", edge(pair.entry_bps), signOf(pair.entry_bps ?? "0")],
    ["Exit edge now", edge(pair.exit_bps), signOf(pair.exit_bps ?? "0")],
    [pair.is_estimated ? "Funding, estimated" : "Funding", `${money(pair.funding)} ${quote}`, signOf(pair.funding)],
    ["To liquidation", pair.liquidation_bps === null ? "–" : `${(pair.liquidation_bps / 100).toFixed(1)} %`, 0],
  ];
  if (!list.parts) {
    list.parts = figures.map(() => [el("dt", { class: "muted" }), el("dd", { class: "num" })]);
    list.append(...list.parts.map(([name, value]) => el("div", {}, name, value)));
  }
  figures.forEach(([name, value, sign], index) => {
    const [dt, dd] = list.parts[index];
    setText(dt, name);
    setText(dd, value);
    setSign(dd, sign);
  });
}

function createLeg() {
  const parts = {
    side: el("td", { class: "l-side" }), exchange: el("td", { class: "l-exchange" }), average: el("td", { class: "num l-average" }),
    price: el("td", { class: "num l-limit muted" }), filled: el("span"), wanted: el("span", { class: "muted" }),
    fee: el("td", { class: "num l-fee" }), state: el("span", { class: "badge" }), id: el("td", { class: "l-order wide-only muted" }),
  };
  const row = el("tr", {}, parts.side, parts.exchange, parts.average, parts.price,
    el("td", { class: "num l-filled" }, parts.filled, parts.wanted), parts.fee, el("td", { class: "l-state" }, parts.state), parts.id);
  row.parts = parts;
  return row;
}

function updateLeg(row, leg) {
  const { parts } = row;
  setText(parts.side, leg.attempt > 0 ? `${leg.side} #${leg.attempt + 1}` : leg.side);
  setAttribute(parts.side, "data-side", leg.side);
  setText(parts.exchange, venueName(leg.exchange, leg.symbol));
  setText(parts.average, amount(leg.average));
  setText(parts.price, amount(leg.price));
  setText(parts.filled, amount(leg.filled, 6));
  setText(parts.wanted, leg.filled === leg.quantity ? "" : ` of ${amount(leg.quantity, 6)}`);
  setText(parts.fee, leg.fee === null ? "–" : `${amount(leg.fee, 3)} ${leg.fee_asset}`);
  setBadge(parts.state, words(leg.state), ORDER_TONES[leg.state] ?? "quiet");
  setText(parts.id, leg.client_order_id);
}
