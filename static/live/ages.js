// Ages: every element that shows one knows the instant it counts from; one timer keeps them all true.

import { setText } from "./dom.js";
import { age } from "./format.js";

const TICK_MS = 250;

/** The server's clock, followed by the timestamps of its frames: a page whose own clock is wrong still shows true ages. */
export class ServerClock {
  constructor() {
    this.offset = null;
  }

  observe(timestamp) {
    const offset = timestamp - Date.now() / 1000;
    // Frames arrive late, never early: the largest offset seen is nearest the truth; it may drift back slowly.
    if (this.offset === null || offset > this.offset || offset < this.offset - 2) this.offset = offset;
    else this.offset += (offset - this.offset) * 0.02;
  }

  now() {
    return Date.now() / 1000 + (this.offset ?? 0);
  }
}

let running = null; // the clock that ages are told by

/** Let `node` show the age of `at` (Unix seconds); its row (`[data-row]`) greys out after `oldAfter` seconds. */
export function setAge(node, at, oldAfter = Infinity) {
  node.ageOf = Number.isFinite(at) ? at : null;
  node.oldAfter = oldAfter;
  if (!("age" in node.dataset)) node.dataset.age = "";
  if (running) show(node, running.now());
}

function show(node, now) {
  const seconds = node.ageOf === null ? NaN : now - node.ageOf;
  setText(node, age(seconds));
  node.closest("[data-row]")?.classList.toggle("old", !(seconds <= node.oldAfter));
}

/** Keep every shown age true from now on. */
export function startAges(clock) {
  running = clock;
  const refresh = () => document.querySelectorAll("[data-age]").forEach((node) => show(node, clock.now()));
  refresh();
  return setInterval(refresh, TICK_MS);
}
