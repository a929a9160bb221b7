// The conversation of this tab: questions, answers, settings. It is kept in the tab's session storage, so that a
// reload shows it again and reads running answers on.

const STORAGE = "sluicegate.conversation";
const KEY_STORAGE = "sluicegate.key";
const MOST_EVENTS = 3000; // kept for "raw events"

export const settings = { system: "", temperature: "", maxTokens: "", effort: "", models: [], draft: "" };
/** `{ text, images: [data URL], answers: [answer], readings: [{ streams, after }] }` */
export const turns = [];

let key = "";
let unsaved = false;
/** Set while the browser's storage is full or forbidden. */
export let notKept = false;

export const newTurn = (text, images) => ({ text, images, answers: [], readings: [] });

export function newAnswer(model) {
  return {
    model,
    request: null, // what was sent, without images
    stream: null, // the stream's id
    start: null,
    text: "",
    reasoning: "",
    calls: [],
    sources: [],
    end: null, // the `complete` event
    error: null,
    pieces: 0, // events with content
    sentAt: Date.now(),
    firstAt: null, // when the first content came
    // Not saved:
    status: "", // what it waits for
    events: [],
    direct: null, // aborts the request that is the stream itself
  };
}

export const isRunning = (answer) => !answer.end && !answer.error;

/** Applies one event of the stream to its answer. */
export function applyEvent(answer, event) {
  answer.events.push(event);
  if (answer.events.length > MOST_EVENTS) answer.events.splice(0, MOST_EVENTS / 2);
  switch (event.type) {
    case "start":
      answer.start = event;
      break;
    case "token":
      answer.text += event.text;
      break;
    case "reasoning":
      answer.reasoning += event.text;
      break;
    case "tool_call": {
      const known = answer.calls[event.index];
      // After a reload the first piece of a call can come again.
      if (event.name && !known) answer.calls[event.index] = { id: event.id, name: event.name, arguments: event.arguments };
      else if (known && !event.name) known.arguments += event.arguments;
      break;
    }
    case "citation":
      answer.sources.push({ url: event.url, title: event.title, text: event.text });
      break;
    case "complete":
      answer.end = { finish_reason: event.finish_reason, usage: event.usage, timing: event.timing, attempts: event.attempts };
      break;
    case "error":
      answer.error = event.error;
      break;
  }
  if (["token", "reasoning", "tool_call"].includes(event.type)) {
    answer.pieces += 1;
    answer.firstAt ??= Date.now();
  }
  unsaved = true;
}

// ---- Requests ----

const imagePart = (url) => ({ type: "image_url", image_url: { url } });
const number = (text) => (text === "" ? undefined : Number(text));

/** The body of `POST /v1/streams` for the answer of `model` to the turn at `place`. */
export function requestFor(place, model) {
  const messages = [];
  for (const [at, { text, images, answers }] of turns.slice(0, place + 1).entries()) {
    const parts = [{ type: "text", text }, ...images.map(imagePart)].filter((part) => part.text !== "");
    messages.push({ role: "user", content: images.length ? parts : text });
    if (at === place) break;
    // Each model gets its own earlier answers, and those of other models where it has none.
    const answered = answers.filter((answer) => answer.text);
    const own = answered.find((answer) => answer.model === model) ?? answered[0];
    // A question without an answer would make two messages of the same role follow one another.
    if (own) messages.push({ role: "assistant", content: own.text });
    else messages.pop();
  }
  return {
    model,
    messages,
    system: settings.system.trim() || undefined,
    temperature: number(settings.temperature),
    max_tokens: number(settings.maxTokens),
    reasoning: settings.effort || undefined,
  };
}

/** The request without the images' bytes, to be shown. */
export function withoutImages(request) {
  return JSON.parse(JSON.stringify(request, (name, value) => (name === "url" && String(value).length > 2000 ? `${String(value).slice(0, 40)}…` : value)));
}

// ---- The key ----

export const getKey = () => key;

export function keyIsKept() {
  try {
    return sessionStorage.getItem(KEY_STORAGE) !== null;
  } catch {
    return false; // The browser forbids storage.
  }
}

/** Sets the API key; `keep` says whether it survives a reload of this tab. */
export function setKey(text, keep) {
  key = text.trim();
  try {
    if (keep && key) sessionStorage.setItem(KEY_STORAGE, key);
    else sessionStorage.removeItem(KEY_STORAGE);
  } catch {
    // The browser forbids storage: the key lasts until the page is left.
  }
}

export const authorization = () => (key ? { authorization: `Bearer ${key}` } : {});

// ---- Saving ----

export const markChanged = () => (unsaved = true);

/** Writes the conversation to the tab's storage if it changed. */
export function save() {
  if (!unsaved) return;
  const transient = new Set(["events", "direct", "status"]);
  const write = (images) => sessionStorage.setItem(STORAGE, JSON.stringify({ settings, turns }, (name, value) => (transient.has(name) || (name === "images" && !images) ? undefined : value)));
  try {
    write(true);
    notKept = false;
  } catch {
    try {
      write(false); // Images are the large part.
      notKept = false;
    } catch {
      notKept = true;
    }
  }
  unsaved = false;
}

/** Reads what was saved. */
export function restore() {
  try {
    key = sessionStorage.getItem(KEY_STORAGE) ?? "";
    const kept = JSON.parse(sessionStorage.getItem(STORAGE) ?? "null");
    if (!kept) return;
    Object.assign(settings, kept.settings);
    for (const turn of kept.turns) {
      const answers = turn.answers.map((answer) => ({ ...newAnswer(answer.model), ...answer }));
      turns.push({ ...newTurn(turn.text, turn.images ?? []), readings: turn.readings ?? [], answers });
    }
  } catch {
    turns.length = 0;
  }
}

export function clear() {
  turns.length = 0;
  unsaved = true;
}
