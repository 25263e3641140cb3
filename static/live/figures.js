// The figures at the top: what a trader looks at first.

import { KeyedList, el, setAttribute, setSign, setText } from "./dom.js";
import { addDecimals, amount, bps, count, money, negateDecimal, signOf } from "./format.js";
import { setAge } from "./ages.js";
import { byModeAndAsset } from "./modes.js";
import { bestEdge, groupByPair } from "./spreads.js";

/**
 * Profit since midnight UTC: the snapshot's, and what the running totals gained since. A list of
 * `{key, mode, asset, sum, at}`, one for each mode and quote asset, the most real first.
 */
export function profitToday(store) {
  const sums = new Map();
  for (const [mode, byAsset] of Object.entries(store.figures?.profit ?? {})) {
    for (const [asset, sum] of Object.entries(byAsset)) sums.set(`${mode}:${asset}`, { mode, asset, sum, at: null });
  }
  for (const [key, points] of store.kinds.pnl) {
    const last = points[points.length - 1];
    const gained = addDecimals(last.total, negateDecimal(store.pnlAtSnapshot.get(key) ?? "0"));
    const today = sums.get(key);
    // A line that stood still since yesterday is no figure of today.
    if (!today && last.at < (store.figures?.since ?? 0)) continue;
    sums.set(key, { mode: last.mode, asset: last.quote, sum: addDecimals(today?.sum ?? "0", gained), at: last.at });
  }
  return [...sums].map(([key, figure]) => ({ key, ...figure })).sort(byModeAndAsset);
}

/** What these trades hold unhedged: a list of `{mode, asset, sum}`, the most real first. */
export function exposure(trades) {
  const sums = new Map();
  for (const { mode, base: asset, residual } of trades) {
    if (!signOf(residual)) continue;
    const key = `${mode}:${asset}`;
    sums.set(key, { mode, asset, sum: addDecimals(sums.get(key)?.sum ?? "0", residual) });
  }
  return [...sums.values()].sort(byModeAndAsset);
}

export class Figures {
  constructor(root, store, clock) {
    this.store = store;
    this.clock = clock;
    this.list = new KeyedList(root, createTile, updateTile);
    store.subscribe(["pnl", "trade", "quote"], () => this.render());
  }

  render() {
    if (!this.store.loaded) return;
    const unfinished = this.store.unfinishedTrades();
    const open = unfinished.filter((trade) => trade.state !== "HOLDING"); // held on purpose, by a trade made by hand
    const unhedged = exposure(open);
    // What trades being executed hold for a moment is business as usual; what has to be repaired is not.
    const held = open.filter((trade) => signOf(trade.residual) && trade.mode === unhedged[0].mode);
    const alarming = open.some((trade) => trade.state !== "OPEN" && signOf(trade.residual));
    const trades = (this.store.figures?.trades ?? 0) + this.store.newTrades.size;
    const edge = groupByPair(this.store.values("quote"))
      .map((group) => ({ pair: group.pair, edge: bestEdge(group.quotes, this.clock.now()) }))
      .filter((candidate) => candidate.edge)
      .sort((a, b) => b.edge.bps - a.edge.bps)[0];
    this.list.show([
      ...this._profits(),
      { key: "trades", label: "Trades today", value: String(trades), note: "since midnight UTC" },
      { key: "open", label: "Open trades", value: String(open.length), note: openNote(open, unfinished.length - open.length) },
      {
        key: "exposure", label: "Exposure",
        value: heldText(unhedged, unhedged[0]?.mode) || "none",
        note: [exposureNote(unhedged, alarming), exposureTime(held)].filter(Boolean).join(", "),
        tone: alarming ? "bad" : "",
      },
      {
        key: "edge", label: "Best edge now", value: edge ? `${bps(edge.edge.bps)} bps` : "–",
        note: edge ? `${edge.pair}, before fees` : "needs two live exchanges",
      },
    ], (tile) => tile.key);
  }

  _profits() {
    const sums = profitToday(this.store);
    if (!sums.length) return [{ key: "pnl", label: "PnL today", value: "0", note: "no closed trade yet" }];
    return sums.map(({ key, mode, asset, sum, at }) => ({
      key: `pnl-${key}`, label: `PnL today, ${asset}, ${mode}`, value: money(sum), sign: signOf(sum),
      note: "last changed", at,
    }));
  }
}

function heldText(unhedged, mode) {
  return unhedged.filter((held) => held.mode === mode).map(({ asset, sum }) => `${amount(sum, 6)} ${asset}`).join(", ");
}

/** The mode of the exposure shown large, which is the most real, then what trades of other modes hold. */
function exposureNote(unhedged, alarming) {
  const [first, ...others] = new Set(unhedged.map((held) => held.mode));
  if (!first) return "all legs hedged";
  const also = others.map((mode) => `, and ${heldText(unhedged, mode)} ${mode}`);
  return `${first}, ${alarming ? "unhedged" : "being executed"}${also.join("")}`;
}

/** Notional times seconds for which trades of one mode have been unhedged, by quote asset. */
export function exposureTime(trades) {
  const sums = new Map();
  for (const { quote, exposure } of trades.filter((trade) => signOf(trade.exposure))) {
    sums.set(quote, addDecimals(sums.get(quote) ?? "0", exposure));
  }
  return [...sums].map(([quote, sum]) => `${amount(sum, 0)} ${quote} × s`).join(", ");
}

function openNote(open, held) {
  const exposed = open.filter((trade) => trade.state === "EXPOSED").length;
  const also = held ? `, ${held} more held by hand` : "";
  return (exposed ? `${count(exposed, "trade")} for an operator` : "being executed or repaired") + also;
}

function createTile() {
  const parts = {
    label: el("dt"), value: el("dd", { class: "value num" }), note: el("dd", { class: "note" }), text: el("span"),
    age: el("span", { class: "num age" }),
  };
  parts.note.append(parts.text, " ", parts.age);
  const tile = el("div", { class: "tile" }, parts.label, parts.value, parts.note);
  tile.parts = parts;
  return tile;
}

function updateTile(tile, { label, value, note, sign = 0, tone = "", at = null }) {
  const { parts } = tile;
  setText(parts.label, label);
  setText(parts.value, value);
  setSign(parts.value, tone === "bad" ? -1 : sign);
  setText(parts.text, note);
  setAttribute(parts.note, "title", note);
  parts.age.hidden = at === null;
  if (at !== null) setAge(parts.age, at);
}
