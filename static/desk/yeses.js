// Whether the desk trades by hand at all. Live orders want three yeses: what this installation allows, the account, and the
// owner's own start. Paper wants none; started beforehand, its prices are followed before the first order.

import { KeyedList, el, setAttribute, setText } from "../live/dom.js";
import { ask, newKey } from "./request.js";

export class Yeses {
  /**
   * `root` has data-mode, data-allowed (this installation sends live orders), data-bot (the desk's bot for trades by hand, if there is
   * one yet) and data-start (where its start is asked for). `onChange()` when an answer may have changed.
   */
  constructor(root, store, { csrfToken, onChange }) {
    this.root = root;
    this.store = store;
    this.csrfToken = csrfToken;
    this.onChange = onChange;
    this.botId = root.dataset.bot;
    this.running = "running" in root.dataset;
    this.said = root.querySelector("[data-said]");
    this.button = root.querySelector("[data-start-button]");
    this.refusal = root.querySelector("[data-refusal]");
    this.list = new KeyedList(root.querySelector("[data-list]"), createRow, updateRow);
    this.button.addEventListener("click", () => this._start());
  }

  /** Show them for an account; returns what is missing, in words. */
  show({ environment, armed }) {
    const bot = this.store.get("bot", String(this.botId));
    if (bot) this.running = bot.desired === "running";
    if (this.root.dataset.mode === "paper") return this._showPaper();
    const real = environment === "live";
    const free = `not needed on a ${environment} exchange`;
    const rows = [
      { key: "allowed", yes: !real || "allowed" in this.root.dataset, name: "This installation sends live orders", note: real ? "" : free, cure: "start it with ARB_ALLOW_LIVE_ORDERS=1" },
      { key: "armed", yes: !real || armed === "yes", name: "The account is armed for live", note: real ? "" : free, cure: "an operator arms it in the admin" },
      { key: "started", yes: this.running, name: "You have started trading by hand", note: "", cure: "start it here; it stays started until you stop it" },
    ];
    const missing = rows.filter((row) => !row.yes);
    this.list.show(missing.length ? rows : [], (row) => row.key);
    setText(this.said, missing.length ? `Orders go out with three yeses; ${missing.length === 1 ? "one is" : `${missing.length} are`} missing.` : `All yeses are given: orders go to the ${environment} exchange.`);
    setAttribute(this.root, "data-complete", missing.length ? null : "");
    this.button.hidden = this.running;
    return missing.map((row) => row.name.charAt(0).toLowerCase() + row.name.slice(1));
  }

  _showPaper() {
    this.root.hidden = this.running;
    setText(this.said, "Trading by hand is not started on paper, so prices are followed only where a bot runs. The first order starts it too.");
    this.button.hidden = false;
    return [];
  }

  async _start() {
    if (this.busy) return;
    this.busy = true;
    this.button.setAttribute("aria-disabled", "true");
    const { start, mode } = this.root.dataset;
    const answer = await ask(start, { method: "POST", body: { mode }, key: newKey(), csrfToken: this.csrfToken });
    this.busy = false;
    this.button.removeAttribute("aria-disabled");
    setText(this.refusal, answer.ok ? "" : `Could not start: ${answer.message}`);
    this.refusal.hidden = answer.ok;
    if (!answer.ok) return;
    this.botId = answer.data.id;
    this.running = true;
    this.onChange();
  }
}

function createRow() {
  const parts = { mark: el("span", { class: "step-mark", "aria-hidden": "true" }), name: el("span"), note: el("span", { class: "muted" }) };
  const row = el("li", {}, parts.mark, parts.name, " ", parts.note);
  row.parts = parts;
  return row;
}

function updateRow(row, { yes, name, note, cure }) {
  setAttribute(row, "data-yes", yes ? "yes" : "no");
  setText(row.parts.mark, yes ? "✓" : "✗");
  setText(row.parts.name, name);
  setText(row.parts.note, yes ? (note ? `(${note})` : "") : `– no: ${cure}`);
}
