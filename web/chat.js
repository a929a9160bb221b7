// The chat page: begins one stream, reads it over as many connections as it takes, and draws it once
// a frame at most.
//
// Asking answers with the stream's id at once (`prefer: respond-async`). The id is all that reading
// takes, so the stream itself comes by `EventSource`, which resumes with the last event's id when it
// loses its connection. Where it gives up, this page asks why, and goes on or stops. What has come is
// kept for the tab, so that a reload goes on with it.

const $ = (id) => document.getElementById(id);
const EVENTS = ["start", "token", "reasoning", "tool_call", "citation", "complete", "error"];
const KEPT = "sluicegate.answer";
const FIRST_WAIT = 500, LONGEST_WAIT = 30_000; // milliseconds

let answer = null; // what is being shown; see `fresh`
let drawn = {}; // how much of it is on the page
let leave = null; // ends whatever is being waited for; null where nothing is
let tries = 0; // since the last event
let frame = 0;

const fresh = () => ({ stream: null, seen: null, start: null, text: "", reasoning: "", calls: [], sources: [], end: null, failure: "", over: false, state: "Connecting …" });

// ---- What a stream says ----

function take(name, id, data) {
  const [stream, number] = id.split(".");
  Object.assign(answer, { stream, seen: Number(number), state: "Streaming …" });
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
    finish(data.finish_reason === "cancelled" ? "Done: stopped." : "Done.");
  } else if (name === "error") {
    fail(data.error);
  } else {
    redraw();
  }
}

function say(state) {
  answer.state = state;
  redraw();
}

function explain(error) {
  const again = error.retry_after ? `try again in ${error.retry_after} s` : error.retryable ? "trying again may help" : "";
  return [`${error.code}: ${error.message}`, again, error.request_id].filter(Boolean).join(" · ");
}

function fail(error) {
  answer.failure = explain(error);
  finish("Done: it ended in an error.");
}

function finish(state) {
  leave?.();
  leave = null;
  answer.over = true;
  keep();
  say(state);
}

// ---- Asking, reading, coming back ----

function headers(others) {
  const key = $("key").value.trim();
  return { ...others, ...(key && { authorization: `Bearer ${key}` }) };
}

async function refusal(response) {
  const body = await response.json().catch(() => null);
  return body?.error ?? { code: response.status, message: "an answer that is not this gateway’s" };
}

/** A request that `leave` can give up. Its response is null where nobody answers. */
async function request(path, options) {
  const leaving = new AbortController();
  leave = () => leaving.abort();
  const response = await fetch(path, { ...options, signal: leaving.signal }).catch(() => null);
  return leaving.signal.aborted ? { left: true } : { response, leaving };
}

async function ask(prompt) {
  const asked = await request("/v1/streams", {
    method: "POST",
    headers: headers({ "content-type": "application/json", prefer: "respond-async" }),
    body: JSON.stringify(prompt),
  });
  if (asked.left) return;
  const { response, leaving } = asked;
  if (!response) return fail({ code: "unreachable", message: "the gateway cannot be reached", retryable: true });
  if (!response.ok) return fail(await refusal(response));
  // A gateway that keeps no streams answers with the stream itself.
  if (response.status !== 202) return readOnce(response, leaving.signal);
  answer.stream = (await response.json()).stream;
  keep();
  read();
}

const events = () => `/v1/streams/${answer.stream}/events${answer.seen === null ? "" : `?after=${answer.seen}`}`;

function read() {
  const source = new EventSource(events());
  leave = () => source.close();
  for (const name of EVENTS) {
    source.addEventListener(name, (event) => {
      // The browser's own `error` events have no data.
      if ("data" in event) take(name, event.lastEventId, JSON.parse(event.data));
    });
  }
  source.onopen = () => say(answer.seen === null ? "Waiting for the first token …" : "Streaming …");
  source.onerror = (event) => {
    if ("data" in event) return;
    if (source.readyState === EventSource.CLOSED) wait();
    else say("Reconnecting …");
  };
}

/** Comes back later and later, and not together with everybody else who lost this gateway. */
function wait(least = 0) {
  const longest = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** tries++);
  const time = Math.max(least, longest * (0.5 + Math.random() / 2));
  const timer = setTimeout(comeBack, time);
  leave = () => clearTimeout(timer);
  say(`Reconnecting in ${Math.ceil(time / 1000)} s …`);
}

