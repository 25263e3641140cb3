// The searchable list of markets: a combobox (WAI-ARIA 1.2) whose options the server finds.

import { el, setAttribute, setText } from "../live/dom.js";
import { ask } from "./request.js";

const WAIT_MS = 150; // after the last key

export class MarketChoice {
  /** `search(text)` gives the address to ask; `onChoose(market)` gets the chosen one, or null when the text names none. */
  constructor(input, list, { address, onChoose }) {
    this.input = input;
    this.list = list;
    this.address = address;
    this.onChoose = onChoose;
    this.chosen = null;
    this.before = null; // what was chosen until something else was typed
    this.options = [];
    this.active = -1;
    input.addEventListener("input", () => this._typed());
    input.addEventListener("focus", () => input.select());
    input.addEventListener("click", () => this.list.hidden && this._find(""));
    input.addEventListener("keydown", (event) => this._key(event));
    input.addEventListener("blur", () => this._left());
    // Before the input loses its focus.
    list.addEventListener("mousedown", (event) => event.preventDefault());
    list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option?.market) this._choose(option.market);
    });
  }

  /** Choose the market of this symbol, or the first there is; after the account has changed. */
  async begin(symbol = "") {
    const markets = await this._ask(symbol);
    const market = markets?.find((found) => found.symbol === symbol) ?? (symbol ? null : markets?.[0]) ?? null;
    if (market) this._choose(market);
    else if (markets && symbol) return this.begin();
    return undefined;
  }

  /** What is typed is not chosen yet, so nothing is: no order is reviewed for the market before. */
  _typed() {
    clearTimeout(this._timer);
    if (this.chosen) {
      this.before = this.chosen;
      this.chosen = null;
      this.onChoose(null);
    }
    this._timer = setTimeout(() => this._find(this.input.value), WAIT_MS);
  }

  async _find(text) {
    const markets = await this._ask(text);
    if (markets && document.activeElement === this.input) this._open(markets, text);
  }

  async _ask(text) {
    const mine = (this._asked = {});
    const answer = await ask(this.address(text.trim()));
    if (this._asked !== mine) return null; // a newer question is under way
    if (!answer.ok) {
      this._open([], text, answer.message);
      return null;
    }
    return answer.data.markets;
  }

  _open(markets, text, trouble = "") {
    this.options = markets.map((market, index) => {
      const option = el("li", { role: "option", id: `market-${index}`, "aria-selected": "false" },
        el("span", {}, market.symbol), el("span", { class: "muted" }, market.kind === "spot" ? "spot" : "futures"));
      option.market = market;
      return option;
    });
    this.list.replaceChildren(...this.options);
    if (!markets.length) this.list.append(el("li", { class: "muted", role: "option", "aria-disabled": "true" }, trouble || `No market is called like "${text}" here.`));
    this.list.hidden = false;
    setAttribute(this.input, "aria-expanded", "true");
    this._activate(markets.length && text ? 0 : -1);
  }

  _close() {
    this.list.hidden = true;
    setAttribute(this.input, "aria-expanded", "false");
    setAttribute(this.input, "aria-activedescendant", null);
    this.active = -1;
  }

  _activate(index) {
    this.options[this.active]?.setAttribute("aria-selected", "false");
    this.active = index;
    const option = this.options[index];
    option?.setAttribute("aria-selected", "true");
    option?.scrollIntoView({ block: "nearest" });
    setAttribute(this.input, "aria-activedescendant", option?.id ?? null);
  }

  _key(event) {
    const open = !this.list.hidden;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!open) return void this._find("");
      const count = this.options.length;
      if (count) this._activate((this.active + (event.key === "ArrowDown" ? 1 : count - 1) + (this.active < 0 && event.key === "ArrowUp" ? 1 : 0)) % count);
    } else if (event.key === "Enter" && open) {
      event.preventDefault();
      const option = this.options[this.active];
      if (option) this._choose(option.market);
    } else if (event.key === "Escape" && open) {
      event.preventDefault();
      clearTimeout(this._timer);
      const market = this.chosen ?? this.before;
      if (market) this._choose(market);
      else this._close();
    }
    return undefined;
  }

  _choose(market) {
    clearTimeout(this._timer);
    this._asked = null;
    this.chosen = market;
    this.input.value = market.symbol;
    this._close();
    this.onChoose(market);
  }

  /** What was typed and not chosen is looked up: exactly that symbol, or nothing. */
  async _left() {
    clearTimeout(this._timer);
    this._close();
    const text = this.input.value.trim();
    if (this.chosen || !text) return;
    const markets = (await this._ask(text)) ?? [];
    const exact = markets.find((market) => market.symbol.toUpperCase() === text.toUpperCase());
    if (exact && this.input.value.trim() === text) this._choose(exact);
  }
}
