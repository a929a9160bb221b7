// The chat page: starts one stream, reads it over as many connections as needed, and draws it at most
// once per animation frame.
//
// `prefer: respond-async` returns the stream's id at once. The id is the capability to read, so the
// page reads the stream with `EventSource`, which resumes after the last event's id when its
// connection breaks. Where `EventSource` gives up, the page asks for the reason and retries or stops.
// The answer is saved in the tab's session storage, so that a reload continues it.

const $ = (id) => document.getElementById(id);
const EVENTS = ["start", "token", "reasoning", "tool_call", "citation", "complete", "error"];
const STORAGE_KEY = "sluicegate.answer";
const FIRST_WAIT = 500, LONGEST_WAIT = 30_000; // milliseconds

let answer = null; // the answer on the page; see `newAnswer`
let drawn = {}; // how much of it was drawn
let abort = null; // aborts the current request, stream or timer; null where there is none
let tries = 0; // reconnects since the last event
let frame = 0;

const newAnswer = () => ({ stream: null, seen: null, start: null, text: "", reasoning: "", calls: [], sources: [], end: null, failure: "", ended: false, status: "Connecting …" });

// ---- Events of the stream ----

function applyEvent(name, id, data) {
  const [stream, number] = id.split(".");
  Object.assign(answer, { stream, seen: Number(number), status: "Streaming …" });
  tries = 0;
  if (name === "start") answer.start = data;
  if (name === "token") answer.text += data.text;
  if (name === "reasoning") answer.reasoning += data.text;
  if (name === "tool_call") {
    const call = (answer.calls[data.index] ??= { id: data.id, name: data.name, arguments: "" });
    call.arguments += data.arguments;
  }
  if (name === "citation") answer.sources.push(data);
  if (name === "complete") {
    answer.end = data;
    finish(data.finish_reason === "cancelled" ? "Cancelled." : "Done.");
  } else if (name === "error") {
    fail(data.error);
  } else {
    redraw();
  }
}

function setStatus(status) {
  answer.status = status;
  redraw();
}

function explain(error) {
  const retry = error.retry_after ? `try again in ${error.retry_after} s` : error.retryable && !/try again/i.test(error.message) ? "you can try again" : "";
  const request = error.request_id && `request ${error.request_id}`;
  return [`${error.code}: ${error.message}`, retry, request].filter(Boolean).join(" · ");
}

function fail(error) {
  answer.failure = explain(error);
  finish("The answer ended in an error.");
}

function finish(status) {
  abort?.();
  abort = null;
  answer.ended = true;
  save();
  setStatus(status);
}

// ---- Sending, reading, reconnecting ----

function headers(others) {
  const key = $("key").value.trim();
  return { ...others, ...(key && { authorization: `Bearer ${key}` }) };
}

async function refusal(response) {
  const body = await response.json().catch(() => null);
  return body?.error ?? { code: response.status, message: "the response is not from this gateway; is there a proxy in between?" };
}

/** A request that `abort` can end. Its response is null where the gateway cannot be reached. */
async function request(path, options) {
  const controller = new AbortController();
  abort = () => controller.abort();
  const response = await fetch(path, { ...options, signal: controller.signal }).catch(() => null);
  return controller.signal.aborted ? { aborted: true } : { response, signal: controller.signal };
}

async function sendPrompt(prompt) {
  const sent = await request("/v1/streams", {
    method: "POST",
    headers: headers({ "content-type": "application/json", prefer: "respond-async" }),
    body: JSON.stringify(prompt),
  });
  if (sent.aborted) return;
  const { response, signal } = sent;
  if (!response) return fail({ code: "unreachable", message: "the gateway cannot be reached: check that it runs and that this page came from it", retryable: true });
  if (!response.ok) return fail(await refusal(response));
  // A gateway without a resume window answers with the stream itself.
  if (response.status !== 202) return readDirectly(response, signal);
  answer.stream = (await response.json()).stream;
  save();
  read();
}

const events = () => `/v1/streams/${answer.stream}/events` + (answer.seen === null ? "" : `?after=${answer.seen}`);

function read() {
  const source = new EventSource(events());
  abort = () => source.close();
  for (const name of EVENTS) {
    source.addEventListener(name, (event) => {
      // The browser's own `error` events have no data.
      if ("data" in event) applyEvent(name, event.lastEventId, JSON.parse(event.data));
    });
  }
  source.onopen = () => setStatus(answer.seen === null ? "Waiting for the first token …" : "Streaming …");
  source.onerror = (event) => {
    if ("data" in event) return;
    if (source.readyState === EventSource.CLOSED) scheduleReconnect();
    else setStatus("Reconnecting …");
  };
}

/** Reconnects with exponential backoff and jitter, so that clients do not return all at once. */
function scheduleReconnect(least = 0) {
  const longest = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** tries++);
  const time = Math.max(least, longest * (0.5 + Math.random() / 2));
  const timer = setTimeout(reconnect, time);
  abort = () => clearTimeout(timer);
  setStatus(`Reconnecting in ${Math.ceil(time / 1000)} s …`);
}

/** Asks why the stream was refused, which `EventSource` does not tell. */
async function reconnect() {
  setStatus("Reconnecting …");
  const { aborted, response } = await request(events());
  if (aborted) return;
  if (!response || response.status >= 500 || response.status === 429) {
    return scheduleReconnect(1000 * (Number(response?.headers.get("retry-after")) || 0));
  }
  if (response.status === 204) return finish("Done.");
  if (!response.ok) return fail(await refusal(response));
  abort();
  read();
}

