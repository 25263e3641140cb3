// The panel for trading by hand: choose, look at the price, review, confirm, watch it go.

import { ServerClock, startAges } from "../live/ages.js";
import { setBadge } from "../live/dom.js";
import { Banner } from "./banner.js";
import { CloseDialog } from "./close.js";
import { Confirm } from "./confirm.js";
import { Fields, sideWord, unitOf } from "./fields.js";
import { startLink } from "./link.js";
import { MarketChoice } from "./market.js";
import { Positions } from "./positions.js";
import { Followed, ProgressList } from "./progress.js";
import { Quotes } from "./quotes.js";
import { DeskStore } from "./store.js";
import { Yeses } from "./yeses.js";

const TONES = { paper: "quiet", simulated: "info", testnet: "warn", live: "bad" };

const byId = (id) => document.getElementById(id);
const page = byId("desk");
const { mode } = page.dataset;
const clock = new ServerClock();
const store = new DeskStore();
const csrfToken = document.querySelector("[name=csrfmiddlewaretoken]").value;
const progress = new ProgressList(byId("progress"));
const closing = "own" in page.dataset ? new CloseDialog(byId("close-dialog"), store, csrfToken) : null;

new Banner(byId("banner"), store, clock);
new Positions(byId("positions"), store, { onClose: (position) => closing.open(position), mayClose: closing !== null });
store.subscribe(["progress"], () => {
  for (const followed of progress.followed) {
    const news = store.get("progress", followed.commandId);
    if (news) followed.take(news);
  }
});
if (byId("trade")) startPanel(byId("trade"));

function startPanel(form) {
  const account = byId("account");
  const chosenAccount = () => account.selectedOptions[0].dataset;
  const fields = new Fields(form);
  const yeses = new Yeses(byId("yeses"), store, { csrfToken, onChange: showAccount });
  const failure = form.querySelector("[data-failure]");
  let market = null;

  const fail = (text) => {
    failure.textContent = text;
    failure.hidden = !text;
  };
  const quotes = new Quotes(byId("quote"), page, { onPrice: () => fields.setPrice(market, quotes?.price ?? null) });
  const choice = new MarketChoice(byId("market"), byId("market-list"), {
    address: (text) => `${page.dataset.markets}?${new URLSearchParams({ account: account.value, search: text })}`,
    onChoose: (chosen) => {
      market = chosen;
      fields.clear("symbol");
      fields.setMarket(market);
      quotes.follow(market);
    },
  });
  const confirm = new Confirm(byId("confirm"), {
    address: page.dataset.address, csrfToken,
    onAccepted: (answer, trade) => {
      progress.add(new Followed({
        commandId: answer.command_id, title: trade.title, protectedOrder: trade.isProtected,
        address: `${page.dataset.address}/${encodeURIComponent(answer.command_id)}`,
        onChange: (followed) => progress.changed(followed),
      }));
      byId("progress-title").focus();
      byId("progress").scrollIntoView({ block: "nearest" });
    },
    onRefused: (problems) => fail(fields.show(problems).join(" ")),
    onUnanswered: () => fail("An order you confirmed had no answer and may have arrived. Look at the orders; or review exactly the same trade: it is then sent as the same order, once."),
  });

  function showAccount() {
    const { environment } = chosenAccount();
    const shown = mode === "paper" ? "paper" : environment;
    setBadge(document.querySelector("#panel header .badge"), shown, TONES[shown] ?? "quiet");
    const missing = yeses.show(chosenAccount());
    form.querySelectorAll(".sides button").forEach((button) => {
      if (missing.length) button.setAttribute("aria-disabled", "true");
      else button.removeAttribute("aria-disabled");
    });
  }

  function review(side) {
    fail("");
    fields.clear();
    const missing = yeses.show(chosenAccount());
    if (missing.length) return fail(`Live trading needs every yes; missing: ${missing.join(", ")}.`);
    const problems = fields.problems();
    if (!market) problems.unshift({ field: "symbol", message: "Choose a market from the list." });
    const values = fields.values();
    if (problems.length) return fail(fields.show(problems).join(" "));
    const derivative = market.kind !== "spot";
    const word = sideWord(side, derivative);
    const { environment } = chosenAccount();
    const body = {
      mode, account_id: Number(account.value), symbol: market.symbol, side: derivative ? word.toLowerCase() : side, ...values,
    };
    return confirm.open({
      body, market, verb: word === "Long" || word === "Short" ? `Go ${word.toLowerCase()}` : word,
      title: `${word} ${values.amount} ${unitOf(market)} of ${market.symbol}`,
      modeLine: mode === "paper"
        ? `Paper, on ${market.exchange}: no money moves.`
        : `${environment === "live" ? "LIVE, real money" : `On the ${environment} exchange`}: ${account.selectedOptions[0].textContent.trim().replace(/ \([a-z]+\)$/, "")}.`,
      isProtected: Boolean(body.take_profit_percent || body.stop_loss_percent), websocketOnly: byId("websocket-only").checked,
    });
  }

  account.addEventListener("change", () => {
    showAccount();
    choice.begin(market?.symbol);
  });
  form.addEventListener("input", () => fields.setPrice(market, quotes.price));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.querySelectorAll(".sides button").forEach((button) => button.addEventListener("click", () => review(button.dataset.side)));
  store.subscribe(["bot"], showAccount);
  showAccount();
  choice.begin(new URLSearchParams(location.search).get("symbol") ?? "");
}

startLink(page, store, clock);
startAges(clock);
