// What is held: entry, mark, size, profit, protection, and the button that closes it.

import { el, setAttribute, setBadge, setSign, setText } from "../live/dom.js";
import { amount, bps, clockTime, money, signOf } from "../live/format.js";
import { Table, badgeOf, setTwoLines } from "./table.js";

const PROTECTION = { exchange: ["exchange", "good"], engine: ["engine", "info"] };

export class Positions {
  /** `onClose(position)` is called by a row's button; `mayClose` is false for who only looks. */
  constructor(root, store, { onClose, mayClose = true }) {
    this.store = store;
    this.onClose = onClose;
    this.empty = root.querySelector("[data-empty]");
    this.meta = root.querySelector("[data-meta]");
    this.table = new Table(root.querySelector("table"), this._columns(mayClose), { keyOf: (position) => String(position.id) });
    store.subscribe(["position"], () => this.render());
  }

  render() {
    if (!this.store.loaded) return;
    const positions = this.store.values("position")
      .sort((a, b) => compare(a.symbol, b.symbol) || compare(a.exchange, b.exchange) || compare(String(a.id), String(b.id)));
    this.table.show(positions);
    this.empty.hidden = positions.length > 0;
    setText(this.meta, positions.length ? `${positions.length} held` : "");
  }

  _columns(mayClose) {
    const columns = [
      { label: "Market", head: true, class: "p-market", fill: (cell, it) => setTwoLines(cell, it.symbol, placeOf(it)) },
      { label: "Side", fill: (cell, it) => setSide(cell, it.side) },
      { label: "Size", class: "num", fill: (cell, it) => setText(cell, amount(it.size)) },
      { label: "Entry", class: "num", fill: (cell, it) => setText(cell, amount(it.entry_price)) },
      { label: "Mark", class: "num", fill: (cell, it) => setText(cell, amount(it.mark_price)) },
      { label: "Unrealised PnL", class: "num p-pnl", fill: setPnl },
      { label: "Leverage", class: "num", fill: (cell, it) => setText(cell, it.leverage ? `${amount(it.leverage)}×` : "–") },
      { label: "Liquidation", class: "num", fill: setLiquidation },
      { label: "Take profit", class: "num", fill: (cell, it) => setText(cell, amount(it.take_profit)) },
      { label: "Stop loss", class: "num", fill: (cell, it) => setText(cell, amount(it.stop_loss)) },
      { label: "Protected by", fill: setProtection },
    ];
    if (mayClose) columns.push({ label: "", class: "p-close", fill: (cell, it) => this._fillClose(cell, it) });
    return columns;
  }

  _fillClose(cell, position) {
    if (!cell.button) {
      cell.button = el("button", { type: "button", class: "small" }, "Close…");
      cell.button.addEventListener("click", () => this.onClose(cell.position));
      cell.append(cell.button);
    }
    cell.position = position;
    cell.button.hidden = !position.trade_id;
    setAttribute(cell.button, "aria-label", `Close ${position.side} ${position.symbol} on ${position.exchange}`);
  }
}

// As old as the exchange's figures are; the place of the age is the hover text.
function setLiquidation(cell, it) {
  setText(cell, amount(it.liquidation_price));
  setAttribute(cell, "title", it.figures_at ? `as the exchange told it at ${clockTime(it.figures_at)}` : "");
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

/** Where it is: exchange, account, and whose money if that is not said elsewhere. */
export function placeOf({ exchange, account, environment }) {
  return [exchange, account, environment].filter(Boolean).join(" · ");
}

export function setSide(cell, side) {
  setText(cell, side);
  setAttribute(cell, "data-side", side === "long" || side === "buy" ? "buy" : "sell");
}

function setPnl(cell, position) {
  const percent = returned(position);
  setText(cell, position.unrealized_pnl === null ? "–" : money(position.unrealized_pnl) + (percent === null ? "" : ` (${percent})`));
  setSign(cell, signOf(position.unrealized_pnl ?? "0"));
}

/** How far the mark is from the entry in the position's favour, in percent; null without a mark. */
function returned({ side, entry_price: entry, mark_price: mark }) {
  const [from, to] = [Number(entry), Number(mark)];
  if (!(from > 0) || !(to > 0)) return null;
  const moved = (to - from) / from * (side === "long" || side === "buy" ? 1 : -1);
  return `${bps(moved * 100)} %`;
}

function setProtection(cell, position) {
  const [word, tone] = PROTECTION[position.protected_by] ?? (position.take_profit || position.stop_loss ? ["nobody", "bad"] : ["none", "quiet"]);
  setBadge(badgeOf(cell), word, tone);
  setAttribute(cell.badge, "title", position.protection_note || null);
}
