// Sends prompts and reads their streams with the browser client. Several answers of one question are read over one
// connection. A broken connection is resumed by the client; a reload goes on behind the last event.

import { multiplex, resume } from "/sluicegate.js";
import { applyEvent, authorization, isRunning, markChanged, requestFor, withoutImages } from "./conversation.js";

const open = new Set(); // what is being read: `{ turn, record, answers, reading }`

/** Called with `(turn, answer)` after every change. */
let changed = () => {};
export const onChange = (listener) => (changed = listener);

const UNREACHABLE = { code: "unreachable", message: "the gateway did not answer", retryable: true, origin: "client" };

/** Asks the models of these answers of a turn and reads what they say. */
export async function ask(turn, place, answers) {
  await Promise.all(answers.map((answer) => send(turn, requestFor(place, answer.model), answer)));
  const begun = answers.filter((answer) => answer.stream && isRunning(answer) && !answer.direct && turn.answers.includes(answer));
  if (begun.length) read(turn, { streams: begun.map((answer) => answer.stream), after: undefined });
}

async function send(turn, request, answer) {
  const set = (fields) => (Object.assign(answer, fields), markChanged(), changed(turn, answer));
  const abort = new AbortController();
  answer.cancelled = () => abort.abort();
  set({ request: withoutImages(request), status: "Sending …" });
  let response;
  try {
    response = await fetch("/v1/streams", {
      method: "POST",
      headers: { "content-type": "application/json", prefer: "respond-async", ...authorization() },
      body: JSON.stringify(request),
      signal: abort.signal,
    });
    if (!response.ok) return set({ error: await refusal(response), status: "" });
    // A gateway that keeps no streams answers with the stream itself.
    if (response.status !== 202) return readDirectly(turn, answer, response, abort);
    set({ stream: (await response.json()).stream, status: "Waiting for the first token …" });
  } catch {
    if (isRunning(answer)) set({ error: UNREACHABLE, status: "" });
  }
}

async function refusal(response) {
  const body = await response.json().catch(() => null);
  if (body?.error?.code) return { ...body.error, status: response.status };
  return { code: "not_the_gateway", message: `something else than the gateway answered with the status ${response.status}`, retryable: response.status >= 500, origin: "client" };
}

/** Reads streams of one turn; `record` says from where and is saved with the turn. */
function read(turn, record) {
  const answers = turn.answers.filter((answer) => record.streams.includes(answer.stream) && isRunning(answer));
  const several = record.streams.length > 1;
  if (!turn.readings.includes(record)) turn.readings.push(record);
  const options = {
    after: record.after,
    onEvent(event) {
      const own = several ? answers.find((answer) => answer.stream === event.stream) : answers[0];
      // A failure of the reading itself names no stream.
      for (const answer of own ? [own] : event.stream ? [] : answers.filter(isRunning)) {
        answer.status = "";
        applyEvent(answer, event);
        changed(turn, answer);
      }
      // The first piece of a tool call has the call's id.
      if (event.id && !event.name) record.after = event.id;
    },
    onReconnect({ delayMs }) {
      for (const answer of answers.filter(isRunning)) {
        answer.status = `Connection lost. Next try in ${Math.ceil(delayMs / 1000)} s …`;
        changed(turn, answer);
      }
    },
  };
  const reading = several ? multiplex(record.streams, options) : resume(record.streams[0], options);
  const entry = { turn, record, answers, reading, closed: false };
  open.add(entry);
  void wait(entry);
}

/** Waits for the end of a reading. */
async function wait(entry) {
  const { turn, record, answers, reading } = entry;
  // Events are handled by the callback.
  for await (const _ of reading);
  open.delete(entry);
  if (entry.closed) return;
  turn.readings.splice(turn.readings.indexOf(record), 1);
  // The last event was received before a reload and not saved.
  for (const answer of answers.filter(isRunning)) await takeState(turn, answer);
}

/** Takes the end of an answer from the stream's state. */
async function takeState(turn, answer) {
  const response = await fetch(`/v1/streams/${answer.stream}`).catch(() => null);
  const state = response?.ok ? await response.json() : null;
  if (state?.text?.startsWith(answer.text)) answer.text = state.text;
  if (state?.finish_reason) answer.end = { finish_reason: state.finish_reason, usage: state.usage };
  else answer.error = response && !response.ok ? await refusal(response) : { code: "stream_interrupted", message: "the end of the answer was not received", retryable: true, origin: "client" };
  answer.status = "";
  markChanged();
  changed(turn, answer);
}

/** Reads the running answers of a restored turn on. */
export function readOn(turn) {
  for (const record of [...turn.readings]) {
    const running = turn.answers.filter((answer) => record.streams.includes(answer.stream) && isRunning(answer));
    if (running.length) read(turn, record);
    else turn.readings.splice(turn.readings.indexOf(record), 1);
  }
  // The page was left before the gateway had answered, or its stream cannot be read again.
  const read_ = new Set(turn.readings.flatMap((record) => record.streams));
  for (const answer of turn.answers.filter(isRunning)) {
    if (answer.stream && !answer.unresumable && !read_.has(answer.stream)) read(turn, { streams: [answer.stream], after: undefined });
    else if (!read_.has(answer.stream)) answer.error = { code: "left", message: "the page was left before the answer began or while it could not be resumed", retryable: true, origin: "client" };
  }
}

/** Reads the stream with this id into an answer of the turn. */
export function watch(turn, answer) {
  read(turn, { streams: [answer.stream], after: undefined });
}

/** Stops reading the answers of a turn, whose streams go on until the gateway ends them. */
export function leave(turn) {
  for (const entry of open) {
    if (entry.turn !== turn) continue;
    entry.closed = true;
    entry.reading.close();
  }
  for (const answer of turn.answers) answer.direct?.abort();
}

/** Starts the readings again that wait for another try. */
export function retryNow() {
  for (const entry of [...open]) {
    if (!entry.answers.some((answer) => answer.status.startsWith("Connection lost"))) continue;
    entry.closed = true;
    entry.reading.close();
    read(entry.turn, entry.record);
  }
}

/** Stops the model. The stream itself brings its end. */
export async function stop(turn, answer) {
  const end = (fields) => (Object.assign(answer, fields), markChanged(), changed(turn, answer));
  if (answer.direct || !answer.stream) {
    end({ end: { finish_reason: "cancelled", usage: null }, status: "" });
    return answer.cancelled?.();
  }
  end({ status: "Stopping …" });
  const response = await fetch(`/v1/streams/${answer.stream}`, { method: "DELETE", headers: authorization() }).catch(() => null);
  if (response?.ok || !isRunning(answer)) return undefined;
  const error = response ? await refusal(response) : UNREACHABLE;
  return end({ status: `It could not be stopped: ${error.message}.` });
}

/** Reads a response that is the stream itself. It cannot be resumed. */
async function readDirectly(turn, answer, response, abort) {
  answer.direct = abort;
  answer.unresumable = true;
  const take = (event) => {
    answer.status = "";
    applyEvent(answer, event);
    changed(turn, answer);
  };
  try {
    let rest = "";
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      const blocks = (rest + piece.value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const field = (name) => new RegExp(`^${name}: (.*)$`, "m").exec(block)?.[1];
        if (field("event")) take({ type: field("event"), id: field("id"), ...JSON.parse(field("data")) });
      }
    }
  } catch {
    // Reported below.
  }
  if (isRunning(answer) && !abort.signal.aborted) {
    take({ type: "error", error: { code: "stream_interrupted", message: "the connection broke, and this gateway keeps no streams", retryable: true, origin: "client" } });
  }
}
