// What the exchanges say each account holds.

import { setAge } from "./ages.js";
import { KeyedList, el, setText } from "./dom.js";
import { amount, signOf } from "./format.js";

const OLD_SECONDS = 600; // private streams speak when something changes

export class Balances {
  constructor(root, store) {
    this.store = store;
    this.empty = root.querySelector("[data-empty]");
    this.table = root.querySelector("table");
    this.list = new KeyedList(root.querySelector("tbody"), createRow, updateRow);
    store.subscribe(["balance"], () => this.render());
  }

  render() {
    const rows = this.store.values("balance")
      .filter((balance) => signOf(balance.free) || signOf(balance.used))
      .sort((a, b) => compare(a.asset, b.asset) || compare(a.exchange, b.exchange) || compare(a.account, b.account));
    this.list.show(rows, (balance) => `${balance.account_id}:${balance.asset}`);
    this.table.hidden = rows.length === 0;
    this.empty.hidden = rows.length > 0 || !this.store.loaded;
  }
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

function createRow() {
  const parts = {
    asset: el("th", { scope: "row" }), account: el("td"), free: el("td", { class: "num" }),
    used: el("td", { class: "num muted" }), age: el("td", { class: "num age" }),
  };
  const row = el("tr", { "data-row": true }, parts.asset, parts.account, parts.free, parts.used, parts.age);
  row.parts = parts;
  return row;
}

function updateRow(row, balance) {
  const { parts } = row;
  setText(parts.asset, balance.asset);
  setText(parts.account, balance.account === balance.exchange ? balance.exchange : `${balance.exchange} · ${balance.account}`);
  setText(parts.free, amount(balance.free));
  setText(parts.used, amount(balance.used));
  setAge(parts.age, balance.at, OLD_SECONDS);
}
