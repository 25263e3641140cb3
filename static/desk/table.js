// Tables whose rows become cards on a phone: each cell carries the name of its column.

import { KeyedList, el, setText } from "../live/dom.js";

export class Table {
  /**
   * `columns`: `{name, label, class, head, fill(cell, item)}`; `label` is the column's heading, `fill` brings a cell up to
   * date and may keep parts on it. A column with `head` names the row.
   */
  constructor(table, columns, { keyOf, rowClass = () => "" } = {}) {
    this.table = table;
    this.columns = columns;
    this.keyOf = keyOf;
    this.rowClass = rowClass;
    const headings = columns.map(({ label, class: of = "" }) => el("th", { scope: "col", class: of }, label));
    table.append(el("thead", {}, el("tr", {}, ...headings)), el("tbody"));
    this.list = new KeyedList(table.tBodies[0], () => this._create(), (row, item) => this._update(row, item));
  }

  show(items) {
    this.list.show(items, this.keyOf);
    this.table.hidden = items.length === 0;
  }

  _create() {
    const row = el("tr", { "data-row": true });
    row.cells_ = this.columns.map(({ label, class: of = "", head }) => {
      const cell = el(head ? "th" : "td", { class: of, "data-label": label, scope: head ? "row" : null });
      row.append(cell);
      return cell;
    });
    return row;
  }

  _update(row, item) {
    const of = this.rowClass(item);
    if (row.shownClass !== of) {
      row.className = of;
      row.shownClass = of;
    }
    this.columns.forEach((column, index) => column.fill(row.cells_[index], item, row));
  }
}

/** Two lines in one cell: what is important, and small below it what it belongs to. */
export function setTwoLines(cell, first, second) {
  if (!cell.lines) {
    cell.lines = [el("span", { class: "first" }), el("span", { class: "second muted" })];
    cell.append(...cell.lines);
  }
  setText(cell.lines[0], first);
  setText(cell.lines[1], second);
}

/** A badge in a cell. */
export function badgeOf(cell) {
  if (!cell.badge) {
    cell.badge = el("span", { class: "badge" });
    cell.append(cell.badge);
  }
  return cell.badge;
}
