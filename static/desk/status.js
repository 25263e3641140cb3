// The connection indicator of the desk: green, yellow or red, and always the reason.

import { age, count } from "../live/format.js";
import { describe } from "../live/status.js";

const ENGINE_SILENT_SECONDS = 15; // the server looks sooner; this is for when it says nothing itself
const TONES = { green: "good", yellow: "warn", red: "bad" };
const RANK = { good: 0, warn: 1, bad: 2 };
const WORDS = { good: "Live", warn: "Degraded", bad: "Trouble" };

/**
 * Say how things stand: `{tone, word, reason}`. `connection` is LiveConnection's state, `standing` what the server says of
 * engine, feeds and accounts (null before the first frame), `now` the server's clock, `tick` performance.now().
 */
export function describeDesk(connection, standing, now, tick) {
  const seen = standing ? describeStanding(standing, now) : null;
  if (connection.socket !== "open" || connection.ended) {
    const cut = describe(connection, [], now, tick);
    if (connection.polling !== "ok" || !seen || seen.tone === "good") return cut;
    const tone = RANK[seen.tone] > RANK[cut.tone] ? seen.tone : cut.tone;
    return { tone, word: tone === cut.tone ? cut.word : WORDS[tone], reason: `${cut.reason}; ${seen.reason}` };
  }
  const heard = `last frame ${age((tick - connection.lastFrameAt) / 1000)} ago`;
  if (!seen) return { tone: "warn", word: "Connecting", reason: `${heard}; waiting for the figures` };
  return { ...seen, reason: `${seen.reason} · ${heard}` };
}

/** What the server says, with what has grown old since. */
function describeStanding(standing, now) {
  const { engine, feeds = [], accounts = [] } = standing;
  const silent = engine && now - engine.at > ENGINE_SILENT_SECONDS ? `the engine has said nothing for ${age(now - engine.at)}` : "";
  let tone = TONES[standing.state] ?? "warn";
  if (silent && tone === "good") tone = "warn";
  if (tone === "good") return { tone, word: WORDS.good, reason: healthy(engine, feeds, accounts) };
  return { tone, word: WORDS[tone], reason: [standing.reason, silent].filter(Boolean).join("; ") || "something is not as it should be" };
}

function healthy(engine, feeds, accounts) {
  const said = [engine ? "engine running" : "no engine runs"];
  const live = feeds.filter((feed) => feed.status === "live").length;
  if (feeds.length) said.push(count(live, "exchange") + " live");
  const paths = new Map();
  for (const { path } of accounts) if (path) paths.set(path, (paths.get(path) ?? 0) + 1);
  if (paths.size) said.push(`orders ${[...paths.keys()].sort().reverse().map((path) => PATHS[path] ?? path).join(" and ")}`);
  return said.join(", ");
}

const PATHS = { websocket: "by WebSocket", rest: "by REST", paper: "on paper" };
