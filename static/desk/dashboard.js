// The live dashboard: connect, keep what the server says, show it.

import { ServerClock, startAges } from "../live/ages.js";
import { Balances } from "../live/balances.js";
import { PnlChart } from "../live/chart.js";
import { Opportunities } from "../live/opportunities.js";
import { Trades } from "../live/trades.js";
import { Banner } from "./banner.js";
import { CloseDialog } from "./close.js";
import { Health, Latency } from "./health.js";
import { AssetBalances, ProfitHistory } from "./history.js";
import { startLink } from "./link.js";
import { Money } from "./money.js";
import { Orders } from "./orders.js";
import { Pairs } from "./pairs.js";
import { Positions } from "./positions.js";
import { DeskStore } from "./store.js";

const byId = (id) => document.getElementById(id);
const page = byId("desk");
const clock = new ServerClock();
const store = new DeskStore();
const csrfToken = document.querySelector("[name=csrfmiddlewaretoken]").value;
const owner = page.dataset.owner ? `owner=${encodeURIComponent(page.dataset.owner)}` : "";

new Money(byId("money"), store);
new Banner(byId("banner"), store, clock);
const closing = "own" in page.dataset ? new CloseDialog(byId("close-dialog"), store, csrfToken) : null;
new Positions(byId("positions"), store, { onClose: (position) => closing.open(position), mayClose: closing !== null });
new Pairs(byId("pairs"), store, { onClose: (pair) => closing.open(pair), mayClose: closing !== null });
new Orders(byId("orders"), store);
new Trades(byId("trades"), store);
new Opportunities(byId("opportunities"), store);
new Balances(byId("balances"), store);
new Health(byId("health"), store);
new Latency(byId("latency"), store);
const chart = new PnlChart(byId("pnl"), store, clock);
const profits = new ProfitHistory(store, { address: `${page.dataset.history}?${owner}`, mode: page.dataset.mode });
new AssetBalances(byId("balances"), store, { address: `/api/balances?limit=200&${owner}` });
document.addEventListener("themechange", () => chart.restyle());

startLink(page, store, clock);
profits.load();
startAges(clock);
