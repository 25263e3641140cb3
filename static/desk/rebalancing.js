// Requests to rebalance: asked for every three seconds, decided on in a dialog.

import { KeyedList, el, setBadge, setText } from "../live/dom.js";
import { age, amount, clockTime, signed, words } from "../live/format.js";
import { Indicator } from "../live/status.js";
import { ask, newKey } from "./request.js";

const ASK_MS = 3000;
const ENDED = new Set(["DONE", "FAILED", "REJECTED", "EXPIRED", "CANCELLED"]);
const TONES = { PROPOSED: "warn", APPROVED: "info", RUNNING: "info", DONE: "good", FAILED: "bad" };
// What a decision is called, and what it wants to know; `class` colours its button.
const DECISIONS = {
  approve: { label: "Approve", field: "note", said: "Note (may be empty)", class: "primary" },
  reject: { label: "Reject", field: "reason", said: "Why" },
  moved: { label: "It was moved", field: "reason", said: "How it is known", class: "primary" },
  cancel: { label: "Cancel it", field: "reason", said: "Why" },
};

const byId = (id) => document.getElementById(id);
const page = byId("rebalancing");
const part = (name) => page.querySelector(`[data-${name}]`);
const csrfToken = document.querySelector("[name=csrfmiddlewaretoken]").value;
const indicator = new Indicator(byId("connection"), byId("announcer"));

class Decision {
  constructor(dialog, onDone) {
    this.dialog = dialog;
    this.onDone = onDone;
    for (const name of ["title", "about", "label", "reason", "failure", "confirm", "back"]) this[name] = dialog.querySelector(`[data-${name}]`);
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this._send();
    });
    this.back.addEventListener("click", () => dialog.close());
  }

  open(request, name) {
    const decision = DECISIONS[name];
    this.request = request;
    this.name = name;
    this.key = newKey(); // one for this opening: a second click, or a retry after a lost answer, decides nothing twice
    setText(this.title, `${decision.label}: ${what(request)}`);
    const converts = name === "approve" && request.kind === "convert";
    setText(this.about, converts ? `The order goes to ${request.account} (${request.environment}) at once.` : where(request));
    setText(this.label, decision.said);
    setText(this.confirm, converts ? "Approve and convert now" : decision.label);
    this.confirm.className = decision.class ?? "danger";
    this.reason.value = "";
    this._fail("");
    this.dialog.showModal();
    this.reason.focus();
  }

  async _send() {
    if (this.busy) return;
    this.busy = true;
    this.confirm.setAttribute("aria-disabled", "true");
    const body = { [DECISIONS[this.name].field]: this.reason.value };
    const address = `${page.dataset.requests}/${this.request.id}/${this.name}`;
    const answer = await ask(address, { method: "POST", body, key: this.key, csrfToken });
    this.busy = false;
    this.confirm.removeAttribute("aria-disabled");
    if (answer.ok) this.dialog.close();
    else this._fail(answer.lost ? `${answer.message}: whether it arrived is not known; try again, nothing is done twice.` : answer.message);
    if (!answer.ok && !answer.lost) this.key = newKey();
    this.onDone(answer.ok ? `${what(this.request)}: ${words(answer.data.state)}` : "");
  }

  _fail(text) {
    setText(this.failure, text);
    this.failure.hidden = !text;
  }
}

const decision = new Decision(byId("decide-dialog"), async (said) => {
  await load();
  if (said) setText(byId("announcer"), said);
});
const open = new KeyedList(part("open"), create, update);
const ended = new KeyedList(part("ended"), create, update);

function what({ kind, side, amount: size, asset }) {
  const verb = kind === "move" ? "Move" : side === "buy" ? "Buy" : "Sell";
  return `${verb} ${amount(size)} ${asset}`;
}

function where({ kind, account, to_account: to, symbol }) {
  return kind === "move" ? `from ${account} to ${to}` : `${symbol} on ${account}`;
}

