// The Sluicegate client: an ES module without dependencies for browsers, Node 20+, Deno and Bun.
//
// A prompt is sent once (`prefer: respond-async`), and its stream is read over as many connections as
// that takes: after a break the client reconnects with the id of the last event, which never asks the
// model again. https://html.spec.whatwg.org/multipage/server-sent-events.html describes the format.

const MODULE_ORIGIN = new URL(import.meta.url).origin; // "null" for a file
const FIRST_WAIT_MS = 500;
const SILENCE_MS = 60_000; // The gateway sends a comment every `heartbeat`, 15 s by default.

// Of the request; the options have the same names in camel case.
const FIELDS = "model prompt messages system max_tokens temperature top_p stop seed tools tool_choice response_format reasoning user metadata extra".split(" ");

/** Why a stream has no (whole) answer. `code` is one of the gateway's, or `unreachable`, `closed`. */
export class SluicegateError extends Error {
  constructor({ message, ...fields }) {
    super(message);
    Object.assign(this, { name: "SluicegateError", retryable: false, origin: "client" }, fields);
  }
}

/** Sends a prompt. Returns at once: an async iterator of events, with `id`, `text()`, `cancel()` and `close()`. */
export function stream(options) {
  const body = {};
  for (const field of FIELDS) body[field] = options[field.replace(/_./g, (part) => part[1].toUpperCase())];
  return new Reading({ options }, async (reading) => {
    const asked = await reading.fetch("/v1/streams", {
      method: "POST",
      headers: { "content-type": "application/json", prefer: "respond-async" },
      body: JSON.stringify(body),
    });
    // Whether the model was asked is not known, so the prompt is not sent again.
    if (!asked) throw new SluicegateError({ code: "unreachable", message: "the gateway did not answer", retryable: true });
    if (!asked.ok) throw await refusal(asked);
    // A gateway with `resume.window: 0` answers with the stream itself, which cannot be resumed.
    if (asked.status !== 202) return (await reading.read(asked)) || reading.fail(interrupted());
    reading.id = (await asked.json()).stream;
    return reading.follow(`${pathOf(reading.id)}/events`);
  });
}

/** Reads a stream that exists, from its first event or after the event `options.after`. */
export function resume(id, options = {}) {
  return new Reading({ options, id }, (reading) => reading.follow(`${pathOf(id)}/events`));
}

/** Reads several streams over one connection. Each event has its `stream`; the reading ends when all have ended. */
export function multiplex(ids, options = {}) {
  const query = ids.map((id) => `stream=${encodeURIComponent(id)}`).join("&");
  return new Reading({ options, streams: ids.length }, (reading) => reading.follow(`/v1/events?${query}`));
}

/** Reads the gateway's notifications until it is closed. */
export function notifications(options = {}) {
  return new Reading({ options, streams: Infinity }, (reading) => reading.follow("/v1/notifications"));
}

// An id may come from a link of another person.
const pathOf = (id) => `/v1/streams/${encodeURIComponent(id)}`;

const interrupted = () => ({ code: "stream_interrupted", message: "the connection broke and the stream cannot be resumed", retryable: true, origin: "gateway" });

async function refusal(response) {
  const body = await response.json().catch(() => null);
  const error = body?.error ?? { code: "unreachable", message: `the answer ${response.status} is not the gateway's`, retryable: response.status >= 500 };
  return new SluicegateError({ ...error, status: response.status });
}

class Reading {
  id;
  #options;
  #lastId; // of the last event that was received
  #contentId; // of the last event that was not an error
  #tries = 0; // connections since the last event
  #streams; // how many have not ended
  #moved; // the error of a stream that may go on at another replica
  #over = false;
  #leave = new AbortController();
  #text = deferred();
  #answer = "";
  #held = []; // received and not yet delivered
  #timer;
  #queue = []; // delivered and not yet iterated
  #wake = () => {};
  #known = deferred(); // the stream's id

