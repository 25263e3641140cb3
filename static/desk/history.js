// What is not in the stream: the line of profit until now, and the balances asset by asset when somebody looks.

import { modeRank } from "../live/modes.js";
import { ask } from "./request.js";

const EVERY_MS = 5_000;

/** Keep `store`'s line of running profit: its past is asked for once, its newest points are the figures of the stream. */
export class ProfitHistory {
  constructor(store, { address, mode }) {
    this.store = store;
    this.address = address;
    this.shows = (environment) => (environment === "paper") === (mode === "paper");
    store.subscribe(["money"], () => this._follow());
  }

  async load() {
    const answer = await ask(this.address);
    if (!answer.ok) return;
    const lines = new Map();
    for (const point of answer.data.data.pnl.filter((found) => this.shows(found.mode))) {
      const key = `${point.mode}:${point.quote}`;
      if (!lines.has(key)) lines.set(key, []);
      lines.get(key).push(point);
    }
    for (const points of lines.values()) points.sort((a, b) => a.at - b.at);
    this.store.setProfits(new Map([...lines].sort(([, a], [, b]) => modeRank(a[0].mode) - modeRank(b[0].mode))));
    this.loaded = true;
    this._follow();
  }

  _follow() {
    if (!this.loaded) return;
    for (const { environment: mode, quote, realized_pnl: total, at } of this.store.money()) {
      const points = this.store.kinds.pnl.get(`${mode}:${quote}`);
      const last = points?.[points.length - 1];
      if (last ? Number(last.total) === Number(total) : Number(total) === 0) continue;
      this.store.apply([{ kind: "pnl", key: `${mode}:${quote}`, data: { mode, quote, total, at } }]);
    }
  }
}

/** Keep the balances of each asset while the list is open. */
export class AssetBalances {
  constructor(details, store, { address }) {
    this.details = details;
    this.store = store;
    this.address = address;
    details.addEventListener("toggle", () => details.open && this._load());
    setInterval(() => details.open && !document.hidden && this._load(), EVERY_MS);
  }

  async _load() {
    if (this.busy) return;
    this.busy = true;
    const answer = await ask(this.address);
    this.busy = false;
    if (!answer.ok) return;
    const shown = new Set((this.store.standing?.accounts ?? []).map((account) => account.account_id)); // those of this mode
    this.store.setBalances(answer.data.items.filter((balance) => shown.has(balance.account_id)));
  }
}
