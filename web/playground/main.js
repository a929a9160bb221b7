// The playground: a chat with the models of this gateway. This file connects its parts.

import { $, h, icon, setText } from "../shared/dom.js";
import { bindAttachments, takeImages } from "./attachments.js";
import * as chat from "./conversation.js";
import { CASES, COMPARISON } from "./demo-cases.js";
import { bindSettings, closeOutside, showCode, showEvents, showLink } from "./dialogs.js";
import { explain } from "./errors.js";
import { bindFollowing, follow, keepUp } from "./follow.js";
import { addModel, chosenModels, isDemo, loadModels, onModels, setModels } from "./models.js";
import * as streams from "./streams.js";
import { TurnView } from "./turn-view.js";

const SAVE_MS = 1000;
const FRAME_MS = 30; // drawn per frame before the browser gets its turn
const NOT_KEPT = "The browser does not keep this chat: it is too large, or storage is forbidden. A reload will lose it.";
const LARGEST_SHARE = 0.3; // of the time that drawing may take, so that the page stays usable with long answers

const views = new Map(); // turn → view
const watched = new URLSearchParams(location.hash.slice(1)).get("watch");
let frame = 0;
let resting = false; // after a frame, so that others get their share

// ---- Turns ----

const actions = {
  stop: (turn, answer) => streams.stop(turn, answer),
  retry: (turn, answer) => regenerate(turn, answer),
  showCode: (turn, answer) => showCode(answer),
  showEvents: (turn, answer) => showEvents(answer),
  share: (turn, answer) => showLink(answer, turn.text),
  edit: (turn, text) => edit(turn, text),
};

const isRunning = () => chat.turns.some((turn) => turn.answers.some(chat.isRunning));

function addView(turn) {
  const view = new TurnView(turn, actions);
  views.set(turn, view);
  $("#turns").append(view.element);
}

function removeFrom(place) {
  for (const turn of chat.turns.splice(place)) {
    for (const answer of turn.answers) if (chat.isRunning(answer)) void streams.stop(turn, answer);
    streams.leave(turn);
    views.get(turn)?.element.remove();
    views.delete(turn);
  }
  chat.markChanged();
}

function send(text, images, models) {
  const turn = chat.newTurn(text, images);
  turn.answers = models.map(chat.newAnswer);
  chat.turns.push(turn);
  addView(turn);
  setText($("#announce"), "The question is sent.");
  void streams.ask(turn, chat.turns.length - 1, turn.answers);
  chat.markChanged();
  showState();
  redraw();
  follow();
}

function regenerate(turn, old) {
  const answer = chat.newAnswer(old.model);
  turn.answers[turn.answers.indexOf(old)] = answer;
  views.get(turn).add(answer, old);
  void streams.ask(turn, chat.turns.indexOf(turn), [answer]);
  chat.markChanged();
  showState();
  redraw();
}

function edit(turn, text) {
  const place = chat.turns.indexOf(turn);
  const models = turn.answers.map((answer) => answer.model);
  removeFrom(place);
  send(text, turn.images, models);
  $("#prompt").focus({ preventScroll: true });
}

// ---- Drawing: at most once per frame. A hidden page is drawn when it is shown. ----

function redraw() {
  if (!frame && !resting && !document.hidden) frame = requestAnimationFrame(draw);
}

function draw() {
  const begun = performance.now();
  for (const view of [...views.values()].reverse()) if (performance.now() - begun < FRAME_MS) view.draw();
  // Measures the page, so the layout is a part of the time.
  keepUp();
  frame = 0;
  resting = true;
  setTimeout(() => {
    resting = false;
    if ([...views.values()].some((view) => view.isDirty)) redraw();
  }, (performance.now() - begun) * (1 / LARGEST_SHARE - 1));
}

streams.onChange((turn, answer) => {
  views.get(turn)?.mark(answer);
  if (!chat.isRunning(answer)) {
    const whole = answer.end?.finish_reason === "cancelled" ? "was stopped" : "is complete";
    const end = answer.error ? `ended in an error: ${explain(answer.error).title}` : whole;
    setText($("#announce"), `The answer of ${answer.model} ${end}.`);
    showState();
  }
  redraw();
});

/** What depends on whether a chat exists and an answer is being written. */
function showState() {
  const running = isRunning();
  const button = $("#send");
  const label = running ? "Stop" : "Send";
  if (button.dataset.label !== label) {
    button.dataset.label = label;
    button.replaceChildren(icon(running ? "stop" : "send"), label);
    button.classList.toggle("primary", !running);
  }
  $("#intro").hidden = chat.turns.length > 0;
  $("#new").hidden = chat.turns.length === 0 || Boolean(watched);
  document.title = running ? "… Sluicegate" : "Sluicegate";
}

// ---- The field of the question ----

function report(text, ...more) {
  // What lasts is shown where there is nothing else to report.
  const shown = text || (chat.notKept ? NOT_KEPT : "");
  $("#problem").hidden = !shown;
  $("#problem").replaceChildren(h("span", {}, shown), ...more);
}

function submit() {
  if (isRunning()) return stopAll();
  const field = $("#prompt");
  const text = field.value.trim();
  const models = chosenModels();
  if (!models.length) return report("Enter the name of the model.");
  if (!text && $("#thumbs").hidden) return field.focus();
  report("");
  field.value = "";
  fitField();
  return send(text, takeImages(), models);
}

