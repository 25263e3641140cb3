// A page's connection to the desk's stream: the socket while it can be had, GET /api/dashboard every 2 s while it cannot.

import { Indicator } from "../live/status.js";
import { LiveConnection } from "../live/socket.js";
import { describeDesk } from "./status.js";

const byId = (id) => document.getElementById(id);

/**
 * Keep `store` at what the server says, and the head of the page at how that is known. `page` has data-socket, data-dashboard,
 * data-owner and data-mode.
 */
export function startLink(page, store, clock) {
  const query = new URLSearchParams({ mode: page.dataset.mode });
  if (page.dataset.owner) query.set("owner", page.dataset.owner);
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const indicator = new Indicator(byId("connection"), byId("announcer"));

  function onFrame({ type, data, timestamp }) {
    clock.observe(timestamp);
    if (type === "snapshot") {
      store.replace(data);
      page.removeAttribute("aria-busy");
    } else if (type === "error") {
      console.warn(`The server says: ${data.message}`);
    } else {
      store.take(type, data);
    }
  }

  function showState() {
    const { state } = connection;
    indicator.show(describeDesk(state, store.standing, clock.now(), performance.now()));
    page.toggleAttribute("data-cut-off", state.socket !== "open" && state.polling !== "ok");
    byId("sign-in-again").hidden = state.ended !== "signed-out";
  }

  const connection = new LiveConnection({
    socketUrl: `${scheme}://${location.host}${page.dataset.socket}?${query}`,
    snapshotUrl: `${page.dataset.dashboard}?${query}`,
    // What is polled is the snapshot itself, without the frame around it.
    frameOf: (data) => ({ type: "snapshot", data, timestamp: data.server_time, sequence: 0 }),
    onFrame,
    onChange: showState,
  });
  store.subscribe(["standing"], showState);
  byId("owner")?.addEventListener("change", (event) => event.target.form.submit());
  connection.start();
}
