// Pairs that are held: spot against a perpetual, what was entered on, what closing now would earn, and the button for it.

import { el, setAttribute, setBadge, setSign, setText } from "../live/dom.js";
import { amount, bps, clockTime, money, parseMarket, signOf, words } from "../live/format.js";
import { Table, badgeOf, setTwoLines } from "./table.js";

const OVER = new Set(["CLOSED", "FAILED"]);
const TONES = { OPEN: "quiet", HOLDING: "good", REPAIRING: "warn", EXPOSED: "bad" };
const NEAR_BPS = 1_000; // of liquidation: worth a colour

export class Pairs {
  /** `onClose(pair)` is called by a row's button; `mayClose` is false for who only looks. */
  constructor(root, store, { onClose, mayClose = true }) {
    this.root = root;
    this.store = store;
    this.onClose = onClose;
    this.meta = root.querySelector("[data-meta]");
    this.table = new Table(root.querySelector("table"), this._columns(mayClose), { keyOf: (trade) => trade.id });
    store.subscribe(["trade"], () => this.render());
  }

  render() {
    if (!this.store.loaded) return;
    const trades = this.store.values("trade")
      .filter((trade) => trade.pair && !OVER.has(trade.state))
      .sort((a, b) => a.opened_at - b.opened_at || (a.id < b.id ? -1 : 1));
    this.table.show(trades);
    this.root.hidden = trades.length === 0;
    setText(this.meta, trades.length ? `${trades.length} held` : "");
  }

  _columns(mayClose) {
    const columns = [
      { label: "Pair", head: true, class: "p-market", fill: (cell, it) => setTwoLines(cell, `${it.base}/${it.quote}`, `${it.bot} · ${it.mode}`) },
      { label: "State", fill: setState },
      { label: "Held", class: "num", fill: (cell, it) => setTwoLines(cell, amount(it.pair.held), it.base) },
      { label: "Spot leg", class: "num", fill: (cell, it) => setTwoLines(cell, amount(it.pair.spot_price), placeOf(it.pair.spot, "long")) },
      { label: "Perpetual leg", class: "num", fill: (cell, it) => setTwoLines(cell, amount(it.pair.perp_price), placeOf(it.pair.perp, "short")) },
      { label: "Entry edge", class: "num", fill: (cell, it) => setEdge(cell, it.pair.entry_bps) },
      { label: "Exit edge now", class: "num", fill: setExit },
      { label: "Funding", class: "num", fill: setFunding },
      { label: "To liquidation", class: "num", fill: setDistance },
    ];
    if (mayClose) columns.push({ label: "", class: "p-close", fill: (cell, it) => this._fillClose(cell, it) });
    return columns;
  }

  _fillClose(cell, trade) {
    if (!cell.button) {
      cell.button = closeButton(this.onClose);
      cell.append(cell.button);
    }
    showCloseButton(cell.button, trade);
  }
}

/** The button that asks to close a pair: `onClose` gets what the dialog needs to know of it. */
export function closeButton(onClose) {
  const button = el("button", { type: "button", class: "small" }, "Close…");
  button.addEventListener("click", () => onClose(closingOf(button.trade)));
  return button;
}

export function showCloseButton(button, trade) {
  button.trade = trade;
  button.hidden = Boolean(trade.pair.closing);
  setAttribute(button, "aria-label", `Close the pair ${trade.base}/${trade.quote} of ${trade.bot}`);
}

/** What the dialog that closes a position needs to know of a pair. */
export function closingOf({ id, base, quote, mode, bot, pair }) {
  const said = [`${amount(pair.held)} ${base} bought on ${parseMarket(pair.spot).exchange}, sold short on ${parseMarket(pair.perp).exchange} (${bot}, ${mode})`];
  if (pair.exit_bps !== null) said.push(`closing now would earn ${bps(pair.exit_bps)} bps in all`);
  return {
    trade_id: id, side: "pair", symbol: `${base}/${quote}`, isPair: true,
    about: `${said.join("; ")}. Both legs leave together, at capped prices.`,
  };
}

function placeOf(market, side) {
  return `${side} on ${parseMarket(market).exchange}`;
}

function setState(cell, trade) {
  setBadge(badgeOf(cell), trade.pair.closing ? "closing" : words(trade.state), trade.pair.closing ? "warn" : TONES[trade.state] ?? "quiet");
  setAttribute(cell.badge, "title", trade.pair.closing || trade.reason || null);
}

function setEdge(cell, edge) {
  setText(cell, edge === null ? "–" : `${bps(edge)} bps`);
  setSign(cell, edge === null ? 0 : signOf(edge));
}

function setExit(cell, { pair }) {
  setEdge(cell, pair.exit_bps);
  setAttribute(cell, "title", pair.exit_at ? `at the books of ${clockTime(pair.exit_at)}` : null);
}

function setFunding(cell, { pair, quote }) {
  setTwoLines(cell, money(pair.funding), pair.is_estimated ? `${quote}, estimated` : quote);
  setSign(cell.lines[0], signOf(pair.funding));
}

function setDistance(cell, { pair }) {
  const known = pair.liquidation_bps !== null;
  setText(cell, known ? `${(pair.liquidation_bps / 100).toFixed(1)} %` : "–");
  setAttribute(cell, "data-sign", known && pair.liquidation_bps < NEAR_BPS ? "minus" : null);
  setAttribute(cell, "title", known ? "how far the mark price may rise until the exchange liquidates the short" : "not told");
}
