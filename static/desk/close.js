// The dialog that asks before a position is closed, and then shows how it goes.

import { setText } from "../live/dom.js";
import { amount, money } from "../live/format.js";
import { CLOSING_STEPS, Followed, ProgressList } from "./progress.js";
import { ask, newKey, problemsOf } from "./request.js";

export class CloseDialog {
  /** `dialog` has data-address (where a close is sent) and data-status (where it is asked for, ending in /0). */
  constructor(dialog, store, csrfToken) {
    this.dialog = dialog;
    this.csrfToken = csrfToken;
    const part = (name) => dialog.querySelector(`[data-${name}]`);
    for (const name of ["title", "about", "amount", "unit", "failure", "confirm", "cancel", "choice"]) this[name] = part(name);
    this.progress = new ProgressList(part("progress"));
    this.followed = null;
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this._send();
    });
    this.confirm.addEventListener("keydown", (event) => event.key === "Enter" && event.repeat && event.preventDefault());
    this.cancel.addEventListener("click", () => this.busy || dialog.close());
    dialog.addEventListener("cancel", (event) => this.busy && event.preventDefault());
    store.subscribe(["progress"], () => {
      if (!this.followed) return;
      const news = store.get("progress", this.followed.commandId);
      if (news) this.followed.take(news);
    });
  }

  open(position) {
    this.position = position;
    this.key = newKey(); // one for this confirmation: a second click, or a retry after a lost answer, closes nothing twice
    this.busy = false;
    this.followed = null;
    this.progress.followed = [];
    this.progress.render();
    setText(this.title, `Close ${position.side} ${position.symbol}`);
    setText(this.about, position.about ?? aboutText(position));
    setText(this.unit, `of ${amount(position.size)}`);
    this.amount.value = "";
    this._enable(true);
    this.choice.hidden = Boolean(position.isPair); // a pair is closed whole, at once
    setText(this.confirm, position.isPair ? "Close pair" : "Close position");
    setText(this.cancel, "Keep it");
    this.confirm.hidden = false;
    this._fail("");
    this.dialog.showModal();
    this.confirm.focus();
  }

  async _send() {
    if (this.busy || this.followed) return;
    this.busy = true;
    this._enable(false);
    const { position, key } = this;
    const order = position.isPair ? "market" : this.dialog.querySelector("[name=close-order]:checked").value;
    const body = { trade_id: position.trade_id, order };
    if (this.amount.value.trim()) body.amount = this.amount.value.trim();
    const answer = await ask(this.dialog.dataset.address, { method: "POST", body, key, csrfToken: this.csrfToken });
    if (this.key !== key) return; // left all the same, and opened again: what came of it is in the positions
    this.busy = false;
    this._enable(true);
    if (answer.ok) return this._follow(answer.data, position);
    if (answer.lost) {
      setText(this.confirm, "Ask again");
      return this._fail(`${capital(answer.message)}. It may have arrived: asking again closes nothing twice.`);
    }
    this.key = newKey(); // refused: what is sent next is another request
    const problems = problemsOf(answer.data).map((problem) => problem.message);
    return this._fail(problems.join(" ") || answer.message);
  }

  _follow(accepted, position) {
    this._fail("");
    this.choice.hidden = true;
    this.confirm.hidden = true;
    setText(this.cancel, "Done");
    this.followed = new Followed({
      commandId: accepted.command_id, title: `Close ${position.side} ${position.symbol}`, steps: closingSteps(position),
      address: this.dialog.dataset.status.replace(/0$/, encodeURIComponent(accepted.command_id)),
      onChange: (followed) => this.progress.changed(followed),
    });
    this.progress.add(this.followed);
    this.cancel.focus();
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

function aboutText({ size, exchange, environment, entry_price: entry, mark_price: mark, unrealized_pnl: pnl, protected_by: by }) {
  const said = [`${amount(size)} on ${exchange}${environment ? ` (${environment})` : ""}, entered at ${amount(entry)}`];
  if (mark) said.push(`now ${amount(mark)}`);
  if (pnl) said.push(`unrealised ${money(pnl)}`);
  return `${said.join(", ")}.${by ? " Its take-profit and stop-loss orders are cancelled." : ""}`;
}

function closingSteps({ protected_by: by }) {
  return by === "exchange" ? CLOSING_STEPS : CLOSING_STEPS.filter((step) => step !== "withdrawing protection");
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