function stopAll() {
  for (const turn of chat.turns) for (const answer of turn.answers) if (chat.isRunning(answer)) void streams.stop(turn, answer);
}

/** Keeps the draft, and makes the field as high as its text where the browser does not. */
function fitField() {
  const field = $("#prompt");
  chat.settings.draft = field.value;
  chat.markChanged();
  if (CSS.supports("field-sizing", "content")) return;
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

function bindComposer() {
  const field = $("#prompt");
  field.value = chat.settings.draft;
  fitField();
  field.addEventListener("input", fitField);
  $("#composer").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    // On a phone the key makes a new line: there is a button to send.
    const newLine = event.shiftKey || matchMedia("(pointer: coarse)").matches;
    if (event.key === "Enter" && (!newLine || event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (!isRunning()) submit();
    }
    if (event.key === "Escape" && isRunning()) stopAll();
  });
  $("#new").addEventListener("click", () => {
    removeFrom(0);
    chat.clear();
    chat.save();
    showState();
    field.focus();
  });
}

// ---- Settings and models ----

function bindDialog() {
  const dialog = $("#settings");
  const [key, keep] = [$("#key"), $("#keep-key")];
  $("#open-settings").prepend(icon("settings"));
  $("#close-settings").append(icon("close"));
  $("#new").prepend(icon("plus"));
  $("#compare").prepend(icon("plus"));
  $("#compare").addEventListener("click", addModel);
  $("#brand").prepend(icon("gate"));
  $("#jump").append(icon("down"));
  key.value = chat.getKey();
  keep.checked = chat.keyIsKept();
  const setKey = () => {
    const isNew = key.value.trim() !== chat.getKey();
    chat.setKey(key.value, keep.checked);
    if (isNew) void listModels();
  };
  for (const field of [key, keep]) field.addEventListener("change", setKey);
  dialog.addEventListener("close", setKey);
  key.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // Else it would press the button that gets the focus back.
    dialog.close();
  });
  $("#open-settings").addEventListener("click", () => dialog.showModal());
  $("#close-settings").addEventListener("click", () => dialog.close());
  closeOutside(dialog);
  bindSettings(chat.markChanged);
}

async function listModels() {
  const error = await loadModels();
  showDemo();
  if (!error) return report("");
  const enterKey = h("button", { type: "button", onclick: () => ($("#settings").showModal(), $("#key").focus()) }, "Enter a key");
  const again = h("button", { type: "button", onclick: listModels }, icon("retry"), "Try again");
  if (error.code === "unauthenticated") return report(chat.getKey() ? "This gateway does not know this API key." : "This gateway needs an API key.", enterKey);
  const { title } = explain(error);
  return report(error.code === "no_models" ? error.message : `${title}. ${error.message ?? ""}`, again);
}

function showDemo() {
  $("#demo").hidden = !isDemo();
  if (!isDemo() || $("#cases").children.length) return;
  const entry = ({ title, sentence, prompt, models }) => {
    const play = () => {
      setModels([...models]);
      send(prompt, [], models);
    };
    return h("li", {}, h("button", { type: "button", onclick: play }, h("strong", {}, title), h("span", {}, sentence)));
  };
  $("#cases").append(...CASES.map((each) => entry({ ...each, models: [each.model] })), entry(COMPARISON));
}

// ---- Watching somebody else's answer ----

function watch(id) {
  const question = new URLSearchParams(location.hash.slice(1)).get("question") ?? "";
  const turn = { ...chat.newTurn(question, []), watched: true };
  turn.answers = [{ ...chat.newAnswer("the model"), stream: id, watched: true }];
  chat.turns.push(turn);
  addView(turn);
  const own = h("a", { href: "/" }, "Start a chat of your own");
  $("#banner").hidden = false;
  $("#banner").replaceChildren("You are watching an answer that somebody shared with you. ", own, ".");
  $("footer").hidden = true;
  $("#open-settings").hidden = true;
  if (/^st_[\w-]+$/.test(id)) streams.watch(turn, turn.answers[0]);
  // Nothing else may be asked for by a link.
  else turn.answers[0].error = { code: "not_found", message: "the link is not complete", retryable: false, origin: "client" };
  showState();
  redraw();
}

// ---- Start ----

function saveOften() {
  chat.save();
  if (chat.notKept && $("#problem").hidden) report("");
}

function start() {
  bindDialog();
  bindFollowing();
  addEventListener("hashchange", () => location.reload());
  document.addEventListener("visibilitychange", redraw);
  // Who comes back to the page, or to the network, does not wait for the next try.
  addEventListener("online", streams.retryNow);
  document.addEventListener("visibilitychange", () => document.hidden || streams.retryNow());
  if (watched) return watch(watched);
  bindComposer();
  bindAttachments(report);
  onModels(chat.markChanged);
  for (const turn of chat.turns) {
    addView(turn);
    streams.readOn(turn);
  }
  addEventListener("pagehide", chat.save);
  document.addEventListener("visibilitychange", () => document.hidden && chat.save());
  setInterval(saveOften, SAVE_MS);
  showState();
  redraw();
  if (chat.turns.length) follow();
  if (matchMedia("(pointer: fine)").matches) $("#prompt").focus({ preventScroll: true });
  return listModels();
}

if (!watched) chat.restore();
void start();
