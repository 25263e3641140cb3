// The connection indicator: one word, and the reason in words.

import { setAttribute, setText } from "./dom.js";
import { age, count } from "./format.js";

const FEED_SILENT_SECONDS = 6;

/**
 * Say how things stand: `{tone: "good" | "warn" | "bad", word, reason}`.
 * `connection` is LiveConnection's state, `feeds` the known feeds, `now` the server's clock, `tick` performance.now().
 */
export function describe(connection, feeds, now, tick) {
  if (connection.ended === "signed-out") {
    return { tone: "bad", word: "Signed out", reason: "your session has ended; sign in again to go on" };
  }
  if (connection.ended === "not-allowed") {
    return { tone: "bad", word: "Not allowed", reason: "this desk is another user's; only operators may see it" };
  }
  if (connection.socket !== "open") return describeWithoutSocket(connection, tick);

  const troubled = feeds.filter((feed) => feed.status !== "live");
  const silent = feeds.filter((feed) => feed.status === "live" && now - feed.at > FEED_SILENT_SECONDS);
  if (silent.length && silent.length === feeds.length) {
    const newest = Math.max(...feeds.map((feed) => feed.at));
    return { tone: "warn", word: "Degraded", reason: `no market data for ${age(now - newest)}: no engine reports` };
  }
  if (troubled.length || silent.length) {
    const said = troubled.map((feed) => `${feed.exchange} ${feed.status}${feed.reason ? ` (${feed.reason})` : ""}`)
      .concat(silent.map((feed) => `${feed.exchange} silent for ${age(now - feed.at)}`));
    return { tone: "warn", word: "Degraded", reason: said.join(", ") };
  }
  if (!feeds.length) return { tone: "good", word: "Live", reason: "connected; no market data yet" };
  const rate = Math.round(feeds.reduce((sum, feed) => sum + feed.messages_per_second, 0));
  return { tone: "good", word: "Live", reason: `${count(feeds.length, "feed")}, ${rate} messages/s` };
}

function describeWithoutSocket(connection, tick) {
  const since = connection.lastFrameAt === null ? "" : `; last figures ${age((tick - connection.lastFrameAt) / 1000)} ago`;
  const why = connection.reason ? `${connection.reason}; ` : "";
  if (connection.polling === "ok") {
    return { tone: "warn", word: "Degraded", reason: `${why}the live socket is cut: polling every 2 s` };
  }
  if (connection.polling === "failing") {
    return { tone: "bad", word: "Disconnected", reason: `${why}the server does not answer${since}; trying again` };
  }
  if (connection.socket === "connecting") return { tone: "warn", word: "Connecting", reason: "opening the live socket" };
  return { tone: "warn", word: "Reconnecting", reason: `${why}the live socket was cut${since}` };
}

/** Show it; screen readers are told when the word changes, not at every new figure. */
export class Indicator {
  constructor(root, announcer) {
    this.root = root;
    this.word = root.querySelector("[data-word]");
    this.reason = root.querySelector("[data-reason]");
    this.announcer = announcer;
  }

  show({ tone, word, reason }) {
    if (this.word.textContent !== word) setText(this.announcer, `${word}: ${reason}`);
    setAttribute(this.root, "data-tone", tone);
    setText(this.word, word);
    setText(this.reason, reason);
    setAttribute(this.reason, "title", reason);
  }
}
