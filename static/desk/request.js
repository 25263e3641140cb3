// Requests to the API. A POST carries the key that makes a repetition of it harmless.

const REQUEST_TIMEOUT_MS = 15_000;

/** A new idempotency key. Not crypto.randomUUID: that exists only on https and on this machine. */
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Ask the API. Resolves to `{ok, status, data}` for every answer, and to `{ok: false, status: 0, lost: true, message}` when
 * none came: then nobody knows whether the request arrived, and only the same key may be used again.
 */
export async function ask(address, { method = "GET", body, key, csrfToken } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  if (csrfToken) headers["X-CSRFToken"] = csrfToken;
  try {
    const response = await fetch(address, {
      method, headers, credentials: "same-origin", body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
    });
    const data = await response.json().catch(() => null);
    // A gateway that gave up says nothing of what became of the request behind it.
    if (response.status >= 500) return { ok: false, status: response.status, lost: true, data, message: problemText(data, response.status) };
    return { ok: response.ok, status: response.status, data, message: response.ok ? "" : problemText(data, response.status) };
  } catch (error) {
    const seconds = REQUEST_TIMEOUT_MS / 1000;
    return { ok: false, status: 0, lost: true, data: null, message: error.name === "TimeoutError" ? `no answer in ${seconds} s` : "the server cannot be reached" };
  }
}

/** One sentence of a problem (application/problem+json), or of an answer that is none. */
export function problemText(data, status) {
  if (status === 401) return "Your session has ended; sign in again to go on.";
  return data?.detail || data?.title || data?.error || `The server answered ${status}.`;
}

/** What is wrong with each field: `[{field, message}]`. What belongs to no field has an empty one. */
export function problemsOf(data) {
  return (data?.errors ?? data?.refusals ?? []).map((error) => {
    if (typeof error !== "string") return { field: error.field ?? "", message: sentence(error) };
    const [, field, message] = /^([a-z_]+): (.+)$/s.exec(error) ?? [null, "", error];
    return { field, message };
  });
}

/** A refusal in plain words: its message, and limit and given where the message does not name them. */
export function sentence({ message = "", limit, given }) {
  const missing = [["limit", limit], ["given", given]]
    .filter(([, value]) => value !== undefined && value !== null && value !== "" && !message.includes(String(value)))
    .map(([word, value]) => `${word} ${value}`);
  return message + (missing.length ? ` (${missing.join(", ")})` : "");
}
