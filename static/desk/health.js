// How the exchanges are: their market data, the accounts' streams and order paths, and where the time goes.

import { setAge } from "../live/ages.js";
import { setAttribute, setBadge, setText } from "../live/dom.js";
import { amount, count } from "../live/format.js";
import { Table, badgeOf, setTwoLines } from "./table.js";

const FEED_TONES = { live: "good", connecting: "warn", stale: "warn", down: "bad" };
const ACCOUNT_TONES = { live: "good", starting: "warn", blocked: "warn", down: "bad", failed: "bad" };
const PATHS = { websocket: ["WebSocket", "good"], rest: ["REST", "quiet"], paper: ["paper", "quiet"] };
const OLD_SECONDS = 15; // told every five seconds while nothing else changes

export class Health {
  constructor(root, store) {
    this.store = store;
    this.empty = root.querySelector("[data-empty]");
    this.meta = root.querySelector("[data-meta]");
    const [feeds, accounts] = root.querySelectorAll("table");
    this.feeds = new Table(feeds, FEED_COLUMNS, { keyOf: (feed) => feed.exchange });
    this.accounts = new Table(accounts, ACCOUNT_COLUMNS, { keyOf: (account) => `${account.account_id}:${account.environment}` });
    store.subscribe(["standing"], () => this.render());
  }

  render() {
    if (!this.store.loaded) return;
    const { feeds = [], accounts = [] } = this.store.standing ?? {};
    this.feeds.show([...feeds].sort((a, b) => compare(a.exchange, b.exchange)));
    this.accounts.show([...accounts].sort((a, b) => compare(a.exchange, b.exchange) || compare(a.account, b.account)));
    this.empty.hidden = feeds.length + accounts.length > 0;
    const live = feeds.filter((feed) => feed.status === "live").length;
    setText(this.meta, feeds.length ? `${live} of ${count(feeds.length, "feed")} live` : "");
  }
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

function setState(cell, word, tone, reason) {
  setBadge(badgeOf(cell), word, tone ?? "quiet");
  if (!cell.reason) {
    cell.reason = document.createElement("span");
    cell.reason.className = "muted why";
    cell.append(cell.reason);
  }
  setText(cell.reason, reason);
}

/** REST is a way like another, unless something keeps the account from its WebSocket. */
function setPath(cell, { path, path_reason: reason }) {
  const [word, tone] = PATHS[path] ?? ["not known", "quiet"];
  setState(cell, word, path === "rest" && reason ? "warn" : tone, reason);
}

const FEED_COLUMNS = [
  { label: "Market data", head: true, fill: (cell, it) => setText(cell, it.exchange) },
  { label: "State", class: "h-state", fill: (cell, it) => setState(cell, it.status, FEED_TONES[it.status], it.reason) },
  { label: "Messages/s", class: "num", fill: (cell, it) => setText(cell, it.messages_per_second.toFixed(0)) },
  { label: "Gaps", class: "num narrow-hide", fill: (cell, it) => setText(cell, String(it.gaps)) },
  { label: "Reconnects", class: "num narrow-hide", fill: (cell, it) => setText(cell, String(it.reconnects)) },
  { label: "Told", class: "num age", fill: (cell, it) => setAge(cell, it.at, OLD_SECONDS) },
];

const ACCOUNT_COLUMNS = [
  { label: "Account", head: true, fill: (cell, it) => setTwoLines(cell, it.exchange, `${it.account} · ${it.environment}`) },
  { label: "State", class: "h-state", fill: (cell, it) => setState(cell, it.state, ACCOUNT_TONES[it.state], it.reason) },
  { label: "Order path", class: "h-path", fill: setPath },
  { label: "Answers in", class: "num h-answers", fill: (cell, it) => setText(cell, it.answer_ms === null ? "–" : `${amount(it.answer_ms.toFixed(1), 4)} ms`) },
];

export class Latency {
  constructor(root, store) {
    this.store = store;
    this.empty = root.querySelector("[data-empty]");
    this.meta = root.querySelector("[data-meta]");
    this.table = new Table(root.querySelector("table"), STAGE_COLUMNS, { keyOf: (stage) => stage.stage });
    store.subscribe(["standing"], () => this.render());
  }

  render() {
    if (!this.store.loaded) return;
    const stages = (this.store.standing?.stages ?? []).filter((stage) => stage.count > 0);
    this.table.show(stages);
    this.empty.hidden = stages.length > 0;
    setText(this.meta, stages.length ? "since the engine began" : "");
  }
}

const STAGE_COLUMNS = [
  { label: "Stage", head: true, fill: (cell, it) => setText(cell, it.stage.replaceAll("_", " ")) },
  { label: "Median", class: "num", fill: (cell, it) => setTime(cell, it.p50_us) },
  { label: "99 %", class: "num", fill: (cell, it) => setTime(cell, it.p99_us) },
  { label: "Most", class: "num", fill: (cell, it) => setTime(cell, it.max_us) },
  { label: "Times", class: "num narrow-hide", fill: (cell, it) => setText(cell, amount(String(it.count), 12)) },
];

function setTime(cell, us) {
  setText(cell, microseconds(us));
  setAttribute(cell, "title", `${us} µs`);
}

/** "85 µs", "1.42 ms", "3.1 s". */
export function microseconds(us) {
  if (us < 1_000) return `${us} µs`;
  if (us < 1_000_000) return `${amount(String(us / 1_000), 3)} ms`;
  return `${amount(String(us / 1_000_000), 3)} s`;
}