async function readDirectly(response, signal) {
  const mine = answer;
  try {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      const blocks = (rest + piece.value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const field = (name) => block.match(new RegExp(`^${name}: (.*)$`, "m"))?.[1];
        if (field("event")) applyEvent(field("event"), field("id"), JSON.parse(field("data")));
      }
    }
  } catch {
    // Reported below, unless the page aborted the request.
  }
  if (signal.aborted || mine !== answer || answer.ended) return;
  fail({ code: "interrupted", message: "the connection broke, and this gateway keeps no streams, so the answer cannot be resumed; send the prompt again" });
}

async function stop() {
  const mine = answer;
  const path = answer.stream && `/v1/streams/${answer.stream}`;
  const response = path && (await fetch(path, { method: "DELETE", headers: headers() }).catch(() => null));
  if (mine !== answer || answer.ended) return;
  if (!path) return finish("Cancelled.");
  if (!response) return finish("Stopped reading. The gateway could not be reached to cancel the stream.");
  // The stream itself brings its end.
  if (response.ok) return setStatus("Cancelling …");
  answer.failure = `The stream could not be cancelled. ${explain(await refusal(response))}`;
  redraw();
}

// ---- Saving for a reload ----

function save() {
  try {
    if (answer?.stream) sessionStorage.setItem(STORAGE_KEY, JSON.stringify(answer));
  } catch {
    // The storage is full or forbidden: a reload starts with an empty page.
  }
}

function restore() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(STORAGE_KEY));
    answer = kept && { ...newAnswer(), ...kept };
  } catch {
    answer = null;
  }
  if (!answer) return;
  if (!answer.ended) read();
  redraw();
}

// ---- Drawing: once per frame, and only what is new. A hidden page collects events and draws them
// when it becomes visible. ----

function redraw() {
  if (!frame && !document.hidden) frame = requestAnimationFrame(draw);
}

function append(id, text) {
  const from = drawn[id] ?? 0;
  if (from === text.length) return;
  $(id).hidden = false;
  $(id).querySelector(".text").append(text.slice(from));
  drawn[id] = text.length;
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function draw() {
  frame = 0;
  append("reasoning", answer.reasoning);
  append("answer", answer.text);
  $("answer").setAttribute("aria-busy", String(!answer.ended));
  $("calls").hidden = !answer.calls.length;
  $("calls").replaceChildren(...answer.calls.flatMap((call) => [element("h2", `${call.name} · ${call.id}`), element("pre", call.arguments)]));
  for (const source of answer.sources.slice(drawn.sources ?? 0)) {
    $("sources").hidden = false;
    $("sources").querySelector("ul").append(element("li", [source.title, source.url, source.text].filter(Boolean).join(" — ")));
  }
  drawn.sources = answer.sources.length;
  // Setting the same text again would make screen readers repeat it.
  if ($("status").textContent !== answer.status) $("status").textContent = answer.status;
  $("failure").hidden = !answer.failure;
  $("failure").textContent = answer.failure;
  $("send").disabled = !answer.ended;
  $("stop").disabled = answer.ended;
  facts();
}

function facts() {
  const { start, end } = answer;
  const shown = start?.upstream ? [["Answered by", `${start.upstream} / ${start.upstream_model}`]] : [];
  if (end) {
    const { usage, timing } = end;
    shown.push(["Finish reason", end.finish_reason], ["First token", `${timing.first_token_ms} ms`], ["Total", `${timing.total_ms} ms`]);
    if (usage) shown.push(["Tokens in", `${usage.input_tokens ?? "?"} (${usage.cached_input_tokens} cached)`], ["Tokens out", `${usage.output_tokens ?? "?"} (${usage.reasoning_tokens} reasoning)`]);
    else shown.push(["Tokens", "not reported by the upstream"]);
  }
  $("facts").hidden = !shown.length;
  $("facts").replaceChildren(...shown.map(([what, value]) => {
    const pair = document.createElement("div");
    pair.append(element("dt", what), element("dd", value));
    return pair;
  }));
}

// ---- The form ----

async function listModels() {
  const key = $("key").value.trim();
  const status = (text) => { if (text || !answer) $("status").textContent = text; };
  try {
    const response = await fetch("/v1/models", { headers: headers() });
    const body = await response.json();
    const names = response.ok ? body.data.map((model) => model.id) : [];
    $("model").replaceChildren(...names.map((name) => new Option(name)));
    status(response.ok ? (names.length ? "" : "No model is configured for this key.") : response.status === 401 && !key ? "This gateway requires an API key." : `${body.error.code}: ${body.error.message}`);
  } catch {
    status("The gateway cannot be reached.");
  }
  chooseModel();
}

function chooseModel() {
  const pattern = $("model").value.includes("*");
  $("star-label").hidden = !pattern;
  $("star").required = pattern;
}

$("model").addEventListener("change", chooseModel);
$("key").addEventListener("change", listModels);
$("stop").addEventListener("click", stop);
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask").requestSubmit();
});
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (answer && !answer.ended) return;
  for (const text of document.querySelectorAll(".text, #sources ul")) text.replaceChildren();
  for (const id of ["reasoning", "answer", "sources"]) $(id).hidden = true;
  answer = newAnswer();
  drawn = {};
  tries = 0;
  sendPrompt({ model: $("model").value.replace("*", () => $("star").value.trim()), prompt: $("prompt").value });
  redraw();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) save();
  else if (answer) redraw();
});
addEventListener("pagehide", save);
restore();
listModels();