  constructor({ options, id, streams = 1 }, run) {
    this.#options = options;
    this.#streams = streams;
    this.#lastId = options.after;
    this.id = id;
    this.#text.promise.catch(() => {}); // A caller that never asks for the text gets no unhandled rejection.
    const { signal } = options;
    if (signal?.aborted) this.close();
    signal?.addEventListener("abort", () => this.close(), { once: true });
    globalThis.document?.addEventListener("visibilitychange", this.#onVisibility);
    Promise.resolve(this)
      .then(run)
      .catch(({ name, message, ...fields }) => this.fail({ code: name, message, ...fields }))
      .finally(() => this.#end());
  }

  /** The whole text; rejects with a `SluicegateError` if the stream ends in an error or is closed. */
  text() {
    return this.#text.promise;
  }

  /** Stops the model. The stream ends with `complete` and the finish reason `cancelled`. */
  async cancel() {
    const id = this.id ?? (await this.#known.promise);
    if (!id) return;
    const response = await fetch(this.#url(pathOf(id)), { method: "DELETE", headers: this.#headers() });
    if (!response.ok) throw await refusal(response);
  }

  /** Stops reading. The stream goes on for the gateway's `resume.window`. */
  close() {
    if (this.#over) return;
    this.#text.reject(new SluicegateError({ code: "closed", message: "the client stopped reading" }));
    this.#over = true;
    this.#leave.abort();
    this.#end();
  }

  async *[Symbol.asyncIterator]() {
    try {
      for (;;) {
        while (this.#queue.length) yield this.#queue.shift();
        if (this.#queue.ended) return;
        await new Promise((wake) => (this.#wake = wake));
      }
    } finally {
      this.close(); // `break` out of the loop stops reading.
    }
  }

  // ---- Connections ----

  #url(path) {
    const base = this.#options.baseUrl ?? MODULE_ORIGIN;
    if (base === "null") throw new SluicegateError({ code: "invalid_request", message: "baseUrl is required outside a page of the gateway" });
    return base.replace(/\/+$/, "") + path;
  }

  #headers() {
    const { key } = this.#options;
    return key ? { authorization: `Bearer ${key}` } : {};
  }

  /** The response; `null` if there was none. */
  async fetch(path, { headers, ...init } = {}) {
    const url = this.#url(path);
    const all = { ...this.#headers(), ...headers };
    return fetch(url, { ...init, headers: all, cache: "no-store", signal: this.#leave.signal }).catch(() => null);
  }

  /** Reads `path` to its end, over as many connections as that takes. */
  async follow(path) {
    this.#known.resolve(this.id);
    while (!this.#over) {
      const after = this.#lastId === undefined ? {} : { "last-event-id": this.#lastId };
      const response = await this.fetch(path, { headers: { accept: "text/event-stream", ...after } });
      // Nothing follows the last event that this client has.
      if (response?.status === 204) return this.#moved ? this.fail(this.#moved) : this.#finish({ type: "complete" });
      if (response?.ok && (await this.read(response))) return;
      if (response && !response.ok && !mayRecover(response.status)) throw await refusal(response);
      await this.#wait(Number(response?.headers.get("retry-after")) * 1000 || 0);
    }
  }

  /** Waits longer after each failed try, and never in step with other clients. */
  async #wait(atLeast) {
    if (this.#over) return;
    const longest = Math.min(this.#options.maxBackoffMs ?? 30_000, FIRST_WAIT_MS * 2 ** this.#tries++);
    const delay = Math.max(atLeast, longest * (0.5 + Math.random() / 2));
    this.#options.onReconnect?.({ attempt: this.#tries, delayMs: Math.round(delay) });
    await new Promise((done) => {
      const timer = setTimeout(done, delay);
      this.#leave.signal.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
    });
  }

  /** Reads one response's events. `true` after the last event, `false` if the connection broke before it. */
  async read(response) {
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    const next = () => {
      let timer;
      const silence = new Promise((_, reject) => (timer = setTimeout(reject, this.#options.silenceMs ?? SILENCE_MS)));
      return Promise.race([reader.read(), silence]).finally(() => clearTimeout(timer));
    };
    let rest = "";
    try {
      for (let piece = await next(); !piece.done; piece = await next()) {
        const blocks = (rest + decoder.decode(piece.value, { stream: true })).split("\n\n");
        rest = blocks.pop();
        // The end of the body follows the last event; the connection can then be used again.
        for (const block of blocks) if (this.#take(block)) return !!reader.read().catch(() => {});
      }
    } catch {
      reader.cancel().catch(() => {}); // A broken or silent connection.
    }
    return this.#over;
  }

  // ---- Events ----

  /** Takes one block of lines. `true` after the last event of the last stream. */
  #take(block) {
    if (this.#over) return true;
    const field = (name) => new RegExp(`^${name}: ?(.*)$`, "m").exec(block)?.[1];
    const data = [...block.matchAll(/^data: ?(.*)$/gm)].map((line) => line[1]).join("\n");
    const [type, id] = [field("event") ?? "message", field("id")];
    if (!data) return false;
    const event = { type, id, ...JSON.parse(data) };
    if (id !== undefined) this.#lastId = id;
    this.#tries = 0;
    // An error with the id of the last content is no end: the rest may be found with that id, which is tried once.
    if (type === "error" && this.id && id !== undefined && id === this.#contentId) {
      this.#contentId = undefined;
      this.#moved = event.error;
      return false;
    }
    if (type !== "error") [this.#contentId, this.#moved] = [id];
    if (type === "start" && this.#streams === 1) this.#known.resolve((this.id ??= event.stream));
    if (type === "token") this.#answer += event.text;
    this.#hold(event);
    const last = (type === "complete" || type === "error") && --this.#streams <= 0;
    if (last) this.#finish(event);
    return last;
  }

  fail(error) {
    if (this.#over) return;
    this.#hold({ type: "error", id: this.#lastId, error });
    this.#finish({ type: "error", error });
  }

  #finish({ type, error }) {
    if (type === "complete") this.#text.resolve(this.#answer);
    else this.#text.reject(new SluicegateError(error));
    this.#over = true;
  }

  /** Delivers now, or with the next batch: `maxUpdatesPerSecond`, or a hidden page with `pauseWhenHidden`. */
  #hold(event) {
    const last = this.#held.at(-1);
    const joins = last && last.type === event.type && last.stream === event.stream && (event.type === "token" || event.type === "reasoning");
    const { maxUpdatesPerSecond: most } = this.#options;
    if (joins && (most || this.#paused)) Object.assign(last, { id: event.id, text: last.text + event.text });
    else this.#held.push(event);
    if (!this.#timer) this.#deliver();
  }

  get #paused() {
    return Boolean(this.#options.pauseWhenHidden && globalThis.document?.hidden) && !this.#over;
  }

  #onVisibility = () => {
    if (!this.#timer) this.#deliver();
  };

  #deliver() {
    this.#timer = undefined;
    if (this.#paused || !this.#held.length) return;
    const { maxUpdatesPerSecond: most } = this.#options;
    if (most && !this.#over) this.#timer = setTimeout(() => this.#deliver(), 1000 / most);
    const { onStart, onToken, onReasoning, onToolCall, onCitation, onComplete, onError, onEvent } = this.#options;
    const callbacks = { start: onStart, token: onToken, reasoning: onReasoning, tool_call: onToolCall, citation: onCitation, complete: onComplete, error: onError };
    const held = this.#held.splice(0);
    this.#queue.push(...held);
    // Notifications have no end, so only as many are kept as the gateway replays.
    if (this.#streams === Infinity) this.#queue.splice(0, this.#queue.length - 100);
    this.#wake();
    for (const event of held) {
      for (const callback of [onEvent, callbacks[event.type]]) {
        try {
          callback?.(event);
        } catch (error) {
          queueMicrotask(() => { throw error; }); // Reported as uncaught; the reading goes on.
        }
      }
    }
  }

  #end() {
    if (this.#queue.ended) return;
    this.#over = true;
    clearTimeout(this.#timer);
    globalThis.document?.removeEventListener("visibilitychange", this.#onVisibility);
    this.#deliver();
    this.#queue.ended = true;
    this.#known.resolve(this.id);
    this.#wake();
  }
}

const mayRecover = (status) => status >= 500 || status === 408 || status === 429;

function deferred() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}
