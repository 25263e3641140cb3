// What the desk is worth: one row of figures for each environment and quote asset, never added together.

import { KeyedList, el, setAttribute, setSign, setText } from "../live/dom.js";
import { amount, count, money, signOf } from "../live/format.js";

export const ENVIRONMENTS = { live: "live", testnet: "testnet", simulated: "simulated", paper: "paper" };
const FIGURES = [
  { field: "wallet_balance", label: "Wallet", note: "valued now" },
  { field: "unrealized_pnl", label: "Unrealised PnL", note: "of positions", gain: true },
  { field: "realized_pnl", label: "Realised PnL", note: "of closed trades", gain: true },
  { field: "total_fees_paid", label: "Fees paid", note: "of all fills" },
  { field: "net_balance", label: "Net", note: "with contracts’ PnL" },
];

export class Money {
  constructor(root, store) {
    this.store = store;
    this.empty = root.querySelector("[data-empty]");
    this.list = new KeyedList(root.querySelector("[data-list]"), createRow, updateRow);
    store.subscribe(["money", "standing"], () => this.render());
  }

  render() {
    if (!this.store.loaded) return;
    const rows = this.store.money();
    this.list.show(rows, (row) => `${row.environment}:${row.quote}`);
    this.empty.hidden = rows.length > 0;
  }
}

function createRow(row) {
  const parts = { tiles: new Map(), name: el("h3"), unvalued: el("p", { class: "muted unvalued" }) };
  const figures = el("dl", { class: "figures" });
  for (const { field, label, note } of [...FIGURES, ...EXTRA]) {
    const tile = { value: el("dd", { class: "value num" }), note: el("dd", { class: "note" }, note ?? "") };
    tile.box = el("div", { class: "tile", "data-figure": field }, el("dt", {}, label), tile.value, tile.note);
    parts.tiles.set(field, tile);
    figures.append(tile.box);
  }
  const node = el("li", { class: "money", "data-environment": row.environment }, parts.name, figures, parts.unvalued);
  node.parts = parts;
  return node;
}

/** What trades by hand have saved against taking the book at once, and how often the exchange had to be asked; only where the server tells it. */
const EXTRA = [
  { field: "price_improvement", label: "Price improvement" },
  { field: "status_questions", label: "Status questions" },
];

function updateRow(node, row) {
  const { parts } = node;
  setText(parts.name, `${ENVIRONMENTS[row.environment] ?? row.environment}, ${row.quote}`);
  for (const { field, gain } of FIGURES) {
    const tile = parts.tiles.get(field);
    const text = gain ? money(row[field]) : plainMoney(row[field]);
    setText(tile.value, text);
    setAttribute(tile.value, "title", row[field] ?? null);
    if (gain) setSign(tile.value, signOf(row[field]));
  }
  const improvement = parts.tiles.get("price_improvement");
  improvement.box.hidden = row.price_improvement === undefined || row.price_improvement === null;
  setText(improvement.value, money(row.price_improvement ?? ""));
  setSign(improvement.value, signOf(row.price_improvement ?? "0"));
  setText(improvement.note, "against taking at once");
  const questions = parts.tiles.get("status_questions");
  questions.box.hidden = row.status_questions === undefined || row.status_questions === null;
  setText(questions.value, String(row.status_questions ?? ""));
  setText(questions.note, "a stream was silent");
  const unvalued = row.unvalued ?? [];
  parts.unvalued.hidden = unvalued.length === 0;
  setText(parts.unvalued, `Not counted: ${count(unvalued.length, "asset")} without a price in ${row.quote} here: ${unvalued.join(", ")}.`);
}

/** Like `money`, without the sign of a gain. */
export function plainMoney(text) {
  return text === null || text === undefined ? "–" : money(text).replace(/^\+/, "");
}

/** An amount of an asset with its name: "0.5 BTC". */
export function held(text, asset) {
  return `${amount(text)} ${asset}`;
}
