// The dialogs: an answer's request as code, its raw events, its link, the settings.

import { $, bindCopy, h, icon, setText } from "../shared/dom.js";
import { getKey, settings } from "./conversation.js";
import { snippets } from "./snippets.js";

const MOST_EVENTS_SHOWN = 500;

/** Shows a dialog with this title and content. */
function show(title, ...content) {
  const close = h("button", { class: "icon quiet", type: "button", "aria-label": "Close", onclick: () => dialog.close() }, icon("close"));
  const dialog = h("dialog", { "aria-label": title },
    h("div", { class: "dialog-head" }, h("h2", {}, title), h("span", { class: "spacer" }), close),
    h("div", { class: "dialog-body" }, content));
  closeOutside(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** A click beside a dialog closes it. */
export function closeOutside(dialog) {
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

const copyButton = (text) => bindCopy(h("button", { type: "button" }, icon("copy"), h("span", {}, "Copy")), text);

/** The answer's request as curl, Python and JavaScript. */
export function showCode(answer) {
  const codes = snippets(answer.request, location.origin, Boolean(getKey()));
  const code = h("code");
  const choose = (name) => {
    setText(code, codes[name]);
    for (const tab of tabs.children) tab.setAttribute("aria-pressed", String(tab.dataset.name === name));
  };
  const tabs = h("div", { class: "row", role: "group", "aria-label": "Language" },
    Object.keys(codes).map((name) => h("button", { type: "button", "data-name": name, onclick: () => choose(name) }, name)));
  choose("curl");
  const hint = getKey() ? "The key is read from the environment variable SLUICEGATE_KEY." : null;
  show("The same request as code", h("div", { class: "row between" }, tabs, copyButton(() => code.textContent)), hint && h("p", { class: "soft small" }, hint),
    h("pre", { tabindex: "0", role: "region", "aria-label": "Code" }, code));
}

/** The events of an answer as the gateway sent them; new ones appear while the dialog is open. */
export function showEvents(answer) {
  const line = (event) => JSON.stringify(event);
  const note = h("p", { class: "soft small" });
  const code = h("code");
  const from = Math.max(0, answer.events.length - MOST_EVENTS_SHOWN);
  let shown = from;
  const dialog = show("Events",
    h("div", { class: "row between" }, note, copyButton(() => answer.events.map(line).join("\n"))),
    answer.stream && !answer.unresumable && h("p", { class: "small" }, "The stream itself: ", h("a", { href: `/v1/streams/${answer.stream}/events`, target: "_blank", rel: "noopener" }, `/v1/streams/${answer.stream.slice(0, 9)}…/events`), h("span", { class: "soft" }, " (as long as the gateway keeps it)")),
    h("pre", { class: "events", tabindex: "0", role: "region", "aria-label": "Events" }, code));
  const draw = () => {
    if (!dialog.isConnected) return;
    // The list is shortened when it grows very long.
    if (shown > answer.events.length) shown = answer.events.length;
    code.append(answer.events.slice(shown).map((event) => `${line(event)}\n`).join(""));
    shown = answer.events.length;
    const since = answer.events[0]?.type === "start" ? "" : " received since the page was loaded";
    setText(note, `${answer.events.length} events${since}${from > 0 ? `, the last ${MOST_EVENTS_SHOWN} are shown` : ""}`);
    requestAnimationFrame(draw);
  };
  draw();
}

/** The link by which another person reads the answer. */
export function showLink(answer, question) {
  const link = `${location.origin}/#${new URLSearchParams({ watch: answer.stream, question: question.slice(0, 2000) })}`;
  const field = h("input", { readonly: true, "aria-label": "Link" });
  field.value = link;
  field.addEventListener("focus", () => field.select());
  show("Let somebody else watch this answer",
    h("p", {}, "Everybody who has this link can read this question and its answer, live while it is being written, and for a short time after its end. They need no key, and see nothing else of this chat."),
    field,
    h("div", { class: "row" }, copyButton(() => link), h("a", { class: "button", href: link, target: "_blank", rel: "noopener" }, icon("eye"), "Open it here")));
}

/** The fields of the settings, filled; each change is kept at once. */
export function bindSettings(changed) {
  for (const [id, name] of [["system", "system"], ["temperature", "temperature"], ["max-tokens", "maxTokens"], ["effort", "effort"]]) {
    const field = $(`#${id}`);
    field.value = settings[name];
    field.addEventListener("input", () => {
      // A number that is out of range is not sent.
      settings[name] = field.validity.valid ? field.value : "";
      changed();
    });
  }
}
