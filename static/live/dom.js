// Small helpers around the DOM: make elements, touch only what changed, keep lists keyed.

/** Make an element: `el("td", {class: "num", title: "…"}, "text", child)`. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

const shown = new WeakMap();

/** Set the text of an element whose content is text only; does nothing when it is the same. */
export function setText(node, text) {
  if (shown.get(node) === text) return;
  shown.set(node, text);
  node.textContent = text;
}

/** Set or remove (null) an attribute; does nothing when it is the same. */
export function setAttribute(node, name, value) {
  if (value === null) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== value) {
    node.setAttribute(name, value);
  }
}

/** Colour by sign; the sign itself is in the text. */
export function setSign(node, sign) {
  setAttribute(node, "data-sign", sign > 0 ? "plus" : sign < 0 ? "minus" : null);
}

/** A keyed list: makes, moves and removes only the children that need it. */
export class KeyedList {
  /** `create(item)` returns an element; `update(element, item)` brings it up to date. */
  constructor(parent, create, update) {
    this.parent = parent;
    this.create = create;
    this.update = update;
    this.rows = new Map();
  }

  /** Show `items` in this order; `keyOf(item)` names each. */
  show(items, keyOf) {
    const gone = new Map(this.rows);
    const wanted = items.map((item) => {
      const key = keyOf(item);
      let row = this.rows.get(key);
      if (!row) {
        row = this.create(item);
        this.rows.set(key, row);
      }
      gone.delete(key);
      this.update(row, item);
      return row;
    });
    for (const [key, row] of gone) {
      row.remove();
      this.rows.delete(key);
    }
    let place = this.parent.firstElementChild;
    for (const row of wanted) {
      if (row === place) place = place.nextElementSibling;
      else this.parent.insertBefore(row, place);
    }
  }
}

/** A badge: a word with a tone (good, warn, bad, quiet). */
export function setBadge(node, text, tone) {
  setText(node, text);
  setAttribute(node, "data-tone", tone);
}
