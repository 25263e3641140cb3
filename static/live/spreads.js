// Bid and ask of every exchange, pair by pair; what trades in USDT and what in USDC are different pairs.

import { setAge } from "./ages.js";
import { KeyedList, el, setAttribute, setBadge, setSign, setText } from "./dom.js";
import { alignPoints, amount, bps, venueName } from "./format.js";

export const OLD_QUOTE_SECONDS = 5;
const TONES = { live: "good", connecting: "quiet", stale: "warn", down: "bad" };

/** Group quotes by asset pair ("BTC/USDT"), each group sorted by exchange. */
export function groupByPair(quotes) {
  const groups = new Map();
  for (const quote of quotes) {
    const pair = quote.symbol.split(":")[0];
    if (!groups.has(pair)) groups.set(pair, []);
    groups.get(pair).push(quote);
  }
  for (const list of groups.values()) list.sort((a, b) => (a.market < b.market ? -1 : 1));
  return [...groups].sort((a, b) => (a[0] < b[0] ? -1 : 1)).map(([pair, list]) => ({ pair, quotes: list }));
}

/** The best ordered pair of markets now: buy at one's ask, sell at another's bid; null without two live quotes. */
export function bestEdge(quotes, now, oldAfter = OLD_QUOTE_SECONDS) {
  const live = quotes.filter((q) => q.status === "live" && q.bid > 0 && q.ask > 0 && now - q.received_at <= oldAfter);
  let best = null;
  for (const buy of live) {
    for (const sell of live) {
      if (buy === sell) continue;
      const edge = ((sell.bid - buy.ask) / buy.ask) * 10_000;
      if (best === null || edge > best.bps) best = { buy, sell, bps: edge };
    }
  }
  return best;
}

export class Spreads {
  constructor(root, store, clock) {
    this.root = root;
    this.store = store;
    this.clock = clock;
    this.empty = root.querySelector("[data-empty]");
    this.meta = root.querySelector("[data-meta]");
    this.groups = new KeyedList(root.querySelector("[data-list]"), createGroup, (node, group) => this._update(node, group));
    store.subscribe(["quote"], () => this.render());
  }

  render() {
    const groups = groupByPair(this.store.values("quote"));
    this.groups.show(groups, (group) => group.pair);
    this.empty.hidden = groups.length > 0 || !this.store.loaded;
    setText(this.meta, groups.length ? `before fees` : "");
  }

  _update(node, { pair, quotes }) {
    const edge = bestEdge(quotes, this.clock.now());
    setText(node.parts.pair, pair);
    setText(node.parts.edge, edge ? `${bps(edge.bps)} bps` : "–");
    setSign(node.parts.edge, edge ? Math.sign(edge.bps) : 0);
    setText(node.parts.route, edge ? routeText(edge) : "needs two live exchanges");
    setAttribute(node, "data-profitable", edge && edge.bps > 0 ? "" : null);
    const aligned = ["bid", "ask"].map((side) => alignPoints(quotes.map((quote) => amount(quote[side]))));
    const rows = quotes.map((quote, index) => ({ quote, bid: aligned[0][index], ask: aligned[1][index], edge }));
    node.rows.show(rows, (row) => row.quote.market);
  }
}

function routeText({ buy, sell }) {
  return `buy ${venueName(buy.exchange, buy.symbol)} → sell ${venueName(sell.exchange, sell.symbol)}`;
}

function createGroup() {
  const parts = {
    pair: el("h3", { class: "pair-name" }),
    edge: el("strong", { class: "pair-edge num", "data-edge": true }),
    route: el("span", { class: "pair-route" }),
  };
  const body = el("tbody");
  const node = el("section", { class: "pair" },
    el("header", { class: "pair-head" }, parts.pair, parts.route, parts.edge),
    el("table", { class: "quotes" },
      el("thead", {}, el("tr", {},
        el("th", { scope: "col" }, "Exchange"),
        el("th", { scope: "col", class: "num" }, el("span", { class: "size" }, "Size"), " Bid"),
        el("th", { scope: "col", class: "num" }, "Ask ", el("span", { class: "size" }, "Size")),
        el("th", { scope: "col", class: "num narrow-hide" }, "Spread"),
        el("th", { scope: "col", class: "num" }, "Age"),
        el("th", { scope: "col" }, "Feed"),
      )), body));
  node.parts = parts;
  node.rows = new KeyedList(body, createRow, updateRow);
  return node;
}

function createRow() {
  const parts = {
    exchange: el("span"), trouble: el("span", { class: "badge trouble" }),
    bid: el("span", { class: "price" }), bidSize: el("span", { class: "size" }),
    ask: el("span", { class: "price" }), askSize: el("span", { class: "size" }),
    bestBid: el("span", { class: "visually-hidden" }), bestAsk: el("span", { class: "visually-hidden" }),
    spread: el("td", { class: "num narrow-hide" }),
    age: el("td", { class: "num age" }),
    status: el("span", { class: "badge" }),
  };
  const row = el("tr", { "data-row": true }, el("th", { scope: "row" }, parts.exchange, " ", parts.trouble),
    el("td", { class: "num quote bid" }, parts.bidSize, " ", parts.bid, parts.bestBid),
    el("td", { class: "num quote ask" }, parts.ask, " ", parts.askSize, parts.bestAsk),
    parts.spread, parts.age, el("td", {}, parts.status));
  row.parts = parts;
  return row;
}

function updateRow(row, { quote, bid, ask, edge }) {
  const { parts } = row;
  setText(parts.exchange, venueName(quote.exchange, quote.symbol));
  setText(parts.bid, bid);
  setText(parts.ask, ask);
  setText(parts.bidSize, amount(quote.bid_size, 4));
  setText(parts.askSize, amount(quote.ask_size, 4));
  setText(parts.spread, quote.bid > 0 && quote.ask > 0 ? spreadText(quote) : "–");
  setAge(parts.age, quote.received_at ?? NaN, OLD_QUOTE_SECONDS);
  setBadge(parts.status, quote.status, TONES[quote.status] ?? "quiet");
  setAttribute(parts.status, "title", quote.reason || null);
  // Where there is no room for the last column, trouble is told beside the name.
  setBadge(parts.trouble, quote.status === "live" ? "" : quote.status, TONES[quote.status] ?? "quiet");
  mark(parts.bid.parentElement, parts.bestBid, edge?.sell === quote, "best bid");
  mark(parts.ask.parentElement, parts.bestAsk, edge?.buy === quote, "best ask");
}

function spreadText(quote) {
  return (((quote.ask - quote.bid) / ((quote.ask + quote.bid) / 2)) * 10_000).toFixed(2);
}

function mark(cell, note, best, text) {
  setAttribute(cell, "data-best", best ? "" : null);
  setText(note, best ? ` (${text})` : "");
}
