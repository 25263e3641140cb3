// The banner over the desk: the trading switch and the circuit breakers, when they hold something back.

import { KeyedList, el, setBadge, setText } from "../live/dom.js";
import { countdown, settled } from "../live/risk.js";

const SWITCHED = { reduce_only: ["reduce only", "warn"], kill: ["killed", "bad"] };
const STATES = { open: ["open", "bad"], half_open: ["half-open", "warn"], probing: ["probing", "warn"], ramping: ["ramping", "info"] };
const TICK_MS = 500;

export class Banner {
  constructor(root, store, clock) {
    this.root = root;
    this.store = store;
    this.clock = clock;
    this.list = new KeyedList(root.querySelector("[data-list]"), createRow, updateRow);
    store.subscribe(["breaker", "switch"], () => this.render());
    setInterval(() => this.root.hidden || this.render(), TICK_MS); // cool-downs
  }

  render() {
    if (!this.store.loaded) return;
    const now = this.clock.now();
    const switches = this.store.values("switch").filter((found) => found.state in SWITCHED)
      .map((found) => ({ key: `s:${found.scope}:${found.key}`, title: `Trading of ${found.name}`, badge: SWITCHED[found.state], text: found.reason }));
    const breakers = this.store.values("breaker").map((breaker) => settled(breaker, now)).filter((breaker) => breaker.state in STATES)
      .map((breaker) => ({
        key: `b:${breaker.scope}:${breaker.key}`, title: `Breaker of ${breaker.name}`, badge: STATES[breaker.state],
        text: [breaker.reason, timeOf(breaker, now)].filter(Boolean).join("; "),
      }));
    this.list.show([...switches, ...breakers], (row) => row.key);
    this.root.hidden = switches.length + breakers.length === 0;
  }
}

function timeOf(breaker, now) {
  if (breaker.state === "open") return `probes in ${countdown(breaker.until - now)}`;
  if (breaker.state === "ramping") return `${Math.round(breaker.share * 100)} % of the size`;
  return breaker.state === "half_open" ? "one small trade may probe" : "probe under way";
}

function createRow() {
  const parts = { title: el("strong"), badge: el("span", { class: "badge" }), text: el("span", { class: "muted" }) };
  const row = el("li", {}, parts.title, " ", parts.badge, " ", parts.text);
  row.parts = parts;
  return row;
}

function updateRow(row, { title, badge, text }) {
  setText(row.parts.title, title);
  setBadge(row.parts.badge, ...badge);
  setText(row.parts.text, text);
}
