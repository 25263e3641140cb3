// Orders: what is open, and what was sent last.

import { setAge } from "../live/ages.js";
import { el, setAttribute, setBadge, setText } from "../live/dom.js";
import { amount, clockTime, words } from "../live/format.js";
import { placeOf, setSide } from "./positions.js";
import { isOpen } from "./store.js";
import { Table, badgeOf, setTwoLines } from "./table.js";

const TONES = {
  FILLED: "good", PLACED: "info", PARTIALLY_FILLED: "warn", UNKNOWN: "warn", FAILED: "bad", DISPUTED: "bad",
};
const STATUS = { FAILED: "not placed", UNKNOWN: "unknown", PARTIALLY_FILLED: "partial" };
const PATHS = { websocket: "WebSocket", rest: "REST", paper: "paper" };
const RECENT = 40;
const BY_HAND = 20; // of these, so that bots which trade a lot push none of the newest by hand out

export class Orders {
  constructor(root, store) {
    this.store = store;
    this.empty = root.querySelector("[data-empty]");
    this.meta = root.querySelector("[data-meta]");
    this.table = new Table(root.querySelector("table"), COLUMNS, { keyOf: (order) => order.id });
    store.subscribe(["order"], () => this.render());
  }

  render() {
    if (!this.store.loaded) return;
    const orders = this.store.orders();
    const open = orders.filter(isOpen);
    const recent = recentOf(orders.filter((order) => !isOpen(order)));
    this.table.show([...open, ...recent]);
    this.empty.hidden = orders.length > 0;
    setText(this.meta, orders.length ? `${open.length} open, ${recent.length} recent` : "");
  }
}

/** The newest orders, among them the newest by hand, however old: the newest first, as they are given. */
export function recentOf(orders) {
  const byHand = orders.filter((order) => order.by_hand).slice(0, BY_HAND);
  const others = orders.filter((order) => !byHand.includes(order)).slice(0, RECENT - byHand.length);
  return orders.filter((order) => byHand.includes(order) || others.includes(order));
}

const COLUMNS = [
  { label: "Time", class: "num o-time", fill: setTime },
  { label: "Market", head: true, class: "o-market", fill: setMarket },
  { label: "Type", fill: (cell, it) => setText(cell, words(it.type)) },
  { label: "Side", fill: (cell, it) => setSide(cell, it.side) },
  { label: "Price", class: "num", fill: setPrice },
  { label: "Amount", class: "num", fill: (cell, it) => setText(cell, amount(it.amount, 6)) },
  { label: "Filled", class: "num", fill: (cell, it) => setText(cell, amount(it.filled, 6)) },
  { label: "Remaining", class: "num", fill: (cell, it) => setText(cell, amount(it.remaining, 6)) },
  { label: "Status", class: "o-status", fill: setStatus },
  { label: "Path", fill: (cell, it) => setText(cell, PATHS[it.path] ?? (it.path || "–")) },
];

function setTime(cell, order) {
  if (!cell.parts) {
    cell.parts = { time: el("span"), age: el("span", { class: "age muted" }) };
    cell.append(cell.parts.time, " ", cell.parts.age);
  }
  setText(cell.parts.time, clockTime(order.at));
  setAge(cell.parts.age, order.at);
}

function setMarket(cell, order) {
  setTwoLines(cell, order.symbol, placeOf(order));
  setAttribute(cell, "title", placeOf(order));
}

/** Where it rests or was filled; a protective order's trigger is what matters of it. */
function setPrice(cell, { price, trigger, average }) {
  setText(cell, amount(trigger ?? average ?? price));
  setAttribute(cell, "title", [trigger && `trigger ${trigger}`, `limit ${price}`, average && `average ${average}`].filter(Boolean).join(", "));
}

function setStatus(cell, order) {
  const state = String(order.status).toUpperCase();
  setBadge(badgeOf(cell), STATUS[state] ?? words(state), TONES[state] ?? "quiet");
}
