// Risk: where trading is switched to, which circuit breakers are not closed, and what operators do about it.

import { KeyedList, el, setAttribute, setBadge, setText } from "./dom.js";
import { OrderDialog } from "./order.js";

const STRICTNESS = { normal: 0, reduce_only: 1, kill: 2 };
const SWITCHED = { normal: "normal", reduce_only: "reduce only", kill: "killed" };
const SWITCH_TONES = { normal: "good", reduce_only: "warn", kill: "bad" };
const STATE_TONES = { open: "bad", half_open: "warn", probing: "warn", ramping: "info" };
const STATE_WORDS = { open: "open", half_open: "half-open", probing: "probing", ramping: "ramping" };
const ORDER = ["open", "probing", "half_open", "ramping"];
const ACTIONS = { trip: "Trip", extend: "Extend", reset: "Reset" };
const TICK_MS = 250;

/** The strictest of the switches over a bot (null: over all bots of the desk); undefined when all stand at normal. */
export function switchOver(store, ownerId, botId = null) {
  const keys = ["global:", `owner:${ownerId}`, ...(botId === null ? [] : [`bot:${botId}`])];
  return keys.map((key) => store.get("switch", key)).filter((found) => found && found.state !== "normal")
    .sort((a, b) => STRICTNESS[b.state] - STRICTNESS[a.state])[0];
}

/** The breaker as time has moved it: a cool-down or a probe whose time is over leaves it half-open. */
export function settled(breaker, now) {
  const timed = breaker.state === "open" || breaker.state === "probing";
  if (!timed || breaker.until === null || now < breaker.until) return breaker;
  return { ...breaker, state: "half_open", share: 0, until: null, since: breaker.until };
}

/** Why a bot opens no trades, of the switches and breakers over all it does: `{text, tone, why}`, or null. */
export function standstill(store, ownerId, botId, now) {
  const switched = switchOver(store, ownerId, botId);
  if (switched) return { text: SWITCHED[switched.state], tone: SWITCH_TONES[switched.state], why: switched.reason };
  const over = ["global:", `owner:${ownerId}`, `bot:${botId}`].map((key) => store.get("breaker", key));
  const open = over.filter((breaker) => breaker && settled(breaker, now).state === "open")
    .sort((a, b) => b.until - a.until)[0];
  return open ? { text: `breaker open until ${instant(open.until, now)}`, tone: "bad", why: open.reason } : null;
}

export class Risk {
  /** What the user may do stands in the root's data attributes; orders carry `csrfToken`. */
  constructor(root, store, { ownerId, clock, csrfToken }) {
    this.store = store;
    this.ownerId = ownerId;
    this.clock = clock;
    this.mayBreakers = "mayBreakers" in root.dataset;
    this.mayEverybody = "mayEverybody" in root.dataset;
    this.meta = root.querySelector("[data-meta]");
    this.state = root.querySelector("[data-switch-state]");
    this.why = root.querySelector("[data-switch-why]");
    this.scopes = root.querySelector("[data-switch-scope]"); // null for who may not turn
    this.buttons = [...root.querySelectorAll("[data-switch-to]")];
    this.empty = root.querySelector("[data-empty]");
    this.dialog = new OrderDialog(root.querySelector("dialog"), store, csrfToken, root.dataset.address);
    this.list = new KeyedList(root.querySelector("[data-list]"), () => this._create(), (row, item) => this._update(row, item));
    this.scopes?.addEventListener("change", () => this.renderSwitch());
    this.buttons.forEach((button) => button.addEventListener("click", () => this._turn(button.dataset.switchTo)));
    root.querySelector("[data-trip]")?.addEventListener("click", () => this.dialog.openTrip(this._subjects()));
    store.subscribe(["breaker"], () => this.renderBreakers());
    store.subscribe(["switch", "bot"], () => this.renderSwitch());
    setInterval(() => this.renderBreakers(), TICK_MS); // countdowns
  }

