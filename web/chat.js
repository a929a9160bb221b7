// The chat page: asks for one stream, and draws it once a frame at most.

const $ = (id) => document.getElementById(id);
const EVENTS = ["start", "token", "reasoning", "tool_call", "citation", "complete", "error"];

let answer = null; // what is being shown; see `fresh`
let close = null; // ends the stream that is open
let mayGet = true; // `EventSource` hides why it was refused; after that, POST tells
let frame = 0;

const fresh = () => ({ text: "", reasoning: "", calls: [], sources: [], start: null, end: null, failure: "", status: "Waiting for the first token …", drawn: {} });

// ---- What a stream says ----

function take(name, data) {
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
    finish("Complete.");
  } else if (name === "error") {
    fail(data.error);
  } else {
    if (name !== "start") answer.status = "Streaming …";
    redraw();
  }
}

function fail(error) {
  const again = error.retry_after ? `try again in ${error.retry_after} s` : error.retryable ? "trying again may help" : "";
  const request = error.request_id ?? "";
  answer.failure = [`${error.code}: ${error.message}`, again, request].filter(Boolean).join(" · ");
  finish("The stream ended in an error.");
}

function finish(status) {
  answer.status = status;
  close?.();
  close = null;
  redraw();
}

// ---- The two ways to ask ----

function get(request) {
  const source = new EventSource("/v1/streams?" + new URLSearchParams(request));
  close = () => source.close();
  for (const name of EVENTS) {
    source.addEventListener(name, (event) => {
      // The browser's own `error` events have no data.
      if ("data" in event) take(name, JSON.parse(event.data));
    });
  }
  source.onerror = (event) => {
    if ("data" in event) return;
    if (source.readyState === EventSource.CONNECTING) {
      answer.status = "The connection broke. Coming back …";
      return redraw();
    }
    if (!answer.start) mayGet = false;
    answer.failure = answer.start
      ? "The connection broke, and this version cannot resume a stream."
      : "No stream began, and EventSource does not say why. Send again: the next request is a POST, which tells.";
    finish("The stream ended early.");
  };
}

async function post(request, key) {
  const leaving = new AbortController();
  close = () => leaving.abort();
  const mine = answer;
  try {
    const headers = { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
    const response = await fetch("/v1/streams", { method: "POST", headers, body: JSON.stringify(request), signal: leaving.signal });
    if (!response.ok) {
      const body = await response.json().catch(() => null);
      return fail(body?.error ?? { code: response.status, message: "an answer that is not this gateway’s" });
    }
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      const blocks = (rest + read.value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const field = (name) => block.match(new RegExp(`^${name}: (.*)$`, "m"))?.[1];
        if (field("event")) take(field("event"), JSON.parse(field("data")));
      }
    }
    if (mine === answer && close) throw new Error("it ended before the stream did");
  } catch (error) {
    if (leaving.signal.aborted || mine !== answer) return;
    answer.failure = `The connection broke: ${error.message}.`;
    finish("The stream ended early.");
  }
}

// ---- Drawing: once a frame, only what is new, and not while nobody looks ----

function redraw() {
  if (!frame && !document.hidden) frame = requestAnimationFrame(draw);
}

function append(id, text) {
  const from = answer.drawn[id] ?? 0;
  if (from === text.length) return;
  $(id).hidden = false;
  $(id).querySelector(".text").append(text.slice(from));
  answer.drawn[id] = text.length;
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
  $("answer").setAttribute("aria-busy", String(Boolean(close)));
  $("calls").hidden = !answer.calls.length;
  $("calls").replaceChildren(...answer.calls.flatMap((call) => [element("h2", `${call.name} · ${call.id}`), element("pre", call.arguments)]));
  for (const source of answer.sources.slice(answer.drawn.sources ?? 0)) {
    $("sources").hidden = false;
    $("sources").querySelector("ul").append(element("li", [source.title, source.url, source.text].filter(Boolean).join(" — ")));
  }
  answer.drawn.sources = answer.sources.length;
  $("status").textContent = answer.status;
  $("failure").hidden = !answer.failure;
  $("failure").textContent = answer.failure;
  $("send").disabled = Boolean(close);
  $("stop").disabled = !close;
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
  const status = (text) => { $("status").textContent = text; };
  try {
    const response = await fetch("/v1/models", { headers: key ? { authorization: `Bearer ${key}` } : {} });
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
$("stop").addEventListener("click", () => finish("Stopped. The connection is closed, and the model’s answer with it."));
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask").requestSubmit();
});
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (close) return;
  for (const text of document.querySelectorAll(".text, #sources ul")) text.replaceChildren();
  for (const id of ["reasoning", "answer", "sources"]) $(id).hidden = true;
  answer = fresh();
  const key = $("key").value.trim();
  const request = { model: $("model").value.replace("*", () => $("star").value.trim()), prompt: $("prompt").value };
  // A long prompt does not fit a GET's address.
  if (key || !mayGet || request.prompt.length > 4000) post(request, key);
  else get(request);
  redraw();
});
document.addEventListener("visibilitychange", () => { if (answer) redraw(); });
listModels();
