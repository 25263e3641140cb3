// The live page: connect, keep what the server says, show it.

import { CloseDialog } from "../desk/close.js";
import { ServerClock, startAges } from "./ages.js";
import { Balances } from "./balances.js";
import { Bots } from "./bots.js";
import { PnlChart } from "./chart.js";
import { Figures } from "./figures.js";
import { Opportunities } from "./opportunities.js";
import { Risk } from "./risk.js";
import { LiveConnection } from "./socket.js";
import { Spreads } from "./spreads.js";
import { Indicator, describe } from "./status.js";
import { Store } from "./store.js";
import { Trades } from "./trades.js";

const byId = (id) => document.getElementById(id);
const page = byId("live");
const clock = new ServerClock();
const store = new Store();

new Figures(byId("figures"), store, clock);
new Spreads(byId("spreads"), store, clock);
const csrfToken = document.querySelector("[name=csrfmiddlewaretoken]").value;
const closing = byId("close-dialog") && new CloseDialog(byId("close-dialog"), store, csrfToken);
new Trades(byId("trades"), store, { onClose: closing && ((pair) => closing.open(pair)) });
new Opportunities(byId("opportunities"), store);
const desk = { ownerId: page.dataset.owner, clock, csrfToken };
new Risk(byId("risk"), store, desk);
new Bots(byId("bots"), store, desk);
new Balances(byId("balances"), store);
const chart = new PnlChart(byId("pnl"), store, clock);
const indicator = new Indicator(byId("connection"), byId("announcer"));
document.addEventListener("themechange", () => chart.restyle());
byId("owner")?.addEventListener("change", (event) => event.target.form.submit());

function onFrame(frame) {
  clock.observe(frame.timestamp);
  if (frame.type === "snapshot") {
    store.replace(frame.data);
    page.removeAttribute("aria-busy");
  } else if (frame.type === "update") {
    store.apply(frame.data.items);
  } else if (frame.type === "connected") {
    byId("mode").textContent = frame.data.mode;
  } else if (frame.type === "error") {
    console.warn(`The server says: ${frame.data.message}`);
  }
}

function showState() {
  const state = describe(connection.state, store.values("feed"), clock.now(), performance.now());
  indicator.show(state);
  page.toggleAttribute("data-cut-off", state.tone === "bad");
  byId("sign-in-again").hidden = connection.state.ended !== "signed-out";
}

const query = page.dataset.owner ? `?owner=${encodeURIComponent(page.dataset.owner)}` : "";
const connection = new LiveConnection({
  socketUrl: `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${page.dataset.socket}${query}`,
  snapshotUrl: page.dataset.snapshot + query,
  onFrame,
  onChange: showState,
});
store.subscribe(["feed"], showState);
connection.start();
startAges(clock);
