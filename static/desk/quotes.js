// The price of one market as it moves: bid, ask and age, from the stream of the live page.

import { setAge } from "../live/ages.js";
import { setText } from "../live/dom.js";
import { amount, bps } from "../live/format.js";
import { LiveConnection } from "../live/socket.js";

const OLD_SECONDS = 5;
const TOLD_AFTER_MS = 4_000; // a market that has no price by then has nobody who follows it

export class Quotes {
  /** `page` has data-quotes (a socket) and data-quotes-snapshot; `onPrice()` is called when the chosen market's price moved. */
  constructor(root, page, { onPrice }) {
    this.parts = {};
    for (const name of ["bid", "ask", "spread", "note", "quote-age"]) this.parts[name] = root.querySelector(`[data-${name}]`);
    this.root = root;
    this.onPrice = onPrice;
    this.known = new Map();
    this.market = null;
    const query = page.dataset.owner ? `?owner=${encodeURIComponent(page.dataset.owner)}` : "";
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.connection = new LiveConnection({
      socketUrl: `${scheme}://${location.host}${page.dataset.quotes}${query}`,
      snapshotUrl: page.dataset.quotesSnapshot + query,
      onFrame: (frame) => this._take(frame),
      onChange: () => {},
    });
    this.connection.start();
  }

  /** Show this market: `{market, ...}` with its key, or null for none. */
  follow(market) {
    this.market = market;
    this.chosenAt = performance.now();
    setTimeout(() => this._show(), TOLD_AFTER_MS + 100);
    this._show();
  }

  /** The chosen market's `{bid, ask}`, or null without a price. */
  get price() {
    const quote = this.market && this.known.get(this.market.key);
    return quote && quote.bid > 0 && quote.ask > 0 ? quote : null;
  }

  _take(frame) {
    const quotes = frame.type === "snapshot" ? frame.data.quotes
      : frame.type === "update" ? frame.data.items.filter((item) => item.kind === "quote").map((item) => item.data) : [];
    for (const quote of quotes) this.known.set(quote.market, quote);
    if (quotes.some((quote) => quote.market === this.market?.key)) this._show();
  }

  _show() {
    const { parts, price } = this;
    setText(parts.bid, price ? amount(price.bid) : "–");
    setText(parts.ask, price ? amount(price.ask) : "–");
    setText(parts.spread, price ? `${bps((price.ask / price.bid - 1) * 1e4).replace("+", "")} bps` : "–");
    this.root.toggleAttribute("data-priced", price !== null);
    setAge(parts["quote-age"], price?.received_at ?? NaN, OLD_SECONDS);
    setText(parts.note, this._note());
    parts.note.hidden = !parts.note.textContent;
    this.onPrice();
  }

  _note() {
    if (!this.market) return "Choose a market.";
    const quote = this.known.get(this.market.key);
    if (!quote || !this.price) {
      if (performance.now() - this.chosenAt < TOLD_AFTER_MS) return "Waiting for its price…";
      return "Nobody follows this market now, so there is no live price.";
    }
    return quote.status === "live" ? "" : `The feed is ${quote.status}${quote.reason ? `: ${quote.reason}` : ""}.`;
  }
}
