// The page's connection: the WebSocket while it can be had, polling while it cannot, and the truth about which.

const SILENCE_MS = 6_000; // the server says something at least every 2 s
const POLL_MS = 2_000;
const POLL_TIMEOUT_MS = 8_000;
const RETRY_FIRST_MS = 500;
const RETRY_MOST_MS = 10_000;
const SNAPSHOT_GAP_MS = 1_000;
const REFRESH_MS = 300_000; // a fresh snapshot now and then begins the new day and heals whatever was lost unnoticed

const SIGNED_OUT = 4401;
const NOT_ALLOWED = 4403;
const TOO_MANY_MESSAGES = 4429;

export class LiveConnection {
  /**
   * `onFrame(frame)` gets every frame, from the socket or polled; `onChange()` is called when `state` changed. `frameOf` makes
   * a frame of what is polled, where that is none.
   */
  constructor({ socketUrl, snapshotUrl, onFrame, onChange, frameOf = (answer) => answer }) {
    this.socketUrl = socketUrl;
    this.snapshotUrl = snapshotUrl;
    this.onFrame = onFrame;
    this.onChange = onChange;
    this.frameOf = frameOf;
    this.state = {
      socket: "connecting", // connecting, open, closed
      polling: "off", // off, trying, ok, failing
      ended: "", // "signed-out" or "not-allowed": nothing is tried any more
      reason: "",
      lastFrameAt: null, // performance.now()
      retryAt: null,
    };
    this._socket = null;
    this._attempts = 0;
    this._sequence = 0;
    this._snapshotAskedAt = -Infinity;
    this._timers = { retry: null, poll: null };
  }

  start() {
    this._connect();
    setInterval(() => this._watch(), 1_000);
    setInterval(() => document.hidden || this.askSnapshot(), REFRESH_MS);
    addEventListener("online", () => this._retryNow());
    addEventListener("pagehide", () => this._drop());
    addEventListener("pageshow", (event) => event.persisted && this._retryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this._retryNow());
  }

  /** Ask the server for a snapshot, at most once a second. */
  askSnapshot() {
    const now = performance.now();
    if (this.state.socket !== "open" || now - this._snapshotAskedAt < SNAPSHOT_GAP_MS) return;
    this._snapshotAskedAt = now;
    this._socket.send('{"type": "snapshot"}');
  }

  _connect() {
    clearTimeout(this._timers.retry);
    this._drop();
    this._change({ socket: this.state.socket === "closed" ? "closed" : "connecting", retryAt: null });
    const socket = new WebSocket(this.socketUrl);
    this._socket = socket;
    this._sequence = 0;
    this._openedAt = performance.now();
    socket.onmessage = (event) => this._receive(event.data);
    socket.onclose = (event) => this._lost(event.code);
  }

  _receive(text) {
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return this._lost(0, "the server sent something that is not JSON");
    }
    if (frame.sequence !== this._sequence + 1 && frame.type !== "snapshot") this.askSnapshot();
    this._sequence = frame.sequence;
    this.state.lastFrameAt = performance.now();
    if (this.state.socket !== "open") {
      this._attempts = 0;
      this._stopPolling();
      this._change({ socket: "open", polling: "off", reason: "", retryAt: null });
    }
    this.onFrame(frame);
  }

  _lost(code, reason = "") {
    this._drop();
    if (code === SIGNED_OUT || code === NOT_ALLOWED) {
      return this._end(code === SIGNED_OUT ? "signed-out" : "not-allowed");
    }
    const delay = code === TOO_MANY_MESSAGES
      ? RETRY_MOST_MS
      : Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** this._attempts) * (0.75 + Math.random() / 2);
    this._attempts += 1;
    this._timers.retry = setTimeout(() => this._connect(), delay);
    this._change({ socket: "closed", reason, retryAt: performance.now() + delay });
    if (this.state.polling === "off") {
      this._change({ polling: "trying" });
      this._poll();
    }
    return undefined;
  }

  _end(ended) {
    clearTimeout(this._timers.retry);
    this._stopPolling();
    this._drop();
    this._change({ socket: "closed", polling: "off", ended, retryAt: null });
  }

  /** Let go of the socket without hearing from it again: closing a dead peer's socket may take minutes. */
  _drop() {
    const socket = this._socket;
    this._socket = null;
    if (!socket) return;
    socket.onmessage = socket.onclose = null;
    socket.close();
  }

  _retryNow() {
    if (this.state.ended || this.state.socket === "open") return;
    this._attempts = 0;
    this._connect();
  }

  _watch() {
    if (this.state.ended) return;
    const now = performance.now();
    const heard = this.state.socket === "open" ? this.state.lastFrameAt : this._openedAt;
    if (this._socket && now - heard > SILENCE_MS) this._lost(0, "the server fell silent");
    else this.onChange(); // ages in the words of the indicator
  }

  async _poll() {
    const started = performance.now();
    const mine = (this._polling = {});
    let outcome = "failing";
    try {
      const response = await fetch(this.snapshotUrl, {
        credentials: "same-origin",
        headers: { Accept: "application/json" },
        signal: AbortSignal.timeout(POLL_TIMEOUT_MS),
      });
      if (response.status === 401) return void (this._polling === mine && this._end("signed-out"));
      if (response.status === 403) return void (this._polling === mine && this._end("not-allowed"));
      if (response.ok) {
        const frame = this.frameOf(await response.json());
        if (this._polling !== mine) return; // the socket came back meanwhile and knows better
        this.state.lastFrameAt = performance.now();
        this.onFrame(frame);
        outcome = "ok";
      }
    } catch {
      // Not reachable, or too slow: said by the indicator.
    }
    if (this._polling !== mine) return;
    this._change({ polling: outcome });
    // A server that takes long to answer is not asked again at once.
    const took = performance.now() - started;
    this._timers.poll = setTimeout(() => this._poll(), Math.max(POLL_MS - took, took));
  }

  _stopPolling() {
    clearTimeout(this._timers.poll);
    this._polling = null;
  }

  _change(changes) {
    Object.assign(this.state, changes);
    this.onChange();
  }
}
