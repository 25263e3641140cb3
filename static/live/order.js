// The dialog in which operators and owners say what is to happen to a breaker or a switch, and why.

import { el, setText } from "./dom.js";

const REQUEST_TIMEOUT_MS = 10_000;
const TURN = { normal: "Resume trading", reduce_only: "Reduce only", kill: "Kill trading" };
const MEANS = {
  normal: "Bots open trades again, as far as nothing else holds them.",
  reduce_only: "No new trades; what open ones hold is still reduced.",
  kill: "Nothing is sent any more but cancels: what open trades hold stays as it is.",
};
const ACTIONS = { trip: "Trip", reset: "Reset", extend: "Extend" };
const ABOUT = {
  trip: "New trades stop at once. Leave the seconds empty for the cool-down of its rules.",
  reset: "It closes at once, and trades go at their full size.",
  extend: "The seconds are added to the cool-down; one that is over goes on from now.",
};

export class OrderDialog {
  /** `address` is where orders go, ending in a slash. */
  constructor(dialog, store, csrfToken, address) {
    this.dialog = dialog;
    this.store = store;
    this.csrfToken = csrfToken;
    this.address = address;
    const part = (name) => dialog.querySelector(`[data-${name}]`);
    for (const name of ["title", "about", "subject", "reason", "seconds", "failure", "confirm"]) this[name] = part(name);
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this._send();
    });
    part("cancel").addEventListener("click", () => dialog.close());
  }

  /** Trip, reset or extend a breaker the page shows. */
  openBreaker(action, { scope, key, name, version }) {
    this._open({
      title: `${ACTIONS[action]} the breaker of ${name}`, about: ABOUT[action], confirm: ACTIONS[action],
      path: `breakers/${action}`, kind: "breaker", seconds: action !== "reset", body: () => ({ scope, key, version }),
    });
  }

  /** Trip the breaker of one of `subjects`: `[value, text]`. */
  openTrip(subjects) {
    const versions = new Map(subjects.map(([value]) => [value, this.store.get("breaker", value)]));
    const body = () => {
      const at = this.subject.value.indexOf(":");
      const known = versions.get(this.subject.value);
      const version = known && known.state !== "closed" ? known.version : 0;
      return { scope: this.subject.value.slice(0, at), key: this.subject.value.slice(at + 1), version };
    };
    this._open({
      title: "Trip a circuit breaker", about: ABOUT.trip, confirm: ACTIONS.trip, path: "breakers/trip", kind: "breaker",
      seconds: true, subjects, body,
    });
  }

  /** Turn a switch. */
  openSwitch({ scope, key, state, name, version }) {
    this._open({
      title: `${TURN[state]}: ${name}`, about: MEANS[state], confirm: TURN[state], path: "switch", kind: "switch",
      twice: state === "kill", body: () => ({ scope, key, state, version }),
    });
  }

  // The version that was seen when the dialog opened goes along: no order is for what has changed since.
  _open(order) {
    this.order = order;
    this.asked = false;
    this._wait(false);
    setText(this.title, order.title);
    setText(this.about, order.about);
    setText(this.confirm, order.confirm);
    this.confirm.classList.toggle("danger", Boolean(order.twice));
    this.confirm.classList.toggle("primary", !order.twice);
    this.subject.parentElement.hidden = !order.subjects;
    this.subject.replaceChildren(...(order.subjects ?? []).map(([value, text]) => el("option", { value }, text)));
    this.seconds.parentElement.hidden = !order.seconds;
    this.reason.value = this.seconds.value = "";
    this._fail("");
    this.dialog.showModal();
    (order.subjects ? this.subject : this.reason).focus();
  }

  async _send() {
    if (this.busy) return;
    const { order } = this;
    if (order.twice && !this.asked && this.reason.value.trim()) {
      this.asked = true;
      setText(this.confirm, "Yes, kill it now");
      setText(this.about, `Are you sure? ${order.about}`);
      return;
    }
    this._wait(true);
    const body = { ...order.body(), reason: this.reason.value };
    if (order.seconds) body.seconds = this.seconds.value === "" ? null : Number(this.seconds.value);
    try {
      const response = await fetch(this.address + order.path, {
        method: "POST",
        credentials: "same-origin",
        headers: { "X-CSRFToken": this.csrfToken, "Content-Type": "application/json", Accept: "application/json" },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      });
      const answer = await response.json().catch(() => ({}));
      if (response.ok) this._show(order, answer[order.kind]);
      if (this.order !== order) return; // left and opened for something else meanwhile
      if (!response.ok) {
        this._fail(inWords(answer.errors) || `The server answered ${response.status}.`);
        if (answer.errors?.reason) this.reason.focus();
        else if (answer.errors?.seconds) this.seconds.focus();
        return;
      }
      this.dialog.close();
    } catch (error) {
      if (this.order === order) this._fail(error.name === "TimeoutError" ? "No answer in 10 s; look what came of it." : error.message);
    } finally {
      if (this.order === order) this._wait(false);
    }
  }

  _show(order, data) {
    this.store.apply([{ kind: order.kind, key: `${data.scope}:${data.key}`, data }]);
  }

  _wait(busy) {
    this.busy = busy;
    if (busy) this.confirm.setAttribute("aria-disabled", "true"); // not `disabled`: the keyboard's focus would be lost
    else this.confirm.removeAttribute("aria-disabled");
  }

  _fail(text) {
    setText(this.failure, text);
    this.failure.hidden = !text;
  }
}

const FIELDS = { __all__: "", reason: "Why: ", seconds: "Seconds: ", key: "Which: ", scope: "Which: ", state: "" };

function inWords(errors) {
  return Object.entries(errors ?? {}).map(([field, texts]) => (FIELDS[field] ?? `${field}: `) + texts.join(" ")).join(" ");
}
