// The open streams of this replica, and cancelling one.

import { $, h, setText } from "/web/shared/dom.js";
import { age, number, plural } from "./format.js";

const LIMIT = 200;
const EVERY_MS = 2000;
let timer;

function fail(text) {
  $("#failure").hidden = !text;
  setText($("#failure"), text ?? "");
}

/** The JSON of an answer; an error's message as an exception. */
async function ask(path, options) {
  const response = await fetch(path, options);
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error?.message ?? `the gateway answered ${response.status}`);
  return body;
}

function row(stream) {
  const cell = (name, text, kind) => h("td", { "data-label": name, class: kind }, text);
  const cancel = h("button", { type: "button", class: "small danger", onclick: () => confirm(stream) }, "Cancel", h("span", { class: "visually-hidden" }, ` ${stream.id}`));
  return h(
    "tr",
    { "data-id": stream.id },
    h("td", {}, h("code", {}, `${stream.id}…`)),
    cell("Key", stream.key),
    cell("Model", stream.model),
    cell("Upstream", stream.upstream ?? "not answered yet"),
    cell("Protocol", stream.dialect),
    cell("Age", age(stream.age_seconds), "number"),
    cell("Tokens", number(stream.tokens), "number"),
    h("td", {}, cancel),
  );
}

/** Updates rows in place, so that a button keeps its focus. */
function draw(streams) {
  const body = $("#streams tbody");
  const old = new Map([...body.rows].map((each) => [each.dataset.id, each]));
  streams.forEach((stream, at) => {
    const made = row(stream);
    const known = old.get(stream.id);
    if (!known) return body.insertBefore(made, body.rows[at] ?? null);
    old.delete(stream.id);
    [...made.cells].slice(1, -1).forEach((cell, index) => setText(known.cells[index + 1], cell.textContent));
  });
  for (const gone of old.values()) gone.remove();
}

async function refresh() {
  clearTimeout(timer);
  try {
    const { open, streams } = await ask(`/streams?limit=${LIMIT}`);
    draw(streams);
    const shown = open > streams.length ? `; the oldest ${number(streams.length)} are shown` : "";
    setText($("#summary"), open === 0 ? "No stream is open on this replica." : `${plural(open, "stream")} open on this replica${shown}.`.replace(/^o/, "O"));
    fail();
  } catch (error) {
    fail(`The list cannot be loaded: ${error.message}`);
  }
  timer = setTimeout(refresh, EVERY_MS);
}

function confirm(stream) {
  const dialog = $("#confirm");
  setText($("#confirm-text"), `${stream.id}… of the key ${stream.key} asks the model ${stream.model}. Its clients get the answer so far, and its upstream's connection is closed.`);
  dialog.returnValue = "";
  dialog.onclose = async () => {
    if (dialog.returnValue !== "cancel") return;
    await ask(`/streams/${encodeURIComponent(stream.id)}`, { method: "DELETE" }).catch((error) => fail(`The stream was not cancelled: ${error.message}`));
    await refresh();
  };
  dialog.showModal();
}

document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : refresh()));
refresh();
