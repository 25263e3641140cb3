// The fields of the trade: what they hold, what is wrong with them, and what their figures would come to.

import { setAttribute, setText } from "../live/dom.js";
import { amount, parseDecimal } from "../live/format.js";

// What the API calls a field, where that is not what the page calls it.
const ALIASES = {
  account: "account_id", market: "symbol", market_id: "symbol", quantity: "amount", size: "amount", take_profit_percent: "take_profit",
  stop_loss_percent: "stop_loss", order_type: "order", timeout: "timeout_seconds",
};

export class Fields {
  constructor(form) {
    this.form = form;
    this.fields = new Map([...form.querySelectorAll("[data-field]")].map((field) => [field.dataset.field, field]));
    // What is corrected is no longer wrong.
    form.addEventListener("input", (event) => this.clear(event.target.closest("[data-field]")?.dataset.field));
    form.addEventListener("change", (event) => this.clear(event.target.closest("[data-field]")?.dataset.field));
  }

  /** What is wrong with what is typed, as far as that can be seen without the server. */
  problems() {
    const found = [];
    if (!this._text("amount")) found.push({ field: "amount", message: "Say how much." });
    for (const [field, id] of [["leverage", "leverage"], ["timeout_seconds", "timeout"]]) {
      const text = this._text(id);
      if (text && !this.fields.get(field).hidden && !/^[1-9]\d*$/.test(text)) {
        found.push({ field, message: `Must be a whole number of at least 1 (given ${text}).` });
      }
    }
    return found;
  }

  /** What is typed, as the API takes it: empty fields are left out. */
  values() {
    const text = (id) => this._text(id);
    const body = { amount: text("amount"), order: this.form.querySelector("[name=order]:checked").value };
    const optional = { take_profit_percent: "take-profit", stop_loss_percent: "stop-loss", limit_price: "limit-price" };
    for (const [name, id] of Object.entries(optional)) if (text(id)) body[name] = text(id);
    if (text("timeout")) body.timeout_seconds = Number(text("timeout"));
    if (!this.fields.get("leverage").hidden && text("leverage")) body.leverage = Number(text("leverage"));
    return body;
  }

  /** Say what is wrong where it is wrong: `[{field, message}]`. Returns what belongs to no field shown. */
  show(problems) {
    this.clear();
    const rest = [];
    let first = null;
    for (const { field, message } of problems) {
      const place = this.fields.get(ALIASES[field] ?? field);
      const error = place?.querySelector("[data-error]");
      if (!error || place.hidden) {
        rest.push(message);
        continue;
      }
      setText(error, error.hidden ? message : `${error.textContent} ${message}`);
      error.hidden = false;
      place.closest("details")?.setAttribute("open", "");
      const input = place.querySelector("input, select");
      setAttribute(input, "aria-invalid", "true");
      first ??= input;
    }
    first?.focus();
    return rest;
  }

  clear(name) {
    const places = name === undefined ? this.fields.values() : [this.fields.get(name)].filter(Boolean);
    for (const place of places) {
      const error = place.querySelector("[data-error]");
      if (!error) continue;
      error.hidden = true;
      setText(error, "");
      setAttribute(place.querySelector("input, select"), "aria-invalid", null);
    }
  }

  /** Show what this market asks for. */
  setMarket(market) {
    const derivative = Boolean(market) && market.kind !== "spot";
    this.fields.get("leverage").hidden = !derivative;
    const amountField = this.fields.get("amount");
    setText(amountField.querySelector("[data-unit]"), market ? unitOf(market) : "");
    this.form.querySelectorAll("[data-side]").forEach((button) => {
      setText(button, `${sideWord(button.dataset.side, derivative)}…`);
    });
  }

  /** Show what the figures come to at this price: the size's value, the prices of take-profit and stop-loss. */
  setPrice(market, price) {
    const hint = (name) => this.fields.get(name).querySelector("[data-hint]");
    setText(hint("amount"), market ? [limitsText(market), valueText(market, price, this._number("amount"))].filter(Boolean).join(" · ") : "");
    for (const [name, id, direction] of [["take_profit", "take-profit", 1], ["stop_loss", "stop-loss", -1]]) {
      setText(hint(name), targetText(market, price, this._number(id), direction));
    }
  }

  _text(id) {
    return this.form.querySelector(`#${id}`).value.trim().replace(",", ".");
  }

  _number(id) {
    const text = this._text(id);
    return text === "" ? NaN : Number(text);
  }
}

export function sideWord(side, derivative) {
  return derivative ? (side === "buy" ? "Long" : "Short") : (side === "buy" ? "Buy" : "Sell");
}

/** The unit a size is given in: the market's own. */
export function unitOf({ kind, base, contract_size: size, quote }) {
  if (kind === "spot") return base;
  const each = `${amount(size)} ${kind === "inverse" ? quote : base}`;
  return Number(size) === 1 && kind === "linear" ? base : `contracts of ${each}`;
}

function limitsText({ min_amount: least, lot, min_notional: notional, quote }) {
  const said = [`steps of ${amount(lot)}`];
  if (Number(least) > 0) said.unshift(`at least ${amount(least)}`);
  if (Number(notional) > 0) said.push(`worth at least ${amount(notional)} ${quote}`);
  return said.join(", ");
}

function valueText(market, price, size) {
  if (!price || !(size > 0)) return "";
  const middle = (price.bid + price.ask) / 2;
  const worth = market.kind === "inverse" ? size * Number(market.contract_size) : size * Number(market.contract_size) * middle;
  return `≈ ${amount(worth.toFixed(2), 8)} ${market.quote}`;
}

/** "≈ 51,250 long, 48,750 short": a percentage of the entry, in the position's favour (1) or against it (-1). */
function targetText(market, price, percent, direction) {
  if (!market || !price || !(percent > 0)) return "";
  const long = atPercent(price.ask, percent, direction, market);
  if (market.kind === "spot") return `≈ ${long} after a buy`;
  return `≈ ${long} long, ${atPercent(price.bid, percent, -direction, market)} short`;
}

/** A price so many percent above (1) or below (-1) another, at the market's tick. */
export function atPercent(from, percent, direction, market) {
  const places = parseDecimal(market.tick)?.scale ?? 2;
  return amount((from * (1 + direction * percent / 100)).toFixed(places), 12);
}