function create() {
  const parts = {
    title: el("h3"), state: el("span", { class: "badge" }), where: el("span", { class: "muted" }), reason: el("p"),
    figures: el("dl"), outcome: el("p"), actions: el("div", { class: "actions" }),
    history: el("ol"),
  };
  const row = el("li", { class: "request" },
    el("div", { class: "line" }, parts.title, parts.state, parts.where), parts.reason, parts.figures, parts.outcome, parts.actions,
    el("details", {}, el("summary", {}, "History"), parts.history));
  row.parts = parts;
  row.buttons = new KeyedList(parts.actions, (name) => {
    const button = el("button", { type: "button", class: DECISIONS[name].class ?? "" }, DECISIONS[name].label);
    button.addEventListener("click", () => decision.open(row.request, name));
    return button;
  }, () => {});
  row.figures = new KeyedList(parts.figures, () => el("div", {}, el("dt"), el("dd")), (node, [name, text]) => {
    setText(node.firstElementChild, name);
    setText(node.lastElementChild, text);
  });
  row.steps = new KeyedList(parts.history, () => el("li"), (node, step) => setText(node, stepText(step)));
  return row;
}

function update(row, request) {
  row.request = request;
  const { parts } = row;
  row.dataset.state = request.state;
  setText(parts.title, what(request));
  setBadge(parts.state, words(request.state), TONES[request.state] ?? "quiet");
  setText(parts.where, `${where(request)} (${request.environment})`);
  setText(parts.reason, request.reason);
  setText(parts.outcome, request.outcome || (request.is_own && request.state === "PROPOSED" ? "You have proposed it: another person has to approve it." : ""));
  parts.outcome.hidden = !parts.outcome.textContent;
  row.figures.show(figures(request), ([name]) => name);
  row.buttons.show(request.may, (name) => name);
  row.steps.show(request.history, (step) => `${step.to_state} ${step.at}`);
}

function figures(request) {
  const percent = (share) => `${(Number(share) * 100).toFixed(1)} %`;
  const shown = request.effects.map((effect) => [`Base on ${effect.account}`, `${percent(effect.before)} → ${percent(effect.after)}`]);
  if (request.value) shown.push(["Worth about", `${amount(request.value)} ${request.quote}`]);
  if (request.kind === "move") shown.push(["Estimated cost", "the network's fee, not known"]);
  else {
    const spread = request.half_spread_bps === null ? ", the spread not known" : ", half the spread and the fee";
    shown.push(["Estimated cost", `${amount(request.cost_bps, 4)} bps${spread}`]);
  }
  shown.push(["Proposed by", `${request.proposed_by || "the platform"}, ${clockTime(request.created_at)}`]);
  if (request.state === "PROPOSED") shown.push(["Expires in", age(request.expires_at - Date.now() / 1000)]);
  if (request.filled) shown.push([request.kind === "move" ? "Arrived" : "Converted", `${amount(request.filled)} ${request.asset}`]);
  if (request.realised_price) shown.push(["Average price", amount(request.realised_price)]);
  if (request.improvement) shown.push(["Price improvement", `${signed(request.improvement)} ${request.quote}`]);
  const fees = Object.entries(request.fees).map(([asset, paid]) => `${amount(paid)} ${asset}`);
  if (fees.length) shown.push(["Fees", fees.join(", ")]);
  return shown;
}

function stepText({ to_state: state, by, text, at }) {
  return `${clockTime(at)} ${words(state)} by ${by || "the platform"}${text ? `: ${text}` : ""}`;
}

async function load() {
  const query = new URLSearchParams({ limit: "50", owner: page.dataset.owner });
  const answer = await ask(`${page.dataset.requests}?${query}`);
  if (!answer.ok) {
    const signedOut = answer.status === 401;
    byId("sign-in-again").hidden = !signedOut;
    indicator.show({ tone: "bad", word: signedOut ? "Signed out" : "Disconnected", reason: answer.message });
    return;
  }
  const waiting = answer.data.items.filter(({ state }) => !ENDED.has(state));
  const over = answer.data.items.filter(({ state }) => ENDED.has(state));
  open.show(waiting, ({ id }) => id);
  ended.show(over, ({ id }) => id);
  setText(part("open-count"), waiting.length ? String(waiting.length) : "");
  part("open-empty").hidden = waiting.length > 0;
  part("ended-empty").hidden = over.length > 0;
  indicator.show({ tone: "good", word: "Polling", reason: "asked anew every 3 s" });
  page.removeAttribute("aria-busy");
}

async function keepLoading() {
  for (;;) {
    await load();
    await new Promise((resolve) => setTimeout(resolve, ASK_MS));
  }
}

byId("owner")?.addEventListener("change", (event) => event.target.form.submit());
keepLoading();
