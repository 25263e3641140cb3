// Running profit of one mode at a time, one stepped line per quote asset.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { KeyedList, el, setAttribute, setText } from "./dom.js";
import { money } from "./format.js";
import { modeRank } from "./modes.js";

const REDRAW_MS = 1_000;

/** The modes that have a line, the most real first. */
export function modesOf(pnl) {
  const modes = new Set([...pnl.values()].map((points) => points[0].mode));
  return [...modes].sort((a, b) => modeRank(a) - modeRank(b));
}

/**
 * Put each line's points on one time axis: `{x: [...], lines: [{key, y: [...]}]}`. A line is null before its first
 * point and keeps its last value up to `now`.
 */
export function alignLines(pnl, now) {
  const keys = [...pnl.keys()].sort();
  const times = new Set();
  for (const points of pnl.values()) for (const point of points) times.add(point.at);
  const x = [...times].sort((a, b) => a - b);
  if (x.length && now > x[x.length - 1]) x.push(now);
  const lines = keys.map((key) => {
    const points = pnl.get(key);
    let next = 0;
    let value = null;
    const y = x.map((at) => {
      while (next < points.length && points[next].at <= at) value = Number(points[next++].total);
      return value;
    });
    return { key, y };
  });
  return { x, lines };
}

export class PnlChart {
  constructor(root, store, clock) {
    this.store = store;
    this.clock = clock;
    this.place = root.querySelector("[data-chart]");
    this.legend = root.querySelector("[data-legend]");
    this.empty = root.querySelector("[data-empty]");
    this.modes = root.querySelector("[data-modes]");
    this.buttons = new KeyedList(this.modes, (mode) => this._createButton(mode), (button, mode) =>
      setAttribute(button, "aria-pressed", String(mode === this.mode)));
    this.chosen = null; // until the user chooses: the most real there is
    this.mode = null;
    this.plot = null;
    this.shape = "";
    store.subscribe(["pnl"], () => this.render());
    new ResizeObserver(() => this.resize()).observe(this.place);
    setInterval(() => this.plot && this.draw(), REDRAW_MS);
  }

  render() {
    const modes = modesOf(this.store.kinds.pnl);
    this.mode = modes.includes(this.chosen) ? this.chosen : (modes[0] ?? null);
    this.buttons.show(modes, (mode) => mode);
    this.modes.hidden = modes.length < 2;
    this.empty.hidden = modes.length > 0 || !this.store.loaded;
    this.draw();
  }

  _createButton(mode) {
    const button = el("button", { type: "button", class: "small" }, mode);
    button.addEventListener("click", () => {
      this.chosen = mode;
      this.render();
    });
    return button;
  }

  /** Take the colours of the theme that is shown now. */
  restyle() {
    this.shape = "";
    this.draw();
  }

  resize() {
    const size = this._size();
    if (this.plot && (size.width !== this.plot.width || size.height !== this.plot.height)) this.plot.setSize(size);
  }

  draw() {
    const shown = new Map([...this.store.kinds.pnl].filter(([, points]) => points[0].mode === this.mode));
    const { x, lines } = alignLines(shown, this.clock.now());
    const shape = lines.map((line) => line.key).join();
    if (shape !== this.shape) this._rebuild(lines, shape);
    if (!this.plot) return;
    this.plot.setData([x, ...lines.map((line) => line.y)]);
    lines.forEach((line, index) => {
      const points = shown.get(line.key);
      const { total, quote } = points[points.length - 1];
      setText(this.values[index], `${money(total)} ${quote} ${this.mode}`);
    });
    this.place.setAttribute("data-points", String(x.length));
    this.place.setAttribute("aria-label", "Running profit: " + this.values.map((node) => node.textContent).join(", "));
  }

  _size() {
    return { width: Math.max(100, this.place.clientWidth), height: Math.max(100, this.place.clientHeight) };
  }

  _rebuild(lines, shape) {
    this.plot?.destroy();
    this.plot = null;
    this.shape = shape;
    this.legend.replaceChildren();
    this.values = [];
    if (!lines.length) return;
    const colours = lines.map((line, index) => {
      const swatch = el("i", { class: `swatch line-${index % 4}` });
      const value = el("span", { class: "num" });
      this.values.push(value);
      this.legend.append(el("li", {}, swatch, value));
      return getComputedStyle(swatch).backgroundColor;
    });
    const style = getComputedStyle(this.place);
    const axis = {
      stroke: style.color,
      grid: { stroke: style.borderTopColor, width: 1 },
      ticks: { show: false },
      font: `11px ${style.fontFamily}`,
    };
    this.plot = new uPlot({
      ...this._size(),
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { time: true }, y: { range: paddedRange } },
      axes: [
        { ...axis, size: 28, space: 70, values: (_, times, __, ___, step) => times.map((at) => axisTime(at, step)) },
        { ...axis, size: axisWidth, values: (_, values) => values.map((value) => money(value.toFixed(8))) },
      ],
      series: [{}, ...lines.map((line, index) => ({
        label: line.key,
        stroke: colours[index],
        width: 2,
        points: { show: false },
        paths: uPlot.paths.stepped({ align: 1 }),
      }))],
    }, [[], ...lines.map(() => [])], this.place);
  }
}

// Room above and below the line, and zero in sight while profit is near it.
function paddedRange(_, low, high) {
  if (low === null || high === null) return [-1, 1];
  const bottom = Math.min(low, 0);
  const top = Math.max(high, 0);
  const room = (top - bottom || 1) * 0.08;
  return [bottom === 0 ? 0 : bottom - room, top === 0 ? 0 : top + room];
}

function axisWidth(_, values) {
  const longest = (values ?? []).reduce((most, text) => Math.max(most, text.length), 0);
  return 14 + longest * 6.5;
}

const HOURS = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const SECONDS = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});

function axisTime(at, step) {
  return (step < 60 ? SECONDS : HOURS).format(new Date(at * 1000));
}
