// The steps of a trade made by hand, as they happen: from the stream, or asked for while that is silent.

import { KeyedList, el, setAttribute, setText } from "../live/dom.js";
import { ask } from "./request.js";

export const STEPS = ["connecting", "placing order", "placing protection", "done"];
export const CLOSING_STEPS = ["withdrawing protection", "placing order", "done"];
const MARKS = { done: "✓", now: "…", failed: "✗", waiting: "·", skipped: "–" };
const ASK_AFTER_MS = 1_000;
const ASK_EVERY_MS = 500;
const ENDED = new Set(["done", "failed"]);

/** The steps to show: what was told, and after it what is still to come. */
export function stepsOf(progress, { steps = STEPS, protectedOrder = true } = {}) {
  const told = [...new Map((progress?.steps ?? []).map((step) => [step.step, step])).values()].filter((step) => step.step !== "failed");
  const failed = progress?.step === "failed";
  // What was not told of something that is done, or has gone beyond it, was not needed.
  const reached = Math.max(-1, ...told.map((step) => steps.indexOf(step.step)));
  const coming = progress?.step === "done" ? [] : steps.slice(reached + 1).filter((step) => protectedOrder || step !== "placing protection");
  return [
    ...told.map(({ step, state, text, ms }) => ({ name: step, state, text: text ?? "", ms: ms ?? null })),
    ...coming.map((name) => ({ name, state: failed ? "skipped" : "waiting", text: "", ms: null })),
  ];
}

/** "412 ms", "1.25 s", "2 min". */
export function duration(ms) {
  if (!(ms > 0)) return ""; // an instant
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  return ms < 120_000 ? `${(ms / 1_000).toFixed(2)} s` : `${Math.round(ms / 60_000)} min`;
}

/** One order's progress, followed to its end. */
export class Followed {
  /** `address` answers for the command, `steps` are those to come; `onChange(followed)` is called at every news. */
  constructor({ commandId, title, address, steps, protectedOrder, onChange }) {
    this.commandId = String(commandId);
    this.title = title;
    this.address = address;
    this.steps = steps;
    this.protectedOrder = protectedOrder;
    this.onChange = onChange;
    this.progress = null;
    this.status = "pending";
    this.message = "";
    this.ended = false;
    this.heardAt = performance.now();
    this._timer = setInterval(() => this._askIfSilent(), ASK_EVERY_MS);
  }

  /** Take a `progress` item that is about this command. */
  take(progress) {
    if (this.ended && !ENDED.has(progress.step)) return; // a late one
    this.heardAt = performance.now();
    this.progress = progress;
    this.message = progress.message ?? "";
    if (ENDED.has(progress.step)) this._end(progress.step);
    this.onChange(this);
  }

  async _askIfSilent() {
    if (this._asking || performance.now() - this.heardAt < ASK_AFTER_MS) return;
    this._asking = true;
    const answer = await ask(this.address);
    this._asking = false;
    if (this.ended) return;
    if (answer.ok) this._takeAnswer(answer.data);
    else if (answer.status === 401) this._fail(answer.message);
    else if (answer.status === 404) this._fail("The server knows nothing of this order; look at the orders before you send it again.");
    else this.message = `Asking what became of it: ${answer.message}.`;
    this.onChange(this);
  }

  _takeAnswer({ status, progress, result, message }) {
    // That the command is done says that the engine took it up, not what became of the trade.
    if (progress?.step) {
      this.take(progress);
      this.heardAt = -Infinity; // asked for, so the stream is still silent
    }
    if (!this.ended && status === "failed") this._fail(message || textOf(result) || "It was refused.");
  }

  _fail(message) {
    this.progress = { ...(this.progress ?? { steps: [] }), step: "failed" };
    this.message = message;
    this._end("failed");
  }

  _end(step) {
    this.ended = true;
    this.status = step;
    clearInterval(this._timer);
  }
}

function textOf(result) {
  return typeof result === "string" ? result : (result?.reason ?? result?.message ?? "");
}

/** The list of what was sent from this page, the newest first. */
export class ProgressList {
  constructor(root) {
    this.empty = root.querySelector("[data-empty]");
    this.announcer = root.querySelector("[data-announcer]");
    this.followed = [];
    this.list = new KeyedList(root.querySelector("[data-list]"), createTicket, updateTicket);
  }

  add(followed) {
    this.followed = [followed, ...this.followed].slice(0, 5);
    this.render();
  }

  render() {
    this.list.show(this.followed, (followed) => followed.commandId);
    if (this.empty) this.empty.hidden = this.followed.length > 0;
  }

  /** Bring one up to date, and say its step to who cannot see it. */
  changed(followed) {
    this.render();
    const said = spoken(followed);
    if (said && followed.said !== said) {
      followed.said = said;
      setText(this.announcer, said);
    }
  }
}

function spoken({ title, progress, message }) {
  return progress?.step ? `${title}: ${progress.step}${progress.step === "failed" && message ? `, ${message}` : ""}` : "";
}

const OUTCOME = { done: ["done", "good"], failed: ["failed", "bad"] };
const PATHS = { websocket: "by WebSocket", rest: "by REST", paper: "on paper" };

function createTicket(followed) {
  const parts = {
    title: el("h3"), badge: el("span", { class: "badge" }), path: el("span", { class: "muted" }),
    steps: el("ol", { class: "steps" }), message: el("p", { class: "message" }),
  };
  const node = el("li", { class: "ticket" }, el("div", { class: "line" }, parts.title, parts.badge, parts.path), parts.steps, parts.message);
  node.parts = parts;
  node.steps = new KeyedList(parts.steps, createStep, updateStep);
  node.dataset.command = followed.commandId;
  return node;
}

function updateTicket(node, followed) {
  const { parts } = node;
  const [word, tone] = OUTCOME[followed.status] ?? ["under way", "info"];
  setText(parts.title, followed.title);
  setText(parts.badge, word);
  setAttribute(parts.badge, "data-tone", tone);
  setAttribute(node, "data-state", word);
  setText(parts.path, PATHS[followed.progress?.path] ?? "");
  node.steps.show(stepsOf(followed.progress, followed), (step) => step.name);
  setText(parts.message, followed.message);
  parts.message.hidden = !followed.message;
  setAttribute(parts.message, "class", followed.status === "failed" ? "message failure" : "message");
}

function createStep() {
  const parts = {
    mark: el("span", { class: "step-mark", "aria-hidden": "true" }), name: el("span", { class: "step-name" }),
    state: el("span", { class: "visually-hidden" }), text: el("span", { class: "step-text muted" }), ms: el("span", { class: "num step-ms" }),
  };
  const node = el("li", {}, parts.mark, parts.name, parts.state, parts.text, parts.ms);
  node.parts = parts;
  return node;
}

const SPOKEN = { done: "done", now: "under way", failed: "failed", waiting: "to come", skipped: "not reached" };

function updateStep(node, { name, state, text, ms }) {
  const { parts } = node;
  setAttribute(node, "data-state", state);
  setText(parts.mark, MARKS[state] ?? "·");
  setText(parts.name, name);
  setText(parts.state, `, ${SPOKEN[state] ?? state}`);
  setText(parts.text, text);
  setText(parts.ms, duration(ms === null ? NaN : Number(ms)));
}