/** `EventSource` does not say why it was refused. */
async function comeBack() {
  say("Reconnecting …");
  const { left, response } = await request(events());
  if (left) return;
  if (!response || response.status >= 500 || response.status === 429) {
    return wait(1000 * (Number(response?.headers.get("retry-after")) || 0));
  }
  if (response.status === 204) return finish("Done.");
  if (!response.ok) return fail(await refusal(response));
  leave();
  read();
}

async function readOnce(response, left) {
  const mine = answer;
  try {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      const blocks = (rest + piece.value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const field = (name) => block.match(new RegExp(`^${name}: (.*)$`, "m"))?.[1];
        if (field("event")) take(field("event"), field("id"), JSON.parse(field("data")));
      }
    }
  } catch {
    // Told below, unless it was left on purpose.
  }
  if (left.aborted || mine !== answer || answer.over) return;
  fail({ code: "interrupted", message: "the connection broke, and this gateway keeps no streams to come back to" });
}

async function stop() {
  const mine = answer;
  const path = answer.stream && `/v1/streams/${answer.stream}`;
  const response = path && (await fetch(path, { method: "DELETE", headers: headers() }).catch(() => null));
  if (mine !== answer || answer.over) return;
  if (!response) return finish("Done: stopped here.");
  // Whoever reads the stream is told of its end by the stream.
  if (response.ok) return say("Stopping …");
  answer.failure = `It could not be stopped. ${explain(await refusal(response))}`;
  redraw();
}

// ---- What a reload goes on with ----

function keep() {
  try {
    if (answer?.stream) sessionStorage.setItem(KEPT, JSON.stringify(answer));
  } catch {
    // Full or forbidden: a reload begins with an empty page then.
  }
}

function restore() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEPT));
    answer = kept && { ...fresh(), ...kept };
  } catch {
    answer = null;
  }
  if (!answer) return;
  if (!answer.over) read();
  redraw();
}

// ---- Drawing: once a frame, only what is new. While the page is hidden nothing is drawn; what comes
// is collected, and drawn at once when somebody looks again. ----

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
  $("answer").setAttribute("aria-busy", String(!answer.over));
  $("calls").hidden = !answer.calls.length;
  $("calls").replaceChildren(...answer.calls.flatMap((call) => [element("h2", `${call.name} · ${call.id}`), element("pre", call.arguments)]));
  for (const source of answer.sources.slice(drawn.sources ?? 0)) {
    $("sources").hidden = false;
    $("sources").querySelector("ul").append(element("li", [source.title, source.url, source.text].filter(Boolean).join(" — ")));
  }
  drawn.sources = answer.sources.length;
  // The same words again would be read out again.
  if ($("status").textContent !== answer.state) $("status").textContent = answer.state;
  $("failure").hidden = !answer.failure;
  $("failure").textContent = answer.failure;
  $("send").disabled = !answer.over;
  $("stop").disabled = answer.over;
  facts();
}

function facts() {
  const { start, end } = answer;
  const shown = start?.upstream ? [["Answered by", `${start.upstream} / ${start.upstream_model}`]] : [];
  if (end) {
    const { usage, timing } = end;
    shown.push(["Finish reason", end.finish_reason], ["First token", `${timing.first_token_ms} ms`], ["In all", `${timing.total_ms} ms`]);
    if (usage) shown.push(["Tokens in", `${usage.input_tokens ?? "?"} (${usage.cached_input_tokens} cached)`], ["Tokens out", `${usage.output_tokens ?? "?"} (${usage.reasoning_tokens} reasoning)`]);
    else shown.push(["Tokens", "the upstream did not say"]);
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
    status(response.ok ? (names.length ? "" : "There is no model to ask.") : response.status === 401 && !key ? "This gateway asks for an API key." : `${body.error.code}: ${body.error.message}`);
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
  if (answer && !answer.over) return;
  for (const text of document.querySelectorAll(".text, #sources ul")) text.replaceChildren();
  for (const id of ["reasoning", "answer", "sources"]) $(id).hidden = true;
  answer = fresh();
  drawn = {};
  tries = 0;
  ask({ model: $("model").value.replace("*", () => $("star").value.trim()), prompt: $("prompt").value });
  redraw();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) keep();
  else if (answer) redraw();
});
addEventListener("pagehide", keep);
restore();
listModels();