  renderBreakers() {
    if (!this.store.loaded) return;
    const now = this.clock.now();
    const shown = this.store.values("breaker").map((breaker) => settled(breaker, now))
      .filter((breaker) => breaker.state !== "closed")
      .sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || a.name.localeCompare(b.name));
    this.list.show(shown, (breaker) => `${breaker.scope}:${breaker.key}`);
    this.empty.hidden = shown.length > 0;
    setText(this.meta, shown.length ? `${shown.length} ${shown.length === 1 ? "breaker" : "breakers"} not closed` : "");
  }

  renderSwitch() {
    if (!this.store.loaded) return;
    const state = switchOver(this.store, this.ownerId)?.state ?? "normal";
    setBadge(this.state, SWITCHED[state], SWITCH_TONES[state]);
    const turned = this.store.values("switch").filter((found) => found.state !== "normal");
    setText(this.why, turned.map((found) => `${SWITCHED[found.state]} for ${found.name}: ${found.reason}`).join(" · "));
    this.why.hidden = !turned.length;
    if (!this.scopes) return;
    this._offerScopes();
    const current = this.store.get("switch", this.scopes.value)?.state ?? "normal";
    for (const button of this.buttons) {
      setAttribute(button, "aria-pressed", String(button.dataset.switchTo === current));
    }
  }

  _offerScopes() {
    const bots = this.store.values("bot").sort((a, b) => a.name.localeCompare(b.name));
    const offered = [
      [`owner:${this.ownerId}`, "this desk"],
      ...(this.mayEverybody ? [["global:", "everybody"]] : []),
      ...bots.map((bot) => [`bot:${bot.id}`, `bot ${bot.name}`]),
    ];
    const signature = JSON.stringify(offered);
    if (this.offered === signature) return;
    this.offered = signature;
    const chosen = this.scopes.value;
    this.scopes.replaceChildren(...offered.map(([value, text]) => el("option", { value }, text)));
    if (offered.some(([value]) => value === chosen)) this.scopes.value = chosen;
  }

  _turn(state) {
    const value = this.scopes.value;
    const at = value.indexOf(":");
    this.dialog.openSwitch({
      scope: value.slice(0, at), key: value.slice(at + 1), state, name: this.scopes.selectedOptions[0].textContent,
      version: this.store.get("switch", value)?.version ?? 0,
    });
  }

  _create() {
    const parts = {
      name: el("strong"), state: el("span", { class: "badge" }), time: el("span", { class: "countdown num" }),
      reason: el("p", { class: "reason" }), actions: el("div", { class: "actions" }), buttons: {},
    };
    const row = el("li", { class: "breaker" },
      el("div", { class: "line" }, parts.name, parts.state, parts.time), parts.reason, parts.actions);
    row.parts = parts;
    if (!this.mayBreakers) return row;
    for (const [action, word] of Object.entries(ACTIONS)) {
      const button = el("button", { type: "button", class: "small", "data-action": action }, `${word}…`);
      button.addEventListener("click", () => this.dialog.openBreaker(action, row.breaker));
      parts.buttons[action] = button;
      parts.actions.append(button);
    }
    return row;
  }

  _update(row, breaker) {
    row.breaker = breaker;
    const { parts } = row;
    setAttribute(row, "data-state", breaker.state);
    setText(parts.name, breaker.name);
    setBadge(parts.state, STATE_WORDS[breaker.state], STATE_TONES[breaker.state]);
    setText(parts.time, this._time(breaker));
    setText(parts.reason, breaker.reason + (breaker.trips > 1 ? ` (tripped ${breaker.trips} times in a row)` : ""));
    for (const [action, button] of Object.entries(parts.buttons)) {
      setAttribute(button, "aria-label", `${ACTIONS[action]} the breaker of ${breaker.name}`);
      button.hidden = action === "extend" && breaker.state === "ramping"; // it has no cool-down
    }
  }

  _time(breaker) {
    if (breaker.state === "open") return `probes in ${countdown(breaker.until - this.clock.now())}`;
    if (breaker.state === "half_open") return "one small trade may probe";
    if (breaker.state === "probing") return `probe under way, ${countdown(breaker.until - this.clock.now())} left`;
    return `${Math.round(breaker.share * 100)} % of the size`;
  }

  /** What may be tripped, as far as the page knows it: `[value, text]`. */
  _subjects() {
    const { store } = this;
    const quotes = store.values("quote").map((quote) => [quote.exchange, quote.symbol.split(":")[0]]);
    const exchanges = [...store.values("feed").map((feed) => feed.exchange), ...quotes.map(([exchange]) => exchange)];
    const found = new Map([
      [`owner:${this.ownerId}`, "this desk"],
      ["global:", "everything, on every desk"],
      ...store.values("bot").map((bot) => [`bot:${bot.id}`, `bot ${bot.name}`]),
      ...store.values("balance").map((of) => [`account:${of.account_id}`, `account ${of.account} on ${of.exchange}`]),
      ...exchanges.map((code) => [`exchange:${code}`, `exchange ${code}`]),
      ...quotes.map(([, pair]) => [`pair:${pair}`, `pair ${pair}`]),
      ...quotes.map(([code, pair]) => [`pair_on_exchange:${code}:${pair}`, `${pair} on ${code}`]),
    ]);
    return [...found];
  }
}

/** Seconds as "4:05" or "1:04:05". */
export function countdown(seconds) {
  const left = Math.max(0, Math.ceil(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(left / 3600), Math.floor(left / 60) % 60];
  return (hours ? `${hours}:${two(minutes)}` : `${minutes}`) + `:${two(left % 60)}`;
}

const DAY_SECONDS = 86_400;
const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DATE = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** Local time of day, with the date when it is not soon. */
function instant(at, now) {
  return (at - now < DAY_SECONDS ? TIME : DATE).format(new Date(at * 1000));
}
