// The confirm step: what the trade would come to, and the one request that sends it.

import { KeyedList, el, setAttribute, setText } from "../live/dom.js";
import { amount, bps } from "../live/format.js";
import { atPercent } from "./fields.js";
import { ask, newKey, problemsOf } from "./request.js";

const REFRESH_MS = 3_000;
const PATHS = { auto: "WebSocket, or REST while that is down", websocket: "WebSocket only", rest: "REST", paper: "paper" };

export class Confirm {
  /**
   * `address` is where trades are sent ("/estimate" and "-ws" are put after it). `onAccepted(answer, trade)` when the order is
   * on its way, `onRefused(problems)` when it is not, `onUnanswered()` when nobody knows and the user has left it at that.
   */
  constructor(dialog, { address, csrfToken, onAccepted, onRefused, onUnanswered }) {
    this.dialog = dialog;
    this.address = address;
    this.csrfToken = csrfToken;
    this.onAccepted = onAccepted;
    this.onRefused = onRefused;
    this.onUnanswered = onUnanswered;
    const part = (name) => dialog.querySelector(`[data-${name}]`);
    for (const name of ["title", "mode-line", "estimate", "refusals", "failure", "confirm", "cancel"]) this[name] = part(name);
    this.refused = new KeyedList(this.refusals, () => el("li"), (row, { message }) => setText(row, message));
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this._send();
    });
    // A key held down has opened the dialog; it does not confirm it as well.
    this.confirm.addEventListener("keydown", (event) => event.key === "Enter" && event.repeat && event.preventDefault());
    this.cancel.addEventListener("click", () => this.sending || dialog.close());
    dialog.addEventListener("cancel", (event) => this.sending && event.preventDefault());
    dialog.addEventListener("close", () => dialog.open || this._settle());
    this.trade = null;
  }

  /** Ask: `trade` is `{body, title, verb, modeLine, market, websocketOnly}`. */
  open(trade) {
    this._settle(); // a dialog tells that it closed a moment later: a quick hand may have opened it again before
    this.trade = trade;
    // One key for what is confirmed here, however often it is sent; also after a reload, if nobody has answered.
    this.key = unanswered.keyOf(trade) ?? newKey();
    this.problems = [];
    this.ready = this.sending = this.lost = false;
    setText(this.title, trade.title);
    setText(this["mode-line"], trade.modeLine);
    setText(this.confirm, trade.verb);
    setText(this.cancel, "Back");
    this._fail("");
    this._show(null);
    this.dialog.showModal();
    this.confirm.focus();
    this._estimate();
    this._timer = setInterval(() => this._estimate(), REFRESH_MS);
  }

  async _estimate() {
    const { trade } = this;
    if (this.sending || this.lost || this._asking === trade) return;
    this._asking = trade;
    const answer = await ask(`${this.address}/estimate`, { method: "POST", body: trade.body, key: newKey(), csrfToken: this.csrfToken });
    if (this._asking === trade) this._asking = null;
    if (this.trade !== trade || !this.dialog.open || this.sending || this.lost) return;
    if (answer.ok) {
      this._fail("");
      this._show(answer.data);
    } else {
      this.problems = problemsOf(answer.data);
      if (!this.problems.length) this._fail(`No estimate: ${answer.message}`);
      this._show({ refusals: answer.data?.errors ?? [], incomplete: true });
    }
  }

  _show(estimate) {
    this.ready = Boolean(estimate) && !estimate.incomplete && !(estimate.refusals ?? []).length;
    setAttribute(this.estimate, "aria-busy", estimate ? null : "true");
    this.estimate.replaceChildren(...(estimate ? linesOf(estimate, this.trade) : [el("p", { class: "muted" }, "Estimating…")]));
    this.problems = problemsOf(estimate);
    this.refused.show(this.problems, (problem) => problem.message);
    this.refusals.hidden = !this.problems.length;
    setText(this.cancel, this.problems.length ? "Change it" : "Back");
    this._enable(this.ready);
  }

  async _send() {
    if (this.sending || (!this.ready && !this.lost)) return;
    this.sending = true;
    this._enable(false);
    setText(this.confirm, "Sending…");
    this._fail("");
    const { trade } = this;
    unanswered.remember(trade, this.key);
    const address = trade.websocketOnly ? `${this.address}-ws` : this.address;
    const answer = await ask(address, { method: "POST", body: trade.body, key: this.key, csrfToken: this.csrfToken });
    if (!answer.lost) unanswered.forget(trade);
    if (this.trade !== trade) { // closed meanwhile all the same: some browsers let a second Escape do it
      if (answer.ok) this.onAccepted(answer.data, trade);
      else if (answer.lost) this.onUnanswered();
      else this.onRefused([{ field: "", message: problemsOf(answer.data).map(({ message }) => message).join(" ") || answer.message }]);
      return;
    }
    this.sending = false;
    if (answer.ok) {
      this.lost = false;
      this.dialog.close();
      this.onAccepted(answer.data, trade);
      return;
    }
    this.lost = Boolean(answer.lost);
    this._enable(true);
    if (answer.lost) {
      setText(this.confirm, "Ask again");
      this._fail(`No clear answer (${answer.message}): the order may have arrived. Asking again sends the same order, which is carried out once.`);
      return;
    }
    setText(this.confirm, trade.verb);
    this.problems = problemsOf(answer.data);
    this.key = newKey(); // refused, so what is sent next is another order
    if (this.problems.length) this.dialog.close();
    else this._fail(answer.message);
  }

  /** After it closed: say what came of the trade it was open for, once. */
  _settle() {
    if (!this.trade) return;
    clearInterval(this._timer);
    if (this.lost) this.onUnanswered();
    else if (this.problems.length) this.onRefused(this.problems);
    this.trade = null;
  }

  _enable(enabled) {
    if (enabled) this.confirm.removeAttribute("aria-disabled");
    else this.confirm.setAttribute("aria-disabled", "true"); // not `disabled`: the keyboard's focus would be lost
  }

  _fail(text) {
    setText(this.failure, text);
    this.failure.hidden = !text;
  }
}

