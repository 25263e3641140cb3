// Bots: state, why, and the buttons that start and stop them.

import { KeyedList, el, setAttribute, setBadge, setText } from "./dom.js";
import { words } from "./format.js";
import { standstill } from "./risk.js";

const TONES = { running: "good", starting: "warn", stopping: "warn", blocked: "warn", failed: "bad", stopped: "quiet" };
const REQUEST_TIMEOUT_MS = 10_000;
const LOOK_MS = 1_000;

export class Bots {
  /** `csrfToken` goes with every request; `clock` and `ownerId` say whether a breaker is open over a bot. */
  constructor(root, store, { csrfToken, clock, ownerId }) {
    this.store = store;
    this.held = (bot) => standstill(store, ownerId, bot.id, clock.now());
    this.csrfToken = csrfToken;
    this.empty = root.querySelector("[data-empty]");
    this.meta = root.querySelector("[data-meta]");
    this.address = root.dataset.botAddress; // ".../0/ACTION/", both to be replaced
    this.list = new KeyedList(root.querySelector("[data-list]"), () => this._create(), (row, bot) => {
      update(row, bot, this.held(bot));
    });
    store.subscribe(["bot", "breaker", "switch"], () => this.render());
    setInterval(() => store.loaded && this.render(), LOOK_MS); // a cool-down ends without a word
  }

  render() {
    const bots = this.store.values("bot").sort((a, b) => a.name.localeCompare(b.name));
    this.list.show(bots, (bot) => bot.id);
    this.empty.hidden = bots.length > 0 || !this.store.loaded;
    const running = bots.filter((bot) => bot.observed === "running").length;
    setText(this.meta, bots.length ? `${running} of ${bots.length} running` : "");
  }

  _create() {
    const parts = {
      name: el("strong"), mode: el("span", { class: "badge", "data-tone": "quiet" }), state: el("span", { class: "badge" }),
      held: el("span", { class: "badge held" }),
      button: el("button", { type: "button", class: "small" }), reason: el("p", { class: "reason" }),
      failure: el("p", { class: "reason failure", role: "alert" }),
    };
    const row = el("li", { class: "bot" },
      el("div", { class: "line" }, parts.name, parts.mode, parts.state, parts.held, parts.button), parts.reason, parts.failure);
    row.parts = parts;
    parts.failure.hidden = true;
    parts.button.addEventListener("click", () => this._ask(row));
    return row;
  }

  async _ask(row) {
    const { button, failure } = row.parts;
    const action = button.dataset.action;
    const id = row.bot.id;
    button.setAttribute("aria-disabled", "true"); // not `disabled`: the keyboard's focus would be lost
    if (button.dataset.busy) return;
    button.dataset.busy = "yes";
    try {
      const response = await fetch(this.address.replace("/0/", `/${id}/`).replace("ACTION", action), {
        method: "POST",
        credentials: "same-origin",
        headers: { "X-CSRFToken": this.csrfToken, Accept: "application/json" },
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      });
      const answer = await response.json().catch(() => ({}));
      if (!response.ok) throw new Error(answer.error ?? `The server answered ${response.status}.`);
      failure.hidden = true;
      const known = this.store.get("bot", String(id));
      if (known) this.store.apply([{ kind: "bot", key: String(id), data: { ...known, desired: answer.desired } }]);
    } catch (error) {
      setText(failure, `Could not ${action}: ${error.name === "TimeoutError" ? "no answer in 10 s." : error.message}`);
      failure.hidden = false;
    } finally {
      delete button.dataset.busy;
      button.removeAttribute("aria-disabled");
    }
  }
}

/** The state in words, seeing both what is wanted and what is. */
export function botState(bot) {
  if (bot.desired === "running" && bot.observed === "stopped") return "starting";
  if (bot.desired === "stopped" && bot.observed === "running") return "stopping";
  return bot.observed;
}

function update(row, bot, held) {
  row.bot = bot;
  const { parts } = row;
  const state = botState(bot);
  setText(parts.name, bot.name);
  setBadge(parts.mode, bot.mode, "quiet");
  setBadge(parts.state, words(state), TONES[state] ?? "quiet");
  setBadge(parts.held, held?.text ?? "", held?.tone ?? "quiet");
  setAttribute(parts.held, "title", held?.why || null);
  parts.held.hidden = !held;
  const action = bot.desired === "running" ? "stop" : "start";
  setText(parts.button, action === "stop" ? "Stop" : "Start");
  setAttribute(parts.button, "data-action", action);
  setAttribute(parts.button, "aria-label", `${action === "stop" ? "Stop" : "Start"} ${bot.name}`);
  setText(parts.reason, bot.reason);
  parts.reason.hidden = !bot.reason;
}