/** Keys of orders that were sent and not answered, by what they ask for. Kept for as long as the tab is open. */
const unanswered = {
  keyOf: (trade) => stored()[JSON.stringify(trade.body)],
  remember: (trade, key) => store({ ...stored(), [JSON.stringify(trade.body)]: key }),
  forget(trade) {
    const { [JSON.stringify(trade.body)]: _, ...others } = stored();
    store(others);
  },
};
let inMemory = {};

function stored() {
  try {
    return JSON.parse(sessionStorage.getItem("unanswered") ?? "{}");
  } catch {
    return inMemory; // storage is switched off: the keys last as long as the page
  }
}

function store(keys) {
  inMemory = keys;
  try {
    sessionStorage.setItem("unanswered", JSON.stringify(keys));
  } catch {
    // as above
  }
}

/** The estimate, line by line; what does not apply is left out. */
function linesOf(estimate, { market, body }) {
  const given = (value) => value !== null && value !== undefined && value !== "";
  const buys = body.side === "buy" || body.side === "long";
  const level = (name, direction) => {
    const percent = Number(body[`${name}_percent`]);
    if (!(percent > 0) || !given(estimate.price)) return "";
    return `≈ ${atPercent(Number(estimate.price), percent, direction * (buys ? 1 : -1), market)} (${percent} %)`;
  };
  const lines = [
    ["Price", given(estimate.price) && `≈ ${amount(estimate.price)}`],
    ["Value", given(estimate.notional) && `${amount(estimate.notional)} ${market.quote}`],
    ["Fee", given(estimate.fee) && `≈ ${amount(estimate.fee, 4)} ${market.kind === "inverse" ? market.base : market.quote}`],
    ["Slippage", given(estimate.slippage_bps) && `${bps(estimate.slippage_bps)} bps`],
    ["Worst price", given(body.limit_price) && amount(body.limit_price)],
    ["Margin", given(estimate.margin) && `${amount(estimate.margin)} ${market.quote}`],
    ["Leverage", body.leverage > 1 && `${body.leverage}×`],
    ["Liquidation", given(estimate.liquidation_price) ? `≈ ${amount(estimate.liquidation_price)}` : estimate.liquidation_note],
    ["Take profit", level("take_profit", 1)],
    ["Stop loss", level("stop_loss", -1)],
    ["Path", given(estimate.path) && (PATHS[estimate.path] ?? estimate.path)],
  ];
  return lines.filter(([, value]) => value).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", { class: "num" }, value)));
}
